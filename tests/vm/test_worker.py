# SPDX-License-Identifier: Apache-2.0
"""A worker on its own: what it keeps, and that it does the same each time."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from fuzzer.driver.provision import Guest
from fuzzer.engine.loop import LoopOptions
from fuzzer.engine.statistics import read_statistics
from fuzzer.kernel.kernel import Flavour
from fuzzer.program.mechanisms import ALL, Mechanisms
from fuzzer.program.preload import preload_of
from fuzzer.target.calls import CallTemplate, PoolRef, ReloadSpec, SleepSpec
from tests.vm.guests import GuestFactory
from tests.vm.workers import run_worker

pytestmark = pytest.mark.vm

PROGRAMS = 4000


@pytest.fixture(scope="module")
def fast(guest: GuestFactory) -> Guest:
    """Return a ``fast`` guest with the driver, of which nothing hangs on the clock."""
    plain = guest(Flavour.FAST)
    strategies = ReloadSpec((CallTemplate((b"lock=", PoolRef("lock"))),))
    calls = [each for each in plain.target.calls if not isinstance(each, SleepSpec | ReloadSpec)]
    target = dataclasses.replace(plain.target, calls=(*calls, strategies))
    return dataclasses.replace(plain, target=target)


def work(
    guest: Guest,
    workdir: Path,
    mechanisms: Mechanisms = ALL,
    *,
    runs: int = PROGRAMS,
    racing: Guest | None = None,
) -> set[bytes]:
    """Run a worker that changes its machine often; return the corpus that it leaves."""
    options = LoopOptions(
        workdir, "worker-0", 7, runs=runs, restore_every=250, mechanisms=mechanisms
    )
    corpus = run_worker(guest, options, racing)
    return {path.read_bytes() for path in corpus.iterdir()}


def test_programs_of_preloaded_machines_are_plain_programs_of_the_corpus(
    fast: Guest, tmp_path: Path
) -> None:
    first = work(fast, tmp_path / "first")
    assert sum(bool(preload_of(program)) for program in first) >= 12
    # Not a matter of time: not of when the host looks, and not of what it looks at.
    assert work(fast, tmp_path / "second") == first


def test_without_a_lifecycle_no_machine_is_preloaded(fast: Guest, tmp_path: Path) -> None:
    corpus = work(fast, tmp_path, Mechanisms(lifecycle=False))
    assert len(corpus) > 20
    assert not any(map(preload_of, corpus))


def test_a_driver_that_crashes_again_and_again_is_raced_as_well(
    guest: GuestFactory, tmp_path: Path
) -> None:
    serial = guest(Flavour.FAST, "length-index")
    work(serial, tmp_path, runs=1200, racing=guest(Flavour.FAST, "length-index", cpus=2))
    counts, _ = read_statistics(tmp_path / "worker-0.stats")
    # No machine came to the end of a phase.
    assert counts.splats >= 5
    assert list(tmp_path.glob("race-*.lock"))
