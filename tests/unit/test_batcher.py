# SPDX-License-Identifier: Apache-2.0
"""Candidates made ahead, and handed over in batches."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pytest

from fuzzer.engine.batcher import BATCH_COST, Batcher
from fuzzer.engine.candidate import Candidate
from fuzzer.program.cost import cost_of
from fuzzer.program.ops import Op
from fuzzer.program.program import Call
from fuzzer.program.wire import encode, split

SMALL = encode((Call(Op.READ, arg=1),))
SLOW = encode((Call(Op.SLEEP, arg=50),))
PLENTY = 1000


def costed(program: bytes) -> Candidate:
    return Candidate(program, cost_of(split(program)))


def taken(batcher: Batcher, most: int, asked: bytes = b"") -> list[bytes]:
    return [each.program for each in batcher.take(asked, most)]


class Given:
    """A source that a function is, or one that has so many candidates."""

    def __init__(self, make: Callable[[bytes], Candidate], left: float = math.inf) -> None:
        self._make, self._left = make, left

    def next(self, asked: bytes) -> Candidate | None:
        self._left -= 1
        return self._make(asked) if self._left >= 0 else None


def batcher_of(make: Callable[[bytes], Candidate]) -> Batcher:
    return Batcher(Given(make))


def numbered() -> Batcher:
    numbers = itertools.count()
    return batcher_of(lambda asked: costed(encode((Call(Op.READ, arg=next(numbers)),)) + asked))


def test_programs_come_in_the_order_they_were_made_in() -> None:
    batcher = numbered()
    first, second = taken(batcher, 3), taken(batcher, 2)
    counts = [int.from_bytes(program[8:16], "little") for program in first + second]
    assert counts == [0, 1, 2, 3, 4]


def test_a_batch_has_at_most_what_was_asked_for_and_at_least_one() -> None:
    batcher = numbered()
    assert len(batcher.take(b"", 1)) == 1
    assert 1 < len(batcher.take(b"", PLENTY)) < PLENTY


def test_a_batch_takes_so_long_and_no_longer() -> None:
    long = SMALL * 40
    batcher = batcher_of(lambda asked: costed(long))
    batch = batcher.take(b"", PLENTY)
    cost = cost_of(split(long))
    assert BATCH_COST <= len(batch) * cost < BATCH_COST + cost


def test_a_slow_program_ends_its_batch() -> None:
    programs = itertools.chain([SMALL, SLOW], itertools.repeat(SMALL))
    batcher = batcher_of(lambda asked: costed(next(programs)))
    assert taken(batcher, PLENTY) == [SMALL, SLOW]


def test_they_are_made_of_what_is_asked_for_when_they_are_made() -> None:
    batcher = batcher_of(lambda asked: costed(SMALL + asked))
    batcher.fill(SLOW)
    assert taken(batcher, 1, SMALL) == [SMALL + SLOW]


def test_what_did_not_run_is_next() -> None:
    batcher = numbered()
    batch = batcher.take(b"", 4)
    batcher.put_back(batch[1:])
    assert batcher.take(b"", 3) == batch[1:]


def test_nothing_is_made_while_there_is_a_batch() -> None:
    made: list[bytes] = []

    def make(asked: bytes) -> Candidate:
        made.append(SMALL)
        return costed(SMALL)

    batcher = batcher_of(make)
    batcher.put_back(batcher.take(b"", 2)[1:])
    batcher.fill(b"")
    enough = len(made)
    batcher.fill(b"")
    assert len(made) == enough


def test_programs_that_were_made_can_begin_with_other_calls() -> None:
    batcher = batcher_of(lambda asked: Candidate(SLOW + asked, 1.0))
    batcher.fill(SMALL)
    batcher.change_start(SLOW, b"")
    assert taken(batcher, 1) == [SMALL]
    batcher.change_start(b"", SLOW + SLOW)
    assert taken(batcher, 1) == [SLOW + SLOW + SMALL]


def test_what_was_dropped_does_not_run() -> None:
    batcher = numbered()
    before = batcher.take(b"", 1)
    batcher.fill(b"")
    batcher.drop()
    assert batcher.take(b"", 1) > before
    assert len(batcher.take(b"", 1)) == 1


def test_the_first_source_that_has_a_candidate_is_taken() -> None:
    sources = [
        Given(lambda asked, name=name: Candidate(name + asked, 1.0), left)  # type: ignore[misc]
        for name, left in ((b"a", 1), (b"b", 2), (b"c", 1e9))
    ]
    assert taken(Batcher(*sources), 5, b"!") == [b"a!", b"b!", b"b!", b"c!", b"c!"]
    with pytest.raises(ValueError, match="none of 3 sources"):
        Batcher(*(Given(costed, 0) for _ in range(3))).fill(b"")
