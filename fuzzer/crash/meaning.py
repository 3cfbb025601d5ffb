# SPDX-License-Identifier: Apache-2.0
"""Explanations of crashes whose titles do not tell what is wrong."""

from __future__ import annotations

import re
from collections.abc import Sequence

from fuzzer.program.ops import Op
from fuzzer.program.wire import split

# The addresses of modules on x86-64.
_MODULES = range(0xFFFFFFFFA0000000, 0xFFFFFFFFFF000000)
_ADDRESS = re.compile(
    r"(?:at addr|for address:|page fault, address:|RIP: 0010:0x| address) *(?:0x)?([0-9a-f]{16})\b"
)
_UNLOADED = (
    "The module is unloaded while a file of it is open, and the kernel goes on using its memory. "
    "Is `.owner = THIS_MODULE` missing from its file operations?"
)


def meaning_of(report: str, programs: Sequence[bytes]) -> str:
    """Return an explanation of a report after programs, in a sentence or two; empty if none."""
    found = _ADDRESS.search(report)
    if found is None or int(found[1], 16) not in _MODULES:
        return ""
    unloads = any(chunk[0] == Op.UNLOAD for program in programs for chunk in split(program))
    return _UNLOADED if unloads and _is_gone(report) else ""


def _is_gone(report: str) -> bool:
    """Tell whether the address that was used is no longer mapped."""
    return "vmalloc-out-of-bounds" in report or "unable to handle page fault" in report
