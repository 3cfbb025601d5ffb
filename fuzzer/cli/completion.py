# SPDX-License-Identifier: Apache-2.0
"""``pkvfuzz completion``: a script that has a shell complete the command line."""

from __future__ import annotations

import argparse
from pathlib import Path

import shtab

from fuzzer.cli.commands import COMMANDS
from fuzzer.cli.parser import PROGRAM
from fuzzer.errors import ExitCode
from fuzzer.progress import show


def _files_of(pattern: str) -> dict[str, object]:
    """Return how files of a pattern, and directories, are completed."""
    # shtab puts parentheses around it, which for zsh make a single one a qualifier.
    return {**shtab.glob(pattern), "zsh": f"_files -g '{pattern}'"}


_BY_METAVAR: dict[str, object] = {
    "YAML": shtab.glob("*.yaml", "*.yml"),
    "KO": _files_of("*.ko"),
    "JSON": _files_of("*.json"),
    "DIR": shtab.DIRECTORY,
}
# A crash is a directory, or a program as text.
_BY_NAME: dict[str, object] = {
    "crash": _files_of("*.prog"),
    "directory": shtab.DIRECTORY,
    "corpus": shtab.DIRECTORY,
}
_ACCELERATORS = ("auto", "kvm", "tcg")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what ``completion`` takes."""
    parser.add_argument("shell", choices=("bash", "zsh", "fish"), help="the shell to complete in")


def command(options: argparse.Namespace) -> int:
    """Print the script for a shell."""
    show(completion_script(options.shell))
    return int(ExitCode.NOTHING_FOUND)


def completion_script(shell: str) -> str:
    """Return the script for ``bash``, ``zsh`` or ``fish``."""
    script = shtab.complete(_nested_parser(), shell)
    # Where a command's first word is a command as well, what else can stand there is a file.
    return script.replace("complete -o bashdefault -F", "complete -o bashdefault -o default -F")


def _nested_parser() -> argparse.ArgumentParser:
    """Return a parser that knows the second words of commands as commands of the first."""
    parser = argparse.ArgumentParser(PROGRAM)
    parser.add_argument("--version", action="version")
    top = parser.add_subparsers()
    families: dict[str, argparse._SubParsersAction[argparse.ArgumentParser]] = {}
    seconds = {each.name.split()[0] for each in COMMANDS if " " in each.name}
    for each in COMMANDS:
        first, _, second = each.name.partition(" ")
        if second and first not in families:
            families[first] = top.add_parser(first, help=each.summary).add_subparsers()
        owner = families[first] if second else top
        sub = owner.add_parser(second or first, help=each.summary, description=each.summary)
        if each.name in seconds:
            families[first] = sub.add_subparsers()
        each.add_options(sub)
        for action in sub._actions:
            _complete(action, hidden=each.name in seconds)
    return parser


def _complete(action: argparse.Action, *, hidden: bool) -> None:
    """Tell shtab what an action's values are; ``hidden``: of options alone."""
    if action.dest == "accel":
        action.choices = _ACCELERATORS
    if hidden and not action.option_strings and action.choices is None:
        action.help = argparse.SUPPRESS
    elif action.type is Path:
        pattern = _BY_METAVAR.get(str(action.metavar)) or _BY_NAME.get(action.dest) or shtab.FILE
        action.complete = pattern  # type: ignore[attr-defined]
