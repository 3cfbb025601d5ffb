# SPDX-License-Identifier: Apache-2.0
"""Buffers in mappings: which calls can have one, which are tried, and what is simpler."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from fuzzer.program.generate import Generator
from fuzzer.program.mutate import Mutator
from fuzzer.program.ops import (
    FLAG_COMPAT,
    FLAG_NULL,
    FLAG_VALUE,
    MAP_PRIVATE,
    POINTS,
    REMAP_MOVE,
    Op,
)
from fuzzer.program.placing import MODES, MappingCalls, Placer
from fuzzer.program.program import Call, Fixup, mapping_of, pointed_mapping
from fuzzer.program.shrink.simpler import normalized, smaller_numbers, without_conditions
from fuzzer.program.wire import decode, encode, encode_call, split
from fuzzer.target.calls import PlainKind, PlainSpec
from fuzzer.target.target import load_target

TARGET = load_target(Path(__file__).parent / "data" / "demo" / "demo.yaml")
WITHOUT = replace(
    TARGET, calls=tuple(each for each in TARGET.calls if each != PlainSpec(PlainKind.MMAP, 1))
)
READ, WRITE = Call(Op.READ, arg=8), Call(Op.WRITE, data=b"abcdef")
IOCTL = Call(Op.IOCTL, cmd=7, data=b"abcdefgh", fixups=(Fixup(0, 4),))
MAP, MAPPED = Call(Op.MAP, 3, arg=4096), {Op.MAP, Op.UNMAP, Op.STORE, *MODES}


def placed(program: tuple[Call, ...], limit: int = 8) -> list[tuple[Call, ...]]:
    return _changed(program, limit, Placer.place)


def visited(program: tuple[Call, ...], limit: int = 8) -> list[tuple[Call, ...]]:
    return _changed(program, limit, Placer.visit)


def _changed(
    program: tuple[Call, ...], limit: int, change: Callable[[Placer, list[bytes], int], None]
) -> list[tuple[Call, ...]]:
    stored, unmapped = encode_call(Call(Op.STORE)), encode_call(Call(Op.UNMAP, arg=8192))
    calls = MappingCalls(lambda: encode_call(MAP), lambda: stored, lambda: unmapped)
    placer = Placer(random.Random(1), calls, limit)
    made = []
    for _ in range(200):
        chunks = split(encode(program))
        change(placer, chunks, 1 << 16)
        made.append(decode(b"".join(chunks)))
    return made


@pytest.mark.parametrize(
    ("call", "file"),
    [
        (READ, 0),
        (replace(WRITE, mode=8), 7),
        (replace(READ, mode=9), 0),
        (Call(Op.PREAD, mode=3), 2),
        (IOCTL, 0),
        (replace(READ, flags=FLAG_NULL), None),
        (replace(IOCTL, flags=FLAG_VALUE), None),
        (replace(IOCTL, flags=FLAG_COMPAT), None),
        (Call(Op.LOAD, data=b"a=1"), None),
        (MAP, None),
    ],
)
def test_calls_with_a_buffer_can_have_it_in_a_mapping(call: Call, file: int | None) -> None:
    assert mapping_of(replace(call, mode=call.mode or 1)) == file
    assert mapping_of(replace(call, mode=0)) is None


def test_a_file_is_mapped_before_a_buffer_lies_there() -> None:
    for made in placed((Call(Op.CLOSE), READ)):
        assert made == (Call(Op.CLOSE), MAP, replace(READ, mode=4))
    # There is no room for one more call.
    assert set(placed((READ,), limit=1)) == {(READ,)}


def test_a_buffer_lies_in_any_mapping_before_it_and_is_taken_out_again() -> None:
    maps = (replace(MAP, file=1), replace(MAP, file=2))
    modes = Counter(made[2].mode for made in placed((*maps, READ, MAP)))
    assert modes.keys() == {2, 3}
    modes = Counter(made[1].mode for made in placed((MAP, replace(READ, mode=4))))
    assert modes.keys() == {0, 4}
    assert modes[0] < modes[4]


def test_often_nothing_is_stored_where_a_buffer_lies() -> None:
    made = {calls[1] for calls in placed((MAP, IOCTL))}
    lying = replace(IOCTL, mode=4)
    pointing = replace(IOCTL, mode=POINTS | 4)
    assert made == {lying, replace(lying, data=bytes(8), fixups=()), pointing}


def test_calls_on_a_mapping_come_behind_the_call_that_makes_it() -> None:
    on_mapping = {Op.STORE, Op.UNMAP}
    for made in visited((READ,)):
        behind = [call for call in made[made.index(MAP) :] if call.op in on_mapping]
        assert 3 <= len(made) == 2 + len(behind) <= 6
        assert {call.file for call in behind} == {3}
    other = replace(MAP, file=1)
    files = {call.file for made in visited((MAP, other)) for call in made if call.op in on_mapping}
    assert files == {1, 3}
    assert all(len(made) <= 2 for made in visited((READ,), limit=2))


def test_often_a_page_is_used_before_and_after_a_change() -> None:
    large = replace(MAP, arg=3 * 4096)
    between = [
        made
        for made in visited((large,))
        if [call.op for call in made[1:]] == [Op.STORE, Op.UNMAP, Op.STORE]
        and len({call.cmd for call in made[1:]}) == 1
    ]
    assert len(between) > 80
    assert {made[1].cmd for made in between} == {0, 1, 2}


def test_drivers_that_map_nothing_have_no_calls_on_mappings() -> None:
    generator = Generator(WITHOUT, random.Random(1))
    assert not generator.maps
    assert not MAPPED & {generator.call().op for _ in range(3000)}
    mutator = Mutator(WITHOUT, random.Random(1), lambda data, size: data[:size])
    mutator.note(encode((READ, WRITE)))
    for _ in range(1000):
        assert not any(call.mode for call in decode(mutator.mutate(encode((READ, WRITE)), 4096)))


def test_drivers_that_map_have_all_modes_and_buffers_in_mappings() -> None:
    generator = Generator(TARGET, random.Random(1))
    calls = [generator.call() for _ in range(20_000)]
    for op, modes in MODES.items():
        assert {call.mode for call in calls if call.op == op} == set(modes)
    mutator = Mutator(TARGET, random.Random(1), lambda data, size: data[:size])
    made = [decode(mutator.mutate(encode((READ, WRITE)), 4096)) for _ in range(1000)]
    lying = [call for calls in made for call in calls if mapping_of(call) is not None]
    assert {call.op for call in lying} >= {Op.READ, Op.WRITE, Op.IOCTL}


@pytest.mark.parametrize("op", MODES)
def test_the_mode_of_a_call_on_a_mapping_changes(op: Op) -> None:
    mutator = Mutator(TARGET, random.Random(1), lambda data, size: data[:size], max_calls=1)
    call = Call(op, arg=4096)
    made = [decode(mutator.mutate(encode((call,)), 4096)) for _ in range(2000)]
    assert {each.mode for (each,) in made if each == replace(call, mode=each.mode)} > {0}


def test_simpler_calls_have_their_buffer_elsewhere_and_usual_mappings() -> None:
    lying, private = replace(READ, mode=3), replace(MAP, mode=MAP_PRIVATE)
    moved, advised = Call(Op.REMAP, arg=4096, mode=REMAP_MOVE), Call(Op.ADVISE, mode=4)
    assert without_conditions(lying) == [READ]
    assert without_conditions(private) == [MAP]
    assert without_conditions(moved) == [replace(moved, mode=0)]
    assert without_conditions(advised) == []
    assert {each.mode for each in smaller_numbers(lying)} == {1, 2, 3}
    assert normalized(replace(lying, mode=11)) == lying
    pointing = replace(IOCTL, mode=POINTS | 3)
    assert replace(pointing, mode=0) in without_conditions(pointing)
    assert {each.mode & ~POINTS for each in smaller_numbers(pointing)} == {1, 2}
    assert normalized(replace(pointing, mode=POINTS | 11)) == pointing
    assert pointed_mapping(pointing) == 2
    assert pointed_mapping(replace(READ, mode=POINTS | 3)) is None
    assert normalized(replace(lying, flags=FLAG_NULL)).mode == 0
    assert normalized(replace(advised, mode=100)).mode == 100
    assert normalized(Call(Op.CLOSE, mode=1)) == Call(Op.CLOSE)
