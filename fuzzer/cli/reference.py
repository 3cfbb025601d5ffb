# SPDX-License-Identifier: Apache-2.0
"""The reference of all commands, from their table: as a manual page, and as Markdown."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from fuzzer import __version__
from fuzzer.cli.commands import ABOUT, COMMANDS, EXIT_CODES, Subcommand
from fuzzer.cli.parser import PROGRAM

_PURPOSE = ABOUT[0].lower() + ABOUT[1:].rstrip(".")
ENVIRONMENT = {
    "PKVFUZZ_CACHE": "the cache of kernels, drivers and machines [~/.cache/pkvfuzz]",
    "PKVFUZZ_NO_INSTALL": "if set, missing Debian packages are named, and not installed",
    "PKVFUZZ_DEBUG": "if set, a defect in pkvfuzz shows a traceback",
}
"""Environment variables that pkvfuzz looks at, and their meaning."""


@dataclass(frozen=True, slots=True)
class OptionEntry:
    """An option or argument: how it is written, and what it does."""

    forms: tuple[str, ...]
    text: str


@dataclass(frozen=True, slots=True)
class Group:
    """Options under a title; the first group of a command has none."""

    title: str
    entries: tuple[OptionEntry, ...]


def usage_of(command: Subcommand) -> str:
    """Return a command's usage in a line, with its options as one word."""
    positionals = (
        _with_count(action) for action in _parser_of(command)._actions if not action.option_strings
    )
    return " ".join((PROGRAM, command.name, "[OPTION...]", *positionals))


def groups_of(command: Subcommand) -> tuple[Group, ...]:
    """Return a command's options and arguments, as its help groups them."""
    parser = _parser_of(command)
    groups = []
    for number, group in enumerate(parser._action_groups):
        shown = (each for each in group._group_actions if each.help != argparse.SUPPRESS)
        entries = tuple(map(_entry, shown))
        # argparse's own two come first: positional arguments and options.
        title = str(group.title) if number > 1 else ""
        if entries:
            groups.append(Group(title, entries))
    return tuple(groups)


def _parser_of(command: Subcommand) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(add_help=False)
    command.add_options(parser)
    return parser


def _name_of(action: argparse.Action) -> str:
    if action.choices is not None:
        return "{" + ",".join(map(str, action.choices)) + "}"
    return str(action.metavar or action.dest.upper())


def _with_count(action: argparse.Action) -> str:
    name = _name_of(action)
    return {"?": f"[{name}]", "*": f"[{name}...]", "+": f"{name}..."}.get(str(action.nargs), name)


def _entry(action: argparse.Action) -> OptionEntry:
    text = (action.help or "").replace("%%", "%")
    if not action.option_strings:
        return OptionEntry((_name_of(action),), text)
    value = f" {_name_of(action)}" if action.nargs != 0 else ""
    return OptionEntry(tuple(option + value for option in action.option_strings), text)


def manual_page() -> str:
    """Return the manual page, for man(7)'s macros."""
    return "".join(f"{line}\n" for line in _manual_lines())


def _manual_lines() -> Iterator[str]:
    yield '.\\" SPDX-License-Identifier: Apache-2.0'
    yield f'.\\" Made by: {PROGRAM} man'
    yield f'.TH {PROGRAM.upper()} 1 "" "{PROGRAM} {__version__}" "User Commands"'
    yield from (".SH NAME", f"{PROGRAM} \\- {_troff(_PURPOSE)}")
    yield from (".SH SYNOPSIS", f".B {PROGRAM}", ".I COMMAND", "[OPTION...]")
    yield from (".SH DESCRIPTION", _troff(ABOUT))
    yield from ("Each command has", f".B {PROGRAM}", ".I COMMAND", ".BR \\-\\-help .")
    yield ".SH COMMANDS"
    for command in COMMANDS:
        yield from _manual_command(command)
    yield ".SH EXIT STATUS"
    yield from _terms({str(code): text for code, text in EXIT_CODES.items()})
    yield ".SH ENVIRONMENT"
    yield from _terms(ENVIRONMENT)


def _manual_command(command: Subcommand) -> Iterator[str]:
    yield f".SS {_troff(usage_of(command))}"
    yield _troff(_sentence(command.summary))
    if command.details:
        yield from (".PP", ".EX", *map(_troff, command.details.splitlines()), ".EE")
    for group in groups_of(command):
        if group.title:
            yield from (".PP", _troff(_sentence(group.title, ":")))
        yield from _terms({", ".join(each.forms): each.text for each in group.entries})
    yield from (".PP", "Example:", ".PP", ".RS", ".EX", _troff(command.example), ".EE", ".RE")
    yield from (".PP", "Exit codes:")
    yield from _terms({str(code): text for code, text in command.exit_codes.items()})


def _terms(terms: Mapping[str, str]) -> Iterator[str]:
    for term, text in terms.items():
        yield from (".TP", f".B {_troff(term)}", _troff(text))


def _sentence(text: str, end: str = ".") -> str:
    return text[:1].upper() + text[1:] + end


def _troff(text: str) -> str:
    """Return text with what troff would take for its own escaped."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq")
    escaped = escaped.replace('"', "\\(dq")
    return f"\\&{escaped}" if escaped.startswith(".") else escaped


def markdown() -> str:
    """Return the reference as Markdown."""
    parts = [f"# {PROGRAM}\n\n{ABOUT}\n\n{_markdown_codes(EXIT_CODES)}"]
    for command in COMMANDS:
        parts.append(f"## {command.name}\n\n{_sentence(command.summary)}\n")
        if command.details:
            parts.append(_block(command.details))
        parts.append(_block(usage_of(command)))
        for group in groups_of(command):
            head = _sentence(group.title, ":") if group.title else "Options and arguments:"
            entries = "".join(f"- {_forms(each)}: {each.text}\n" for each in group.entries)
            parts.append(f"{head}\n\n{entries}")
        parts.append(f"Example:\n\n{_block(command.example)}")
        parts.append(_markdown_codes(command.exit_codes))
    return "\n".join(parts)


def _forms(entry: OptionEntry) -> str:
    return ", ".join(f"`{form}`" for form in entry.forms)


def _block(text: str) -> str:
    return "".join(f"    {line}\n" for line in text.splitlines())


def _markdown_codes(codes: Mapping[int, str]) -> str:
    rows = "".join(f"| {code} | {text} |\n" for code, text in codes.items())
    return f"| exit code | meaning |\n| --- | --- |\n{rows}"
