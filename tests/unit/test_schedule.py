# SPDX-License-Identifier: Apache-2.0
"""Schedules: what is chosen, and how one that shows a splat is looked for."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from fuzzer.campaign.stages.exact_races import ExactRaces
from fuzzer.campaign.stages.workbench import Workbench
from fuzzer.crash.exact import find_schedule, run_batch, run_exact
from fuzzer.crash.sighting import Sighting
from fuzzer.program.conditions import is_parallel
from fuzzer.program.mechanisms import ALL
from fuzzer.program.ops import Op
from fuzzer.program.program import MAX_CALLS, MAX_WAIT, Call, Program
from fuzzer.program.schedule import (
    Schedules,
    Wait,
    is_scheduled,
    parallel_parts,
    with_waits,
    without_waits,
)
from fuzzer.program.wire import decode, encode, split
from fuzzer.target.target import load_target
from tests.fakes import Answer, FakeGuest, FakeSetups
from tests.unit.test_judge import SPLAT, TITLE

DEMO = Path(__file__).parent / "data" / "demo" / "demo.yaml"
OPEN, FIRST, SECOND = Call(Op.OPEN, 1), Call(Op.READ, thread=1), Call(Op.WRITE, thread=2)
RACE = encode((OPEN, FIRST, SECOND))
CHUNKS = split(RACE)
TICKS = [100, 40_000, 10_000]


def chosen(chunks: list[bytes], ticks: list[int], n: int, seed: int = 1) -> list[tuple[Wait, ...]]:
    schedules = Schedules(chunks, ticks, random.Random(seed))
    return [schedules.choose() for _ in range(n)]


def test_a_schedule_is_waits_of_the_threads_that_are_held() -> None:
    program = with_waits(CHUNKS, (Wait(1, 7), Wait(2, 9)))
    waits = Call(Op.WAIT, arg=7, thread=1), Call(Op.WAIT, arg=9, thread=2)
    assert decode(program) == (OPEN, waits[0], FIRST, waits[1], SECOND)
    assert is_scheduled(split(program))
    assert not is_scheduled(CHUNKS)
    assert b"".join(without_waits(split(program))) == RACE


def test_parts_are_runs_of_calls_with_threads() -> None:
    assert parallel_parts(CHUNKS) == [range(1, 3)]
    two = split(encode((FIRST, OPEN, SECOND, FIRST)))
    assert parallel_parts(two) == [range(1), range(2, 4)]


def test_single_waits_fill_what_the_other_thread_takes() -> None:
    singles = [waits[0] for waits in chosen(CHUNKS, TICKS, 400) if len(waits) == 1]
    for index, others in ((1, 10_000), (2, 40_000)):
        times = sorted(wait.ticks for wait in singles if wait.index == index)
        assert times[0] < 1000
        assert times[-1] > others
        gaps = [after - before for before, after in itertools.pairwise(times)]
        assert max(gaps) < 4 * (times[-1] / len(times))


def test_a_thread_with_more_calls_is_held_before_each() -> None:
    part: Program = (FIRST, FIRST, FIRST, SECOND)
    each = [waits for waits in chosen(split(encode(part)), [1000] * 4, 20) if len(waits) == 3]
    assert each
    for waits in each:
        assert [wait.index for wait in waits] == [0, 1, 2]
        assert sorted(waits, key=lambda wait: wait.ticks) == list(waits)


def test_the_same_seed_chooses_the_same() -> None:
    assert chosen(CHUNKS, TICKS, 50) == chosen(CHUNKS, TICKS, 50)
    assert chosen(CHUNKS, TICKS, 50) != chosen(CHUNKS, TICKS, 50, seed=2)


def test_waits_are_no_longer_than_is_allowed() -> None:
    for waits in chosen(CHUNKS, [0, 1 << 40, 1 << 40], 50):
        assert all(1 <= wait.ticks <= MAX_WAIT + 1 for wait in waits)


@pytest.mark.parametrize(
    "part", [(OPEN, OPEN), (OPEN, FIRST, FIRST), (FIRST, SECOND) * (MAX_CALLS // 2)]
)
def test_there_is_nothing_to_choose(part: Program) -> None:
    assert not Schedules(split(encode(part)), [1000] * len(part), random.Random(1))


def guest_that(shows: Callable[[list[bytes]], bool]) -> FakeGuest:
    """Return a guest that shows a splat after programs, and takes the usual times."""
    return FakeGuest(lambda ran: Answer(SPLAT if shows(ran) else b"", ticks=TICKS))


def window(low: int, high: int) -> Callable[[list[bytes]], bool]:
    """Show the splat while thread 1 is the only one held, for such a time."""

    def shows(programs: list[bytes]) -> bool:
        held = [call for call in decode(programs[-1]) if call.op is Op.WAIT]
        return len(held) == 1 and held[0].thread == 1 and low <= held[0].arg < high

    return shows


def test_a_narrow_window_is_found_and_its_middle_taken() -> None:
    guest = guest_that(window(5000, 5400))
    found = find_schedule(guest, RACE, random.Random(1), title=TITLE)
    assert found
    assert found.outcome.splat
    (ticks,) = [call.arg for call in decode(found.program) if call.op is Op.WAIT]
    assert 5100 <= ticks <= 5300
    assert run_exact(guest, (), found.program).splat == found.outcome.splat


def test_a_race_without_a_window_is_given_up() -> None:
    guest = guest_that(window(0, 0))
    assert find_schedule(guest, RACE, random.Random(1), 50) is None


def test_another_splat_is_not_what_is_looked_for() -> None:
    guest = guest_that(lambda _: True)
    assert find_schedule(guest, RACE, random.Random(1), 20, title="another") is None


def test_waits_that_are_not_needed_are_dropped() -> None:
    def shows(programs: list[bytes]) -> bool:
        return any(call.op is Op.WAIT and call.thread == 2 for call in decode(programs[-1]))

    program = encode((FIRST, SECOND, SECOND, SECOND))
    found = find_schedule(guest_that(shows), program, random.Random(1))
    assert found
    assert len([call for call in decode(found.program) if call.op is Op.WAIT]) == 1


def test_what_splats_in_any_order_needs_no_schedule() -> None:
    guest = guest_that(lambda programs: is_parallel(split(programs[-1])))
    found = find_schedule(guest, RACE, random.Random(1))
    assert found
    assert found.program == RACE


def test_a_batch_ends_with_the_program_that_splats() -> None:
    guest = guest_that(lambda programs: programs[-1] == RACE)
    outcome, number = run_batch(guest, [b"before", RACE, b"after"])
    assert outcome.splat
    assert number == 1
    outcome, number = run_batch(guest, [b"before", b"after"])
    assert outcome.splat is None
    assert number == 1


def test_corpus_programs_race_as_schedules_say() -> None:
    ran: list[list[bytes]] = []

    def shows(programs: list[bytes]) -> bool:
        if programs not in ran:
            ran.append(list(programs))
        return len(ran) > 100 and is_scheduled(split(programs[-1]))

    setups = FakeSetups(guest_that(shows), exact=guest_that(shows))
    sighted: list[Sighting] = []
    bench = Workbench(setups, load_target(DEMO), ALL, 1, sighted.append)
    races = ExactRaces(bench)
    assert not races.step()
    bench.note(encode((OPEN, Call(Op.READ, arg=4), Call(Op.WRITE, data=b"a=1"), Call(Op.READ))))
    for _ in range(40):
        races.step()
        if sighted:
            break
    (first, *_) = sighted
    assert is_scheduled(split(first.program))
    assert ran[-1] == [*first.history, first.program]


def test_the_programs_before_it_run_on_the_same_machine() -> None:
    guest = guest_that(lambda programs: programs == [b"before", RACE])
    assert run_exact(guest, (b"before",), RACE).splat
    assert run_exact(guest, (), RACE).splat is None
