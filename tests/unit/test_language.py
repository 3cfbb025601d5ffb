# SPDX-License-Identifier: Apache-2.0
"""Written structs, and numbers and lengths in templates: described, made, shown, read back."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuzzer.errors import BadInputError
from fuzzer.program.generate import Generator
from fuzzer.program.mutate import Mutator
from fuzzer.program.ops import FLAG_COUNT, Op
from fuzzer.program.payload import Buffer, Value, pack_records, unpack_records
from fuzzer.program.program import Call, count
from fuzzer.program.strings import StringFinder
from fuzzer.program.text import format_program, parse_program
from fuzzer.program.wire import decode, encode, encode_call
from fuzzer.target.calls import (
    Between,
    CallTemplate,
    LengthOf,
    NumberForm,
    NumberRef,
    PoolRef,
    ReloadSpec,
    WriteSpec,
)
from fuzzer.target.target import Target, load_target

HEADER = """\
#include <linux/types.h>
#define FIRST 3
#define LAST 9
struct rec { __u32 key_len; char key[12]; __u64 buf; __u32 size; __u32 flags; };
struct tail { __u32 n; __u32 flags; char data[]; };
"""
HEAD = """\
version: 1
name: words
device: /dev/words
module: {builtin: [words.c], name: words}
header: words.h
pools: {key: [a, bcd], body: ["", hello]}
calls:
"""
RECORD = """\
  - write:
      - struct: rec
        fields:
          key: {pool: key}
          key_len: {len: key}
          buf: {pointer: 16}
          size: {len: buf}
        count: [1, 4]
"""
LAYOUTS = ("rec", "tail")


Describe = Callable[[str], Target]


@pytest.fixture
def describe(tmp_path: Path) -> Describe:
    """Return a function that loads a description with these calls."""
    (tmp_path / "words.h").write_text(HEADER)

    def load(calls: str) -> Target:
        path = tmp_path / "words.yaml"
        path.write_text(HEAD + calls)
        return load_target(path)

    return load


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Target:
    """Return a target that writes records of both kinds."""
    directory = tmp_path_factory.mktemp("words")
    (directory / "words.h").write_text(HEADER)
    path = directory / "words.yaml"
    path.write_text(HEAD + RECORD + "  - pwrite: [{struct: tail}]\n")
    return load_target(path)


def template(target: Target) -> CallTemplate:
    (spec, *_) = target.calls
    assert isinstance(spec, WriteSpec)
    return spec.templates[0]


def made(target: Target, n: int = 400, seed: int = 1) -> list[Call]:
    generator = Generator(target, random.Random(seed))
    return [generator.call() for _ in range(n)]


def test_placeholders_are_pools_numbers_and_lengths(describe: Describe) -> None:
    text = "{u8:1|2|FIRST..LAST}{be16:len:body}{{{body}}} {len:key} {hex:0..0xff} {key}"
    assert template(describe(f"  - write: ['{text}']\n")).parts == (
        NumberRef(NumberForm.U8, (Between(1, 1), Between(2, 2), Between(3, 9))),
        NumberRef(NumberForm.BE16, (LengthOf(3),)),
        b"{",
        PoolRef("body"),
        b"} ",
        NumberRef(NumberForm.INT, (LengthOf(9),)),
        b" ",
        NumberRef(NumberForm.HEX, (Between(0, 255),)),
        b" ",
        PoolRef("key"),
    )


def test_a_length_is_that_of_the_next_placeholder_or_of_the_last_before(describe: Describe) -> None:
    parts = template(describe("  - write: ['{key}{len:key}{key}-{len:key}']\n")).parts
    assert [part.choices for part in parts if isinstance(part, NumberRef)] == [
        (LengthOf(2),),
        (LengthOf(2),),
    ]


def test_numbers_are_written_in_their_width_and_order(describe: Describe) -> None:
    text = (
        "  - write: ['{u8:1}{le16:2}{be16:3}{le32:-1}{be32:4}{le64:5}{be64:6}{int:-7}/{hex:254}']\n"
    )
    expected = b"\1\2\0\0\3\xff\xff\xff\xff\0\0\0\4" + b"\5".ljust(8, b"\0") + b"\6".rjust(8, b"\0")
    calls = made(describe(text))
    true = sum(call.data == expected + b"-7/fe" for call in calls)
    # Nine numbers of which each is seldom another one; one call in ten is broken.
    assert 0.4 < true / len(calls) < 0.8


def test_most_lengths_are_true_and_some_lie(describe: Describe) -> None:
    calls = made(describe("  - write: ['{le16:len:body}{body}']\n"), 2000)
    true = sum(call.data[:2] == max(0, len(call.data) - 2).to_bytes(2, "little") for call in calls)
    assert 0.75 < true / len(calls) < 0.95


def test_strings_are_found_by_the_length_before_them(describe: Describe) -> None:
    target = describe("  - write: ['{u8:len:key}{key}{be16:len:body}{body}{int:0..9}']\n")
    find = StringFinder(target).find
    call = Call(Op.WRITE, data=b"\3bcd\0\5hello7")
    assert find(encode_call(call)) == {"key": [b"bcd"], "body": [b"hello"]}
    assert not find(encode_call(Call(Op.WRITE, data=b"\xffbcd\0\5hello")))


def test_a_reload_without_parameters(describe: Describe) -> None:
    target = describe("  - read: [1]\n  - reload: true\n  - reload: ['n={int:1..2}']\n")
    none, some = target.calls[1:]
    assert none == ReloadSpec((CallTemplate(()),))
    assert isinstance(some, ReloadSpec)
    assert some.templates == (CallTemplate((b"n=", NumberRef(NumberForm.INT, (Between(1, 2),)))),)


def test_structs_are_written_with_what_they_point_to_behind_them(target: Target) -> None:
    records = target.structs["rec"]
    writes = [call for call in made(target, 1500) if call.op is Op.WRITE]
    numbers = set()
    good = 0
    for call in writes:
        values = unpack_records(records, call.data, call.fixups, count(call))
        if values is None or count(call) % records.size:
            continue
        numbers.add(len(values))
        buffers = [each["buf"] for each in values if isinstance(each.get("buf"), Buffer)]
        good += len(buffers) == len(values)
        assert len(call.fixups) <= 8
        assert all(fixup.to >= count(call) for fixup in call.fixups)
    # Others are broken: repeated.
    assert numbers >= {1, 2, 3, 4}
    assert good / len(writes) > 0.8
    assert any(call.flags & FLAG_COUNT and count(call) < len(call.data) for call in writes)


def test_a_member_of_a_written_struct_is_changed(target: Target) -> None:
    mutator = Mutator(target, random.Random(3), lambda data, size: data[:size])
    text = 'write(f0, [rec {key_len: 1, key: "a"}, rec {buf: &"there", size: 5}])'
    start = encode(parse_program(text, target, "x"))
    shown = set()
    for _ in range(1500):
        made = mutator.mutate(start, 4096)
        shown.add(format_program(decode(made), target))
    # One call, and one record changed while the other and the buffer stay.
    first = r'write\(f0, \[rec \{key_len: 1, key: "a"\}, rec \{.*buf: &"there".*\}\]\)\n'
    assert sum(bool(re.fullmatch(first, each)) for each in shown) > 3


def test_strings_of_written_structs_are_found(target: Target) -> None:
    text = 'write(f0, [rec {key: "a", buf: &[1]}, rec {key: "bcd"}])'
    (call,) = parse_program(text, target, "x")
    assert StringFinder(target).find(encode_call(call)) == {"key": [b"a", b"bcd"]}


@pytest.mark.parametrize(
    "line",
    [
        'write(f0, rec {key_len: 1, key: "a"})',
        'write(f0, rec {buf: &"xy"})',
        "write(f0, [rec {buf: &[4], size: 4}, rec {}, rec {buf: &[0], flags: 1}])",
        "write(f3, [rec {}, rec {flags: 7}]) split=8 null",
        'pwrite(f0, tail {n: 1, data: "abc"}, 0x100000000) readonly',
        'write(f0, "plain text, however long it is, no struct")',
        'write(f0, "\\x00\\x01") count=1',
    ],
)
def test_written_structs_are_shown_as_such(target: Target, line: str) -> None:
    (call,) = parse_program(line, target, "x")
    assert format_program((call,), target) == line + "\n"
    assert parse_program(format_program((call,), None), None, "x") == (call,)


members: st.SearchStrategy[dict[str, Value]] = st.fixed_dictionaries(
    {},
    optional={
        "key_len": st.integers(0, 0xFFFFFFFF),
        "key": st.binary(max_size=12),
        "buf": st.binary(max_size=9).map(Buffer) | st.integers(0, 9),
        "flags": st.integers(0, 3),
    },
)


@given(st.lists(members, min_size=1, max_size=8))
def test_any_structs_survive_being_packed(target: Target, values: list[dict[str, Value]]) -> None:
    layout = target.structs["rec"]
    packed = pack_records([(layout, each) for each in values])
    unpacked = unpack_records(layout, *packed)
    assert unpacked is not None
    assert pack_records([(layout, each) for each in unpacked]) == packed


written = st.builds(
    Call,
    st.sampled_from((Op.WRITE, Op.PWRITE)),
    st.just(0),
    st.sampled_from((0, FLAG_COUNT, FLAG_COUNT | 0x20, 0x4C)),
    st.integers(0, 3),
    st.sampled_from((0, 32, 64, 1 << 32 | 32, 33)),
    st.binary(max_size=80) | st.sampled_from((32, 64, 72)).map(bytes),
)


@given(written)
def test_any_write_survives_text(target: Target, call: Call) -> None:
    assert parse_program(format_program((call,), target), target, "x") == (call,)


MISTAKES = [
    ("write: ['{le31:1}']", "{le31:1}: no form 'le31'; did you mean 'le32'? allowed: u8, le16"),
    ("write: ['{le32}']", "no pool 'le32'; allowed: key, body; or a number: {u8:...}"[:40]),
    ("write: ['{u8:256}']", "{u8:256}: 256 does not fit u8; -128 to 255 is allowed"),
    ("write: ['{hex:-1}']", "{hex:-1}: -1 does not fit hex; 0 to"),
    ("write: ['{u8:9..1}']", "{u8:9..1}: 9..1 begins above its end; LOW..HIGH"),
    ("write: ['{u8:LAST..FIRST}']", "LAST..FIRST begins above its end"),
    ("write: ['{u8:1|}']", "'' is no number; a number, a macro of the header"),
    ("write: ['{u8:1..2..3}']", "'1..2..3' is no number"),
    ("write: ['{u8:NOPE}']", "no usable NOPE"),
    ("write: ['{len:nope}']", "no pool 'nope'; allowed: key, body"),
    ("write: ['{len:key} {body}']", "len:key is the length of nothing; the template has no {key}"),
    ("write: ['{u8:1']", "a template has a single '{'"),
    ("write: ['" + "x" * 65536 + "']", "a template of at least 65536 bytes; 65535 are allowed"),
    ("reload: ['n={le16:1}']", "a module's parameters are text, and le16 is not; int and hex"),
    ("reload: false", "reload is true or false 'false'; a list of parameters or true"),
    ("write: [{fields: {}}]", "a struct to write lacks 'struct'"),
    ("write: [{struct: rec, size: 1}]", "a struct to write has no 'size'; allowed: struct, fie"),
    ("write: [{struct: rek}]", "no usable rek"),
    ("write: [{struct: rec, fields: {kay: {pool: key}}}]", "no member 'kay'; did you mean 'key'?"),
    ("write: [{struct: rec, count: [2, 1]}]", "count is a number, or [lowest, highest]"),
    ("write: [{struct: rec, count: 0}]", "count is 0; 1 to 1024 is allowed"),
    (
        "write: [{struct: rec, fields: {buf: {pointer: 4}}, count: [1, 33]}]",
        "33 of struct rec have 33 pointers; 32 are allowed in a call",
    ),
    (
        "write: [{struct: rec, fields: {buf: {pointer: 40000}}, count: 2}]",
        "2 of struct rec and their buffers are 80064 bytes; 65535 is allowed",
    ),
]


@pytest.mark.parametrize(("call", "message"), MISTAKES)
def test_a_mistake_is_located_and_explained(
    describe: Describe, tmp_path: Path, call: str, message: str
) -> None:
    with pytest.raises(BadInputError) as caught:
        describe(f"  - read: [1]\n  - {call}\n")
    line = HEAD.count("\n") + 2
    assert str(caught.value).startswith(f"{tmp_path / 'words.yaml'}:{line}: ")
    assert message in str(caught.value)
