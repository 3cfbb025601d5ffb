# SPDX-License-Identifier: Apache-2.0
"""A command's input to run: a stored crash, or a program."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import pytest

from fuzzer.cli import given
from fuzzer.cli.given import open_crash
from fuzzer.cli.parser import build_parser
from fuzzer.crash.leaks import LEAK
from fuzzer.crash.store import read_crash
from fuzzer.errors import BadInputError
from fuzzer.kernel.kernel import Flavour
from fuzzer.paths import project_root
from fuzzer.program.text import load_program
from fuzzer.program.wire import encode
from fuzzer.target.target import Target

STORED = project_root() / "crashes" / "kasan-slab-use-after-free-read-in-pkv-store-last"


@dataclass
class Subject:
    """A driver that is not built."""

    target: Target


@pytest.fixture(autouse=True)
def asked(monkeypatch: pytest.MonkeyPatch, pkv_target: Target) -> list[tuple[str | None, bool]]:
    """Return which bugs were planted, and whether the driver had to fit the kernels."""
    asked: list[tuple[str | None, bool]] = []

    def subject_of(options: argparse.Namespace, *, fitting: bool = True) -> Subject:
        asked.append((options.bug, fitting))
        return Subject(pkv_target)

    monkeypatch.setattr(given, "subject_of", subject_of)
    return asked


def options(*words: str) -> argparse.Namespace:
    return build_parser().parse_args(words)


@pytest.mark.parametrize("command", ["replay", "minimize", "bisect"])
def test_a_stored_crash_is_run_as_it_was_found(
    command: str, asked: list[tuple[str | None, bool]]
) -> None:
    crash = read_crash(STORED)
    good = ["--good", "HEAD"] if command == "bisect" else []
    found = open_crash(options(command, str(STORED), *good))
    assert found.crash == crash
    assert found.bug is not None
    assert found.bug.title == crash.title
    assert (found.reproducer.program, found.kind) == (crash.program, crash.kind)
    assert found.flavour == crash.judged_on
    assert asked == [(crash.identity.bug, True)]


def test_what_the_options_say_goes_before_what_a_crash_was_found_with(
    asked: list[tuple[str | None, bool]],
) -> None:
    found = open_crash(options("replay", str(STORED), "--kernel", "fast", "--bug", "other"))
    assert found.flavour is Flavour.FAST
    open_crash(options("replay", str(STORED)), plants_bug=False, fitting=False)
    assert asked == [("other", True), (None, False)]


def test_a_program_shows_any_bug(tmp_path: Path, pkv_target: Target) -> None:
    path = tmp_path / "x.prog"
    path.write_text("read(f0, 8)\n")
    found = open_crash(options("replay", str(path), "--leaks"))
    assert (found.crash, found.bug, found.kind) == (None, None, LEAK)
    assert found.reproducer.program == encode(load_program(path, pkv_target))
    assert found.flavour is Flavour.FULL
    assert open_crash(options("minimize", str(path))).kind == ""


@pytest.mark.parametrize("command", ["replay", "minimize"])
def test_what_is_not_there_is_told_before_anything_is_built(command: str, tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="no such file or directory"):
        open_crash(options(command, str(tmp_path / "none")))
