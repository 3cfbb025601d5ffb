# SPDX-License-Identifier: Apache-2.0
"""Programs that comparisons suggest: always within limits, and the right one among them."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuzzer.program import payload_metrics
from fuzzer.program.comparison import Comparison
from fuzzer.program.generate import Generator
from fuzzer.program.hints import Hints, thin
from fuzzer.program.operands import MatchKind
from fuzzer.program.ops import FLAG_VALUE, FLAG_VECTOR, Op
from fuzzer.program.program import Call, Fixup, Program
from fuzzer.program.wire import decode, encode, split
from fuzzer.target.target import load_target

TARGET = load_target(Path(__file__).parent / "data" / "demo" / "demo.yaml")
MASK = (1 << 64) - 1


def program(n: int, seed: int = 1) -> bytes:
    return encode(Generator(TARGET, random.Random(seed)).program(n))


def write(data: bytes) -> Call:
    return Call(Op.WRITE, data=data)


def constant(a: int, b: int, call: int = 0, size: int = 4) -> Comparison:
    return Comparison(a, b, call, size, constant=True)


def suggested(calls: Program, *comparisons: Comparison) -> list[Program]:
    hints = Hints(encode(calls), comparisons)
    return [decode(hints.apply(i)) for i in range(len(hints))]


def payloads(data: bytes, *comparisons: Comparison) -> list[bytes]:
    """Return the payloads suggested for a program that is one write, which it remains."""
    return [found[0].data for found in suggested((write(data),), *comparisons) if len(found) == 1]


operands = st.integers(0, 300) | st.integers(0, MASK) | st.sampled_from([0x61, 0x3D, 0xFFFFFFEA])


@given(
    st.binary(max_size=400) | st.builds(program, st.integers(0, 30), st.integers(0, 9)),
    st.lists(
        st.builds(
            Comparison,
            operands,
            operands,
            st.integers(0, 40),
            st.sampled_from([1, 2, 4, 8]) | st.integers(0, 0xFFFF),
            st.booleans(),
        ),
        max_size=12,
    ),
    st.integers(0, 1 << 17),
    st.integers(0, 200),
    st.integers(0, 500),
)
def test_results_are_different_canonical_programs_within_the_limits(
    data: bytes, comparisons: list[Comparison], max_size: int, max_calls: int, limit: int
) -> None:
    def make() -> Hints:
        return Hints(data, comparisons, max_size=max_size, max_calls=max_calls, limit=limit)

    hints = make()
    before = split(data)
    results = [hints.apply(i) for i in range(len(hints))]
    assert len(hints) <= limit
    assert len({*results, b"".join(before)}) == len(hints) + 1
    for result in results:
        chunks = split(result)
        assert b"".join(chunks) == result
        assert len(result) <= max(len(b"".join(before)), min(max_size, 0x10000))
        assert len(chunks) <= max(len(before), min(max_calls, 128))
    assert make().substitutions == hints.substitutions


@given(st.binary(max_size=80) | st.text("ab=\n ,", max_size=30).map(str.encode))
def test_spans_are_where_they_are_said_to_be(data: bytes) -> None:
    for length, found in payload_metrics.lengths(data).items():
        assert len(set(found)) == len(found)
        for start, end in found:
            assert 0 <= start <= end <= len(data)
            assert end - start == length
    for separator, count in payload_metrics.counts(data).items():
        for wanted in (1, count, count + 3):
            resized = payload_metrics.resize_records(data, separator, wanted)
            assert payload_metrics.counts(resized).get(separator, 1) == wanted
        assert payload_metrics.resize_records(data, separator, count) == data


@given(st.binary(max_size=80), st.integers(0, 200))
def test_a_resized_payload_has_the_length_asked_for(data: bytes, length: int) -> None:
    assert len(payload_metrics.resize_payload(data, length)) == length


@pytest.mark.parametrize(
    ("here", "wanted", "comparison"),
    [
        (b"\x78\x56\x34\x12", b"\xef\xbe\xad\xde", constant(0xDEADBEEF, 0x12345678)),
        (b"\x12\x34\x56\x78", b"\xde\xad\xbe\xef", constant(0xDEADBEEF, 0x12345678)),
        (b"ABCDEFGH", b"magicked", constant(0x64656B636967616D, 0x4847464544434241, 0, 8)),
        (b"\x34\x12", b"\xcd\xab", constant(0xABCD, 0x1234, 0, 4)),
        (b"\xfe\xff", b"\xfb\xff", constant(0xFFFFFFFB, 0xFFFFFFFE)),
        (b"\x07\0\0\0", b"\x2a\0\0\0", constant(42, 7)),
        (b"\x07\0\0\0", b"\x2a\0\0\0", constant(42, 7, 0, 8)),
        (b"\0\0\0\0", b"\x05\0\0\0", constant(5, 0)),
        (b"q", b"=", constant(0x3D, 0x71, 0, 1)),
        (b"level=12;", b"level=4000;", constant(4000, 12)),
        (b"level=-2;", b"level=-5;", constant(0xFFFFFFFB, 0xFFFFFFFE)),
        (b"level=0x1f;", b"level=0x200;", constant(0x200, 0x1F)),
    ],
)
def test_an_operand_in_the_payload_is_replaced(
    here: bytes, wanted: bytes, comparison: Comparison
) -> None:
    # Where fields are aligned, it is the payload's third and fourth word.
    before, behind = b"\xc1\xc2\xc3\xc4\xc5\xc6\xc7\xc8", b"\xd1\xd2"
    if here.startswith(b"level"):
        before = behind = b""
    assert before + wanted + behind in payloads(before + here + behind, comparison)


def test_an_operand_that_is_no_constant_may_be_either() -> None:
    data = b"\x78\x56\x34\x12"
    comparison = Comparison(0x12345678, 0xAABBCCDD, 0, 4, constant=False)
    assert b"\xdd\xcc\xbb\xaa" in payloads(data, comparison)
    assert not payloads(data, comparison._replace(constant=True))


def test_neighbours_of_a_limit_are_tried() -> None:
    found = payloads(b"\x05\x01\0\0", constant(300, 0x105))
    assert [int.from_bytes(data, "little") for data in found[:3]] == [300, 301, 299]


def test_a_value_is_known_by_what_a_range_check_makes_of_it() -> None:
    # "x < 1 || x > 32" is compiled to "x - 1 > 31".
    found = payloads(b"\x01\0\0\0\xc5\xc6\xc7\xc8", constant(31, 0))
    assert {int.from_bytes(data[:4], "little") for data in found} >= {31, 32, 33}


@pytest.mark.parametrize(
    ("call", "comparison", "changed"),
    [
        (Call(Op.READ, arg=64), constant(4096, 64, 0, 8), Call(Op.READ, arg=4096)),
        (
            Call(Op.LSEEK, arg=MASK - 1),
            constant(0xFFFFFFF0, 0xFFFFFFFE),
            Call(Op.LSEEK, arg=MASK - 15),
        ),
        (Call(Op.IOCTL, cmd=0x1234), constant(0xBB01, 0x1234), Call(Op.IOCTL, cmd=0xBB01)),
        (
            Call(Op.IOCTL, cmd=0x4008BB01),
            constant(24, 8),
            Call(Op.IOCTL, cmd=0x4018BB01),
        ),
        (Call(Op.IOCTL, cmd=0x4008BB09), constant(4, 9), Call(Op.IOCTL, cmd=0x4008BB04)),
        (
            Call(Op.IOCTL, cmd=1, arg=7, flags=FLAG_VALUE),
            constant(9, 7),
            Call(Op.IOCTL, cmd=1, arg=9, flags=FLAG_VALUE),
        ),
        (Call(Op.MMAP, arg=5000), constant(0x10000, 0x2000, 0, 8), Call(Op.MMAP, arg=0x10000)),
        (Call(Op.MMAP, arg=5000), constant(4, 2, 0, 8), Call(Op.MMAP, arg=0x4000)),
        (
            Call(Op.WRITE, flags=FLAG_VECTOR, cmd=5, data=b"x" * 20),
            constant(8, 5, 0, 8),
            Call(Op.WRITE, flags=FLAG_VECTOR, cmd=8, data=b"x" * 20),
        ),
    ],
)
def test_an_operand_in_a_field_is_replaced(
    call: Call, comparison: Comparison, changed: Call
) -> None:
    assert (changed,) in suggested((call,), comparison)


def test_numbers_near_that_of_an_ioctl_are_not_tried() -> None:
    call = Call(Op.IOCTL, cmd=0x4028BB01)
    assert suggested((call,), constant(0xBB02, 0x4028BB01)) == [(Call(Op.IOCTL, cmd=0xBB02),)]


def test_fields_that_an_operation_does_not_read_are_left_alone() -> None:
    assert not suggested((Call(Op.CLOSE, cmd=1000, arg=1000),), constant(2000, 1000))


def test_a_length_is_changed_to_the_limit_and_past_it() -> None:
    data = b"a=" + b"x" * 300 + b"\nb=1\n"
    found = payloads(data, constant(256, 300, 0, 8))
    for length in (255, 256, 257):
        assert b"a=" + b"x" * length + b"\nb=1\n" in found


def test_the_text_before_a_separator_grows() -> None:
    assert b"kkkkkkkk=some words\n" in payloads(b"k=some words\n", constant(8, 1, 0, 8))
    assert b"k=some wordsss\n" in payloads(b"k=some words\n", constant(12, 10, 0, 8))


def test_the_length_of_all_is_changed_before_the_last_separators() -> None:
    found = payloads(b"ab=cd\n", constant(10, 6, 0, 8))
    assert b"ab=cddddd\n" in found
    assert b"ab=cdddddd\n" in found


def test_a_sum_that_is_compared_wraps() -> None:
    words = (5, 8)
    data = b"".join(word.to_bytes(4, "little") for word in words)
    found = payloads(data, constant(4096, 13))
    for at, other in ((0, 8), (1, 5)):
        for new in (-other % (1 << 32), (1 - other) % (1 << 32), 4096 - other, 4097 - other):
            made = [*words]
            made[at] = new
            assert b"".join(word.to_bytes(4, "little") for word in made) in found


def test_a_multiple_that_is_compared_wraps() -> None:
    data = (6).to_bytes(4, "little") + (0x7777).to_bytes(4, "little")
    found = payloads(data, constant(4096, 72))
    for new in (-(-(1 << 32) // 12), 4096 // 12, 4096 // 12 + 1):
        assert new.to_bytes(4, "little") + data[4:] in found


def test_words_of_a_text_are_no_summands() -> None:
    text = b"aaaabbbb"
    total = sum(int.from_bytes(text[at : at + 4], "little") for at in (0, 4)) % (1 << 32)
    assert payloads(text, constant(4096, total)) == []
    assert payloads(text[:4] + b"\x01bbb", constant(4096, total - 0x61)) != []


def test_a_sum_of_64_bits_that_is_compared_wraps() -> None:
    data = (5).to_bytes(8, "little") + (8).to_bytes(8, "little")
    found = payloads(data, Comparison(64, 13, 0, 8, constant=False))
    assert (-8 % (1 << 64)).to_bytes(8, "little") + data[8:] in found


def test_records_are_added_that_differ() -> None:
    found = payloads(b"a=1\nb=2\n", constant(100, 2))
    most = max(found, key=lambda data: data.count(b"\n"))
    records = most.split(b"\n")[:-1]
    assert len(records) == len(set(records)) == 101
    assert {record.split(b"=")[1] for record in records[1:]} == {b"2"}
    assert {data.count(b"\n") for data in found} >= {99, 100, 101}
    assert b"a=1\n" in payloads(b"a=1\nb=2\nc=3\n", constant(1, 3))


def test_records_without_a_final_separator_are_counted_by_what_is_between() -> None:
    assert b"7,8,0,1" in payloads(b"7,8", constant(4, 2))


@pytest.mark.parametrize(
    "made",
    [
        b"c".ljust(16, b"\0"),
        b"\x01\0\0\0" + b"c".ljust(16, b"\0"),
        (5).to_bytes(4, "little"),
        (1).to_bytes(4, "little") + (5).to_bytes(4, "little"),
    ],
)
def test_calls_are_added_that_fill_a_table_with_different_things(made: bytes) -> None:
    create = Call(Op.IOCTL, cmd=1, data=made)
    found = suggested((create,) * 3, constant(16, 2, 2))
    full = [program for program in found if len(program) == 17]
    assert full
    assert any(len({call.data for call in program[2:]}) >= 15 for program in full)
    assert all(len(call.data) == len(made) for program in full for call in program)


def test_calls_of_another_kind_are_added_that_are_as_many_as_is_compared() -> None:
    look = Call(Op.IOCTL, cmd=2, data=b"")
    calls = (write(b"a"), Call(Op.POLL), write(b"b"), look)
    found = suggested(calls, constant(6, 2, 3))
    assert any(
        len(program) == 8 and sum(call.op is Op.WRITE for call in program) == 6 for program in found
    )
    assert all(len(program) == 4 for program in suggested(calls, constant(6, 5, 3)))


def test_a_length_in_front_of_a_name_grows_with_it() -> None:
    name = b"\x07\0\0\0\x01\0\0\0c\0\0\0\0"
    assert payload_metrics.numbered_alike(name, 11)[10] == b"\x07\0\0\0\x02\0\0\0" + b"10\0\0\0"
    assert payload_metrics.numbered_alike(b"c\0", 11)[10] == b"0\0"


def test_records_of_earlier_calls_count() -> None:
    calls = (write(b"a=1\nb=2\n"), Call(Op.POLL), write(b"c=3\n"), Call(Op.READ, arg=64))
    for at in (2, 3):
        numbers = {
            found[2].data.count(b"\n") for found in suggested(calls, constant(100, 3, at, 4))
        }
        assert numbers >= {97, 98, 99}


def test_a_call_is_repeated_as_often_as_a_limit_asks() -> None:
    add = Call(Op.IOCTL, cmd=0xBB07, data=b"name\0\0\0\0")
    found = suggested((add, add), constant(16, 2, 1, 4))
    longest = max(found, key=len)
    assert len(longest) == 17
    assert len({call.data for call in longest[:-2]}) == 15
    assert all(len(call.data) == 8 for call in longest)


def test_an_operand_is_looked_for_in_earlier_calls_as_well() -> None:
    calls = (write(b"\x78\x56\x34\x12"), Call(Op.POLL))
    found = suggested(calls, constant(0xCAFE, 0x12345678, 1, 4))
    assert found[0] == (write(b"\xfe\xca\0\0"), Call(Op.POLL))


def test_the_members_of_a_struct_stay_where_they_are() -> None:
    data = b"\x01\0\0\0name\0\0\0\0\x02\0\0\0"
    call = Call(Op.IOCTL, cmd=5, data=data)
    found = [calls[0].data for calls in suggested((call,), constant(8, 4, 0, 8)) if len(calls) == 1]
    assert b"\x01\0\0\0nameeeee\x02\0\0\0" in found
    shorter = [
        calls[0].data for calls in suggested((call,), constant(2, 4, 0, 8)) if len(calls) == 1
    ]
    assert b"\x01\0\0\0na\0\0\0\0\0\0\x02\0\0\0" in shorter
    assert {len(data) for data in found + shorter} == {16}


def test_what_fixups_point_to_stays_where_it_is() -> None:
    call = Call(Op.WRITE, data=b"\0" * 8 + b"name\0\0\0\0", fixups=(Fixup(0, 8),))
    found = suggested((call,), constant(6, 4, 0, 8))
    assert found
    assert {len(calls[0].data) for calls in found} == {16}


def test_of_a_loops_counter_only_the_end_is_looked_at() -> None:
    loop = [constant(32, i) for i in range(20)]
    others = [constant(32, 25), constant(7, 1), constant(7, 2), constant(9, 9)]
    assert thin(loop + others) == [*loop[-1:], *others[:3]]


def test_a_search_is_not_part_of_a_loop_that_is_compared_with_the_same() -> None:
    loop = [constant(16, i)._replace(site=1) for i in range(16)]
    search = [constant(16, i)._replace(site=2) for i in range(3)]
    assert {each.b for each in thin(loop + search)} == {15, 0, 1, 2}
    assert [each.b for each in thin(each._replace(site=1) for each in loop + search)] == [15]


def test_of_places_that_compare_the_same_one_is_looked_at() -> None:
    twice = [constant(16, 3)._replace(site=site) for site in (1, 2)]
    assert len(thin(twice)) == 1


def test_what_is_compared_with_a_constant_comes_first() -> None:
    data = b"\x78\x56\x34\x12\xaa\xbb\xcc\xdd"
    variable = Comparison(0x12345678, 0xCAFE1234, 0, 4, constant=False)
    known = constant(0x11112222, 0xDDCCBBAA)
    found = Hints(encode((write(data),)), [variable, known])
    assert found.substitutions[0].comparison == known
    assert found.substitutions[0].kind is MatchKind.BYTES
    assert {item.comparison for item in found.substitutions} == {known, variable}
    first = Hints(encode((write(data),)), [variable, known], limit=1)
    assert first.substitutions == found.substitutions[:1]


def test_each_comparison_has_its_turn_before_another_has_many() -> None:
    first, second = write(b"q" * 6 + b"\x78\x56\x34\x12"), write(b"\x11\x22\x33\x44")
    comparisons = [constant(0x3D, 0x71, 0, 1), constant(0xFEED, 0x44332211, 1)]
    kinds = [item.call for item in Hints(encode((first, second)), comparisons).substitutions]
    assert 1 in kinds[:2]
