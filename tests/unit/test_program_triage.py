# SPDX-License-Identifier: Apache-2.0
"""Triage of programs: only what repeats enters the corpus, and no longer than it must be."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuzzer.engine.buckets import blocks_of, features_of, repeated, without
from fuzzer.engine.shorten import shorten
from fuzzer.engine.triage import Triage, TriageVerdict
from fuzzer.machine.channel_layout import COUNTER_DEFERRED
from fuzzer.program.ops import Op
from fuzzer.program.program import Call
from fuzzer.program.wire import decode, encode

N_BLOCKS = 8


def program(*files: int) -> bytes:
    """Return a program of calls that differ by their file."""
    return encode(tuple(Call(Op.READ, file=file) for file in files))


def files_of(data: bytes) -> list[int]:
    return [call.file for call in decode(data)]


def counting(data: bytes, *, settles: bool = False) -> bytes:
    """Return counters of a driver that has a block for each file."""
    files = files_of(data)
    return bytes(files.count(block) for block in range(N_BLOCKS))


class Machine:
    """Runs programs; ``change`` is given the counters of each run and its number."""

    def __init__(self, change: Callable[[int, bytes], bytes | None] | None = None) -> None:
        self.ran: list[bytes] = []
        self._change = change or (lambda number, counters: counters)

    def run(self, data: bytes, *, settles: bool = False) -> bytes | None:
        self.ran.append(data)
        return self._change(len(self.ran), counting(data))


def consider(triage: Triage, data: bytes, *, shortened: bool = False) -> TriageVerdict:
    counters = counting(data)
    assert triage.is_new(counters)
    return triage.consider(data, counters, shortened=shortened)


def test_where_runs_take_too_long_none_is_repeated() -> None:
    machine = Machine()
    data = program(1, 1, 2)
    triage = Triage(machine.run, N_BLOCKS)
    verdict = triage.consider(data, counting(data), shortened=False, repeated_already=True)
    assert verdict == TriageVerdict(counting(data), kept=True)
    assert not machine.ran
    assert not triage.is_new(counting(data))


def test_what_repeats_is_kept_and_no_longer_new() -> None:
    machine = Machine()
    triage = Triage(machine.run, N_BLOCKS)
    data = program(1, 1, 2)
    assert consider(triage, data) == TriageVerdict(counting(data), kept=True)
    assert machine.ran == [data]
    assert not triage.is_new(counting(data))


def test_only_a_new_bucket_is_new() -> None:
    triage = Triage(Machine().run, N_BLOCKS)
    consider(triage, program(1, 1, 1, 1))
    assert not triage.is_new(counting(program(*[1] * 7)))
    assert triage.is_new(counting(program(*[1] * 8)))
    assert triage.is_new(counting(program(1, 1, 1)))


def test_what_does_not_repeat_is_taken_out_and_not_remembered() -> None:
    triage = Triage(Machine(lambda number, counters: bytes(N_BLOCKS)).run, N_BLOCKS)
    data = program(3)
    assert consider(triage, data) == TriageVerdict(bytes(N_BLOCKS), flaky=True)
    assert triage.is_new(counting(data))


def test_of_what_is_new_the_part_that_repeats_is_kept() -> None:
    # Block 2 ran in the first run only, block 1 four times and then twice.
    triage = Triage(lambda data, settles=False: bytes((0, 2, 0, 0, 0, 0, 0, 0)), N_BLOCKS)
    verdict = consider(triage, program(1, 1, 1, 1, 2))
    assert verdict == TriageVerdict(bytes((0, 2, 0, 0, 0, 0, 0, 0)), kept=True)
    assert triage.is_new(counting(program(2)))


def test_of_a_program_that_can_be_shorter_nothing_new_is_shown() -> None:
    machine = Machine()
    triage = Triage(machine.run, N_BLOCKS)
    consider(triage, program(1))
    verdict = consider(triage, program(1, 2, 3, 3), shortened=True)
    assert verdict == TriageVerdict(counting(program(1)))
    assert triage.is_new(counting(program(2)))


def test_the_shorter_program_has_its_turn_and_is_kept_as_it_is() -> None:
    machine = Machine()
    triage = Triage(machine.run, N_BLOCKS)
    consider(triage, program(1))
    consider(triage, program(1, 2, 3, 3), shortened=True)
    short = triage.take()
    assert short == program(2, 3, 3)
    before = len(machine.ran)
    assert consider(triage, short, shortened=True) == TriageVerdict(counting(short), kept=True)
    assert machine.ran[before:] == [short]
    # The whole one comes next, and is nothing new any more.
    whole = triage.take()
    assert whole == program(1, 2, 3, 3)
    assert not triage.is_new(counting(whole))
    assert triage.take() is None


def test_if_the_shorter_program_does_not_do_after_all_the_whole_one_is_kept() -> None:
    triage = Triage(Machine().run, N_BLOCKS)
    consider(triage, program(1))
    consider(triage, program(1, 2), shortened=True)
    triage.take()
    whole = triage.take()
    assert whole == program(1, 2)
    assert consider(triage, whole, shortened=True).kept


def test_a_program_that_needs_all_its_calls_is_kept_at_once() -> None:
    machine = Machine()
    triage = Triage(machine.run, N_BLOCKS)
    data = program(1, 2)
    assert consider(triage, data, shortened=True) == TriageVerdict(counting(data), kept=True)
    assert triage.take() is None


def test_counters_beside_those_of_blocks_can_be_new_and_are_not_blocks() -> None:
    def run(data: bytes, *, settles: bool = False) -> bytes:
        return counting(data) + bytes((0, 1))

    triage = Triage(run, N_BLOCKS)
    assert triage.is_new(run(program(1)))
    assert triage.consider(program(1), run(program(1)), shortened=False).kept
    assert triage.covered == features_of(counting(program(1)))
    assert not triage.is_new(run(program(1)))
    assert triage.is_new(counting(program(1)) + bytes((1, 1)))


def test_one_that_crashes_when_run_again_shows_nothing() -> None:
    triage = Triage(Machine(lambda number, counters: None).run, N_BLOCKS)
    assert consider(triage, program(1)) == TriageVerdict(bytes(N_BLOCKS))
    assert triage.is_new(counting(program(1)))


def test_a_crash_ends_the_shortening_and_what_was_reached_counts() -> None:
    # The second candidate crashes: after one call could go, and before another could.
    machine = Machine(lambda number, counters: None if number == 4 else counters)
    triage = Triage(machine.run, N_BLOCKS)
    consider(triage, program(0, 1))
    consider(triage, program(1, 2, 0), shortened=True)
    assert len(machine.ran) == 4
    assert triage.take() == program(1, 2)


def test_shortening_takes_at_most_two_runs_a_call() -> None:
    machine = Machine()
    triage = Triage(machine.run, N_BLOCKS)
    consider(triage, program(1))
    data = program(*[1, 2] * 3, 4, *[0] * 20)
    before = len(machine.ran)
    consider(triage, data, shortened=True)
    assert len(machine.ran) - before <= 1 + 2 * len(decode(data))


def test_the_empty_program_that_libfuzzer_begins_with_does_not_count() -> None:
    machine = Machine()
    triage = Triage(machine.run, N_BLOCKS)
    counters = bytes([1] * N_BLOCKS)
    assert triage.consider(b"", counters, shortened=True) == TriageVerdict(counters)
    assert triage.is_new(counters)
    assert machine.ran == []


# Block 5 is that of work which the call on file 5 starts, block 6 that of a timer's.
def deferring(data: bytes, *, settles: bool = False) -> bytes:
    """Return counters where work is deferred; a timer's shows if the program settles."""
    counters = bytearray(counting(data))
    counters[5] = min(counters[5], 1) * COUNTER_DEFERRED
    counters[6] = min(counters[6], settles) * COUNTER_DEFERRED
    return bytes(counters)


def with_late(data: bytes) -> bytes:
    """Return counters of a program in which an earlier one's timer is served."""
    return counting(data)[:6] + bytes((COUNTER_DEFERRED, 0))


def test_deferred_work_that_repeats_is_kept_and_is_told_from_calls() -> None:
    triage = Triage(deferring, N_BLOCKS)
    assert not triage.is_late(program(5), deferring(program(5)))
    verdict = triage.consider(program(5), deferring(program(5)), shortened=False)
    assert verdict == TriageVerdict(deferring(program(5)), kept=True)
    assert blocks_of(triage.covered, N_BLOCKS) == 1
    assert not triage.is_new(deferring(program(5)))
    assert triage.is_new(counting(program(5)))


def test_a_timer_is_waited_for_and_so_it_is_when_calls_are_left_out() -> None:
    triage = Triage(deferring, N_BLOCKS)
    triage.consider(program(1), counting(program(1)), shortened=False)
    verdict = triage.consider(program(1, 6), with_late(program(1)), shortened=True)
    assert not verdict.flaky
    assert triage.take() == program(6)


def test_late_work_of_another_program_is_no_longer_new_after_some_times() -> None:
    told: list[None] = []
    triage = Triage(deferring, N_BLOCKS, lambda: told.append(None))
    triage.consider(program(1), counting(program(1)), shortened=False)
    assert not told
    for _ in range(2):
        assert triage.is_late(program(1), with_late(program(1)))
    assert len(told) == 2
    assert triage.is_new(with_late(program(1)))
    assert triage.consider(program(1), with_late(program(1)), shortened=True).flaky
    assert not triage.is_new(with_late(program(1)))
    assert blocks_of(triage.covered, N_BLOCKS) == 2


def test_what_calls_cover_is_not_late() -> None:
    triage = Triage(deferring, N_BLOCKS)
    assert not triage.is_late(program(1), with_late(program(1)))


def test_work_that_crashes_when_run_again_is_dealt_with() -> None:
    machine = Machine(lambda number, counters: None)
    triage = Triage(machine.run, N_BLOCKS)
    for _ in range(4):
        assert triage.is_late(program(5), deferring(program(5)))
    assert triage.seen == 0


def simulate(programs: Iterable[bytes]) -> tuple[Triage, list[bytes]]:
    """Act as the loop and libFuzzer; return the triage and the corpus."""
    triage = Triage(counting, N_BLOCKS)
    corpus, known = [], 0
    todo = list(programs)[::-1]
    while todo:
        data = todo.pop()
        counters = counting(data)
        if triage.is_new(counters):
            counters = triage.consider(data, counters, shortened=True).counters
        if features_of(counters) & ~known:
            known |= features_of(counters)
            corpus.append(data)
        while (queued := triage.take()) is not None:
            todo.append(queued)
    assert known == triage.seen
    return triage, corpus


@given(st.lists(st.lists(st.integers(0, N_BLOCKS - 1), min_size=1, max_size=12), max_size=8))
def test_libfuzzer_and_triage_agree_on_what_was_seen(files: list[list[int]]) -> None:
    programs = [program(*each) for each in files]
    triage, corpus = simulate(programs)
    for data in programs:
        # Shorter programs show all blocks; counts may have lost a bucket in between.
        assert not features_of(bytes(map(bool, counting(data)))) & ~features_of(
            bytes(map(bool, triage.seen.to_bytes(N_BLOCKS, "little")))
        )
    assert all(not triage.is_new(counting(data)) for data in corpus)


def test_shorten_drops_from_the_end_and_keeps_at_least_a_call() -> None:
    asked: list[list[int]] = []

    def keeps(candidate: bytes) -> bool:
        asked.append(files_of(candidate))
        return True

    assert files_of(shorten(program(1, 2, 3), keeps)) == [1]
    assert asked == [[1, 2], [1]]


def test_shorten_looks_a_second_time_for_what_was_needed_by_what_went() -> None:
    # 1 is needed as long as 2 is there.
    def keeps(candidate: bytes) -> bool:
        files = files_of(candidate)
        return 3 in files and (2 not in files or 1 in files)

    assert files_of(shorten(program(2, 1, 3), keeps)) == [3]


def test_shorten_returns_the_same_object_if_nothing_can_go() -> None:
    data = program(1, 2)
    assert shorten(data, lambda candidate: False) is data


@pytest.mark.parametrize(
    ("counts", "bucket"),
    [
        (range(1), 0),
        (range(1, 2), 1),
        (range(2, 3), 2),
        (range(3, 4), 4),
        (range(4, 8), 8),
        (range(8, 16), 16),
        (range(16, 32), 32),
        (range(32, 128), 64),
        (range(128, 256), 128),
    ],
)
def test_buckets_are_those_of_libfuzzer(counts: Iterable[int], bucket: int) -> None:
    assert {features_of(bytes([count])) for count in counts} == {bucket}


def test_sets_of_features_are_taken_apart_by_block() -> None:
    counters = bytes((0, 1, 5, 200))
    features = features_of(counters)
    assert blocks_of(features, 4) == 3
    assert blocks_of(features | features_of(bytes((0, 2, 0, 0))), 4) == 3
    assert blocks_of(features, 2) == 1
    assert blocks_of(0, 4) == 0
    assert features_of(counters + bytes((0, 1, 1)), 4) == features_of(counters + bytes((0, 1, 1)))
    assert without(counters, features_of(bytes((1, 1, 1, 0)))) == bytes((0, 0, 5, 200))
    assert without(counters, features) == bytes(4)
    assert repeated(bytes((1, 5, 0)), bytes((2, 3, 9))) == bytes((1, 3, 0))
