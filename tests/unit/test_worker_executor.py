# SPDX-License-Identifier: Apache-2.0
"""A worker's executor, on machines that exist only here: waiting, renewal, what it equips."""

from __future__ import annotations

from pathlib import Path

import pytest

from fuzzer.engine.executor import WorkerExecutor
from fuzzer.machine.channel_layout import FLAG_WAITS, MAX_CONTEXTS, NO_BATCH
from fuzzer.program.ops import Op
from fuzzer.program.program import Call
from fuzzer.program.wire import encode
from fuzzer.target.target import load_target
from tests.fakes import Answer, FakeChannel, FakeGuest
from tests.unit.test_judge import SPLAT

TARGET = load_target(Path(__file__).parent / "data" / "demo" / "demo.yaml")
READ = encode((Call(Op.READ),))
LOAD = encode((Call(Op.UNLOAD), Call(Op.LOAD)))


class Clock:
    """Time that passes while somebody waits for a guest."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class WatchedChannel(FakeChannel):
    """A channel on which waiting takes as long as it may."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock
        self.calls_until = 0.0

    def wait(self, timeout: float, batch: int = NO_BATCH) -> bool:
        self._clock.now += timeout
        self.header.progress += self._clock.now < self.calls_until
        return super().wait(timeout, batch)


def executor_of(
    guest: FakeGuest, racing: FakeGuest | None = None
) -> tuple[WorkerExecutor, WatchedChannel, Clock]:
    clock = Clock()
    channel = WatchedChannel(clock)
    beside = racing if racing else None
    guest.clock = clock
    executor = WorkerExecutor(guest, beside, channel=channel, clock=clock)
    return executor, channel, clock


def hanging(ran: list[bytes]) -> Answer:
    return Answer(silent=True)


def test_one_channel_outlives_the_machines() -> None:
    guest = FakeGuest(lambda ran: None, TARGET)
    executor, channel, _ = executor_of(guest)
    executor.history.append(READ)
    executor.shown["a bug"] = None
    executor.preloaded = LOAD
    executor.renew()
    assert [machine.channel for machine in guest.made] == [channel, channel]
    assert (executor.history, executor.shown, guest.running) == ([], {}, 1)
    # What the module is loaded by is up to who renews it.
    assert executor.preloaded == LOAD
    channel.post_program(READ)
    assert executor.await_answer()
    assert guest.made[1].ran == [READ]


def test_machines_with_several_vcpus_are_used_while_programs_race() -> None:
    guest, racing = FakeGuest(lambda ran: None, TARGET), FakeGuest(lambda ran: None, TARGET)
    executor, _, _ = executor_of(guest, racing)
    assert executor.can_race
    executor.races = True
    executor.renew()
    assert (len(guest.made), len(racing.made)) == (1, 1)
    executor.races = False
    executor.renew()
    assert (len(guest.made), len(racing.made)) == (2, 1)
    alone, _, _ = executor_of(guest)
    assert not alone.can_race


def test_a_guest_that_makes_no_further_call_is_lost_after_some_seconds() -> None:
    executor, channel, clock = executor_of(FakeGuest(hanging, TARGET))
    channel.post_program(READ)
    assert not executor.await_answer()
    assert executor.patience < clock.now < executor.patience + 1
    assert not executor.was_slow


def test_who_waits_may_have_less_patience() -> None:
    executor, channel, clock = executor_of(FakeGuest(hanging, TARGET))
    channel.post_program(READ)
    assert not executor.await_answer(patience=1.0)
    assert 1 < clock.now < 2 < executor.patience


def test_a_guest_that_is_gone_is_not_waited_for() -> None:
    executor, channel, clock = executor_of(
        FakeGuest(lambda ran: Answer(silent=True, left=True), TARGET)
    )
    channel.post_program(READ)
    assert not executor.await_answer()
    assert clock.now < 1


@pytest.mark.parametrize(("ran", "slow"), [(64, False), (65, True)])
def test_a_machine_that_became_slow_is_told_from_one_that_is_lost(ran: int, slow: bool) -> None:
    executor, channel, clock = executor_of(FakeGuest(hanging, TARGET))
    executor.history.extend([READ] * ran)
    channel.calls_until = 3 * executor.slow_seconds
    channel.post_program(READ)
    assert not executor.await_answer()
    assert executor.was_slow is slow
    assert (clock.now < executor.slow_seconds + 1) is slow


def test_somebody_is_called_once_a_second_while_a_guest_takes_its_time() -> None:
    executor, channel, clock = executor_of(FakeGuest(hanging, TARGET))
    called: list[float] = []
    executor.while_waiting = lambda: called.append(clock.now)
    channel.post_program(READ)
    executor.await_answer()
    assert len(called) == int(clock.now)


def test_ioctls_that_were_learned_are_counted_once_they_are_equipped() -> None:
    guest = FakeGuest(lambda ran: None, TARGET, contexts=(7,))
    executor, channel, _ = executor_of(guest)
    assert not executor.learn_contexts([7])
    assert executor.learn_contexts([9, 7])
    assert list(channel.header.contexts[: channel.header.n_contexts]) == [7]
    executor.equip()
    assert list(channel.header.contexts[: channel.header.n_contexts]) == [7, 9]
    executor.learn_contexts(range(2 * MAX_CONTEXTS))
    executor.renew()
    assert channel.header.n_contexts == MAX_CONTEXTS


def test_programs_go_on_while_a_call_waits_on_all_machines_from_then_on() -> None:
    executor, channel, _ = executor_of(FakeGuest(lambda ran: None, TARGET))
    assert not channel.header.flags & FLAG_WAITS
    executor.let_wait()
    assert channel.header.flags & FLAG_WAITS
    channel.header.flags = 0
    executor.renew()
    assert channel.header.flags & FLAG_WAITS


@pytest.mark.parametrize(
    ("loading", "answered", "well"),
    [
        (Answer(b"6,1,1000,-;demo: loaded\n"), True, True),
        (None, True, False),
        (Answer(SPLAT), True, False),
        (Answer(silent=True), False, False),
    ],
)
def test_a_module_that_is_preloaded_badly_is_told(
    loading: Answer | None, answered: bool, well: bool
) -> None:
    guest = FakeGuest(lambda ran: None, TARGET, loading=loading)
    executor, _, _ = executor_of(guest)
    executor.preloaded = LOAD
    assert executor.preload() is answered
    assert not answered or executor.has_loaded_well() is well
    assert guest.made[0].preloaded == LOAD
