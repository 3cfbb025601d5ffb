# SPDX-License-Identifier: Apache-2.0
"""The command line's parser, made from the table of commands."""

from __future__ import annotations

import argparse
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from fuzzer import __version__
from fuzzer.cli.commands import ABOUT, BY_NAME, COMMANDS, EXIT_CODES
from fuzzer.errors import BadInputError

PROGRAM = "pkvfuzz"
# No parameters, where a description has some; and what is handed on.
_MAY_BE_EMPTY = frozenset(("params", "pytest_args"))


class Parser(argparse.ArgumentParser):
    """A parser whose errors say where the help is, and which never abbreviates."""

    def error(self, message: str) -> None:  # type: ignore[override]
        raise BadInputError(f"{message}. See: {self.prog} --help")

    def _get_values(self, action: argparse.Action, arg_strings: list[str]) -> Any:
        # To the parser of commands, all that follows is the value of the command.
        own = arg_strings[:1] if action.nargs == argparse.PARSER else arg_strings
        if "" in own and action.dest not in _MAY_BE_EMPTY:
            raise argparse.ArgumentError(action, "an empty value; give one, or leave it out")
        return super()._get_values(action, arg_strings)


def build_parser(used: Collection[str] = tuple(BY_NAME)) -> Parser:
    """Return the parser of the command line, with the options of the commands that are used."""
    parser = Parser(
        prog=PROGRAM,
        description=ABOUT,
        epilog=f"{PROGRAM} COMMAND --help has an example of each.\n\n{_listed(EXIT_CODES)}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for command in COMMANDS:
        sub = commands.add_parser(command.name, help=command.summary, allow_abbrev=False)
        details = f"\n\n{command.details}" if command.details else ""
        sub.description = command.summary + details
        sub.epilog = f"example:\n  {command.example}\n\n{_listed(command.exit_codes)}"
        sub.formatter_class = argparse.RawDescriptionHelpFormatter
        if command.name in used:
            command.add_options(sub)
    return parser


def _listed(exit_codes: Mapping[int, str]) -> str:
    return "exit codes:\n" + "".join(f"  {code:<4} {text}\n" for code, text in exit_codes.items())


def join_command(arguments: Sequence[str]) -> list[str]:
    """Return the arguments with a command of two words as one, as the parser knows it."""
    two = " ".join(arguments[:2])
    return [two, *arguments[2:]] if two in BY_NAME else list(arguments)
