# SPDX-License-Identifier: Apache-2.0
"""What lies beside a stored crash for people and other tools, the same when made again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fuzzer import __version__
from fuzzer.program.csource.source import c_source
from fuzzer.program.wire import decode
from fuzzer.target.target import Target

if TYPE_CHECKING:
    from fuzzer.crash.store import Crash

README, REPORT, SOURCE = "README.md", "report.json", "repro.c"


def write_bundle(directory: Path, crash: Crash, target: Target) -> None:
    """Write the README, the structured report and the program as C into a crash's directory.

    Raises:
        OSError: the disk is full.
    """
    (directory / SOURCE).write_text(c_source(decode(crash.program), target, crash.title))
    if target.header is not None:
        shutil.copyfile(target.header, directory / target.header.name)
    (directory / REPORT).write_text(json.dumps(report_record(crash), indent=2) + "\n")
    (directory / README).write_text(_readme(crash))


def report_record(crash: Crash) -> dict[str, Any]:
    """Return what is known of the kernel's report, as JSON can hold it."""
    return {"title": crash.title, "kind": crash.kind, "function": crash.function}


def _readme(crash: Crash) -> str:
    identity = crash.identity
    lines = [f"# {crash.title}", ""]
    lines.append(f"In `{crash.function}`, {crash.verdict()} on the `{crash.judged_on}` kernel.")
    if identity.bug:
        lines.append(f"The driver had the planted bug `{identity.bug}`.")
    lines += ["", "To see it, with this directory:", "", "    ./pkvfuzz replay DIRECTORY", ""]
    lines += ["Or, in a guest that has the driver loaded, what this makes of `repro.c`:", ""]
    lines += ["    cc -Wall -Wextra -static -pthread repro.c -o repro", ""]
    if crash.history:
        lines += ["It needs the programs in `history.bin` before it, which `repro.c` lacks.", ""]
    lines += ["| found with | |", "| --- | --- |", f"| kernel | {identity.kernel} |"]
    lines += [f"| driver | {identity.driver} |", f"| QEMU | {identity.qemu} |"]
    lines += [f"| accelerator | {identity.accel} |", f"| parameters | {identity.params or '-'} |"]
    lines += [f"| pkvfuzz | {__version__} |"]
    return "\n".join(lines) + "\n"
