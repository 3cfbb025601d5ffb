# SPDX-License-Identifier: Apache-2.0
"""Positions of 64 bits: one rule for calls and their wire bytes, old programs as they were."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from fuzzer.program.conditions import ConditionMutator, buffer_size
from fuzzer.program.generate import Generator
from fuzzer.program.mutate import Mutator
from fuzzer.program.operands import CallView, MatchKind
from fuzzer.program.ops import FLAG_COUNT, FLAG_WIDE, Op
from fuzzer.program.program import HALF, Call, at_position, count, position
from fuzzer.program.wire import (
    HEADER,
    count_of,
    decode,
    encode_call,
    position_of,
    with_position,
    written_of,
)
from fuzzer.target.target import Target

positions = st.sampled_from((0, 1, HALF, HALF + 1, 3 << 32, (1 << 63) - 1, (1 << 64) - 1)) | (
    st.integers(0, (1 << 64) - 1)
)
calls = st.builds(
    Call,
    st.sampled_from((Op.PREAD, Op.PWRITE)),
    st.integers(0, 7),
    st.integers(0, 255),
    st.integers(0, HALF),
    st.integers(0, (1 << 64) - 1),
    st.binary(max_size=12),
)


@given(calls, positions)
def test_a_call_is_put_at_any_position_and_keeps_its_count(call: Call, offset: int) -> None:
    moved = at_position(call, offset)
    assert position(moved) == offset
    assert bool(moved.flags & FLAG_WIDE) == (offset > HALF)
    assert moved.flags & ~FLAG_WIDE == call.flags & ~FLAG_WIDE
    assert count(moved) == (count(call) if offset <= HALF else min(count(call), HALF))
    assert (moved.data, moved.file) == (call.data, call.file)


@given(calls, positions)
def test_wire_bytes_say_the_same_as_calls(call: Call, offset: int) -> None:
    chunk = encode_call(call)
    assert position_of(chunk) == position(call)
    assert decode(with_position(chunk, offset)) == (at_position(call, offset),)
    if call.op is Op.PREAD:
        assert count_of(chunk) == count(call)
    else:
        assert written_of(chunk) == count(call)


def test_programs_without_the_flags_are_what_they_were() -> None:
    # As they were stored before there were wide positions.
    pread = HEADER.pack(4, 0, 0, 0, 0xFFFFFFF0, 1 << 40, 0, 0, 0, 0, 0)
    pwrite = HEADER.pack(5, 0, 0, 0, 8, 0xDEAD << 32 | 1, 2, 0, 0, 0, 0) + b"ab"
    (read,), (write,) = decode(pread), decode(pwrite)
    assert (position(read), count(read)) == (0xFFFFFFF0, 1 << 40)
    assert (position(write), count(write)) == (8, 2)


def test_a_count_is_cut_to_the_payload() -> None:
    assert count(Call(Op.WRITE, flags=FLAG_COUNT, arg=9, data=b"ab")) == 2
    assert count(Call(Op.WRITE, flags=FLAG_COUNT, arg=1 << 32 | 1, data=b"ab")) == 1


def test_far_positions_are_made_and_mutated(pkv_target: Target) -> None:
    generator = Generator(pkv_target, random.Random(1))
    made = {position(call) for call in (generator.call() for _ in range(9000))
            if call.op in {Op.PREAD, Op.PWRITE}}  # fmt: skip
    assert made >= {1 << 31, 1 << 32, 1 << 33, (1 << 63) - 1, (1 << 64) - 1, 0}
    mutator = Mutator(pkv_target, random.Random(1), lambda data, size: data[:size])
    start = encode_call(at_position(Call(Op.PREAD, arg=64), 3 << 32))
    seen = set()
    for _ in range(6000):
        for call in decode(mutator.mutate(start, 4096)):
            if call.op is Op.PREAD:
                seen.add((position(call), count(call)))
    assert {offset for offset, length in seen if length == 64} > {3 << 32}
    assert {length for offset, length in seen if offset == 3 << 32} > {64}


def test_what_the_driver_compares_with_a_position_is_put_there() -> None:
    for start in (512, 3 << 32):
        chunk = encode_call(at_position(Call(Op.PREAD, arg=1), start))
        put = [match.put(0x200000001) for match in CallView(chunk).matches(start, 8)
               if match.kind is MatchKind.FIELD]  # fmt: skip
        assert [position(decode(each)[0]) for each in put if each] == [0x200000001]


def test_other_forms_keep_the_position_and_the_count() -> None:
    conditions = ConditionMutator(random.Random(1))
    chunk = encode_call(at_position(Call(Op.PREAD, arg=64), 3 << 32))
    assert buffer_size(chunk) == 64
    forms = {conditions.form(chunk) for _ in range(50)}
    assert len(forms) > 1
    assert {position_of(form) for form in forms} == {3 << 32}
    write = encode_call(Call(Op.WRITE, flags=FLAG_COUNT, arg=1, data=b"ab"))
    assert {written_of(conditions.form(write)) for _ in range(50)} == {1}
