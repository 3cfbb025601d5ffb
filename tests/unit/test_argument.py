# SPDX-License-Identifier: Apache-2.0
"""Arguments of ioctls: their parts, and how they get more addresses."""

from __future__ import annotations

from fuzzer.program.argument import argument_of, count_words, places_in
from fuzzer.program.links import Address, Link, LinkKind, addresses
from fuzzer.program.ops import FLAG_COMPAT, FLAG_NULL, FLAG_VALUE, Op
from fuzzer.program.program import MAX_FIXUPS, Call, Fixup
from fuzzer.program.wire import decode, encode_call


def call(data: bytes, *fixups: Fixup, flags: int = 0) -> Call:
    return Call(Op.IOCTL, flags=flags, cmd=7, data=data, fixups=fixups)


def test_only_what_has_a_buffer_is_an_argument() -> None:
    for flags in (FLAG_VALUE, FLAG_NULL):
        assert argument_of(encode_call(call(b"", flags=flags))) is None
    assert argument_of(encode_call(Call(Op.WRITE, data=bytes(8)))) is None


def test_an_argument_is_a_call_and_back() -> None:
    link = Link(LinkKind.TAKE, 4, 2).fixup()
    held = encode_call(call(bytes(range(32)), Fixup(8, 16), link))
    argument = argument_of(held)
    assert argument is not None
    assert argument.wire() == held
    assert argument.starts == (16,)
    assert (argument.end_of(0), argument.end_of(16)) == (16, 32)
    taken = [at for at in range(0, 32, 4) if argument.is_taken(at, 4)]
    assert taken == [4, 8, 12]


def test_an_address_may_point_behind_the_data() -> None:
    held = encode_call(call(bytes(range(24)), Fixup(0, 16), Fixup(8, 64)))
    argument = argument_of(held)
    assert argument is not None
    assert [argument.end_of(start) for start in (0, 16, 64)] == [16, 24, 24]


def test_places_are_where_no_address_is_in_what_is_pointed_to_first() -> None:
    argument = argument_of(encode_call(call(bytes(32), Fixup(0, 16))))
    assert argument is not None
    assert list(places_in(argument)) == [16, 24, 8]
    low = argument_of(encode_call(call(bytes(12), flags=FLAG_COMPAT)))
    assert low is not None
    assert list(places_in(low)) == [0, 4, 8]


def test_an_address_is_of_bytes_behind_and_comes_before_links() -> None:
    link = Link(LinkKind.TAKE, 0, 2).fixup()
    argument = argument_of(encode_call(call(b"\xff" * 13, link)))
    assert argument is not None
    (made,) = decode(argument.pointing([4], b"abc").wire() or b"")
    assert made.fixups == (Fixup(4, 16), link)
    assert made.data == b"\xff" * 4 + bytes(8) + b"\xff" + bytes(3) + b"abc"


def test_what_is_too_much_for_a_call_is_none() -> None:
    argument = argument_of(encode_call(call(bytes(128))))
    assert argument is not None
    most = argument.pointing(range(0, 8 * MAX_FIXUPS, 8), b"a")
    assert most.room == 0
    assert most.wire() is not None
    assert most.pointing([64], b"a").wire() is None
    assert argument.pointing([0], bytes(0x10000)).wire() is None


def test_an_array_has_the_first_element_again_with_all_it_points_to() -> None:
    element = bytes(8) + b"\x20" + bytes(7)
    data = bytes(8) + b"\1" + bytes(7) + element + bytes(8) + b"inside"
    argument = argument_of(encode_call(call(data, Fixup(0, 16), Fixup(16, 40))))
    assert argument is not None
    array = argument.as_array(16, 16, None, 3)
    (made,) = decode(array.wire() or b"")
    found = {address.at: address.to for address in addresses(made.fixups)}
    start = found[0]
    inner = {found[start + 16 * number] for number in range(3)}
    assert len(inner) == 1
    at = inner.pop()
    assert made.data[at : at + 6] == b"inside"
    assert [made.data[start + 16 * number + 8] for number in range(3)] == [0x20] * 3
    # What nothing points to any more is left out.
    assert len(made.data) == 16 + 48 + 6 + (-(16 + 6) % 8)
    assert count_words(argument, 16) == [8]


def test_elements_get_an_address_that_they_had_not() -> None:
    data = bytes(16) + bytes(8) + b"\x20" + bytes(7)
    argument = argument_of(encode_call(call(data, Fixup(0, 16))))
    assert argument is not None
    array = argument.as_array(16, 16, 0, 64)
    assert len(array.fixups) == MAX_FIXUPS
    end = 16 * MAX_FIXUPS
    assert [each.at for each in array.addresses] == [0, *range(16, end, 16)]
    assert {each.to for each in array.addresses[1:]} == {end}


def test_addresses_of_4_bytes_make_arrays_as_well() -> None:
    data = bytes(8) + bytes(4) + b"\x20" + bytes(3)
    low = Address(4, 8, is_low=True).fixup()
    argument = argument_of(encode_call(call(data, low, flags=FLAG_COMPAT)))
    assert argument is not None
    array = argument.as_array(8, 8, 0, 3)
    assert all(address.is_low for address in array.addresses)
    assert [address.at for address in array.addresses] == [4, 8, 16, 24]
