# SPDX-License-Identifier: Apache-2.0
"""``pkvfuzz bugs``: the planted bugs that ``--bug`` can name."""

from __future__ import annotations

import argparse

from fuzzer.cli.options import add_target
from fuzzer.cli.setting import target_path
from fuzzer.driver.driver import list_bugs
from fuzzer.errors import ExitCode
from fuzzer.progress import show
from fuzzer.report.bugs import markdown_table, text_table
from fuzzer.target.target import load_shape


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what ``bugs`` takes."""
    parser.add_argument("--markdown", action="store_true", help="as a Markdown table")
    add_target(parser)


def command(options: argparse.Namespace) -> int:
    """Print the table."""
    bugs = list_bugs(load_shape(target_path(options)))
    show(markdown_table(bugs) if options.markdown else text_table(bugs), end="")
    return int(ExitCode.NOTHING_FOUND)
