# SPDX-License-Identifier: Apache-2.0
"""``pkvfuzz target check`` and ``target schema``: about descriptions, without a machine."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from fuzzer.campaign.seeds import seed_directory
from fuzzer.errors import BadInputError, ExitCode
from fuzzer.program.text import load_program, reset_program
from fuzzer.progress import show
from fuzzer.report.target import Checked, as_json, as_text
from fuzzer.target.check import Reading, read_all
from fuzzer.target.lint import lint
from fuzzer.target.schema import schema_path


def add_check(parser: argparse.ArgumentParser) -> None:
    """Add what ``target check`` takes."""
    parser.add_argument("description", type=Path, metavar="YAML", help="a driver's description")
    parser.add_argument("--json", action="store_true", help="as JSON")


def add_schema(parser: argparse.ArgumentParser) -> None:
    """Add what ``target schema`` takes."""
    parser.add_argument("--path", action="store_true", help="print where it is, not what is in it")


def command(options: argparse.Namespace) -> int:
    """Run the one that was asked for."""
    if options.command == "target schema":
        path = schema_path()
        show(path if options.path else path.read_text(), end="\n" if options.path else "")
        return int(ExitCode.NOTHING_FOUND)
    checked = _check(options.description)
    show(json.dumps(as_json(checked), indent=2) if options.json else as_text(checked))
    return int(ExitCode.NOTHING_FOUND if checked.is_usable else ExitCode.BAD_INPUT)


def _check(path: Path) -> Checked:
    if not path.is_file():
        why = "it is no regular file" if path.exists() else "there is no such file"
        raise BadInputError(f"{path}: {why}")
    reading = read_all(path)
    findings = (*reading.errors, *lint(reading))
    problems: list[str] = []
    seeds: list[Path] = []
    # Only of a whole description it is known what is in a program.
    if reading.target is not None and reading.is_resolved and not reading.errors:
        problems += _problems_of_reset(reading)
        directory = seed_directory(reading.target)
        seeds = sorted(directory.glob("*.prog")) if directory else []
        for seed in seeds:
            try:
                load_program(seed, reading.target)
            except BadInputError as error:
                problems.append(str(error))
    return Checked(
        path, reading.target, reading.is_resolved, findings, tuple(problems), tuple(seeds)
    )


def _problems_of_reset(reading: Reading) -> list[str]:
    assert reading.target is not None
    try:
        reset_program(reading.target)
    except BadInputError as error:
        return [str(error)]
    return []
