# SPDX-License-Identifier: Apache-2.0
"""Each planted bug: its program shows it, ordinary use does not, the good driver never."""

from __future__ import annotations

from pathlib import Path

import pytest

from fuzzer.crash.leaks import ARGUMENTS, allocating_program, find_leak, forget_leaks
from fuzzer.crash.observe import run_program
from fuzzer.driver.driver import PlantedBug, find_bug
from fuzzer.driver.provision import Guest
from fuzzer.kernel.kernel import Flavour
from fuzzer.machine.machine import Run
from fuzzer.paths import project_root
from fuzzer.program.text import load_program
from fuzzer.program.wire import encode
from fuzzer.target.target import Target
from tests.vm.guests import GuestFactory

pytestmark = pytest.mark.vm

BUGS = sorted(path.stem for path in (project_root() / "module" / "bugs").glob("*.patch"))
SEEDS = sorted((project_root() / "seeds" / "pkv").glob("*.prog"))
# A race is lost or won anew each time; the rarest took some hundred runs.
TRIES = 4
RACE_RUNS = 10_000


def wire_file(path: Path, target: Target) -> bytes:
    return encode(load_program(path, target))


def guest_for(guest: GuestFactory, bug: PlantedBug, *, planted: bool) -> Guest:
    """Return the guest that the bug's program needs, with the bug or without."""
    return guest(
        Flavour.FULL,
        bug.name if planted else None,
        cpus=2 if "race" in bug.needs else 1,
        icount=is_leak(bug),
        arguments=ARGUMENTS if is_leak(bug) else "",
    )


def is_leak(bug: PlantedBug) -> bool:
    return bug.expect.startswith("memory leak")


def answers(run: Run) -> list[tuple[int, int, bytes]]:
    """Return what each call gave: its return value, its errno and the bytes it wrote.

    The bytes are sorted, as LIST may give its entries in any order.
    """
    return [(call.ret, call.error, bytes(sorted(call.output))) for call in run.results]


def title_of(guest: Guest, program: bytes, runs: int) -> str | None:
    """Return the title of the first splat within so many runs on a fresh machine."""
    with guest.restore() as machine:
        for _ in range(runs):
            outcome = run_program(machine, program, late=runs == 1)
            if outcome.splat:
                return outcome.splat.title
    return None


@pytest.fixture(scope="module", params=BUGS)
def bug(request: pytest.FixtureRequest, pkv_target: Target) -> PlantedBug:
    """Return each planted bug in turn."""
    return find_bug(pkv_target, request.param)


@pytest.fixture
def program(bug: PlantedBug, pkv_target: Target) -> bytes:
    """Return the program that triggers the bug."""
    return wire_file(bug.path.with_suffix(".prog"), pkv_target)


def test_its_program_shows_it(bug: PlantedBug, program: bytes, guest: GuestFactory) -> None:
    patched = guest_for(guest, bug, planted=True)
    if bug.kernel:
        # Its own kernel's test sees it (test_kcsan.py); on this one there is nothing to see.
        assert title_of(patched, program, 20) is None
    elif bug.expect == "wrong answer":
        with patched.restore() as machine, guest_for(guest, bug, planted=False).restore() as good:
            # What memory held before is up to the allocator, and to what the kernel does beside.
            assert any(
                answers(machine.run(program)) != answers(good.run(program)) for _ in range(TRIES)
            )
    elif is_leak(bug):
        innocent = wire_file(SEEDS[0], patched.target)
        with patched.restore() as machine:
            first = forget_leaks(machine)
            for each in (innocent, program, innocent):
                machine.run(each)
            leak = find_leak(machine, patched.driver.frame_marks())
            assert leak
            assert leak.title == bug.expect
            assert allocating_program(leak) == first + 1
    else:
        runs = RACE_RUNS if "race" in bug.needs else 1
        assert title_of(patched, program, runs) == bug.expect


def test_ordinary_use_does_not_show_it(
    bug: PlantedBug, pkv_target: Target, guest: GuestFactory
) -> None:
    with guest(Flavour.FULL, bug.name).restore() as machine, guest(Flavour.FULL).restore() as good:
        for path in SEEDS:
            seed = wire_file(path, pkv_target)
            assert run_program(machine, seed, late=False).splat is None, path.name
            assert answers(machine.run(seed)) == answers(good.run(seed)), path.name


def test_the_good_driver_is_silent(bug: PlantedBug, program: bytes, guest: GuestFactory) -> None:
    good = guest_for(guest, bug, planted=False)
    with good.restore() as machine:
        if is_leak(bug):
            forget_leaks(machine)
        for _ in range(20 if "race" in bug.needs else 1):
            assert run_program(machine, program, late=False).splat is None
        if is_leak(bug):
            assert find_leak(machine, good.driver.frame_marks()) is None
