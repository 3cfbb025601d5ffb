# SPDX-License-Identifier: Apache-2.0
"""Programs made ahead, and handed over in batches."""

from __future__ import annotations

import itertools

from fuzzer.engine.supply import BATCH_COST, Supply
from fuzzer.program.cost import cost_of
from fuzzer.program.ops import Op
from fuzzer.program.program import Call
from fuzzer.program.wire import encode, split

SMALL = encode((Call(Op.READ, arg=1),))
SLOW = encode((Call(Op.SLEEP, arg=50),))
PLENTY = 1000


def costed(program: bytes) -> tuple[bytes, float]:
    return program, cost_of(split(program))


def taken(supply: Supply, most: int, asked: bytes = b"") -> list[bytes]:
    return [program for program, _ in supply.take(asked, most)]


def numbered() -> Supply:
    numbers = itertools.count()
    return Supply(lambda asked: costed(encode((Call(Op.READ, arg=next(numbers)),)) + asked))


def test_programs_come_in_the_order_they_were_made_in() -> None:
    supply = numbered()
    first, second = taken(supply, 3), taken(supply, 2)
    counts = [int.from_bytes(program[8:16], "little") for program in first + second]
    assert counts == [0, 1, 2, 3, 4]


def test_a_batch_has_at_most_what_was_asked_for_and_at_least_one() -> None:
    supply = numbered()
    assert len(supply.take(b"", 1)) == 1
    assert 1 < len(supply.take(b"", PLENTY)) < PLENTY


def test_a_batch_takes_so_long_and_no_longer() -> None:
    long = SMALL * 40
    supply = Supply(lambda asked: costed(long))
    batch = supply.take(b"", PLENTY)
    cost = cost_of(split(long))
    assert BATCH_COST <= len(batch) * cost < BATCH_COST + cost


def test_a_slow_program_ends_its_batch() -> None:
    programs = itertools.chain([SMALL, SLOW], itertools.repeat(SMALL))
    supply = Supply(lambda asked: costed(next(programs)))
    assert taken(supply, PLENTY) == [SMALL, SLOW]


def test_they_are_made_of_what_is_asked_for_when_they_are_made() -> None:
    supply = Supply(lambda asked: costed(SMALL + asked))
    supply.fill(SLOW)
    assert taken(supply, 1, SMALL) == [SMALL + SLOW]


def test_what_did_not_run_is_next() -> None:
    supply = numbered()
    batch = supply.take(b"", 4)
    supply.put_back(batch[1:])
    assert supply.take(b"", 3) == batch[1:]


def test_nothing_is_made_while_there_is_a_batch() -> None:
    made: list[bytes] = []

    def make(asked: bytes) -> tuple[bytes, float]:
        made.append(SMALL)
        return costed(SMALL)

    supply = Supply(make)
    supply.put_back(supply.take(b"", 2)[1:])
    supply.fill(b"")
    enough = len(made)
    supply.fill(b"")
    assert len(made) == enough


def test_programs_that_were_made_can_begin_with_other_calls() -> None:
    supply = Supply(lambda asked: (SLOW + asked, 1.0))
    supply.fill(SMALL)
    supply.change_start(SLOW, b"")
    assert taken(supply, 1) == [SMALL]
    supply.change_start(b"", SLOW + SLOW)
    assert taken(supply, 1) == [SLOW + SLOW + SMALL]


def test_what_was_dropped_does_not_run() -> None:
    supply = numbered()
    before = supply.take(b"", 1)
    supply.fill(b"")
    supply.drop()
    assert supply.take(b"", 1) > before
    assert len(supply.take(b"", 1)) == 1
