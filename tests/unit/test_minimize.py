# SPDX-License-Identifier: Apache-2.0
"""Minimising on machines that exist only here: statistics, fallbacks, slices."""

from __future__ import annotations

import random
from collections.abc import Callable, Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fuzzer.crash.minimizer.minimize import Minimized, Minimizer
from fuzzer.crash.oracles.deterministic import matches
from fuzzer.crash.oracles.statistical import RateTrials, measure
from fuzzer.crash.rate import Rate
from fuzzer.crash.reproducer import Reproducer
from fuzzer.crash.testbeds import Testbeds
from fuzzer.program.ops import Op
from fuzzer.program.program import Call, Program
from fuzzer.program.wire import decode, encode
from fuzzer.splat.find import bare_splat
from fuzzer.splat.splat import Splat
from fuzzer.target.calls import SleepSpec
from fuzzer.target.target import Target, load_target
from tests.fakes import FakeGuest

TARGET = load_target(Path(__file__).parent / "data" / "demo" / "demo.yaml")
BUG = bare_splat("KASAN: slab-use-after-free Read in drv_read", "kasan", "drv_read")
OTHER = bare_splat("WARNING in drv_write", "warning", "drv_write")
WRITE, READ, CLOSE = Call(Op.WRITE, data=b"a\n"), Call(Op.READ), Call(Op.CLOSE)
SEEK = Call(Op.LSEEK, arg=7)

Shows = Callable[[list[Program]], Splat | None]
"""The splat that the last of the programs of a machine causes."""


def log_of(splat: Splat) -> bytes:
    first = (
        "BUG: KASAN: slab-use-after-free in x\n4,1,1,-;Read of size 8 at addr 1"
        if splat is BUG
        else "WARNING: CPU: 0 PID: 1 at x"
    )
    return f"4,1,1,-;{first}\n4,2,1,-;Call Trace:\n4,3,1,-; {splat.function}+0x1/0x2 [d]\n".encode()


def guest_that(shows: Shows) -> FakeGuest:
    """Return a guest that reports what ``shows`` says of the programs so far."""

    decoded: dict[int, list[Program]] = {}

    def behaviour(ran: list[bytes]) -> bytes:
        programs = decoded.setdefault(id(ran), [])
        programs.append(decode(ran[-1]))
        splat = shows(programs)
        return log_of(splat) if splat else b""

    return FakeGuest(behaviour)


def minimized(
    shows: Shows, *programs: Program, racing: Shows | None = None, target: Target = TARGET
) -> tuple[Minimized | None, FakeGuest]:
    guest = guest_that(shows)
    beside = guest_that(racing or shows)
    setups = Testbeds(guest, lambda hardware, arguments: beside)
    *history, program = map(encode, programs)
    start = Reproducer(program, tuple(history))
    found = Minimizer(setups, target, start, BUG, cores=2).run()
    for each in (guest, beside):
        assert not each.running, "a machine was left running"
    return found, guest


def ops(reproducer: Reproducer) -> list[Op]:
    return [call.op for call in decode(reproducer.program)]


def in_order(program: Program, *wanted: Op) -> bool:
    left = iter([call.op for call in program])
    return all(op in left for op in wanted)


def test_a_certain_crash_is_minimized_and_verified() -> None:
    program = (SEEK,) * 20 + (WRITE,) + (SEEK,) * 17 + (CLOSE, READ)
    found, _ = minimized(lambda ran: BUG if in_order(ran[-1], Op.WRITE, Op.READ) else None, program)
    assert found
    assert ops(found.reproducer) == [Op.WRITE, Op.READ]
    assert (found.hits, found.runs, found.complete) == (3, 3, True)
    assert found.effort.restores < found.effort.runs, "restores, where programs would do"


def test_another_bug_on_the_way_does_not_count() -> None:
    def shows(ran: list[Program]) -> Splat | None:
        if in_order(ran[-1], Op.WRITE, Op.CLOSE, Op.READ):
            return BUG
        return OTHER if in_order(ran[-1], Op.WRITE, Op.READ) else None

    found, _ = minimized(shows, (SEEK, WRITE, SEEK, CLOSE, READ, SEEK))
    assert found
    assert ops(found.reproducer) == [Op.WRITE, Op.CLOSE, Op.READ]


def test_what_programs_leave_behind_does_not_make_a_reproducer() -> None:
    def shows(ran: list[Program]) -> Splat | None:
        # A write spoils the machine for good, whatever resets it.
        wrote = any(in_order(program, Op.WRITE) for program in ran)
        return BUG if wrote and in_order(ran[-1], Op.READ) else None

    found, _ = minimized(shows, (SEEK, WRITE, SEEK, READ, SEEK))
    assert found
    assert ops(found.reproducer) == [Op.WRITE, Op.READ]
    assert found.complete


def test_a_history_is_made_as_short_as_it_can_be() -> None:
    def shows(ran: list[Program]) -> Splat | None:
        wrote = any(in_order(program, Op.WRITE) for program in ran[:-1])
        return BUG if wrote and in_order(ran[-1], Op.READ) else None

    found, _ = minimized(shows, *((SEEK,),) * 50, (SEEK, WRITE), *((SEEK,),) * 49, (READ, SEEK))
    assert found
    assert len(found.reproducer.history) == 1
    assert ops(found.reproducer) == [Op.READ]


def test_what_does_not_reproduce_has_no_result() -> None:
    found, _ = minimized(lambda ran: OTHER, (WRITE, READ))
    assert found is None


def test_time_that_is_over_leaves_what_was_achieved() -> None:
    guest = guest_that(lambda ran: BUG if in_order(ran[-1], Op.READ) else None)
    setups = Testbeds(guest, lambda hardware, arguments: guest)
    start = Reproducer(encode((SEEK,) * 30 + (READ,)))
    minimizer = Minimizer(setups, TARGET, start, BUG)
    while minimizer.best == start:
        assert minimizer.step()
    minimizer.hurry(0.0)
    found = minimizer.run()
    assert found
    assert not found.complete
    assert 1 <= len(ops(found.reproducer)) < 31
    assert (found.hits, found.runs) == (3, 3)


def racing(rate: Callable[[Program], float], rng: random.Random) -> Shows:
    return lambda ran: BUG if rng.random() < rate(ran[-1]) else None


@pytest.mark.parametrize("seed", range(5))
def test_a_race_keeps_its_rate(seed: int) -> None:
    first, second = Call(Op.READ, thread=1), Call(Op.CLOSE, thread=2)
    program = (SEEK, WRITE, first, first, first, first, second, SEEK)

    def rate(calls: Program) -> float:
        """Without the write the race is won one time in twenty only."""
        threads = {call.op: call.thread for call in calls}
        one, other = threads.get(Op.READ), threads.get(Op.CLOSE)
        if not one or not other or one == other:
            return 0.0
        return 0.2 if Op.WRITE in threads else 0.01

    found, _ = minimized(lambda ran: None, program, racing=racing(rate, random.Random(seed)))
    assert found
    assert ops(found.reproducer) == [Op.WRITE, Op.READ, Op.CLOSE]
    assert [call.thread for call in decode(found.reproducer.program)][1:] == [1, 2]


def test_a_race_needs_no_repetition_that_only_makes_it_likelier() -> None:
    first, second = Call(Op.READ, thread=1), Call(Op.CLOSE, thread=2)

    def rate(calls: Program) -> float:
        return 0.02 * min(calls.count(first), calls.count(second))

    program = (WRITE, *[first] * 10, *[second] * 10)
    found, _ = minimized(lambda ran: None, program, racing=racing(rate, random.Random(1)))
    assert found
    assert ops(found.reproducer) == [Op.READ, Op.CLOSE]


def test_what_happens_by_the_clock_gets_a_wait_that_makes_it_certain() -> None:
    rng = random.Random(4)

    def shows(ran: list[Program]) -> Splat | None:
        if in_order(ran[-1], Op.WRITE, Op.SLEEP, Op.READ):
            waited = sum(call.arg for call in ran[-1] if call.op is Op.SLEEP)
            return BUG if waited >= 20 else None
        return BUG if in_order(ran[-1], Op.WRITE, Op.READ) and rng.random() < 0.1 else None

    clocked = replace(TARGET, calls=(*TARGET.calls, SleepSpec((5, 60))))
    found, _ = minimized(shows, (SEEK,), (SEEK, WRITE, SEEK, CLOSE, READ, SEEK), target=clocked)
    assert found
    calls = decode(found.reproducer.program)
    assert [call.op for call in calls] == [Op.WRITE, Op.SLEEP, Op.READ]
    # Not as short as it may be here.
    assert (calls[1].arg, found.hits, found.runs) == (60, 3, 3)
    assert not found.reproducer.history
    # Of a driver that has nothing to do with the clock nobody waits.
    found, _ = minimized(shows, (SEEK, WRITE, SEEK, CLOSE, READ, SEEK))
    assert not found or Op.SLEEP not in ops(found.reproducer)


def test_threads_that_only_gave_the_clock_time_become_a_wait() -> None:
    def shows(ran: list[Program]) -> Splat | None:
        return BUG if in_order(ran[-1], Op.WRITE, Op.SLEEP, Op.READ) else None

    clocked = replace(TARGET, calls=(*TARGET.calls, SleepSpec((5, 60))))
    first, second = Call(Op.READ, thread=1), Call(Op.CLOSE, thread=2)
    found, _ = minimized(
        shows,
        (SEEK, WRITE, SEEK, *[first, second] * 10),
        target=clocked,
        racing=lambda ran: pytest.fail("raced"),
    )
    assert found
    assert ops(found.reproducer) == [Op.WRITE, Op.SLEEP, Op.READ]
    assert (found.hits, found.runs) == (3, 3)


def test_threads_that_had_no_part_in_it_are_not_a_matter_of_luck() -> None:
    first, second = Call(Op.READ, thread=1), Call(Op.CLOSE, thread=2)
    program = (SEEK, WRITE, *[first, second] * 10)
    found, guest = minimized(
        lambda ran: BUG if in_order(ran[-1], Op.WRITE, Op.READ) else None,
        program,
        racing=lambda ran: pytest.fail("raced"),
    )
    assert found
    assert [(call.op, call.thread) for call in decode(found.reproducer.program)] == [
        (Op.WRITE, 0),
        (Op.READ, 0),
    ]
    assert (found.hits, found.runs) == (3, 3)
    assert len(guest.made) < 30


def test_a_crash_that_shows_sometimes_is_no_worse_afterwards() -> None:
    rng = random.Random(1)
    shows = racing(lambda calls: 0.5 if in_order(calls, Op.WRITE, Op.READ) else 0.02, rng)
    found, _ = minimized(shows, (SEEK, SEEK, WRITE, SEEK, READ, CLOSE))
    assert found
    assert ops(found.reproducer) == [Op.WRITE, Op.READ]


def result_of(search: Generator[None, None, Any]) -> Any:
    try:
        while True:
            next(search)
    except StopIteration as end:
        return end.value


def test_a_trial_takes_as_many_runs_as_the_rate_asks_for() -> None:
    def runs_for(rate: float, candidate: float) -> int:
        rng = random.Random(3)
        trials = RateTrials(
            lambda each: (BUG if rng.random() < candidate else None, 1),
            matches(BUG),
            Rate(int(rate * 10_000), 10_000),
        )
        shown = result_of(trials.first([Reproducer(b"")]))
        assert (shown is not None) == (candidate >= rate)
        return trials.effort.runs

    assert runs_for(0.9, 0.9) <= 10
    assert runs_for(0.9, 0.0) <= 3
    assert 100 <= runs_for(0.01, 0.0) <= 1000


def test_a_race_without_a_call_left_is_tried_like_any_other() -> None:
    trials = RateTrials(lambda each: (BUG, 1), matches(BUG), Rate(3, 3), calls=16)
    assert result_of(trials.first([Reproducer(b"")])).reproducer == Reproducer(b"")


def measured(has_time: Callable[[], bool]) -> Rate:
    rate: Rate = result_of(
        measure(lambda each: (None, 10), matches(BUG), Reproducer(b""), 1000, has_time)
    )
    return rate


def test_a_rate_is_measured_no_longer_than_there_is_time() -> None:
    assert measured(lambda: True) == Rate(0, 1000)
    left = iter([True, True, False])
    assert measured(lambda: next(left)) == Rate(0, 20)


def test_time_that_is_over_ends_what_is_left_to_verify() -> None:
    shows = racing(
        lambda calls: 0.2 if in_order(calls, Op.WRITE, Op.READ) else 0.0, random.Random(1)
    )
    guest = guest_that(shows)
    setups = Testbeds(guest, lambda hardware, arguments: guest)
    start = Reproducer(encode((SEEK, WRITE, SEEK, READ)))
    work = Minimizer(setups, TARGET, start, BUG, cores=2, limit=0.0)
    assert work.run() is None
    assert len(guest.made) < 20


def test_outcomes_of_the_history_are_not_the_programs() -> None:
    def shows(ran: list[Program]) -> Splat | None:
        return BUG if in_order(ran[-1], Op.READ) else None

    found, _ = minimized(shows, (READ,), (READ, SEEK))
    # The program shows it alone, so the history that shows it first is left out.
    assert found is None or found.reproducer.history == ()


FLIP = Call(Op.FLIP, cmd=8, arg=80)


def test_flips_that_have_no_part_in_a_crash_are_left_out() -> None:
    program = (SEEK, *(FLIP, WRITE) * 8)
    found, _ = minimized(lambda ran: BUG if in_order(ran[-1], Op.WRITE) else None, program)
    assert found
    assert ops(found.reproducer) == [Op.WRITE]


def test_a_crash_that_takes_a_flip_is_minimized_where_several_calls_run_at_a_time() -> None:
    rng = random.Random(1)

    def racing(ran: list[Program]) -> Splat | None:
        flipped = sum(
            (one.op, two.op) == (Op.FLIP, Op.WRITE) and one.arg > 8
            for one, two in zip(ran[-1], ran[-1][1:], strict=False)
        )
        return BUG if flipped and rng.random() < 1 - 0.9**flipped else None

    program = (SEEK, *(FLIP, WRITE) * 8)
    found, _ = minimized(lambda ran: None, program, racing=racing)
    assert found
    assert decode(found.reproducer.program) == (
        replace(FLIP, arg=16),
        replace(WRITE, data=b""),
    )
