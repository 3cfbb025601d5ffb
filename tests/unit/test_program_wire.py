# SPDX-License-Identifier: Apache-2.0
"""The wire form: total, canonical, and what vm/channel.h says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuzzer.paths import project_root
from fuzzer.program import ops, program, wire
from fuzzer.program.ops import Op, flags_used
from fuzzer.program.program import Call, Fixup
from fuzzer.program.wire import HEADER, HEADER_SIZE, PLAIN_HEADER, decode, encode, split
from fuzzer.target.header import Header, read_headers

fixups = st.builds(Fixup, st.integers(0, 0xFFFF), st.integers(0, 0xFFFF))
calls = st.builds(
    Call,
    st.sampled_from(Op),
    st.integers(0, 7),
    st.integers(0, 0xFF),
    st.integers(0, 0xFFFFFFFF),
    st.integers(0, (1 << 64) - 1),
    st.binary(max_size=40),
    st.lists(fixups, max_size=8).map(tuple),
    st.integers(0, 0xFFFF),
    st.integers(0, 0xFFFF),
    st.integers(0, 3),
    st.integers(0, 255),
)
programs = st.lists(calls, max_size=12).map(tuple)
# Headers with every count and number, right and wrong, so that decoding has much to mend.
loose = st.lists(
    st.builds(
        lambda fields, tail: HEADER.pack(*fields) + tail,
        st.tuples(
            st.integers(0, 255),
            st.integers(0, 255),
            st.integers(0, 255),
            st.integers(0, 12) | st.just(255),
            st.integers(0, 0xFFFFFFFF),
            st.integers(0, (1 << 64) - 1),
            st.integers(0, 60) | st.just(0xFFFF),
            st.integers(0, 0xFFFF),
            st.integers(0, 0xFFFF),
            st.integers(0, 3) | st.integers(0, 255),
            st.sampled_from((0, 0, 1)),
        ),
        st.binary(max_size=60),
    ),
    max_size=6,
).map(b"".join) | st.binary(max_size=200)


@pytest.fixture(scope="module")
def channel() -> Header:
    constants = [f"W_{op.name}" for op in Op]
    constants += ["W_N_OPS", "W_N_FILES", "W_MAX_FIXUPS", "W_N_THREADS"]
    constants += ["CH_MAX_CALLS", "CH_PROGRAM_SIZE"]
    header = project_root() / "vm" / "channel.h"
    return read_headers([header], constants=constants, structs=["w_call", "w_fixup"])


def test_operations_are_numbered_as_in_the_channel_header(channel: Header) -> None:
    assert {op.name: op.value for op in Op} == {
        name.removeprefix("W_"): value
        for name, value in channel.constants.items()
        if name.removeprefix("W_") in Op.__members__
    }
    assert channel.constants["W_N_OPS"] == len(Op)


def test_limits_are_those_of_the_channel_header(channel: Header) -> None:
    assert channel.constants["CH_MAX_CALLS"] == program.MAX_CALLS
    assert channel.constants["CH_PROGRAM_SIZE"] == program.MAX_PROGRAM_SIZE
    assert channel.constants["W_N_FILES"] == program.N_FILES
    assert channel.constants["W_MAX_FIXUPS"] == program.MAX_FIXUPS
    assert channel.constants["W_N_THREADS"] == program.N_THREADS


def test_structs_have_the_layout_of_the_channel_header(channel: Header) -> None:
    call, fixup = channel.structs["w_call"], channel.structs["w_fixup"]
    assert call.size == wire.HEADER_SIZE
    assert [(m.name, m.offset) for m in call.members] == [
        ("op", 0),
        ("file", 1),
        ("flags", 2),
        ("n_fixups", 3),
        ("cmd", 4),
        ("arg", 8),
        ("length", 16),
        ("fault", 18),
        ("cut", 20),
        ("thread", 22),
        ("mode", 23),
    ]
    assert (1 << 8 * call.members[6].size) - 1 == program.MAX_PAYLOAD
    assert fixup.size == wire.FIXUP_SIZE
    assert [m.name for m in fixup.members] == ["at", "to"]


def test_a_call_is_encoded_byte_for_byte() -> None:
    fixups = (Fixup(0x10, 0x20),)
    call = Call(Op.IOCTL, 1, 2, 0x44332211, 0x0102030405060708, b"xy", fixups, 0x506, 0x708, 3, 4)
    header = "07 01 02 01 11223344 0807060504030201 0200 0605 0807 03 04"
    assert encode((call,)) == bytes.fromhex(f"{header} 1000 2000") + b"xy"


@given(programs)
def test_decoding_gives_back_what_was_encoded(given_program: tuple[Call, ...]) -> None:
    assert decode(encode(given_program)) == given_program


@given(loose)
def test_any_bytes_are_a_program_with_one_canonical_form(data: bytes) -> None:
    decoded = decode(data)
    canonical = encode(decoded)
    assert decode(canonical) == decoded
    assert encode(decode(canonical)) == canonical
    assert b"".join(split(data)) == canonical
    assert [decode(chunk) for chunk in split(data)] == [(call,) for call in decoded]


def test_operation_file_and_thread_are_taken_modulo() -> None:
    data = HEADER.pack(len(Op) + Op.LSEEK, 8 + 3, 0, 0, 0, 0, 0, 5, 6, 4 + 2, 0)
    assert decode(data) == (Call(Op.LSEEK, 3, fault=5, cut=6, thread=2),)


@pytest.mark.parametrize("op", list(Op))
def test_flags_that_an_operation_does_not_use_are_kept(op: Op) -> None:
    call = Call(op, flags=0xFF, cmd=0xFFFFFFFF)
    assert decode(encode((call,))) == (call,)


def test_counts_are_cut_to_what_is_left() -> None:
    data = PLAIN_HEADER.pack(Op.WRITE, 0, 0, 3, 0, 0, 100) + b"\1\0\2\0" + b"abc"
    assert decode(data) == (Call(Op.WRITE, data=b"abc", fixups=(Fixup(1, 2),)),)


def test_fixups_past_the_limit_are_payload() -> None:
    data = PLAIN_HEADER.pack(Op.WRITE, 0, 0, 33, 0, 0, 5) + bytes(132) + b"z"
    (call,) = decode(data)
    assert (len(call.fixups), call.data) == (32, b"\0\0\0\0z")


def test_any_mode_is_kept() -> None:
    data = HEADER.pack(Op.READ, 0, 0, 0, 0, 5, 0, 1, 2, 3, 0xFF)
    assert split(data) == [data]


def test_a_short_tail_and_calls_past_the_limit_are_ignored() -> None:
    assert decode(bytes(HEADER_SIZE - 1)) == ()
    assert len(decode(bytes(HEADER_SIZE * 4 - 1))) == 3
    assert len(decode(bytes(HEADER_SIZE * 200))) == 128


@pytest.mark.parametrize(
    "call",
    [
        Call(Op.READ, file=8),
        Call(Op.READ, arg=1 << 64),
        Call(Op.READ, arg=-1),
        Call(Op.WRITE, data=bytes(0x10000)),
        Call(Op.IOCTL, fixups=(Fixup(0, 0),) * 33),
        Call(Op.IOCTL, fixups=(Fixup(0x10000, 0),)),
        Call(Op.READ, fault=0x10000),
        Call(Op.READ, cut=0x10000),
        Call(Op.READ, thread=4),
    ],
)
def test_what_does_not_fit_is_refused(call: Call) -> None:
    with pytest.raises(ValueError, match=r"does not fit|too many"):
        encode((call,))


@pytest.mark.parametrize(
    ("op", "flags", "used"),
    [
        (Op.WRITE, 0, 0xCE),
        (Op.READ, 0xFF, 0x8E),
        (Op.PREAD, 0, 0xAC),
        (Op.PWRITE, 0xFF, 0xEC),
        (Op.IOCTL, 0, 0x9D),
        (Op.IOCTL, ops.FLAG_VALUE, 0x91),
        (Op.LOAD, 0xFF, 0),
        (Op.DUP, 0, 0),
        (Op.OPEN, 0, ops.FLAG_WAITS),
    ],
)
def test_a_call_looks_at_some_flags(op: Op, flags: int, used: int) -> None:
    assert flags_used(op, flags) == used
