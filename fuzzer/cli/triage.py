# SPDX-License-Identifier: Apache-2.0
"""``pkvfuzz triage``: the kernel reports in logs from anywhere."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from fuzzer.errors import BadInputError, ExitCode
from fuzzer.progress import say, show
from fuzzer.report.triage import bug_report_text, triage_text
from fuzzer.splat.formats import plain_chunks
from fuzzer.splat.nearby import symbols_nearby
from fuzzer.splat.scan import BLOCK
from fuzzer.splat.symbols import Symbols
from fuzzer.splat.triage import LogTriage, findings_json

STDIN = Path("-")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what ``triage`` takes."""
    parser.add_argument(
        "logs", type=Path, nargs="+", metavar="LOG", help="a kernel log; - for standard input"
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="as JSON")
    form.add_argument(
        "--bug-report", action="store_true", help="as text to paste into a report of each bug"
    )
    parser.add_argument(
        "--module",
        type=Path,
        action="append",
        default=[],
        metavar="KO",
        help="tell file and line in this module; may be repeated",
    )
    parser.add_argument("--vmlinux", type=Path, metavar="V", help="the same for the kernel")


def command(options: argparse.Namespace) -> int:
    """Read the logs, print what is in them; 1 when that is a crash."""
    triage = LogTriage()
    # Before the logs are read: they may be long, and a wrong file is told at once.
    symbols = Symbols(options.vmlinux, options.module) if _has_symbols(options) else None
    for path in options.logs:
        if path == STDIN:
            triage.add_log("stdin", plain_chunks("stdin", _chunks(sys.stdin.buffer)))
        else:
            _add_file(triage, path)
    nearby = symbols_nearby([each.record for each in triage.findings()]) if not symbols else None
    if nearby:
        triage.symbolise(nearby)
    if symbols:
        triage.symbolise(symbols)
        for complaint in symbols.complaints.values():
            say(complaint)
    if options.json:
        show(json.dumps(findings_json(triage), indent=2))
    else:
        show(bug_report_text(triage) if options.bug_report else triage_text(triage), end="")
    crashes = [finding for finding in triage.findings() if finding.record.crash]
    return int(ExitCode.FOUND if crashes else ExitCode.NOTHING_FOUND)


def _has_symbols(options: argparse.Namespace) -> bool:
    return bool(options.vmlinux or options.module)


def _add_file(triage: LogTriage, path: Path) -> None:
    try:
        with path.open("rb") as file:
            triage.add_log(str(path), plain_chunks(str(path), _chunks(file)))
    except OSError as error:
        raise BadInputError(
            f"reading the log {path}: {error.strerror}. Give files with kernel messages, "
            "or - for standard input"
        ) from error


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    # read1: what comes through a pipe is looked at when it comes.
    while chunk := file.read1(BLOCK) if hasattr(file, "read1") else file.read(BLOCK):
        yield chunk
