# SPDX-License-Identifier: Apache-2.0
"""The call that a report is about, read from the registers with which the kernel was entered."""

from __future__ import annotations

import re
from collections.abc import Sequence

from fuzzer.engine.traits import CallKind
from fuzzer.program.ops import OPERATIONS, Op

_ENTRY = re.compile(r"ORIG_RAX: ([0-9a-f]{16})")
_SECOND = re.compile(r"RSI: ([0-9a-f]{16})")
_OPS = {number: op for op in Op for number in OPERATIONS[op].syscalls}
# The register of the second argument is at most so many lines below.
_NEAR = 4


def culprit_of(lines: Sequence[str]) -> CallKind | None:
    """Return the kind of call that the first report in a log's lines is about, or None."""
    for number, line in enumerate(lines):
        entry = _ENTRY.search(line)
        if entry is None:
            continue
        op = _OPS.get(int(entry[1], 16))
        if op is None:
            return None
        if op is not Op.IOCTL:
            return bytes((op,))
        for below in lines[number + 1 : number + 1 + _NEAR]:
            if second := _SECOND.search(below):
                return bytes((op,)) + (int(second[1], 16) & 0xFFFFFFFF).to_bytes(4, "little")
        return None
    return None
