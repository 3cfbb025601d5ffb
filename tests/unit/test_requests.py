# SPDX-License-Identifier: Apache-2.0
"""Calls that are requests in a ring of io_uring: how they change, and what is simpler."""

from __future__ import annotations

import random

import pytest

from fuzzer.program.conditions import ConditionMutator
from fuzzer.program.ops import FLAG_NULL, REQUESTS, URING, URING_ASYNC, URING_LEAVE, Op
from fuzzer.program.placing import MappingCalls, Placer
from fuzzer.program.program import Call, is_request_call, mapping_of, pointed_mapping
from fuzzer.program.shrink.simpler import normalized, without_conditions
from fuzzer.program.wire import decode, encode_call

READ = Call(Op.READ, arg=8, mode=URING | URING_ASYNC | URING_LEAVE)
COMMAND = Call(Op.IOCTL, cmd=7, data=b"abcdefgh", mode=URING)


@pytest.mark.parametrize("op", Op, ids=lambda op: op.name)
def test_some_operations_can_be_requests(op: Op) -> None:
    call = Call(op, mode=0xC1)
    assert is_request_call(call) is (op in REQUESTS)
    if op in REQUESTS:
        assert (mapping_of(call), pointed_mapping(call)) == (None, None)


def test_a_plain_call_and_a_plainer_request_are_simpler() -> None:
    assert normalized(Call(Op.READ, arg=8, mode=0xFF)) == READ
    assert {each.mode for each in without_conditions(READ)} == {
        *(0, URING | URING_ASYNC, URING | URING_LEAVE),
    }
    assert without_conditions(normalized(Call(Op.READ, arg=8))) == []


def test_a_request_is_changed_to_one_made_in_another_way() -> None:
    conditions = ConditionMutator(random.Random(1))
    for call, plain in ((READ, True), (COMMAND, False)):
        forms = [decode(conditions.form(encode_call(call)))[0] for _ in range(200)]
        assert {each.mode for each in forms} == {0x80, 0x81, 0x82, 0x83} | ({0} if plain else set())
        assert {(each.arg, each.data, each.flags & FLAG_NULL) for each in forms} == {
            (call.arg, call.data, 0)
        }


def test_the_buffer_of_a_request_is_put_into_no_mapping() -> None:
    made = encode_call(Call(Op.MAP, 3, arg=4096))
    placer = Placer(random.Random(1), MappingCalls(*[lambda: made] * 3), 8)
    for _ in range(50):
        chunks = [made, encode_call(READ), encode_call(COMMAND)]
        placer.place(chunks, 1 << 16)
        assert chunks == [made, encode_call(READ), encode_call(COMMAND)]
