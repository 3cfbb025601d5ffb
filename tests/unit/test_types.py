# SPDX-License-Identifier: Apache-2.0
"""Unions, bit-fields, arrays of structs, big-endian numbers and flags in structs."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fuzzer.errors import BadInputError
from fuzzer.program.comparison import Comparison
from fuzzer.program.csource.source import c_source
from fuzzer.program.generate import Generator
from fuzzer.program.hints import Hints, bit_fields_of
from fuzzer.program.mutate import Mutator
from fuzzer.program.ops import Op
from fuzzer.program.payload import Elements, Structs, unpack_struct
from fuzzer.program.program import Call, Program
from fuzzer.program.shrink.plainer import shorter_members, smaller_members
from fuzzer.program.text import format_program, parse_program
from fuzzer.program.text_parser import struct_layouts
from fuzzer.program.wire import decode, encode
from fuzzer.target.layout import layout_from_json, layout_to_json
from fuzzer.target.target import Target, load_target

HEADER = """\
#include <linux/ioctl.h>
#include <linux/types.h>
struct line { __u32 x; __u32 y; };
struct seg { __u64 data; __u32 len; __u32 flags; };
struct all {
	__u32 kind;
	__u32 on : 1, mode : 5, : 2, level : 12;
	union { struct line line; __u64 at; struct seg seg; char name[16]; } u;
	union { __u32 a; __be16 b; };
	__be32 port; __be16 proto; __u16 n_segs;
	struct seg segs[3];
	__u32 ids[4];
	struct { __s32 depth; struct line lines[2]; } in;
	__u64 vec; __u32 n_vec; __u32 n_items; __u32 size; __u32 flags;
	struct line items[];
};
struct vec { __u64 segs; __u32 n; __u32 total; };
union either { struct line line; __u32 word; };
#define ALL _IO('T', 1)
#define EITHER _IO('T', 2)
#define KIND_SEG 2
"""
HEAD = """\
version: 1
name: types
device: /dev/types
module: {source: ., name: types}
header: types.h
calls:
"""
CALLS = """\
  - ioctl: ALL
    struct: all
    fields:
      u: {union: {by: kind, of: {0: line, 1: at, KIND_SEG: seg, 3: name}}}
      kind: {values: [0, 9]}
      u.line.x: {values: [7]}
      u.seg.data: {pointer: 16}
      u.seg.len: {len: u.seg.data}
      mode: {range: [0, 19]}
      level: {values: [0, 7, 4095]}
      port: {values: [80, 443]}
      segs: {elements: {data: {pointer: 8}, len: {len: data}}, count: [0, 3]}
      n_segs: {count_of: segs}
      ids: {elements: {values: [1, 2, 3]}}
      vec:
        struct: vec
        fields:
          segs:
            struct: seg
            fields: {data: {pointer: 4}, len: {len: data, unit: 2}, flags: {count_of: segs}}
            count: [1, 2]
          n: {count_of: segs}
          total: {count_of: items}
        count: [1, 2]
      n_vec: {count_of: vec}
      items: {elements: {x: {range: [0, 64], align: 8}}, count: [1, 3]}
      n_items: {count_of: items}
      size: {len: parent}
      flags: {flags: [1, 2, 8]}
  - ioctl: EITHER
    struct: either
"""


def described(directory: Path, calls: str = CALLS) -> Target:
    (directory / "types.h").write_text(HEADER)
    path = directory / "types.yaml"
    path.write_text(HEAD + calls)
    return load_target(path)


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Target:
    return described(tmp_path_factory.mktemp("types"))


def line_of(target: Target, text: str) -> Call:
    (call,) = parse_program(text, target, "test")
    return call


def structs(target: Target, n: int = 400) -> Iterator[tuple[Call, dict[str, object]]]:
    """Yield generated ioctls that are well formed, with their members."""
    generator = Generator(target, random.Random(1))
    layouts = struct_layouts(target)
    for _ in range(n):
        call = generator.call()
        layout = layouts.get(call.cmd)
        if layout is not None and layout.name == "all":
            values = unpack_struct(layout, call.data, call.fixups)
            if values is not None:
                yield call, dict(values)


def test_the_layout_has_what_is_in_unions_and_bit_fields(target: Target) -> None:
    layout = target.structs["all"]
    member = {each.name: each for each in layout.every()}
    assert (member["mode"].bits, member["mode"].shift, member["mode"].offset) == (5, 1, 4)
    assert (member["level"].bits, member["level"].offset) == (12, 5)
    assert [each.name for each in member["u"].choices] == ["line", "at", "seg", "name"]
    assert member["u.seg.len"].offset == 16
    assert [each.name for each in member["union_24"].choices] == ["a", "b"]
    assert member["port"].is_big
    assert member["b"].is_big
    assert not member["n_segs"].is_big
    element = member["segs"].element
    assert element is not None
    assert element.name == "seg"
    assert member["in.lines"].element is not None
    ids = member["ids"].element
    assert ids is not None
    assert [each.name for each in ids.members] == [""]
    assert layout_from_json(layout_to_json(layout)) == layout
    made = layout_from_json(layout_to_json(layout))
    assert [each.name for each in made.every()] == [each.name for each in layout.every()]


@pytest.mark.parametrize(
    "text",
    [
        "ioctl(f0, ALL, {on: 1, mode: 19, level: 4095})",
        "ioctl(f0, ALL, {kind: 2, u.seg.data: &[16], u.seg.len: 16})",
        "ioctl(f0, ALL, {kind: 2, u.seg.data: h0, u.seg.len: ->h1})",
        "ioctl(f0, ALL, {kind: 1, u.at: 0x100000007})",
        'ioctl(f0, ALL, {kind: 3, u.name: "abc"})',
        "ioctl(f0, ALL, {a: 258, port: 443, proto: 2048})",
        "ioctl(f0, ALL, {segs: [{data: &[8], len: h2}, {}, {flags: 1}], ids: [0, 0, 7]})",
        "ioctl(f0, ALL, {in.depth: 0xffffffff, in.lines: [{x: 1}]})",
        "ioctl(f0, ALL, {n_items: 2, items: [{x: 8}, {}]})",
        "ioctl(f0, ALL, {n_items: 2, items: [{}, {}]})",
        'ioctl(f0, ALL, {n_items: 1, items: "odd"})',
        "ioctl(f0, ALL, {vec: &vec {segs: &[seg {data: &[4], len: ->h1}, seg {flags: h2}], n: 2}})",
        "ioctl(f0, EITHER, {line.x: 1, line.y: 2})",
        "ioctl(f0, EITHER, {line.x: 1})",
    ],
)
def test_text_is_what_it_is_read_from(text: str, target: Target) -> None:
    call = line_of(target, text)
    assert format_program((call,), target) == text.replace("0xffffffff", "-1") + "\n" or (
        format_program((call,), target) == text + "\n"
    )
    assert parse_program(format_program((call,), target), target, "again") == (call,)
    assert decode(encode((call,))) == (call,)


def test_the_choice_that_is_told_is_shown(target: Target) -> None:
    data = line_of(target, "ioctl(f0, ALL, {kind: 1, u.at: 7})").data
    assert "u.at: 7" in format_program((Call(Op.IOCTL, cmd=0x5401, data=data),), target)
    data = b"\0" + data[1:]
    assert "u.line.x: 7" in format_program((Call(Op.IOCTL, cmd=0x5401, data=data),), target)


def test_text_of_before_is_still_read(target: Target) -> None:
    old = r'ioctl(f0, ALL, {bits_4: "\x27\xff\x0f", u: "\x07", union_24: "\x02\x01"})'
    new = "ioctl(f0, ALL, {on: 1, mode: 19, level: 4095, u.line.x: 7, a: 258})"
    assert line_of(target, old) == line_of(target, new)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("ioctl(f0, ALL, {mode: 32})", "mode is 32; a bit-field of 5 bits fits"),
        ("ioctl(f0, ALL, {u: 1})", "u takes a string of up to 16 bytes"),
        ("ioctl(f0, ALL, {segs: [{}, {}, {}, {}]})", "segs has 4 elements; 3 fit"),
        ("ioctl(f0, ALL, {kind: [1]})", "kind is no array of structs or numbers"),
        ("ioctl(f0, ALL, {mode: h0})", "mode is no number of 4 or 8 bytes"),
        ("ioctl(f0, ALL, {u.nme: 1})", "did you mean u.name?"),
    ],
)
def test_mistakes_in_text_are_explained(text: str, problem: str, target: Target) -> None:
    with pytest.raises(BadInputError) as caught:
        line_of(target, text)
    assert problem in str(caught.value)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(seed=st.integers(0, 1 << 32), data=st.binary(max_size=180))
def test_any_payload_is_the_same_again(seed: int, data: bytes, target: Target) -> None:
    program: Program = (
        *Generator(target, random.Random(seed)).program(3),
        Call(Op.IOCTL, cmd=0x5401, data=data),
    )
    text = format_program(program, target)
    assert parse_program(text, target, "again") == program
    assert decode(encode(program)) == program


def test_mutants_can_be_written_and_read(target: Target) -> None:
    rng = random.Random(3)
    mutator = Mutator(target, rng, lambda data, size: data[:size])
    data = mutator.fresh()
    for _ in range(150):
        data = mutator.mutate(data, 4096)
        program = decode(data)
        assert parse_program(format_program(program, target), target, "again") == program


def test_a_member_tells_the_choice_of_a_union(target: Target) -> None:
    wrong = n = others = 0
    for _, values in structs(target):
        kinds = {0: "u.line.", 1: "u.at", 2: "u.seg.", 3: "u.name"}
        kind = values.get("kind", 0)
        if kind == 9:
            others += 1
            continue
        names = [name for name in values if name.startswith("u.")]
        if names:
            n += 1
            wrong += not (isinstance(kind, int) and names[0].startswith(kinds.get(kind, "-")))
    assert n > 50
    assert wrong < n / 10
    assert others


def test_bit_fields_have_their_values_and_others_stay(target: Target) -> None:
    found = [values for _, values in structs(target)]
    assert {values.get("level", 0) for values in found} >= {0, 7, 4095}
    modes = [values.get("mode", 0) for values in found]
    assert set(modes) >= set(range(20))
    assert {values.get("on", 0) for values in found} == {0, 1}


def test_lengths_and_counts_are_those_of_members_around_and_inside(target: Target) -> None:
    right = {"n_segs": 0, "n_items": 0, "size": 0, "inner": 0}
    found = [each for each in structs(target) if isinstance(each[1].get("vec"), Structs)]
    assert len(found) > 100
    for call, values in found:
        items, segs = values.get("items"), values.get("segs")
        n_items = len(items.each) if isinstance(items, Elements) else 0
        right["n_items"] += values.get("n_items", 0) == n_items
        n_segs = len(segs.each) if isinstance(segs, Elements) else 0
        told = values.get("n_segs", 0)
        right["n_segs"] += isinstance(told, int) and told >= n_segs
        right["size"] += values.get("size", 0) == target.structs["all"].size + 8 * n_items
        place = target.structs["all"].member("vec")
        assert place is not None
        vec = next(each.to for each in call.fixups if each.at == place.offset)
        right["inner"] += int.from_bytes(call.data[vec + 12 : vec + 16], "little") == n_items
    assert all(count > 0.85 * len(found) for count in right.values()), right


def test_numbers_of_a_range_are_aligned_and_flags_combined(target: Target) -> None:
    found = [values for _, values in structs(target)]
    flags = [values.get("flags", 0) for values in found]
    assert {0, 1, 2, 3, 8, 9, 10, 11} <= {each for each in flags if isinstance(each, int)}
    aligned = odd = 0
    for values in found:
        items = values.get("items")
        for each in items.each if isinstance(items, Elements) else ():
            x = each.get("x", 0)
            assert isinstance(x, int)
            aligned, odd = aligned + (x % 8 == 0 and x <= 64), odd + (x % 8 != 0)
    assert odd < aligned / 10


def test_a_union_of_which_nothing_is_said_has_one_of_its_members(tmp_path: Path) -> None:
    target = described(tmp_path, "  - ioctl: EITHER\n    struct: either\n")
    calls = [call.data for call in Generator(target, random.Random(2)).program(120)]
    assert any(len(data) == 8 and any(data[4:]) for data in calls)


def test_smaller_forms_keep_what_is_beside(target: Target) -> None:
    layouts = struct_layouts(target)
    call = line_of(target, "ioctl(f0, ALL, {on: 1, mode: 19, segs: [{len: 9}, {flags: 2}]})")
    texts = {format_program((each,), target).strip() for each in smaller_members(call, layouts)}
    assert "ioctl(f0, ALL, {on: 1, segs: [{len: 9}, {flags: 2}]})" in texts
    assert "ioctl(f0, ALL, {on: 1, mode: 19, segs: [{}, {flags: 2}]})" in texts
    texts = {format_program((each,), target).strip() for each in shorter_members(call, layouts)}
    assert "ioctl(f0, ALL, {on: 1, mode: 19, segs: [{len: 9}]})" in texts


def test_a_hint_for_a_bit_field_leaves_its_neighbours(target: Target) -> None:
    call = line_of(target, "ioctl(f0, ALL, {on: 1, mode: 17, level: 4095})")
    comparison = Comparison(a=30, b=17, call=0, size=4, constant=True, site=0)
    hints = Hints(encode((call,)), [comparison], bit_fields=bit_fields_of(target))
    made = {format_program(decode(hints.apply(n)), target).strip() for n in range(len(hints))}
    assert "ioctl(f0, ALL, {on: 1, mode: 30, level: 4095})" in made


def test_the_program_in_c_names_members(target: Target, tmp_path: Path) -> None:
    texts = (
        "ioctl(f0, ALL, {kind: 2, on: 1, mode: 3, u.seg.data: &[16], u.seg.len: 3, port: 80})",
        "ioctl(f0, ALL, {u.line.x: 3, u.line.y: 4, a: 9, proto: 5, segs: [{}, {len: 7}]})",
        "ioctl(f0, ALL, {ids: [1, 2], in.lines: [{}, {y: 6}], in.depth: 2})",
        "ioctl(f0, ALL, {n_items: 2, items: [{x: 8}, {y: 1}], size: ->h0})",
        'ioctl(f0, ALL, {kind: 3, u.name: "abc", flags: h0})',
        "ioctl(f0, EITHER, {word: 5})",
    )
    program = tuple(line_of(target, text) for text in texts)
    text = c_source(program, target)
    for part in (
        ".mode = 3",
        ".u.seg.len = 3",
        ".port = htobe32(80)",
        ".u.line.y = 4",
        ".segs[1] = { .len = 7 }",
        ".ids[1] = 2",
        ".in.lines[1] = { .y = 6 }",
        "arg->items[0] = (struct line){ .x = 8 };",
        "h0 = arg->size;",
        '.u.name = "abc"',
    ):
        assert part in text, part
    source = tmp_path / "repro.c"
    source.write_text(text)
    (tmp_path / "types.h").write_text(HEADER)
    command = ["gcc", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", str(source)]
    subprocess.run(command, check=True)


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ("{u: {union: {by: knd, of: {0: line}}}}", "no member 'knd'"),
        ("{u: {union: {by: kind, of: {0: lines}}}}", "u has no member 'lines'"),
        ("{u: {union: {by: kind, of: {}}}}", "of has no value"),
        ("{kind: {union: {by: n_vec, of: {0: line}}}}", "'union' is for a union"),
        ("{segs: {elements: {}, count: [0, 4]}}", "'segs' has 3 elements"),
        ("{kind: {elements: {}}}", "'elements' is for an array of structs or numbers"),
        ("{mode: {gives: x}}", "member 'mode' is a bit-field of 5 bits"),
        ("{mode: {values: [32]}}", "32; -16 to 31 is allowed"),
        ("{kind: {values: [1], align: 4}}", "align goes with range only"),
        ("{n_vec: {count_of: u}}", "'u' has none"),
        ("{kind: {takes: a-b}}", "a name of letters, digits and _"),
    ],
)
def test_mistakes_in_fields_are_located(fields: str, problem: str, tmp_path: Path) -> None:
    with pytest.raises(BadInputError) as caught:
        described(tmp_path, f"  - {{ioctl: ALL, struct: all, fields: {fields}}}\n")
    assert problem in str(caught.value)
    assert "types.yaml:7:" in str(caught.value)
