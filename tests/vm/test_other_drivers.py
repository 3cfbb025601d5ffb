# SPDX-License-Identifier: Apache-2.0
"""Drivers other than pkv: good ones are silent, each planted bug shows by its program."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from fuzzer.crash.observe import run_program
from fuzzer.driver.driver import find_bug, list_bugs
from fuzzer.kernel.kernel import Flavour
from fuzzer.program.text import load_program
from fuzzer.program.wire import encode
from fuzzer.target.target import Target, load_target
from tests.vm.guests import GuestFactory, returned, run

pytestmark = pytest.mark.vm

_DRIVERS = Path(__file__).parent.parent / "drivers"
NAMES = sorted(path.stem for path in _DRIVERS.glob("*/*.yaml"))
BUGS = sorted((path.parts[-3], path.stem) for path in _DRIVERS.glob("*/bugs/*.patch"))
# A race is lost or won anew each time; the rarest took some hundred runs.
RACE_RUNS = 10_000
GOOD_RACE_RUNS = 20


def target_of(name: str) -> Target:
    return load_target(_DRIVERS / name / f"{name}.yaml")


def wire_file(path: Path, target: Target) -> bytes:
    return encode(load_program(path, target))


@pytest.mark.parametrize("name", NAMES)
def test_the_good_driver_is_silent_and_unloads(name: str, guest: GuestFactory) -> None:
    target = target_of(name)
    good = guest(Flavour.FULL, target=target, cpus=2)
    seeds = sorted((_DRIVERS / name / "seeds").glob("*.prog"))
    assert seeds
    with good.restore() as machine:
        for path in seeds:
            assert run_program(machine, wire_file(path, target)).splat is None, path.name
        for bug in list_bugs(target):
            program = wire_file(bug.path.with_suffix(".prog"), target)
            for _ in range(GOOD_RACE_RUNS if "race" in bug.needs else 1):
                assert run_program(machine, program).splat is None, bug.name
        reloaded = run(machine, good, 'close(f0)\nunload()\nload("")\nopen(f0)\n')
        assert returned(reloaded) == [(0, 0)] * 4
        assert not reloaded.log


@pytest.mark.parametrize(("name", "bug_name"), BUGS, ids=["-".join(bug) for bug in BUGS])
def test_its_program_shows_a_planted_bug(name: str, bug_name: str, guest: GuestFactory) -> None:
    target = target_of(name)
    bug = find_bug(target, bug_name)
    program = wire_file(bug.path.with_suffix(".prog"), target)
    race = "race" in bug.needs
    patched = guest(Flavour.FULL, bug_name, target=target, cpus=2 if race else 1)
    splat = None
    with patched.restore() as machine:
        for _ in range(RACE_RUNS if race else 1):
            splat = run_program(machine, program, late=not race).splat
            if splat:
                break
    assert splat is not None
    assert splat.title == bug.expect


@pytest.mark.parametrize(("name", "bug_name"), BUGS, ids=["-".join(bug) for bug in BUGS])
def test_a_bugs_patch_is_complete_and_applies_exactly(name: str, bug_name: str) -> None:
    bug = find_bug(target_of(name), bug_name)
    assert all((bug.kind, bug.cwe, bug.needs, bug.description))
    assert f"Bug: {bug.name}\n" in bug.path.read_text()
    command = ["patch", "-p1", "--batch", "--dry-run", "--fuzz=0", "--input", str(bug.path)]
    subprocess.run(command, cwd=_DRIVERS / name, check=True, timeout=60, capture_output=True)
