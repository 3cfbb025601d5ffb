# SPDX-License-Identifier: Apache-2.0
"""The text of a kernel's report in a failed test."""

from __future__ import annotations

import os
import re
from pathlib import Path

from fuzzer.driver.provision import Guest
from fuzzer.errors import PkvfuzzError
from fuzzer.report.triage import record_text
from fuzzer.splat.splat import Splat
from fuzzer.splat.symbols import Symbols


def report_text(splat: Splat, guest: Guest) -> str:
    """Return a report with file and line of each frame, as far as that is known."""
    vmlinux = guest.kernel.directory / "vmlinux"
    objects = [] if guest.driver.parts else [guest.driver.object]
    try:
        splat = Symbols(vmlinux if vmlinux.is_file() else None, objects).symbolise(splat)
    except PkvfuzzError:
        # A driver that came built may have no debugging information.
        return _text(splat)
    text = _text(splat).replace(f"{guest.kernel.source}/", "")
    source = guest.target.module.source
    if source is None:
        return text
    # It was built in a copy. What the user edits is of more use.
    copy = re.compile(rf"{re.escape(str(guest.driver.object.parent))}/(\S+?)(?=:\d)")
    return copy.sub(lambda found: _own(source / found[1], found[0]), text)


def _text(splat: Splat) -> str:
    """Return what is known of a report, without advice for users of the command line."""
    lines = record_text(splat).splitlines(keepends=True)
    return "".join(line for line in lines if not line.startswith("  file and line: --module"))


def _own(path: Path, built: str) -> str:
    return os.path.relpath(path) if path.is_file() else built
