# SPDX-License-Identifier: Apache-2.0
"""Measuring programs, and choosing few and short ones that cover the same."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from fuzzer.campaign.corpus_cover import cheapest_first, cover, shorten_all
from fuzzer.campaign.corpus_measure import contexts_for, measure
from fuzzer.engine.buckets import features_of
from fuzzer.machine.channel_layout import MAX_CONTEXTS
from fuzzer.program.ops import Op
from fuzzer.program.program import Call
from fuzzer.program.wire import decode, encode

N_BLOCKS = 8


def program(*files: int) -> bytes:
    """Return a program of calls that differ by their file."""
    return encode(tuple(Call(Op.READ, file=file) for file in files))


def counting(data: bytes) -> bytes:
    """Return counters of a driver that has a block for each file."""
    files = [call.file for call in decode(data)]
    return bytes(files.count(block) for block in range(N_BLOCKS))


def named(*programs: bytes) -> dict[str, bytes]:
    return {f"p{number}": data for number, data in enumerate(programs)}


def union(features: dict[str, int]) -> int:
    total = 0
    for each in features.values():
        total |= each
    return total


def minimized(programs: dict[str, bytes], run: Callable[[bytes], bytes | None]) -> list[bytes]:
    found = measure(programs.items(), run)
    names = cover(programs, found.features)
    return shorten_all(programs, {name: found.features[name] for name in names}, run)


_PROGRAMS = st.lists(
    st.lists(st.integers(0, N_BLOCKS - 1), min_size=1, max_size=10).map(
        lambda each: program(*each)
    ),
    min_size=1,
    max_size=12,
).map(lambda each: named(*each))


@given(_PROGRAMS)
def test_what_is_chosen_covers_the_same_and_none_of_it_can_go(programs: dict[str, bytes]) -> None:
    features = {name: features_of(counting(data)) for name, data in programs.items()}
    chosen = cover(programs, features)
    assert union({name: features[name] for name in chosen}) == union(features)
    for name in chosen:
        rest = {other: features[other] for other in chosen if other != name}
        assert union(rest) != union(features)


@given(_PROGRAMS)
def test_a_minimized_corpus_covers_the_same_with_no_more_calls(programs: dict[str, bytes]) -> None:
    made = minimized(programs, counting)
    before = union({name: features_of(counting(data)) for name, data in programs.items()})
    assert union({str(i): features_of(counting(data)) for i, data in enumerate(made)}) == before
    assert len(b"".join(made)) <= len(b"".join(programs.values()))


def test_the_program_with_most_for_its_cost_is_chosen() -> None:
    programs = named(program(1), program(2), program(1, 2), program(*[1] * 20, 2))
    features = {"p0": 0b01, "p1": 0b10, "p2": 0b11, "p3": 0b11}
    assert cover(programs, features) == ["p2"]


def test_what_is_covered_already_need_not_be_covered() -> None:
    programs = named(program(1), program(2))
    assert cover(programs, {"p0": 0b01, "p1": 0b10}, already=0b01) == ["p1"]
    assert cover(programs, {"p0": 0b01, "p1": 0b10}, already=0b11) == []


def test_programs_are_ordered_by_what_they_cost() -> None:
    sleeping = encode((Call(Op.SLEEP, arg=100),))
    programs = named(sleeping, program(1, 2, 3), program(1))
    assert cheapest_first(programs) == ["p2", "p1", "p0"]


def test_a_call_stays_that_only_its_program_has_the_coverage_of() -> None:
    programs = named(program(1, 0), program(2, 0, 0))
    made = minimized(programs, counting)
    assert sorted(made) == sorted([program(1, 0), program(2, 0, 0)])
    made = minimized(named(program(1, 0), program(2, 0)), counting)
    assert sorted(map(len, made)) == [len(program(1)), len(program(1, 0))]


def test_coverage_that_does_not_repeat_is_told_and_not_counted() -> None:
    runs = 0

    def run(data: bytes) -> bytes:
        nonlocal runs
        runs += 1
        counters = bytearray(counting(data))
        # Block 7 in every other run, block 6 also by a program of its own.
        counters[6] += runs % 2
        counters[7] += runs % 2
        return bytes(counters)

    found = measure(named(program(1), program(6)).items(), run)
    assert found.features["p0"] == features_of(counting(program(1)))
    assert found.flaky == 2
    assert found.flaky_blocks(N_BLOCKS) == 1
    assert found.total == features_of(counting(program(1, 6)))


def test_what_is_covered_by_programs_before_is_not_kept() -> None:
    found = measure(named(program(1), program(1, 2), program(2)).items(), counting)
    assert list(found.features) == ["p0", "p1"]
    assert found.programs == 3


def test_programs_that_crash_are_named_and_left_out() -> None:
    def run(data: bytes) -> bytes | None:
        return None if data == program(2) else counting(data)

    found = measure(named(program(1), program(2)).items(), run)
    assert found.crashed == ["p1"]
    assert list(found.features) == ["p0"]


def test_a_shorter_program_that_crashes_is_not_taken() -> None:
    whole = program(1, 2)
    assert minimized(named(whole), lambda data: None if data != whole else counting(whole)) == [
        whole
    ]


def test_a_shorter_program_that_cannot_be_relied_on_is_not_taken() -> None:
    asked: dict[bytes, int] = {}

    def run(data: bytes) -> bytes:
        asked[data] = asked.get(data, 0) + 1
        if data == program(1):
            return counting(data if asked[data] == 1 else program(3))
        return counting(program(1))

    whole = program(1, 2)
    assert minimized(named(whole), run) == [whole]


def test_ioctls_that_a_campaign_learned_count_as_well() -> None:
    def ioctls(*numbers: int) -> bytes:
        return encode(tuple(Call(Op.IOCTL, cmd=number) for number in numbers))

    programs = [ioctls(7, 7, 8), ioctls(8, 9), ioctls(8, 9, 1)]
    assert contexts_for((5, 9), programs) == (5, 9, 8)
    many = [ioctls(number) for number in range(100)] * 2
    assert len(contexts_for((5,), many)) == MAX_CONTEXTS
