# SPDX-License-Identifier: Apache-2.0
"""``pkvfuzz man``: the manual page of all commands."""

from __future__ import annotations

import argparse

from fuzzer.cli.reference import manual_page, markdown
from fuzzer.errors import ExitCode
from fuzzer.progress import show


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what ``man`` takes."""
    parser.add_argument("--markdown", action="store_true", help="the same text as Markdown")


def command(options: argparse.Namespace) -> int:
    """Print the manual page."""
    show(markdown() if options.markdown else manual_page(), end="")
    return int(ExitCode.NOTHING_FOUND)
