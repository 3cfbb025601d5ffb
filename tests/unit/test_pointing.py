# SPDX-License-Identifier: Apache-2.0
"""Addresses of 4 and 8 bytes, and programs that get some where a driver reads one in vain."""

from __future__ import annotations

import errno
import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuzzer.program.comparison import Comparison
from fuzzer.program.conditions import fitted
from fuzzer.program.guesses import Guesser
from fuzzer.program.links import LINK, LOW, Address, address_of, addresses, link_of
from fuzzer.program.operands import CallView
from fuzzer.program.ops import FLAG_COMPAT, Op
from fuzzer.program.pointing import MOST, pointed
from fuzzer.program.program import MAX_FIXUPS, Call, Fixup, Program
from fuzzer.program.text import format_program, parse_program
from fuzzer.program.wire import decode, encode, encode_call, split

SUBMIT = 0x40105601
LENGTH_IS_32 = Comparison(32, 0, 0, 4, constant=True)


def call(data: bytes, *fixups: Fixup, flags: int = 0) -> Call:
    return Call(Op.IOCTL, flags=flags, cmd=SUBMIT, data=data, fixups=fixups)


def made(
    one: Call, error: int, *comparisons: Comparison, before: tuple[Call, ...] = ()
) -> list[Program]:
    chunks = split(encode((*before, one)))
    found = pointed(chunks, [0] * len(before) + [error], comparisons)
    return [decode(b"".join(each)) for each in found]


def word(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 4], "little")


@given(st.integers(0, 0xFFFF), st.integers(0, 0xFFFF))
def test_a_fixup_is_an_address_of_8_or_4_bytes_or_a_link(at: int, to: int) -> None:
    fixup = Fixup(at, to)
    address = address_of(fixup)
    assert (address is None) is (to >= LINK) is (link_of(fixup) is not None)
    if address:
        assert address.fixup() == fixup
        assert (address.size, address.to) == ((4, to - LOW) if to >= LOW else (8, to))


def test_an_address_that_is_too_far_is_that_of_the_farthest_byte() -> None:
    assert Address(0, 0xFFFF).fixup() == Fixup(0, LOW - 1)
    assert Address(0, 0xFFFF, is_low=True).fixup() == Fixup(0, LINK - 1)


def test_an_address_of_4_bytes_is_told_in_text() -> None:
    text = 'ioctl(f0, 0x40084301, "\\x00\\x00\\x00\\x00 \\x00\\x00\\x00abc") compat @0->8:4\n'
    (parsed,) = parse_program(text, None, "x")
    assert parsed.fixups == (Address(0, 8, is_low=True).fixup(),)
    assert format_program((parsed,), None) == text
    wide = text.replace(":4", ":8")
    assert parse_program(wide, None, "x")[0].fixups == (Fixup(0, 8),)


def test_a_call_that_followed_a_wrong_address_gets_one_at_each_place() -> None:
    found = made(call(bytes(16)), errno.EFAULT)
    first = [program[0] for program in found[:2]]
    assert [each.fixups for each in first] == [(Fixup(0, 16),), (Fixup(8, 16),)]
    assert all(len(each.data) == 16 + 64 for each in first)
    # What fails for something else, or not at all, is left alone; so is a value.
    assert made(call(bytes(16)), errno.EINVAL) == made(call(bytes(16)), 0) == []
    # So is one of which a copy was to fail, or a part is missing.
    for other in (replace(call(bytes(16)), fault=1), replace(call(bytes(16)), cut=4)):
        assert made(other, errno.EFAULT) == []
    assert pointed(split(encode((Call(Op.WRITE, data=bytes(16)),))), [errno.EFAULT], ()) == []


def test_words_that_are_something_else_come_last() -> None:
    found = made(call(bytes(8) + b"\3" + bytes(7)), errno.EFAULT)
    at = [program[0].fixups[0].at for program in found]
    assert at[0] == 0
    assert at[-1] == 8


def test_the_address_of_a_compat_call_has_4_bytes() -> None:
    (program, *_) = made(call(bytes(4) + b"\x20\0\0\0", flags=FLAG_COMPAT), errno.EFAULT)
    assert program[0].fixups == (Address(0, 8, is_low=True).fixup(),)
    assert word(program[0].data, 4) == 32


def test_other_calls_and_what_a_call_has_already_stay() -> None:
    before = Call(Op.READ, arg=4)
    held = call(bytes(16) + bytes(64), Fixup(0, 16))
    for program in made(held, errno.EFAULT, before=(before,)):
        assert program[0] == before
        assert program[1].cmd == SUBMIT
        assert len(program[1].fixups) <= MAX_FIXUPS
        for address in addresses(program[1].fixups):
            assert address.at + 8 <= len(program[1].data) >= address.to


def is_overflow(one: Call) -> bool:
    """Return whether the lengths of an array of structs {address, length, x} add up to over 64."""
    to = {address.at: address.to for address in addresses(one.fixups)}
    count, start = word(one.data, 8), to.get(0)
    if not 1 <= count <= 4 or start is None:
        return False
    total = 0
    for at in range(start, start + 16 * count, 16):
        length = word(one.data, at + 8)
        if length > 32 or at + 16 > len(one.data):
            return False
        if total + length > 64:
            return True
        if length and at not in to:
            return False
        total += length
    return False


@pytest.mark.parametrize(
    ("count", "length", "error"), [(3, 32, errno.EFAULT), (4, 32, errno.EFAULT), (3, 0, 0)]
)
def test_each_element_of_an_array_gets_what_one_has(count: int, length: int, error: int) -> None:
    element = bytes(8) + bytes((length, 0, 0, 0)) + bytes(4)
    data = bytes(8) + bytes((count, 0, 0, 0)) + bytes(4) + element + bytes(48)
    comparisons = [] if length else [LENGTH_IS_32]
    found = made(call(data, Fixup(0, 16)), error, *comparisons)
    assert any(is_overflow(program[0]) for program in found)
    assert len(found) <= MOST
    # The same of the same.
    assert found == made(call(data, Fixup(0, 16)), error, *comparisons)


def test_an_array_of_addresses_is_replaced_in_its_place() -> None:
    data = bytes(16) + bytes(8) + b"\x20" + bytes(7) + bytes(32)
    held = call(data, Fixup(0, 16), Fixup(16, 32))
    arrays = [program[0] for program in made(held, 0)]
    assert any(len(addresses(each.fixups)) == 5 for each in arrays)
    assert min(len(each.data) for each in arrays) < 150


def test_the_number_of_elements_is_told_where_one_may_be() -> None:
    data = bytes(8) + b"\1" + bytes(7) + bytes(8) + b"\x20" + bytes(7) + bytes(48)
    counts = {word(p[0].data, 8) for p in made(call(data, Fixup(0, 16)), errno.EFAULT)}
    assert counts > {1, 2, 3, 4, 8}


def test_a_buffer_with_addresses_of_what_is_behind_its_struct_keeps_its_size() -> None:
    held = encode_call(call(bytes(80), Fixup(0, 16)))
    assert fitted(held) == held
    assert len(fitted(encode_call(call(bytes(80))))) < len(held)


def test_a_value_is_not_found_where_an_address_will_be() -> None:
    view = CallView(encode_call(call(b"\7" + bytes(15) + b"\7" + bytes(15), Fixup(0, 16))))
    places = [match.put(9) for match in view.matches(7, 8)]
    assert all(wire is not None and decode(wire)[0].data[0] == 7 for wire in places)


@pytest.mark.parametrize("low", [False, True])
def test_guessed_buffers_have_addresses_in_them_and_of_them(low: bool) -> None:
    guesser = Guesser(random.Random(1), low=low)
    made = [guesser.content() for _ in range(500)]
    size = 4 if low else 8
    for content in made:
        places = [address.at for address in content.addresses]
        assert len(places) == len(set(places)) <= MAX_FIXUPS
        for address in content.addresses:
            assert address.is_low is low
            assert address.at + size <= len(content.data)
            assert address.to < len(content.data)
            assert not any(content.data[address.at : address.at + size])
    targets = [{a.to for a in content.addresses} for content in made]
    # Some point to what points on.
    assert sum(len(each) > 1 for each in targets) > 20
    assert sum(not each for each in targets) > 100
    assert all(not guesser.content(room=0).addresses for _ in range(100))
