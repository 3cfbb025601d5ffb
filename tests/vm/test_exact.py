# SPDX-License-Identifier: Apache-2.0
"""Exact mode: what a program does follows from it alone, races included."""

from __future__ import annotations

import random

import pytest

from fuzzer.crash.exact import EXACT, find_schedule, measure_ticks, run_batch, run_exact
from fuzzer.driver.driver import build_driver, find_bug
from fuzzer.driver.provision import Guest, ensure_guest
from fuzzer.kernel.kernel import Kernel
from fuzzer.machine.accel import Accel
from fuzzer.machine.channel import Channel
from fuzzer.machine.channel_layout import FLAG_TSC
from fuzzer.machine.machine import Run
from fuzzer.paths import project_root
from fuzzer.program.schedule import Schedules, with_waits
from fuzzer.program.text import load_program
from fuzzer.program.wire import encode, split
from fuzzer.target.target import Target
from tests.vm.guests import wire

pytestmark = pytest.mark.vm

READS = """\
write(f0, "a=1\\n")
[1] read(f0, 64)
[2] wait({ticks})
[2] read(f0, 64)
"""
TICKS = range(200, 4000, 200)


@pytest.fixture(scope="module")
def exact(fast_kernel: Kernel, pkv_target: Target) -> Guest:
    """Return an exact guest whose driver has a race."""
    driver = build_driver(pkv_target, fast_kernel, find_bug(pkv_target, "delete-race"))
    return ensure_guest(pkv_target, fast_kernel, driver, Accel.TCG, EXACT)


def timed(exact: Guest, text: str) -> tuple[Run, bytes]:
    """Run a program with each call timed; returns its coverage as well."""

    def post(channel: Channel) -> None:
        channel.header.flags |= FLAG_TSC
        channel.post_program(wire(text, exact.target))

    with exact.start(post) as machine:
        run = machine.finish(60.0)
        return run, bytes(machine.channel.counters(len(exact.blocks)))


def test_every_machine_does_the_same_to_the_tick(exact: Guest) -> None:
    first = timed(exact, READS.format(ticks=1000))
    for _ in range(4):
        assert timed(exact, READS.format(ticks=1000)) == first


def test_a_wait_decides_when_a_thread_takes_over(exact: Guest) -> None:
    alone = timed(exact, READS.format(ticks=100_000))[0].results[1].tsc
    # When in its part thread 1 makes its call is up to the kernel and the executor.
    took = {ticks: timed(exact, READS.format(ticks=ticks))[0].results[1].tsc for ticks in TICKS}
    # There it stands still while thread 2 makes its call.
    held = [ticks for ticks in TICKS if took[ticks] > 2 * alone]
    assert 2 <= len(held) < 0.7 * len(TICKS)
    assert held == [ticks for ticks in TICKS if held[0] <= ticks <= held[-1]]
    assert all(took[ticks] == alone for ticks in TICKS if ticks > held[-1])


def test_a_batch_of_programs_does_the_same_each_time(exact: Guest) -> None:
    path = project_root() / "module" / "bugs" / "delete-race.prog"
    chunks = split(encode(load_program(path, exact.target)))
    schedules = Schedules(chunks, measure_ticks(exact, chunks), random.Random(1))
    batch = [with_waits(chunks, schedules.choose()) for _ in range(100)]
    first, number = run_batch(exact, batch)
    assert first.splat, "none of 100 schedules shows the race"
    assert number < len(batch)
    for _ in range(3):
        assert run_batch(exact, batch) == (first, number)
    assert run_exact(exact, batch[:number], batch[number]) == first


def test_a_race_that_is_found_happens_each_time(exact: Guest) -> None:
    path = project_root() / "module" / "bugs" / "delete-race.prog"
    program = encode(load_program(path, exact.target))
    assert run_exact(exact, (), program).splat is None
    title = "KASAN: slab-use-after-free Read in pkv_store_delete"
    found = find_schedule(exact, program, random.Random(1), title=title)
    assert found, "no schedule found"
    for _ in range(20):
        assert run_exact(exact, (), found.program) == found.outcome
