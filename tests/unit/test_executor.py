# SPDX-License-Identifier: Apache-2.0
"""Executors: their history, their renewal and the module that they preload."""

from __future__ import annotations

import pytest

from fuzzer.crash.dedup import Wanted
from fuzzer.crash.executor import ObservingExecutor
from fuzzer.crash.outcome import Outcome
from fuzzer.crash.series import SeriesExecutor
from fuzzer.machine.executor import Executor
from fuzzer.machine.machine import LostMachineError
from fuzzer.program.ops import Op
from fuzzer.program.program import Call
from fuzzer.program.wire import encode
from fuzzer.splat.find import find_splat
from fuzzer.splat.kmsg import console_lines
from tests.fakes import Answer, FakeGuest
from tests.unit.test_judge import OTHER, SPLAT, TITLE

READ, WRITE, BAD = (encode((Call(op),)) for op in (Op.READ, Op.WRITE, Op.LSEEK))
LOAD = encode((Call(Op.UNLOAD), Call(Op.LOAD, data=b"lock=rcu")))


def bad(ran: list[bytes]) -> bytes:
    return SPLAT if ran[-1].endswith(BAD) else b""


def test_a_renewed_executor_has_another_machine_and_no_history() -> None:
    guest = FakeGuest(lambda ran: None)
    executor = Executor(guest.restore)
    assert guest.made == []
    first = executor.machine
    assert executor.machine is first
    executor.history.append(READ)
    assert executor.renew() is not first
    assert executor.history == []
    assert guest.running == 1
    executor.close()
    executor.close()
    assert guest.running == 0


def test_a_program_that_crashes_costs_the_machine_and_is_told_with_those_before_it() -> None:
    guest = FakeGuest(bad)
    executor = ObservingExecutor(guest.restore)
    assert executor.sighting(executor.run(READ), "me") is None
    executor.run(WRITE)
    sighting = executor.sighting(executor.run(BAD), "me")
    assert sighting is not None
    assert (sighting.title, sighting.program, sighting.history) == (TITLE, BAD, (READ, WRITE))
    assert (sighting.origin, guest.running) == ("me", 0)
    executor.run(READ)
    assert executor.history == [READ]
    assert [machine.ran for machine in guest.made] == [[READ, WRITE, BAD], [READ]]


def test_a_machine_that_has_run_enough_is_replaced() -> None:
    guest = FakeGuest(bad)
    executor = ObservingExecutor(guest.restore, most=2)
    for _ in range(5):
        executor.run(READ)
    assert [len(machine.ran) for machine in guest.made] == [2, 2, 1]
    assert guest.running == 1


def test_programs_run_behind_the_calls_that_the_module_was_loaded_by() -> None:
    guest = FakeGuest(bad)
    executor = ObservingExecutor(guest.restore, preload=lambda: LOAD)
    assert executor.prepare().channel.header.preloaded
    assert executor.preloaded == LOAD
    sighting = executor.sighting(executor.run(BAD), "me")
    assert sighting is not None
    assert (sighting.program, sighting.history) == (LOAD + BAD, ())


@pytest.mark.parametrize("loading", [None, Answer(SPLAT)])
def test_calls_that_do_not_load_the_module_well_are_not_preloaded(loading: Answer | None) -> None:
    guest = FakeGuest(bad, loading=loading)
    executor = ObservingExecutor(guest.restore, preload=lambda: LOAD)
    executor.run(READ)
    assert executor.preloaded == b""
    assert [(machine.preloaded, machine.ran) for machine in guest.made] == [
        (LOAD, []),
        (b"", [READ]),
    ]
    assert guest.running == 1


def test_who_looks_for_a_bug_says_whether_a_machine_goes_on() -> None:
    guest = FakeGuest(bad)
    seen: list[Outcome] = []

    def goes_on(outcome: Outcome) -> bool:
        seen.append(outcome)
        return True

    executor = ObservingExecutor(guest.restore, goes_on=goes_on)
    executor.run(BAD)
    executor.run(BAD)
    assert len(guest.made) == 1
    assert [outcome.splat.title for outcome in seen if outcome.splat] == [TITLE, TITLE]


def test_a_machine_that_is_lost_is_replaced() -> None:
    def behaviour(ran: list[bytes]) -> Answer | None:
        if ran[-1] == BAD:
            guest.made[-1].fake_qemu.running = False
            return Answer(silent=True)
        return None

    guest = FakeGuest(behaviour)
    executor = ObservingExecutor(guest.restore)
    executor.run(READ)
    with pytest.raises(LostMachineError):
        executor.run(BAD)
    executor.run(READ)
    assert len(guest.made) == 2


def test_a_series_goes_on_after_another_bug_and_ends_with_the_one_looked_for() -> None:
    guest = FakeGuest(lambda ran: {b"odd": OTHER, b"bad": SPLAT}.get(ran[-1]))
    bug = find_splat(console_lines(SPLAT))
    assert bug
    with SeriesExecutor(guest.restore, Wanted(bug)) as executor:
        assert executor.run_all([b"odd", b"bad", b"never"])
        outcome, number = executor.series.result()
        assert (outcome.splat, number, len(guest.made)) == (bug, 1, 1)
        assert [each.splat.title for each in outcome.passed] == ["WARNING in drv_open"]
        assert guest.ran == [b"odd", b"bad"]
        executor.renew()
        assert not executor.run_all([b"good"])
        assert executor.series.result()[0].splat is None
        assert guest.running == 1
    assert guest.running == 0


def test_the_module_is_loaded_once_for_a_series_whose_programs_all_begin_with_it() -> None:
    guest = FakeGuest(lambda ran: None)
    load = LOAD + encode((Call(Op.OPEN),))
    with SeriesExecutor(guest.restore, None) as executor:
        assert not executor.load_for([load + READ, READ])
        assert not guest.made
        assert not executor.load_for([load + READ, load + WRITE])
        assert guest.made[0].preloaded == load
    refused = FakeGuest(lambda ran: None, loading=Answer(SPLAT))
    with SeriesExecutor(refused.restore, None) as executor:
        assert executor.load_for([load + READ])
        outcome, number = executor.series.result()
        assert outcome.splat
        assert (outcome.splat.title, number) == (TITLE, 0)
