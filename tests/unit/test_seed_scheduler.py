# SPDX-License-Identifier: Apache-2.0
"""Seed scheduler: the program that is mutated next, and the share of time of costly ones."""

from __future__ import annotations

import random

import pytest

from fuzzer.engine.leaning import Lean, Leaning
from fuzzer.engine.seed_scheduler import LONG, SLOW_WEIGHT, SeedScheduler
from fuzzer.machine.accel import Accel
from fuzzer.program.cost import cost_of, is_slow
from fuzzer.program.ops import Op
from fuzzer.program.program import Call
from fuzzer.program.wire import encode, split

SHORT = encode((Call(Op.READ, arg=1),))
OTHER = encode((Call(Op.READ, arg=2),))
LONGER = encode((Call(Op.WRITE, data=bytes(500)),))
RELOAD = encode((Call(Op.UNLOAD), Call(Op.LOAD)))


def cost(program: bytes) -> float:
    return cost_of(split(program))


def test_what_is_asked_for_is_chosen_while_it_is_cheap() -> None:
    scheduler = SeedScheduler(random.Random(1))
    scheduler.note(OTHER)
    assert scheduler.choose(SHORT).program == SHORT


class _Counters:
    """Counters of the last program."""

    def __init__(self) -> None:
        self.guest = bytearray(8)

    def covers(self, *blocks: int) -> _Counters:
        self.guest[:] = bytes(block in blocks for block in range(8))
        return self


def test_programs_near_what_is_to_be_reached_are_chosen_until_it_is() -> None:
    scheduler, counters = SeedScheduler(random.Random(1)), _Counters()
    lean = Lean(wanted=frozenset({2, 3}), near=frozenset({1, 2, 3}))
    leaning = Leaning(lean, counters, scheduler)  # type: ignore[arg-type]
    for program, blocks in ((SHORT, (0,)), (OTHER, (0, 1))):
        counters.covers(*blocks)
        scheduler.note(program)
        leaning.note(program)
    chosen = [scheduler.choose(SHORT).program for _ in range(1000)]
    assert 300 < chosen.count(OTHER) < 500
    counters.covers(1, 2)
    leaning.note(SHORT)
    assert scheduler.choose(SHORT).program in {SHORT, OTHER}
    counters.covers(3)
    leaning.note(SHORT)
    assert {scheduler.choose(SHORT).program for _ in range(100)} == {SHORT}


def test_a_program_that_crashed_gives_way_to_another() -> None:
    scheduler = SeedScheduler(random.Random(1))
    scheduler.avoid(SHORT)
    assert scheduler.choose(SHORT).program == SHORT  # there is no other one
    scheduler.note(OTHER)
    assert scheduler.choose(SHORT).program == OTHER


@pytest.mark.parametrize("asked", [(SHORT, LONGER, RELOAD), (SHORT,)])
def test_long_and_slow_programs_have_their_shares_whatever_is_asked_for(
    asked: tuple[bytes, ...],
) -> None:
    assert cost(SHORT) < LONG < cost(LONGER)
    scheduler = SeedScheduler(random.Random(1))
    for program in (SHORT, LONGER, RELOAD):
        scheduler.note(program)
    spent = {SHORT: 0.0, LONGER: 0.0, RELOAD: 0.0}
    for number in range(30_000):
        chosen = scheduler.choose(asked[number % len(asked)]).program
        scheduler.spend(cost(chosen), slow=chosen == RELOAD)
        spent[chosen] += cost(chosen)
    total = sum(spent.values())
    assert 0.25 < spent[LONGER] / total < 0.35
    assert 0.10 < spent[RELOAD] / total < 0.25


def test_what_is_very_long_does_not_take_the_share_of_what_waits() -> None:
    scheduler = SeedScheduler(random.Random(1))
    longest = encode((Call(Op.WRITE, data=bytes(4000)),) * 8)
    assert cost(longest) > cost(RELOAD)
    for program in (SHORT, longest):
        scheduler.note(program)
    for _ in range(100):
        scheduler.spend(cost(SHORT), slow=False)
        scheduler.spend(cost(longest), slow=is_slow(split(longest)))
    assert scheduler.may_be_slow
    assert not scheduler.may_be_long


def test_a_wait_counts_for_more_where_calls_take_less() -> None:
    took = {}
    for accel, weight in SLOW_WEIGHT.items():
        scheduler = SeedScheduler(random.Random(1), weight)
        scheduler.note(SHORT)
        scheduler.note(RELOAD)
        chosen = []
        for _ in range(30_000):
            chosen.append(scheduler.choose(SHORT).program)
            scheduler.spend(cost(chosen[-1]), slow=chosen[-1] == RELOAD)
        took[accel] = chosen.count(RELOAD)
    assert 8 < took[Accel.TCG] / took[Accel.KVM] < 18


def test_a_program_that_blocked_is_a_slow_one() -> None:
    scheduler = SeedScheduler(random.Random(1))
    scheduler.note(SHORT)
    scheduler.blocked(OTHER)
    scheduler.note(OTHER)
    assert scheduler.choose(OTHER).program == SHORT
    chosen = [scheduler.any() for _ in range(2000)]
    assert chosen.count(OTHER) < 100


def test_any_is_a_program_of_the_corpus_and_seldom_a_slow_one() -> None:
    scheduler = SeedScheduler(random.Random(1))
    assert scheduler.any() == b""
    scheduler.note(RELOAD)
    scheduler.note(SHORT)
    chosen = [scheduler.any() for _ in range(2000)]
    assert 0 < chosen.count(RELOAD) < 20


def test_any_is_seldom_a_long_one_for_such_take_most_of_the_time() -> None:
    scheduler = SeedScheduler(random.Random(1))
    for program in (LONGER, SHORT):
        scheduler.note(program)
    chosen = [scheduler.any() for _ in range(2000)]
    assert 50 < chosen.count(LONGER) < 400


def test_where_the_machine_is_preloaded_what_was_found_on_such_a_one_is_quick() -> None:
    scheduler = SeedScheduler(random.Random(1))
    preloaded = RELOAD + SHORT
    for program in (OTHER, preloaded):
        scheduler.note(program)
    # It loads the module, for which there is no time yet.
    assert scheduler.choose(preloaded).program == OTHER
    scheduler.note_preload(RELOAD)
    chosen = [scheduler.choose(OTHER).program for _ in range(1000)]
    assert 200 < chosen.count(preloaded) < 400
    later = RELOAD + OTHER
    scheduler.note(later)
    assert later in {scheduler.choose(OTHER).program for _ in range(100)}
    assert later in {scheduler.any() for _ in range(100)}
    scheduler.note_preload(b"")
    assert scheduler.choose(preloaded).program == OTHER


def test_what_waits_on_a_preloaded_machine_has_no_more_than_its_share_either() -> None:
    scheduler = SeedScheduler(random.Random(1))
    waiting = RELOAD + encode((Call(Op.SLEEP, arg=100),))
    for program in (OTHER, waiting):
        scheduler.note(program)
    scheduler.note_preload(RELOAD)
    spent = {True: 0.0, False: 0.0}
    for _ in range(20_000):
        chosen = scheduler.choose(SHORT).program.removeprefix(RELOAD)
        slow = is_slow(split(chosen))
        scheduler.spend(cost(chosen), slow=slow)
        spent[slow] += cost(chosen)
    assert 0.05 < spent[True] / sum(spent.values()) < 0.25
