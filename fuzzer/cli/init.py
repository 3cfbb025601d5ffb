# SPDX-License-Identifier: Apache-2.0
"""``pkvfuzz init``."""

from __future__ import annotations

import argparse
from pathlib import Path

from fuzzer.atomic import write_output
from fuzzer.campaign.description import SEEDS, seeds
from fuzzer.cli.drivers import Finder, choice_of, found_out, relative_to, write_checked
from fuzzer.cli.options import add_driver, add_machine_options
from fuzzer.cli.setting import accel_of
from fuzzer.errors import BadInputError, ExitCode
from fuzzer.progress import show

_WHY = """\
Made by pkvfuzz init from {path}: what is known of the driver. Edit it, and run
pkvfuzz target check {name}; then pkvfuzz run {name}"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what ``init`` takes."""
    add_driver(parser)
    parser.add_argument(
        "-o", "--output", type=Path, metavar="YAML", help="write the description there [NAME.yaml]"
    )
    parser.add_argument("--force", action="store_true", help="replace files that are there")
    parser.add_argument(
        "--params", metavar="TEXT", help="load the module with these parameters [none]"
    )
    parser.set_defaults(target=None, bug=None)
    add_machine_options(parser)


def command(options: argparse.Namespace) -> int:
    """Write a description of a driver, and seeds beside it."""
    return write_description(options, found_out)


def write_description(options: argparse.Namespace, find: Finder) -> int:
    """Write what ``find`` finds out of a driver, and seeds beside it.

    Raises:
        BadInputError: no driver is named, or something is in the way.
    """
    choice = choice_of(options)
    if choice is None:
        raise BadInputError("init needs a driver: its directory, or its .ko. See: init --help")
    # Before what takes a minute.
    given = [options.output] if options.output is not None else []
    beside = (options.output or Path()).parent / "seeds"
    _refuse_if_there([*given, *(beside / name for name in SEEDS)], options.force)
    facts = find(choice, options, accel_of(options))
    path = (options.output or Path(f"{facts.name}.yaml")).absolute()
    programs = {path.parent / "seeds" / name: text for name, text in seeds(facts).items()}
    _refuse_if_there([path, *programs], options.force)
    path.parent.mkdir(parents=True, exist_ok=True)
    (path.parent / "seeds").mkdir(exist_ok=True)
    why = _WHY.format(path=choice.path, name=path.name)
    facts = write_checked(path, relative_to(facts, path.parent), why)
    for place, text in programs.items():
        write_output(place, text)
    made = f"{len(facts.devices)} files, {len(facts.described)} ioctls"
    show(f"{path}: {made}; seeds in {path.parent}/seeds")
    show(f"next: edit it, then: pkvfuzz target check {path.name}; pkvfuzz run {path.name}")
    return int(ExitCode.NOTHING_FOUND)


def _refuse_if_there(paths: list[Path], force: bool) -> None:
    there = [path for path in paths if path.exists()]
    if there and not force:
        raise BadInputError(
            f"{there[0]} is there already. Give another name with -o, or --force to replace it"
        )
