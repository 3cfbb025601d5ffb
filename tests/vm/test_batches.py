# SPDX-License-Identifier: Apache-2.0
"""Several programs in one command: in a loop, and up to the first that is news."""

from __future__ import annotations

import time

import pytest

from fuzzer.bench.instructions import counting_guest
from fuzzer.driver.provision import Guest
from fuzzer.engine.buckets import features_of
from fuzzer.kernel.kernel import Kernel
from fuzzer.machine.channel_layout import BULK, PATH_COUNTERS, Command, Status
from fuzzer.machine.machine import Machine, Run
from fuzzer.program import batch
from fuzzer.target.target import Target
from tests.vm.guests import splat, wire

pytestmark = pytest.mark.vm


def loop(machine: Machine, programs: list[bytes], count: int) -> Run:
    """Run programs in a loop in the guest."""
    data = batch.pack(programs)
    machine.channel.memory[BULK : BULK + len(data)] = data
    machine.channel.header.loop_count = count
    status = machine.command(Command.LOOP, len(data))
    return Run(status, machine.channel.results(), 0, machine.channel.log(), 0)


def test_a_loop_keeps_the_log_of_all_its_programs(misbehaving: Guest) -> None:
    target = misbehaving.target
    programs = [
        wire(f"ioctl(f0, {name})", target) for name in ("TD_GET", "TD_UAF", "TD_GET", "TD_NOISE")
    ]
    with misbehaving.restore() as machine:
        done = loop(machine, programs, 2)
        assert done.status is Status.OK
        found = splat(done.log)
        assert found is not None
        assert found.title == "KASAN: slab-use-after-free Read in td_uaf"
        assert done.log.count(b"testdrv: all is well") == 2
        assert loop(machine, programs[:1], 5).log == b""


def test_the_log_before_a_death_in_a_loop_is_kept(fast_misbehaving: Guest) -> None:
    target = fast_misbehaving.target
    programs = [wire(f"ioctl(f0, {name})", target) for name in ("TD_NOISE", "TD_BUG")]
    with fast_misbehaving.restore() as machine:
        done = loop(machine, programs, 1)
    assert done.status is Status.DIED
    assert b"testdrv: all is well" in done.log
    assert b"kernel BUG" in done.log


def run_batch(machine: Machine, programs: list[bytes], *, until_new: bool = False) -> int:
    """Run a batch; return the number of its last program that ran."""
    machine.channel.post_batch(programs, until_new=until_new)
    machine.await_answer(60.0)
    return int(machine.channel.header.batch_at)


def test_a_batch_runs_to_its_end_if_there_is_no_news(misbehaving: Guest) -> None:
    get = wire("ioctl(f0, TD_GET)", misbehaving.target)
    with misbehaving.restore() as machine:
        assert run_batch(machine, [get * 2, get, get * 3]) == 2
        header = machine.channel.header
        assert (header.status, header.log_length, header.batch_new) == (0, 0, 0)
        assert (header.loop_calls, header.n_results) == (6, 3)


def test_a_batch_ends_when_the_kernel_speaks(misbehaving: Guest) -> None:
    target = misbehaving.target
    get, uaf = (wire(f"ioctl(f0, {name})", target) for name in ("TD_GET", "TD_UAF"))
    with misbehaving.restore() as machine:
        assert run_batch(machine, [get, uaf, get]) == 1
        found = splat(machine.channel.log())
        assert found is not None
        assert found.title == "KASAN: slab-use-after-free Read in td_uaf"


def heard_noise(machine: Machine, noise: bytes) -> None:
    """Let the host hear lines that are no report, and go on."""
    assert run_batch(machine, [noise]) == 0
    assert machine.channel.header.log_length
    machine.channel.note_heard(harmless=True)


def test_what_follows_known_lines_is_told_whole(fast_misbehaving: Guest) -> None:
    target = fast_misbehaving.target
    noise, uaf = (wire(f"ioctl(f0, {name})", target) for name in ("TD_NOISE", "TD_UAF"))
    with fast_misbehaving.restore() as machine:
        heard_noise(machine, noise)
        header = machine.channel.header
        # Few lines are passed over, and more than it takes to have them read at once.
        for n in (3, 500):
            assert run_batch(machine, [noise] * n) == n - 1
            assert header.log_length == 0
            assert run_batch(machine, [noise, noise + uaf, noise]) == 1
            log = machine.channel.log()
            assert log.count(b"testdrv: all is well") == 1
            assert splat(log)


def test_known_lines_cost_less_than_to_read_them(testdrv: Target, fast_kernel: Kernel) -> None:
    guest = counting_guest(testdrv, fast_kernel)
    noise = wire("ioctl(f0, TD_NOISE)", testdrv)
    instructions = []
    for looks in (True, False):
        with guest.restore() as machine:
            header = machine.channel.header
            header.log_ring *= looks
            heard_noise(machine, noise)
            assert run_batch(machine, [10 * noise] * 50) == 49
            instructions.append(header.tsc)
    assert instructions[0] < 0.7 * instructions[1]


def test_a_batch_ends_with_what_covers_something_new(misbehaving: Guest) -> None:
    target, n = misbehaving.target, len(misbehaving.blocks) + PATH_COUNTERS
    get, other = (wire(f"ioctl(f0, {name})", target) for name in ("TD_GET", "TD_LIST"))
    with misbehaving.restore() as machine:
        channel = machine.channel
        channel.clear_counters(n)
        channel.write_seen(0, n)
        assert run_batch(machine, [get, get, other], until_new=True) == 0
        assert channel.header.batch_new == 1
        alone = bytes(channel.counters(n))
        assert any(alone)
        channel.write_seen(features_of(alone), n)
        channel.clear_counters(n)
        # The second program's counters do not contain the first one's.
        assert run_batch(machine, [get, get], until_new=True) == 1
        assert channel.header.batch_new == 0
        assert bytes(channel.counters(n)) == alone
        channel.clear_counters(n)
        assert run_batch(machine, [get, get, other, get], until_new=True) == 2
        assert channel.header.batch_new == 1
        # Twice in a program is another bucket of the counters.
        channel.clear_counters(n)
        assert run_batch(machine, [get, get * 2, get], until_new=True) == 1


def test_the_next_batch_begins_without_the_host(misbehaving: Guest) -> None:
    target, n = misbehaving.target, len(misbehaving.blocks) + PATH_COUNTERS
    get = wire("ioctl(f0, TD_GET)", target)
    sleep = wire("sleep(600)", target)
    with misbehaving.restore() as machine:
        channel = machine.channel
        channel.clear_counters(n)
        assert run_batch(machine, [get]) == 0
        alone = bytes(channel.counters(n))
        channel.clear_counters(n)
        channel.post_batch([sleep, get])
        channel.post_next([get * 2, sleep, get], 1)
        assert channel.wait(30.0, batch=0)
        # The first is over, the second has begun: what the first left is kept.
        assert channel.is_over(0)
        assert not channel.is_over(1)
        assert not channel.finished()
        assert channel.last_counters(n) == alone
        channel.post_next([get, get], 2)
        machine.await_answer(60.0)
        header = channel.header
        assert (header.batches, header.batch_at, header.next_length) == (2, 1, 0)
        assert header.loop_calls == 1 + 1 + 2 + 1 + 1 + 1 + 1
        assert bytes(channel.counters(n)) == alone


def test_the_bell_is_rung_for_each_batch(misbehaving: Guest) -> None:
    target = misbehaving.target
    get, sleep = wire("ioctl(f0, TD_GET)", target), wire("sleep(300)", target)
    with misbehaving.restore() as machine:
        channel = machine.channel
        # Who waits would look for the first time when the test has failed.
        channel.without_bell = 60.0
        for _ in range(2):
            channel.post_batch([sleep, get])
            channel.post_next([sleep, sleep, sleep, get], 1)
            start = time.monotonic()
            assert channel.wait(60.0, batch=0)
            assert channel.is_over(0)
            assert not channel.finished()
            assert channel.wait(60.0, batch=1)
            assert channel.finished()
            assert time.monotonic() - start < 40


def test_the_next_batch_does_not_begin_if_there_is_news(misbehaving: Guest) -> None:
    target = misbehaving.target
    get, uaf = (wire(f"ioctl(f0, {name})", target) for name in ("TD_GET", "TD_UAF"))
    sleep = wire("sleep(600)", target)
    with misbehaving.restore() as machine:
        channel = machine.channel
        channel.post_batch([sleep, uaf])
        channel.post_next([get], 1)
        machine.await_answer(60.0)
        assert splat(channel.log()) is not None
        assert not channel.is_over(0)
        header = channel.header
        assert (header.batches, header.batch_at) == (0, 1)
        assert header.next_length > 0
        assert header.loop_calls == 2
        # Which the next request does not begin with.
        channel.post_batch([get])
        assert header.next_length == 0
