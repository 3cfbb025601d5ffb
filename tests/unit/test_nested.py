# SPDX-License-Identifier: Apache-2.0
"""Structs that point to structs, and ioctls of 32-bit programs, in descriptions and programs."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from fuzzer.errors import BadInputError
from fuzzer.program.csource.source import c_source
from fuzzer.program.generate import Generator
from fuzzer.program.links import address_of, addresses
from fuzzer.program.ops import FLAG_COMPAT, Op
from fuzzer.program.program import MAX_FIXUPS, Call
from fuzzer.program.shrink.plainer import shorter_members, smaller_members
from fuzzer.program.text import format_program, parse_program
from fuzzer.target.calls import CountField, IoctlSpec, LenField, PointerField, StructsField
from fuzzer.target.target import Target, load_target

HEADER = """\
#include <linux/ioctl.h>
#include <linux/types.h>
struct seg { __u64 data; __u32 len; __u32 flags; };
struct set { __u64 segs; __u32 count; __u32 flags; __u64 name; };
struct sum32 { __u32 data; __u32 len; };
#define SUBMIT _IOW('V', 1, struct set)
#define SUM32 _IOW('V', 2, struct sum32)
#define CLEAR _IO('V', 3)
"""
HEAD = """\
version: 1
name: nested
device: /dev/nested
module: {source: ., name: nested}
header: nested.h
calls:
"""
SUBMIT = """\
  - ioctl: SUBMIT
    struct: set
    fields:
      segs:
        struct: seg
        fields: {data: {pointer: 32}, len: {len: data}}
        count: [1, 3]
      count: {count_of: segs}
      name: {pointer: 4}
"""
SUM32 = """\
  - ioctl: SUM32
    compat: true
    struct: sum32
    fields: {data: {pointer: 32}, len: {len: data}}
"""


def described(directory: Path, calls: str) -> Target:
    (directory / "nested.h").write_text(HEADER)
    path = directory / "nested.yaml"
    path.write_text(HEAD + calls)
    return load_target(path)


@pytest.fixture
def target(tmp_path: Path) -> Target:
    return described(tmp_path, SUBMIT)


def calls_of(target: Target, n: int = 400) -> list[Call]:
    generator = Generator(target, random.Random(1))
    return [generator.call() for _ in range(n)]


def word(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 4], "little")


def test_a_description_says_of_what_a_member_has_the_address(target: Target) -> None:
    (spec,) = target.calls
    assert isinstance(spec, IoctlSpec)
    segs, count, name = spec.fields
    assert isinstance(segs, StructsField)
    assert (segs.struct.name, segs.least, segs.most) == ("seg", 1, 3)
    assert segs.fields == (PointerField("data", 32), LenField("len", "data"))
    assert count == CountField("count", "segs")
    assert name == PointerField("name", 4)


def test_arrays_of_structs_are_made_with_what_they_point_to(target: Target) -> None:
    right = 0
    for call in calls_of(target):
        if len(call.data) < 24 or call.cmd != target.constants["SUBMIT"]:
            continue
        to = {address.at: address.to for address in addresses(call.fixups)}
        count = word(call.data, 8)
        if 0 not in to or not 1 <= count <= 3:
            continue
        elements = [to[0] + 16 * number for number in range(count)]
        lengths = [word(call.data, at + 8) for at in elements]
        right += all(at in to for at in elements) and max(lengths) <= 32
    assert right > 280


def test_programs_with_nested_structs_are_text_and_back(target: Target) -> None:
    shown = [format_program((call,), target) for call in calls_of(target)]
    for call, text in zip(calls_of(target), shown, strict=True):
        assert parse_program(text, target, "x") == (call,)
    assert sum("segs: &[seg {" in text or "segs: &seg {" in text for text in shown) > 300


TEXT = """\
ioctl(f0, SUBMIT, {segs: &[seg {data: &[32], len: 32}, seg {data: &"abc", len: 3}], \
count: 2, name: &[4]})
"""


def test_what_structs_point_to_is_behind_them(target: Target) -> None:
    (call,) = parse_program(TEXT, target, "x")
    found = [address_of(fixup) for fixup in call.fixups]
    places = [(each.at, each.to) for each in found if each]
    assert places == [(0, 24), (24, 56), (40, 88), (16, 91)]
    assert call.data[88:91] == b"abc"
    assert len(call.data) == 95
    assert format_program((call,), target) == TEXT


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{segs: &[seg {}, set {}]}", "set in an array of seg; elements are of one struct"),
        ("{segs: &[seg {sizes: 1}]}", "struct seg has no member sizes"),
        ("{flags: &none {}}", "no struct 'none'; the description's are: set, seg"),
    ],
)
def test_a_mistake_in_a_nested_struct_is_explained(target: Target, text: str, message: str) -> None:
    with pytest.raises(BadInputError, match="x:1: ") as caught:
        parse_program(f"ioctl(f0, SUBMIT, {text})\n", target, "x")
    assert message in str(caught.value)


def test_programs_with_nested_structs_get_smaller(target: Target) -> None:
    (call,) = parse_program(TEXT, target, "x")
    (spec,) = target.calls
    assert isinstance(spec, IoctlSpec)
    assert spec.struct is not None
    layouts = {spec.number: spec.struct}
    shorter = [format_program((each,), target) for each in shorter_members(call, layouts)]
    assert any("segs: &seg {data: &[32], len: 32}, count: 1" in each for each in shorter)
    assert any("seg {data: &[16], len: 16}, seg {" in each for each in shorter)
    smaller = [format_program((each,), target) for each in smaller_members(call, layouts)]
    assert any("seg {data: &[32], len: 31}" in each for each in smaller)
    assert any('&[seg {len: 32}, seg {data: &"abc", len: 3}]' in each for each in smaller)


def test_a_reproducer_fills_nested_structs_by_their_members(target: Target) -> None:
    source = c_source(parse_program(TEXT, target, "x"), target)
    element = "((struct seg *)((char *)arg + 24))[1] = (struct seg){"
    assert element in source
    assert "\t.data = (uintptr_t)((char *)arg + 88),\n" in source
    assert ".segs = (uintptr_t)(arg + 1)," in source


def test_a_reproducer_has_addresses_of_4_bytes(tmp_path: Path) -> None:
    target = described(tmp_path, SUM32)
    (call,) = parse_program('ioctl(f0, SUM32, {data: &"abc", len: 3}) compat\n', target, "x")
    source = c_source((call,), target)
    assert "compat_ioctl(f0, SUM32, " in source
    assert ".data = (uintptr_t)(arg + 1), .len = 3" in source
    assert "before_gap(" in source
    raw = parse_program('ioctl(f0, 5, "\\x00\\x00\\x00\\x00abcd") compat @0->4:4\n', None, "x")
    line = "memcpy(data + 0, &(uint32_t){ (uintptr_t)(data + 4) }, 4);"
    assert line in c_source(raw, target)


def test_the_calls_of_32_bit_programs_have_their_addresses(tmp_path: Path) -> None:
    target = described(tmp_path, SUM32)
    calls = calls_of(target)
    assert all(call.flags & FLAG_COMPAT for call in calls if call.op is Op.IOCTL)
    low = [call for call in calls if call.fixups and len(call.fixups) <= MAX_FIXUPS]
    assert len(low) > 300
    assert all(address.is_low for call in low for address in addresses(call.fixups))
    right = [call for call in low if word(call.data, 4) == len(call.data) - 8]
    assert len(right) > 250
    for call in calls:
        text = format_program((call,), target)
        assert parse_program(text, target, "x") == (call,)


def test_members_of_which_nothing_is_said_may_have_addresses(tmp_path: Path) -> None:
    target = described(tmp_path, "  - ioctl: SUBMIT\n    struct: set\n")
    calls = calls_of(target)
    assert 100 < sum(bool(call.fixups) for call in calls) < 250
    assert {address.at for call in calls for address in addresses(call.fixups)} > {0, 16}
    # Some point on.
    assert sum(len(call.fixups) > 2 for call in calls) > 20


@pytest.mark.parametrize(
    ("calls", "message"),
    [
        (SUBMIT.replace("count_of: segs", "count_of: name"), "'name' has none"),
        (SUBMIT.replace("count_of: segs", "count_of: nothing"), "'nothing' has none"),
        (SUBMIT.replace("struct: seg\n", "struct: none\n"), "no usable none"),
        (SUBMIT.replace("[1, 3]", "[3, 1]"), "[lowest, highest]"),
        (
            SUBMIT.replace("      name:", "      flags: {struct: seg}\n      name:"),
            "64-bit integer",
        ),
        (SUM32.replace("    compat: true\n", ""), "a pointer or a 64-bit integer"),
        ("  - write: [a]\n    compat: true\n", "compat"),
    ],
)
def test_a_mistake_in_a_description_is_explained(tmp_path: Path, calls: str, message: str) -> None:
    with pytest.raises(BadInputError, match=r"nested\.yaml:\d+") as caught:
        described(tmp_path, calls)
    assert message in str(caught.value)
