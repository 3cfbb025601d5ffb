# SPDX-License-Identifier: Apache-2.0
"""Flips: what can have one, which are tried, and what a program with them is."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest

from fuzzer.program.conditions import is_parallel, is_racing, one_by_one
from fuzzer.program.flips import FLIP_SIZES, FlipMaker, can_flip, flip_cmd, flip_place
from fuzzer.program.mechanisms import Mechanisms
from fuzzer.program.mutate import Mutator
from fuzzer.program.ops import FLAG_VALUE, Op
from fuzzer.program.program import Call, Fixup
from fuzzer.program.text_parser import struct_layouts
from fuzzer.program.wire import decode, encode, encode_call, split
from fuzzer.target.target import load_target

TARGET = load_target(Path(__file__).parent / "data" / "demo" / "demo.yaml")
LAYOUTS = struct_layouts(TARGET)
(LIST,) = [number for number, layout in LAYOUTS.items() if layout.member("buf")]
STRUCT = bytes(16) + b"\7" + bytes(7)
ARGUMENT = Call(Op.IOCTL, cmd=LIST, data=STRUCT)
WRITE, READ = Call(Op.WRITE, data=b"abcdef"), Call(Op.READ, arg=8)
FLIP = Call(Op.FLIP, cmd=8, arg=80)


def unchanged(data: bytes, max_size: int) -> bytes:
    return data[:max_size]


@pytest.mark.parametrize("size", FLIP_SIZES)
def test_a_place_has_a_size(size: int) -> None:
    assert flip_place(flip_cmd(0xFFFF, size)) == (0xFFFF, size)
    assert flip_place(flip_cmd(3, size) | 0xFFFC0000) == (3, size)


@pytest.mark.parametrize(
    ("call", "can"),
    [
        (ARGUMENT, True),
        (WRITE, True),
        (Call(Op.PWRITE, data=b"a"), True),
        (Call(Op.WRITE), False),
        (Call(Op.IOCTL, cmd=LIST), False),
        (replace(ARGUMENT, flags=FLAG_VALUE), False),
        (READ, False),
        (Call(Op.LOAD, data=b"a=1"), False),
        (FLIP, False),
    ],
)
def test_calls_that_hand_bytes_to_the_driver_can_have_one(call: Call, can: bool) -> None:
    assert can_flip(encode_call(call)) is can


def test_a_flip_changes_bytes_of_the_payload_to_others() -> None:
    maker = FlipMaker(random.Random(1), LAYOUTS)
    other = encode_call(replace(ARGUMENT, data=bytes(24)))
    for call in (ARGUMENT, WRITE, Call(Op.WRITE, data=b"x")):
        chunk, changed = encode_call(call), 0
        for _ in range(500):
            (flip,) = decode(maker.flip(chunk, other))
            assert (flip.op, flip.thread, flip.data) == (Op.FLIP, 0, b"")
            at, size = flip_place(flip.cmd)
            assert at + size <= len(call.data)
            assert flip.arg < 1 << 8 * size
            changed += flip.arg != int.from_bytes(call.data[at : at + size], "little")
        assert changed > 450


def test_flips_of_a_struct_are_mostly_of_its_members() -> None:
    maker = FlipMaker(random.Random(1), LAYOUTS)
    chunk = encode_call(ARGUMENT)
    flips = [decode(maker.flip(chunk, chunk))[0] for _ in range(500)]
    members = {(member.offset, member.size) for member in LAYOUTS[LIST].members}
    assert sum(flip_place(flip.cmd) in members for flip in flips) > 400


def test_what_a_struct_points_to_has_flips_as_well() -> None:
    maker = FlipMaker(random.Random(1), LAYOUTS)
    chunk = encode_call(replace(ARGUMENT, data=STRUCT + bytes(8), fixups=(Fixup(0, 24),)))
    places = [flip_place(decode(maker.flip(chunk, chunk))[0].cmd)[0] for _ in range(500)]
    assert sum(at >= len(STRUCT) for at in places) > 150
    assert sum(at < len(STRUCT) for at in places) > 150


def test_what_is_there_in_another_call_of_the_kind_is_often_tried() -> None:
    maker = FlipMaker(random.Random(1), {})
    other = encode_call(replace(WRITE, data=b"\x78\x56\x34\x12\0\0"))
    flips = [decode(maker.flip(encode_call(WRITE), other))[0] for _ in range(400)]
    assert sum((flip.cmd, flip.arg) == (0, 0x12345678) for flip in flips) > 50


def test_what_the_driver_compares_is_changed_to_the_other_operand() -> None:
    maker = FlipMaker(random.Random(1), LAYOUTS)
    chunk = encode_call(ARGUMENT)
    assert maker.compared == []
    # The first byte of a member of 4 bytes.
    assert (16, 4) in {(member.offset, member.size) for member in LAYOUTS[LIST].members}
    maker.note(chunk, encode_call(replace(ARGUMENT, data=bytes(16) + b"\x51" + bytes(7))))
    assert maker.compared == [(Op.IOCTL, chunk[4:8])]
    flips = [decode(maker.flip(chunk, chunk))[0] for _ in range(500)]
    there = [flip.arg for flip in flips if flip_place(flip.cmd) == (16, 4)]
    assert len(there) > 300
    assert there.count(0x51) > 100


@pytest.mark.parametrize(
    ("data", "place"),
    [(b"abXdefghi", (0, 4)), (b"abcXXfghi", (0, 8)), (b"abcdefghX", (8, 1))],
)
def test_where_no_struct_is_known_what_is_compared_is_in_a_word(
    data: bytes, place: tuple[int, int]
) -> None:
    maker = FlipMaker(random.Random(1), {})
    chunk = encode_call(Call(Op.WRITE, data=b"abcdefghi"))
    maker.note(chunk, encode_call(Call(Op.WRITE, data=data)))
    flips = [decode(maker.flip(chunk, chunk))[0] for _ in range(200)]
    at, size = place
    number = int.from_bytes(data[at : at + size], "little")
    assert sum((flip_place(flip.cmd), flip.arg) == (place, number) for flip in flips) > 40


def test_calls_that_cannot_be_told_apart_or_have_no_buffer_are_not_noted() -> None:
    maker = FlipMaker(random.Random(1), {})
    for call, other in (
        (WRITE, WRITE),
        (WRITE, replace(WRITE, data=b"abc")),
        (READ, READ),
        (Call(Op.LOAD, data=b"a=1"), Call(Op.LOAD, data=b"a=2")),
    ):
        maker.note(encode_call(call), encode_call(other))
    assert maker.compared == []


def test_programs_with_flips_race_without_having_threads() -> None:
    program = split(encode((FLIP, WRITE)))
    assert is_racing(program)
    assert not is_parallel(program)
    assert not is_racing(split(encode((WRITE,))))
    assert is_racing(split(encode((replace(WRITE, thread=1),))))
    assert one_by_one(split(encode((FLIP, replace(WRITE, thread=2))))) == [encode_call(WRITE)]


def test_some_of_the_programs_that_race_repeat_a_call_with_a_flip() -> None:
    mutator = Mutator(TARGET, random.Random(1), unchanged, max_calls=40)
    mutator.note(encode((READ, ARGUMENT)))
    mutator.note(encode((WRITE,)))
    made = [decode(mutator.race(encode((WRITE,)), 8192)) for _ in range(1000)]
    flipped = [calls for calls in made if any(call.op is Op.FLIP for call in calls)]
    assert 100 < len(flipped) < 300
    for calls in flipped:
        at = [call.op for call in calls].index(Op.FLIP)
        assert calls[at + 1] in (ARGUMENT, WRITE)
        assert calls[at:] == calls[at : at + 2] * 8
        assert calls[:at] in ((), (READ,))
    assert {calls[-1] for calls in flipped} == {ARGUMENT, WRITE}
    assert {len(calls) for calls in flipped} == {16, 17}


def test_calls_that_are_compared_have_most_flips() -> None:
    mutator = Mutator(TARGET, random.Random(1), unchanged, max_calls=40)
    mutator.note(encode((ARGUMENT,)))
    for number in range(20):
        mutator.note(encode((Call(Op.IOCTL, cmd=number, data=b"abcd"),)))
    mutator.note_compared(encode_call(ARGUMENT), encode_call(replace(ARGUMENT, data=bytes(24))))
    made = [decode(mutator.race(encode((WRITE,)), 8192)) for _ in range(1000)]
    flipped = [calls[-1] for calls in made if any(call.op is Op.FLIP for call in calls)]
    assert flipped.count(ARGUMENT) > 0.7 * len(flipped)


def test_no_program_has_flips_where_no_call_can_have_one() -> None:
    mutator = Mutator(TARGET, random.Random(1), unchanged, max_calls=40)
    mutator.note(encode((READ,)))
    for _ in range(200):
        calls = decode(mutator.race(encode((READ,)), 8192))
        assert not any(call.op is Op.FLIP for call in calls)
        assert is_parallel(split(encode(calls)))


def test_serial_programs_get_no_flips() -> None:
    mutator = Mutator(TARGET, random.Random(1), unchanged, mechanisms=Mechanisms())
    made = [decode(mutator.mutate(encode((WRITE,)), 8192)) for _ in range(500)]
    assert not any(call.op is Op.FLIP for calls in made for call in calls)
