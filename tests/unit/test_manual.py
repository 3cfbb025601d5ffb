# SPDX-License-Identifier: Apache-2.0
"""The manual page and the Markdown reference: all of every command, in step."""

from __future__ import annotations

import argparse
import subprocess

import pytest

from fuzzer.cli.commands import COMMANDS, Subcommand
from fuzzer.cli.main import main
from fuzzer.cli.reference import manual_page, markdown
from tests.e2e.pkvfuzz_process import ROOT


def _plain(page: str) -> str:
    """Return a page's text without troff's escapes and requests."""
    for escape, text in (("\\(aq", "'"), ("\\(dq", '"'), ("\\-", "-"), ("\\&", ""), ("\\e", "\\")):
        page = page.replace(escape, text)
    return page.replace("\n.B ", "\n")


def _section(page: str, command: Subcommand) -> str:
    """Return what a page says of a command."""
    start = page.index(f"\n.SS pkvfuzz {command.name} [OPTION...]")
    return page[start : page.index("\n.S", start + 5) + 1]


def test_the_page_that_is_installed_is_that_of_these_commands() -> None:
    stored = (ROOT / "docs" / "pkvfuzz.1").read_text()
    assert stored == manual_page(), "run: ./pkvfuzz man > docs/pkvfuzz.1"


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_a_commands_section_has_all_that_its_help_has(command: Subcommand) -> None:
    section = _section(_plain(manual_page()), command)
    parser = argparse.ArgumentParser(add_help=False)
    command.add_options(parser)
    # An option's former name is taken, and told to nobody.
    shown = [action for action in parser._actions if action.help != argparse.SUPPRESS]
    for action in shown:
        for option in action.option_strings:
            assert f"\n{option}" in section or f", {option}" in section, option
        assert action.help
        assert action.help.replace("%%", "%") in section
    assert command.example in section
    for code, text in command.exit_codes.items():
        assert f"\n{code}\n{text}\n" in section


def test_troff_has_nothing_to_complain_of() -> None:
    # None of the text may be taken for a request, or an escape, that does not exist.
    requests = {line.split()[0] for line in manual_page().splitlines() if line.startswith(".")}
    assert requests <= {
        '.\\"', ".TH", ".SH", ".SS", ".PP", ".TP", ".B", ".I", ".BR", ".EX", ".EE", ".RS", ".RE"
    }  # fmt: skip
    assert not [line for line in manual_page().splitlines() if line.startswith("'")]


def test_groff_formats_it_without_a_warning() -> None:
    # perl, which Debian's kernel builds need, comes without groff: only where it is there.
    try:
        done = subprocess.run(
            ["groff", "-ww", "-man", "-Tascii"],
            input=manual_page(),
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
    except FileNotFoundError:
        return
    assert not done.stderr
    assert "bisect" in done.stdout


def test_a_text_that_troff_would_take_for_its_own_is_escaped(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["man"]) == 0
    page = capsys.readouterr().out
    assert "\\-\\-gdb\\-server" in page
    assert "\n.prog" not in page


def test_the_markdown_has_a_section_for_each_command() -> None:
    text = markdown()
    for command in COMMANDS:
        assert f"\n## {command.name}\n" in text
        assert f"\n    {command.example}\n" in text
    assert "- `-o FILE`, `--output FILE`: [standard output]\n" in text
