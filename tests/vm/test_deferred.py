# SPDX-License-Identifier: Apache-2.0
"""Coverage of what a driver does outside of calls: in workqueues, timers, interrupts, threads."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from fuzzer.crash.observe import run_program
from fuzzer.driver.driver import build_driver
from fuzzer.driver.provision import Guest, ensure_guest
from fuzzer.engine.buckets import features_of
from fuzzer.kernel.kernel import Flavour, Kernel
from fuzzer.machine.accel import Accel
from fuzzer.machine.channel_layout import COUNTER_DEFERRED, PATH_COUNTERS, Status
from fuzzer.machine.machine import Machine
from fuzzer.target.target import Target, load_target
from tests.vm.guests import GuestFactory, blocks_of_function, returned, run, wire

pytestmark = pytest.mark.vm

TESTS = Path(__file__).parent.parent
POSTROOM = TESTS / "drivers" / "strangers" / "postroom"
# Letters in the order behind which the bug is.
LETTERS = ("start", "1", "abc", "0", "stop", "0")


@pytest.fixture(scope="module")
def later() -> Target:
    return load_target(TESTS / "data" / "later" / "later.yaml")


@pytest.fixture(scope="module")
def fast(later: Target, guest: GuestFactory) -> Guest:
    """Return a guest with a driver that does each thing at another time."""
    return guest(Flavour.FAST, target=later)


def covered(machine: Machine, guest: Guest, text: str, *, settles: bool = False) -> tuple[int, ...]:
    """Run a program; return the counters of all blocks after it."""
    channel = machine.channel
    channel.clear_counters(len(guest.blocks) + PATH_COUNTERS)
    channel.set_settling(settles=settles)
    result = run(machine, guest, text)
    assert result.status is Status.OK
    assert all(error == 0 for _, error in returned(result))
    return tuple(channel.counters(len(guest.blocks)))


@pytest.mark.parametrize("flavour", [Flavour.FAST, Flavour.FULL])
@pytest.mark.parametrize(
    ("call", "function"),
    [
        ("LATER_WORK", "later_work"),
        ("LATER_TASKLET", "later_tasklet"),
        ("LATER_THREAD", "thread_once"),
    ],
)
def test_what_is_deferred_is_the_programs_and_told_from_its_calls(
    guest: GuestFactory, later: Target, flavour: Flavour, call: str, function: str
) -> None:
    subject = guest(flavour, target=later)
    calls, deferred = (blocks_of_function(subject, name) for name in ("later_ioctl", function))
    with subject.restore() as machine:
        before = covered(machine, subject, "poll(f0, 0x1)")
        after = covered(machine, subject, f"ioctl(f0, {call})", settles=True)
    assert {before[number] for number in deferred} == {0}
    assert {after[number] for number in deferred} == {COUNTER_DEFERRED}
    assert {after[number] for number in calls} <= {0, 1}


@pytest.mark.parametrize(
    ("call", "function"), [("LATER_DELAYED", "later_delayed"), ("LATER_TIMER", "later_timer")]
)
def test_a_timer_is_waited_for_if_the_host_asks_for_it(
    fast: Guest, call: str, function: str
) -> None:
    deferred = blocks_of_function(fast, function)
    with fast.restore() as machine:
        for _ in range(3):
            without = covered(machine, fast, f"ioctl(f0, {call}, 900)")
            assert {without[number] for number in deferred} == {0}
            with_it = covered(machine, fast, f"ioctl(f0, {call}, 10)", settles=True)
            assert {with_it[number] for number in deferred} == {COUNTER_DEFERRED}


def test_what_runs_between_programs_is_no_programs(fast: Guest) -> None:
    deferred = blocks_of_function(fast, "later_timer")
    with fast.restore() as machine:
        covered(machine, fast, "ioctl(f0, LATER_TIMER, 10)")
        machine.rest(0.3)
        after = covered(machine, fast, "ioctl(f0, LATER_WORK)", settles=True)
    assert {after[number] for number in deferred} == {0}


def test_it_goes_on_when_the_module_is_loaded_again(fast: Guest) -> None:
    deferred = blocks_of_function(fast, "later_work")
    text = 'ioctl(f0, LATER_WORK)\nclose(f0)\nunload()\nload("")\nopen(f0)\nioctl(f0, LATER_WORK)'
    with fast.restore() as machine:
        for _ in range(3):
            counters = covered(machine, fast, text, settles=True)
            assert {counters[number] for number in deferred} == {COUNTER_DEFERRED}


def test_it_is_news_of_a_batch_until_the_host_has_seen_it(fast: Guest) -> None:
    count = len(fast.blocks) + PATH_COUNTERS
    nothing, work = wire("poll(f0, 0x1)", fast.target), wire("ioctl(f0, LATER_WORK)", fast.target)
    with fast.restore() as machine:
        channel = machine.channel
        channel.set_settling(settles=True)
        seen = 0
        for program in (nothing, work):
            channel.clear_counters(count)
            machine.run(program)
            counters = bytearray(channel.counters(count))
            for number in blocks_of_function(fast, "later_work"):
                counters[number] = 0
            seen |= features_of(bytes(counters))
        for known in (seen, seen | features_of(channel.counters(count))):
            channel.write_seen(known, count)
            channel.clear_counters(count)
            channel.post_batch([nothing, work, nothing], until_new=True)
            machine.await_answer(10.0)
            is_new = known == seen
            assert (channel.header.batch_at, channel.header.batch_new) == (2 - is_new, is_new)


def test_compared_operands_leave_it_alone(fast: Guest) -> None:
    with fast.restore() as machine:
        machine.channel.clear_counters(len(fast.blocks))
        machine.compare(wire("ioctl(f0, LATER_WORK)", fast.target))
        assert not any(machine.channel.counters(len(fast.blocks)))


@pytest.fixture(scope="module")
def postroom(tmp_path_factory: pytest.TempPathFactory) -> Target:
    path = tmp_path_factory.mktemp("postroom") / "postroom.yaml"
    path.write_text(
        "version: 1\nname: postroom\ndevice: /dev/postroom\n"
        f"module: {{source: {POSTROOM}, name: postroom}}\ncalls:\n  - write: ['']\n"
    )
    return load_target(path)


@pytest.mark.parametrize("deferred", [True, False])
def test_each_step_to_a_bug_in_a_workqueue_shows_with_it_alone(
    postroom: Target, fast_kernel: Kernel, accel: Accel, deferred: bool
) -> None:
    driver = build_driver(postroom, fast_kernel)
    subject = ensure_guest(postroom, fast_kernel, driver, accel, deferred=deferred)
    writes = [f'write(f0, "{letter}")' for letter in LETTERS]
    with subject.restore() as machine:
        steps = [
            {number for number, count in enumerate(counters) if count}
            for end in range(1, len(LETTERS))
            for counters in [covered(machine, subject, "\n".join(writes[:end]))]
        ]
        outcome = run_program(machine, wire("\n".join(writes), postroom))
    assert [len(more - less) > 0 for less, more in pairwise(steps)] == (
        [deferred] * (len(steps) - 1)
    )
    assert outcome.splat
    assert outcome.splat.title == "KASAN: slab-out-of-bounds Write in file_letter"
