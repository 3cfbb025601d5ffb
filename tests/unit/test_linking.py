# SPDX-License-Identifier: Apache-2.0
"""Links between calls, and programs that get them from what was seen of a run."""

from __future__ import annotations

import errno
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuzzer.program.comparison import Comparison
from fuzzer.program.linking import Relinker, Result, linked, links_of, with_link
from fuzzer.program.links import CALL, Link, LinkKind, link_of
from fuzzer.program.ops import FLAG_VALUE, Op
from fuzzer.program.program import MAX_FIXUPS, Call, Fixup
from fuzzer.program.shrink.simpler import normalized, without_conditions
from fuzzer.program.text import format_program, parse_program
from fuzzer.program.wire import decode, encode, split
from fuzzer.target.calls import FileKind

MAKE, USE, EXPORT = 0xC0084801, 0xC0084802, 0x4803
ID = 0x9ABCDEF1


def chunks_of(text: str) -> list[bytes]:
    return split(encode(parse_program(text, None, "test")))


def text_of(chunks: list[bytes]) -> str:
    return format_program(decode(b"".join(chunks)), None)


@given(st.integers(0, 0xFFFF), st.integers(0, 0xFFFF))
def test_a_link_is_a_fixup_and_back(at: int, to: int) -> None:
    link = link_of(Fixup(at, to))
    assert (link is None) is (to < 0xF000)
    if link:
        assert link_of(link.fixup()) == link


ZEROS = r"\x00" * 8
RUN = f'ioctl(f0, {MAKE:#x}, "{ZEROS}")\nioctl(f0, {USE:#x}, "{ZEROS}")\n'
GAVE = [
    Result(0, bytes(4) + ID.to_bytes(4, "little")),
    Result(-1, bytes(8)),
]


def test_a_number_that_is_compared_with_what_a_call_gave_is_taken_from_it() -> None:
    compared = [Comparison(ID, 0, 1, 4, constant=False)]
    made = [text_of(each) for each in linked(chunks_of(RUN), GAVE, compared)]
    assert any("h0=@4\n" in each and "@0=h0" in each for each in made)
    assert any("h0=@4\n" in each and "@4=h0" in each for each in made)
    # A constant of the driver is none, and neither is what a later call gave.
    for other in (Comparison(ID, 0, 1, 4, constant=True), Comparison(ID, 0, 0, 4, constant=False)):
        found = linked(chunks_of(RUN), GAVE, [other])
        assert len(found) < len(made)


def test_what_nobody_compares_is_tried_at_its_own_place() -> None:
    (made,) = linked(chunks_of(RUN), GAVE, [])
    assert "@4=h0" in text_of(made)


def test_a_number_is_the_argument_where_there_is_no_buffer() -> None:
    run = chunks_of(f"ioctl(f0, {EXPORT:#x})\nioctl(f0, {USE:#x}, 5)\n")
    compared = [Comparison(5, 0x1234, 1, 8, constant=False)]
    made = linked(run, [Result(0x1234, b""), Result(-1, b"")], compared)
    assert text_of(made[0]) == f"h0 = ioctl(f0, {EXPORT:#x})\nioctl(f0, {USE:#x}, h0)\n"


def test_a_call_that_was_given_no_file_is_given_one_of_the_kinds_that_the_driver_takes() -> None:
    run = chunks_of(RUN + f"ioctl(f0, {EXPORT:#x}, 9)\n")
    results = [
        Result(0, b""),
        Result(-1, b"", error=errno.EINVAL),
        Result(-1, b"", error=errno.EBADF),
    ]
    kinds = [FileKind.EVENTFD, FileKind.MEMFD]
    made = [text_of(each).splitlines() for each in linked(run, results, [], kinds)]
    first, second, own = made[:3]
    assert first[2:] == ["create(f7, EVENTFD)", f"ioctl(f0, {EXPORT:#x}, f7)"]
    assert second[2] == "create(f7, MEMFD)"
    assert own[2] == f"ioctl(f0, {EXPORT:#x}, f0)"
    buffers = [each[1:3] for each in made[3:]]
    assert ["create(f7, EVENTFD)", f'ioctl(f0, {USE:#x}, "{ZEROS}") @4=f7'] in buffers
    # Other errors are about something else, and another driver takes no file.
    for other in ([results[0], Result(-1, b"", error=errno.EPERM), results[0]], results):
        assert linked(run, other, [], kinds if other != results else []) == []


def test_a_mutant_gives_a_call_a_file_that_is_created_before_it() -> None:
    relinker = Relinker(random.Random(1), [FileKind.EVENTFD])
    made = set()
    for _ in range(50):
        chunks = chunks_of(f'read(f0, 8)\nioctl(f0, {USE:#x}, "{ZEROS}")\n')
        assert relinker.give_file(chunks, 100)
        made.add(text_of(chunks))
    before = f"read(f0, 8)\ncreate(f7, EVENTFD)\nioctl(f0, {USE:#x}, "
    assert made == {f'{before}"{ZEROS}") @{at}=f7\n' for at in (0, 4)}
    assert not relinker.give_file(chunks_of("read(f0, 8)\n"), 100)
    assert not Relinker(random.Random(1)).give_file(chunks_of(RUN), 100)


def test_calls_are_made_on_a_descriptor_that_was_handed_out() -> None:
    run = chunks_of(f"ioctl(f0, {EXPORT:#x})\nioctl(f0, {USE:#x})\nread(f0, 8)\n")
    made = linked(run, [Result(7, b"", handed=True), Result(-1, b""), Result(-1, b"")], [])
    first = text_of(made[0]).splitlines()
    assert first[:2] == [f"h0 = ioctl(f0, {EXPORT:#x})", "adopt(f7, h0)"]
    assert f"ioctl(f7, {USE:#x})" in first
    assert "read(f7, 8)" in first
    # There is no such thing where nothing was handed out, or it is a file already.
    assert linked(run, [Result(7, b""), Result(-1, b""), Result(-1, b"")], []) == []
    again = [Result(7, b"", handed=True), *[Result(-1, b"")] * (len(made[0]) - 1)]
    assert linked(made[0], again, []) == []


def test_a_call_that_failed_gives_nothing() -> None:
    failed = [Result(-1, GAVE[0].output), GAVE[1]]
    assert linked(chunks_of(RUN), failed, [Comparison(ID, 0, 1, 4, constant=False)]) == []


def test_a_link_takes_the_place_of_one_that_was_there() -> None:
    (chunk,) = chunks_of('write(f0, "abcdefgh") @0=h1 @0->4')
    changed = with_link(chunk, Link(LinkKind.TAKE_NEXT, 0, 2))
    zeros = r"\x00" * 4
    assert text_of([changed]) == f'write(f0, "{zeros}efgh") @0->4 @0=next(h2)\n'
    (full,) = chunks_of('write(f0, "abcdefgh")' + " @0->1" * MAX_FIXUPS)
    assert with_link(full, Link(LinkKind.TAKE, 0, 0)) == full


def test_relinking_changes_what_is_taken_and_keeps_the_calls() -> None:
    rng = random.Random(3)
    relinker = Relinker(rng)
    start = chunks_of(f"h0 = ioctl(f0, {EXPORT:#x})\nioctl(f0, {USE:#x}, h0)\nread(f0, 8)\n")
    seen = set()
    for _ in range(200):
        chunks = list(start)
        assert relinker.relink(chunks, 64)
        assert [chunk[0] for chunk in chunks] == [chunk[0] for chunk in start]
        seen.add(text_of(chunks))
    joined = "".join(seen)
    assert "next(h0)" in joined
    assert "last(h0)" in joined
    assert "h3" in joined
    assert not relinker.relink(chunks_of("read(f0, 8)"), 64)
    # There is no room.
    assert relinker.relink(full := list(start), 0)
    assert len(b"".join(full)) == len(b"".join(start))


@pytest.mark.parametrize(("op", "moves"), [("read(f0, 8)", True), ("sleep(1)", False)])
def test_new_calls_are_often_made_on_a_descriptor_that_was_adopted(op: str, moves: bool) -> None:
    relinker = Relinker(random.Random(1))
    before = chunks_of(f"h0 = ioctl(f0, {EXPORT:#x})\nadopt(f6, h0)\n")
    (chunk,) = chunks_of(op)
    files = {relinker.on_adopted(chunk, before)[1] for _ in range(50)}
    assert files == ({0, 6} if moves else {0})
    assert relinker.on_adopted(chunk, before[:1]) == chunk


def test_a_simpler_call_gives_or_takes_nothing() -> None:
    call = Call(Op.IOCTL, 0, FLAG_VALUE, USE, 0, b"junk", (Fixup(0, 1), Fixup(CALL, 0xF000)))
    plain = normalized(call)
    assert plain.fixups == (Fixup(CALL, 0xF000),)
    assert any(not each.fixups for each in without_conditions(plain))
    assert links_of(encode((plain,))) == [Link(LinkKind.GIVE, CALL, 0)]
