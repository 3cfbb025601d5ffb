# SPDX-License-Identifier: Apache-2.0
"""Reproducers in C, run in a guest as ordinary programs: each shows its bug."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from fuzzer.crash.leaks import ARGUMENTS
from fuzzer.crash.series import run_history
from fuzzer.driver.driver import find_bug, list_bugs
from fuzzer.kernel.kernel import Flavour
from fuzzer.paths import project_root
from fuzzer.program.csource.source import c_source
from fuzzer.program.program import Program
from fuzzer.program.text import load_program, parse_program
from fuzzer.program.wire import encode
from fuzzer.target.target import ResetSpec, Target, load_target
from tests.vm.guests import GuestFactory
from tests.vm.reproducers import compiled, leak_of, title_of

pytestmark = pytest.mark.vm

_BUGS = [
    bug
    for bug in list_bugs(load_target(project_root() / "module" / "pkv.yaml"))
    if bug.expect != "wrong answer" and not bug.kernel
]
LEAKS = [bug.name for bug in _BUGS if bug.expect.startswith("memory leak")]
# A driver whose calls take what others gave, in unions, bit-fields and arrays.
_PALETTE = project_root() / "tests" / "drivers" / "palette" / "palette.yaml"
HANDED = [bug.name for bug in list_bugs(load_target(_PALETTE))]
REPORTED = [bug.name for bug in _BUGS if bug.name not in LEAKS]


def in_c(
    program: Program, target: Target, directory: Path, history: Sequence[Program] = ()
) -> bytes:
    """Return programs as a static executable."""
    for header in target.headers:
        shutil.copy(header, directory)
    (directory / "repro.c").write_text(c_source(program, target, "", history))
    return compiled(directory)


def stored(name: str, target: Target) -> Program:
    return load_program(target.path.parent / "bugs" / f"{name}.prog", target)


@pytest.mark.parametrize("name", REPORTED)
def test_a_bug_shows_without_the_executor(
    name: str, guest: GuestFactory, pkv_target: Target, tmp_path: Path
) -> None:
    bug = find_bug(pkv_target, name)
    patched = guest(Flavour.FULL, name, cpus=2 if "race" in bug.needs else 1)
    binary = in_c(stored(name, pkv_target), pkv_target, tmp_path)
    assert title_of(patched, binary) in bug.titles


@pytest.mark.parametrize("name", HANDED)
def test_a_bug_shows_by_what_calls_hand_out(name: str, guest: GuestFactory, tmp_path: Path) -> None:
    target = load_target(_PALETTE)
    patched = guest(Flavour.FULL, name, target=target)
    binary = in_c(stored(name, target), target, tmp_path)
    assert title_of(patched, binary) in find_bug(target, name).titles


@pytest.mark.parametrize("name", LEAKS)
def test_a_leak_shows_without_the_executor(
    name: str, guest: GuestFactory, pkv_target: Target, tmp_path: Path
) -> None:
    binary = in_c(stored(name, pkv_target), pkv_target, tmp_path)
    leaking = guest(Flavour.FULL, name, icount=True, arguments=ARGUMENTS)
    assert leak_of(leaking, binary) == find_bug(pkv_target, name).expect


def test_programs_that_load_the_module_alike_run_on_it_as_it_was_loaded_once(
    guest: GuestFactory, pkv_target: Target, tmp_path: Path
) -> None:
    # What shows it is the reset of a module that was not loaded anew after the program.
    load = 'close(f0)\nunload()\nload("ttl_ms=1000")\nopen(f0)\n'
    program = parse_program(load + 'write(f0, "a=1\\n")\n', pkv_target, "x")
    history = [parse_program(load + "read(f0, 1)\n", pkv_target, "x")]
    patched = guest(Flavour.FULL, "clear-deadlock")
    bug = find_bug(pkv_target, "clear-deadlock")
    assert title_of(patched, in_c(program, pkv_target, tmp_path, history)) in bug.titles
    outcome, number = run_history(patched, [encode(each) for each in history], encode(program))
    assert outcome.splat
    assert (outcome.splat.title in bug.titles, number) == (True, 1)


def test_the_programs_before_one_run_before_it(
    guest: GuestFactory, pkv_target: Target, tmp_path: Path
) -> None:
    # Nothing is cleared between programs: what a key leaves behind meets the last one.
    kept = replace(pkv_target, reset=ResetSpec())

    def program(text: str) -> Program:
        return parse_program(text, kept, "test")

    wrote = program('write(f0, "b=2\\n")\n')
    history = [
        wrote,
        wrote,
        program('[1] write(f0, "a=\\n")\n[2] read(f0, 4) cut=2\n'),
        program('write(f0, "a=\\n")\nioctl(f0, PKV_IOC_DELETE, {key_len: 1, key: "a"})\n'),
    ]
    read = program("read(f0, 0)\n")
    patched = guest(Flavour.FULL, "stale-last", cpus=2)
    assert title_of(patched, in_c(read, kept, tmp_path)) is None
    bug = find_bug(pkv_target, "stale-last")
    assert title_of(patched, in_c(read, kept, tmp_path, history)) == bug.expect
