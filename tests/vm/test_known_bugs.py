# SPDX-License-Identifier: Apache-2.0
"""Bugs that nearly every program meets: they cost little once they are known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from fuzzer.crash.observe import run_program
from fuzzer.crash.sighting import Spool
from fuzzer.driver.provision import Guest
from fuzzer.engine.aside import read_aside
from fuzzer.engine.loop import LoopOptions
from fuzzer.engine.statistics import WorkerCounts, read_statistics
from fuzzer.kernel.kernel import Flavour
from fuzzer.target.target import Target, load_target
from tests.vm.guests import GuestFactory, wire
from tests.vm.workers import run_worker

pytestmark = pytest.mark.vm

_SHALLOW = Path(__file__).parent.parent / "data" / "shallow" / "shallow.yaml"
_READ, _WRITE = "KASAN: slab-out-of-bounds Read in shallow_read", "divide error in shallow_write"
_COMMIT = "WARNING in shallow_commit"
_PROGRAMS = 4_000


@dataclass(frozen=True, slots=True)
class Worked:
    """The results of a worker: counts, blocks covered, sightings, and bugs set aside."""

    counts: WorkerCounts
    covered: int
    seen: dict[str, int]
    aside: Mapping[str, int]


@pytest.fixture(scope="module")
def target() -> Target:
    """Return the description of a driver with two bugs in the way of a third."""
    return load_target(_SHALLOW)


def work(guest: Guest, workdir: Path) -> Worked:
    """Run a worker."""
    run_worker(guest, LoopOptions(workdir, "worker-0", 7, runs=_PROGRAMS))
    counts, covered = read_statistics(workdir / "worker-0.stats")
    return Worked(counts, len(covered), Spool(workdir).counts(), read_aside(workdir).sightings)


def test_two_shallow_bugs_take_few_machines_and_hide_nothing(
    guest: GuestFactory, target: Target, tmp_path: Path
) -> None:
    sane = replace(target, module=replace(target.module, params="sane=1"))
    without = work(guest(Flavour.FAST, target=sane), tmp_path / "without")
    crashing = work(guest(Flavour.FAST, target=target), tmp_path / "crashing")
    assert {_READ, _WRITE} <= set(crashing.aside)
    assert {_READ, _WRITE, _COMMIT} <= set(crashing.seen)
    assert crashing.counts.programs >= _PROGRAMS
    # Every other program would have met one of them. The third one takes what programs before
    # left, and the machine goes on after it.
    assert crashing.seen[_READ] + crashing.seen[_WRITE] < 0.1 * _PROGRAMS
    assert crashing.counts.restores < 250
    assert crashing.covered >= 0.9 * without.covered


@pytest.mark.parametrize("flavour", [Flavour.FAST, Flavour.FULL])
def test_kasan_reports_the_next_programs_bug_too(
    guest: GuestFactory, target: Target, flavour: Flavour
) -> None:
    program = wire("read(f0, 65)\nread(f0, 65)", target)
    with guest(flavour, target=target).restore() as machine:
        for _ in range(2):
            splat = run_program(machine, program).splat
            assert splat is not None
            assert splat.title == _READ
            # Of one program it is the first report that tells most.
            assert splat.text.count("BUG: KASAN") == 1
        # Unless the host has had enough of it.
        machine.channel.header.kasan_flags = 0
        assert run_program(machine, program).splat is not None
        assert run_program(machine, program).splat is None
