# SPDX-License-Identifier: Apache-2.0
"""``pkvfuzz compare``: campaigns side by side."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from fuzzer.atomic import write_whole
from fuzzer.errors import BadInputError, ExitCode
from fuzzer.report.comparing import compare, comparison_json, comparison_text, read_side

_FEWEST = 2


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what ``compare`` takes."""
    parser.add_argument(
        "sides",
        type=Path,
        nargs="+",
        metavar="DIR",
        help="a working directory, or a directory of several of one setting",
    )
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write a page with charts there")


def command(options: argparse.Namespace) -> int:
    """Print a comparison, and write it as a page if asked to."""
    if len(options.sides) < _FEWEST:
        raise BadInputError("compare needs two directories at least, each a side")
    comparison = compare([read_side(path) for path in options.sides])
    if options.html:
        from fuzzer.report.html.comparison_page import comparison_page

        write_whole(options.html, comparison_page(comparison).encode(errors="replace"))
    if options.json:
        print(json.dumps(comparison_json(comparison), indent=2))
    else:
        print(comparison_text(comparison), end="")
    return int(ExitCode.NOTHING_FOUND)
