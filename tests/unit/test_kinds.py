# SPDX-License-Identifier: Apache-2.0
"""Handles and files of a kind, which descriptions say that calls give and take."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from fuzzer.program.csource.source import c_source
from fuzzer.program.generate import Generator
from fuzzer.program.kinds import handle_names, handles_of
from fuzzer.program.linking import Result, linked, links_of
from fuzzer.program.links import CALL, LinkKind, links
from fuzzer.program.mutate import Mutator
from fuzzer.program.ops import Op
from fuzzer.program.program import Call
from fuzzer.program.text import format_program, parse_program
from fuzzer.program.wire import decode, encode, split
from fuzzer.target.calls import kinds_of
from fuzzer.target.target import Target, load_target

HEADER = """\
#include <linux/ioctl.h>
#include <linux/types.h>
struct new { __u32 size; __u32 id; };
struct use { __u64 at; __u32 id; __s32 fd; };
#define NEW _IOWR('K', 1, struct new)
#define USE _IOW('K', 2, struct use)
#define FREE _IO('K', 3)
#define VIEW _IO('K', 4)
#define TURN _IO('K', 5)
"""
TEXT = """\
version: 1
name: kinds
device: /dev/kinds
module: {source: ., name: kinds}
header: kinds.h
calls:
  - {ioctl: NEW, struct: new, fields: {size: {range: [1, 8]}, id: {gives: thing}}}
  - {ioctl: USE, struct: use, fields: {id: {takes: thing}, fd: {takes: view}, at: {pointer: 8}}}
  - {ioctl: FREE, takes: thing}
  - {ioctl: VIEW, takes: thing, returns: view}
  - {ioctl: TURN, file: view, value: [1]}
  - {read: [8], file: view}
  - {mmap: true, takes: thing}
"""


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Target:
    directory = tmp_path_factory.mktemp("kinds")
    (directory / "kinds.h").write_text(HEADER)
    path = directory / "kinds.yaml"
    path.write_text(TEXT)
    return load_target(path)


def programs(target: Target, n: int = 200) -> list[tuple[Call, ...]]:
    generator = Generator(target, random.Random(5))
    return [generator.program(6) for _ in range(n)]


def taken(call: Call) -> list[int]:
    return [
        link.number
        for link in links(call.fixups)
        if link.kind is not LinkKind.GIVE and not link.is_file
    ]


def given(call: Call) -> list[int]:
    return [link.number for link in links(call.fixups) if link.kind is LinkKind.GIVE]


def test_a_description_says_what_calls_give_and_take(target: Target) -> None:
    assert [kinds_of(spec) for spec in target.calls[:4]] == [
        (("thing",), ()),
        ((), ("thing", "view")),
        ((), ("thing",)),
        (("view",), ("thing",)),
    ]
    assert handles_of(target) == {"thing": (0, 2, 4, 6), "view": (1, 3, 5, 7)}


def test_calls_take_what_others_gave_before(target: Target) -> None:
    right = wrong = 0
    for program in programs(target):
        known: set[int] = set()
        for call in program:
            for number in taken(call):
                right, wrong = right + (number in known), wrong + (number not in known)
            known.update(given(call))
    assert right > 6 * wrong > 0


def test_calls_on_a_file_come_behind_the_call_that_hands_it_out(target: Target) -> None:
    on_file = 0
    for program in programs(target):
        adopted = False
        for call in program:
            adopted |= call.op is Op.ADOPT and call.file == 7
            if call.op is Op.READ or call.cmd == 0x4B05:
                on_file += adopted and call.file == 7
    assert on_file > 100


def test_some_handles_are_wrong_on_purpose(target: Target) -> None:
    found = [link for each in programs(target) for call in each for link in links(call.fixups)]
    kinds = {link.kind for link in found}
    assert kinds >= {LinkKind.TAKE_NEXT, LinkKind.TAKE_LAST, LinkKind.GIVE}
    things = [link.number for link in found if link.kind is LinkKind.TAKE and not link.is_file]
    assert {1, 3} & set(things)
    assert {0, 2} < set(things)


def test_programs_with_handles_are_text_and_back(target: Target) -> None:
    for program in programs(target, 60):
        text = format_program(program, target)
        assert parse_program(text, target, "again") == program


def test_a_mapping_takes_its_offset_and_keeps_its_length(target: Target) -> None:
    maps = [
        call
        for program in programs(target)
        for call in program
        if call.op in (Op.MMAP, Op.MAP) and call.fixups
    ]
    assert maps
    assert all(call.fixups[0].at == CALL and not call.cmd for call in maps)
    assert any(call.arg for call in maps)


def test_mutants_get_the_calls_that_give_what_they_take(target: Target) -> None:
    rng = random.Random(2)
    mutator = Mutator(target, rng, lambda data, size: data[:size], max_calls=12)
    right = wrong = 0
    for _ in range(300):
        known: set[int] = set()
        for call in decode(mutator.mutate(mutator.fresh(), 4096)):
            for number in taken(call):
                right, wrong = right + (number in known), wrong + (number not in known)
            known.update(given(call))
    assert right > 2 * wrong


def test_without_kinds_no_calls_are_put_before_others(tmp_path: Path) -> None:
    (tmp_path / "kinds.h").write_text(HEADER)
    path = tmp_path / "kinds.yaml"
    path.write_text(TEXT[: TEXT.index("calls:")] + "calls:\n  - {ioctl: NEW, struct: new}\n")
    generator = Generator(load_target(path), random.Random(1))
    assert generator.before(generator.chunk(), []) == []


def test_handles_have_the_names_of_their_kinds_in_c(target: Target) -> None:
    text = (
        "ioctl(f0, NEW, {size: 1, id: ->h0})\n"
        "h1 = ioctl(f0, VIEW, h0)\n"
        "adopt(f7, h1)\n"
        "ioctl(f0, USE, {at: &[8], id: h0, fd: f7})\n"
        "ioctl(f0, FREE, h0)\n"
    )
    source = c_source(parse_program(text, target, "test"), target)
    assert handle_names(target)["h0"] == "thing_1"
    for part in (
        "static uint64_t thing_1, view_1;",
        "thing_1 = arg.id;",
        "give(&view_1, ioctl(f0, VIEW, thing_1));",
        "adopt(&f7, view_1);",
        ".id = thing_1",
        "ioctl(f0, FREE, thing_1);",
    ):
        assert part in source, part


def test_a_descriptor_that_a_described_call_gives_is_tried_with_other_calls(
    target: Target,
) -> None:
    text = "h1 = ioctl(f0, VIEW, 1)\nread(f0, 8)\n"
    chunks = split(encode(parse_program(text, target, "test")))
    made = linked(chunks, [Result(5, b"", handed=True), Result(0, b"")], [])
    first = made[0]
    assert first[1][0] == Op.ADOPT
    assert [link.number for link in links_of(first[1])] == [1]
    assert len(links_of(first[0])) == 1
