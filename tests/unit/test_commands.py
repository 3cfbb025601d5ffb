# SPDX-License-Identifier: Apache-2.0
"""The table of commands: its help, its examples, and what else is made from it."""

from __future__ import annotations

import argparse
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from fuzzer import packages
from fuzzer.cli.commands import BY_NAME, COMMANDS, MACHINE, Subcommand
from fuzzer.cli.main import main
from fuzzer.cli.parser import build_parser, join_command
from fuzzer.errors import BadInputError
from tests.e2e.pkvfuzz_process import ROOT, environment

# They take a working directory, which is not there.
_WORKDIR = {"compare", "corpus", "report"}
_MACHINE = {
    command.name
    for command in COMMANDS
    if any(need.packages == MACHINE.packages for need in command.needs)
}
_NOT_RUN = _MACHINE | {"doctor", "cache import"}
_RUN = [
    command
    for command in COMMANDS
    if command.name not in _NOT_RUN and command.name.split()[0] not in _WORKDIR
]


def _name(command: Subcommand) -> str:
    return command.name


def _parser_of(command: Subcommand) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser()
    command.add_options(parser)
    return parser


def _example(command: Subcommand) -> list[str]:
    """Return the words after ``./pkvfuzz`` of a command's example."""
    found = re.search(r"\./pkvfuzz ([^|)]*)", command.example)
    assert found
    return shlex.split(found[1])


@pytest.mark.parametrize("command", COMMANDS, ids=_name)
def test_an_example_is_one_of_its_command_and_names_files_that_are_there(
    command: Subcommand,
) -> None:
    words = join_command(_example(command))
    options = build_parser().parse_args(words)
    assert options.command == command.name
    for word in words:
        if word.split("/")[0] in {"crashes", "seeds", "module", "tests"}:
            assert (ROOT / word).exists(), word


@pytest.mark.parametrize("command", _RUN, ids=_name)
def test_an_example_that_takes_no_machine_ends_with_a_code_that_is_listed(
    command: Subcommand, tmp_path: Path
) -> None:
    # The size of all that is in the cache of a developer takes long to find out.
    small = {"PKVFUZZ_CACHE": str(tmp_path)} if command.name.startswith("cache ") else {}
    done = subprocess.run(
        [sys.executable, "-P", "-m", "fuzzer", *_example(command)],
        cwd=ROOT,
        env=environment() | small,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode in {0, 1}, done.stderr
    assert done.returncode in command.exit_codes
    assert done.stdout


@pytest.mark.parametrize("command", COMMANDS, ids=_name)
def test_help_has_the_commands_own_example_and_exit_codes(
    command: Subcommand, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command.name.split(), "--help"]) == 0
    text = capsys.readouterr().out
    assert command.example in text
    for code, meaning in command.exit_codes.items():
        assert f"  {code:<4} {meaning}\n" in text


def test_every_command_that_builds_or_boots_has_its_packages_installed() -> None:
    takes_kernels = {
        command.name
        for command in COMMANDS
        if "--kernel-build" in _parser_of(command).format_help()
    }
    assert takes_kernels | {"test"} == _MACHINE
    for name in takes_kernels:
        options = [need.option for need in BY_NAME[name].needs if need.option]
        required = packages.required_packages([*name.split(), "x", *options])
        assert set(packages.PACKAGES) < set(required)


@pytest.mark.parametrize("command", COMMANDS, ids=_name)
def test_an_option_with_which_a_command_needs_packages_is_one_of_its_own(
    command: Subcommand,
) -> None:
    for need in command.needs:
        assert need.option in _parser_of(command).format_help()


def test_only_the_command_that_is_used_has_its_options_read() -> None:
    assert build_parser(["bugs"]).parse_args(["bugs", "--markdown"]).markdown
    with pytest.raises(BadInputError, match="unrecognized"):
        build_parser(["bugs"]).parse_args(["man", "--markdown"])


def test_what_is_to_be_installed_is_known_with_the_standard_library_alone() -> None:
    script = "import sys; sys.path.insert(0, '.'); import fuzzer.packages as packages\n"
    script += "print(len(packages.required_packages(['run', '--kernel-build=x'])))"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", script],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == f"{len(packages.PACKAGES)}\n", done.stderr


def test_starting_imports_none_of_what_the_commands_do() -> None:
    listing = "import sys, fuzzer.cli.main; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", listing],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    imported = done.stdout.split()
    heavy = ("fuzzer.machine", "fuzzer.campaign", "fuzzer.target", "yaml", "elftools", "psutil")
    assert not [name for name in imported if name.startswith(heavy)]
    assert "fuzzer.cli.parser" in imported


def test_each_command_has_a_module_with_a_command_in_it() -> None:
    for command in COMMANDS:
        path = ROOT / Path(*command.module.split(".")).with_suffix(".py")
        assert "\ndef command(options: argparse.Namespace) -> int:\n" in path.read_text()
