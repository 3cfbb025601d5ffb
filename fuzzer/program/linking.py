# SPDX-License-Identifier: Apache-2.0
"""Linking: programs in which a call takes a number that an earlier call gave.

A number that a call handed out and that the driver compares with an operand of a later call
is a handle. A descriptor that a call handed out is a file, on which the program's calls can
be made.
"""

from __future__ import annotations

import errno
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from fuzzer.program.comparison import Comparison
from fuzzer.program.links import (
    CALL,
    LINK,
    N_HANDLES,
    Link,
    LinkKind,
    addresses_of,
    fixups_of,
    link_of,
    links,
)
from fuzzer.program.ops import FLAG_VALUE, MAPPING, Op
from fuzzer.program.program import MAX_CALLS, MAX_FIXUPS, N_FILES
from fuzzer.program.wire import FIXUP, FIXUP_SIZE, HEADER_SIZE, PLAIN_HEADER

MOST = 60
"""The most programs made of one."""

# Smaller numbers are in most programs by chance, and are found without links.
_LEAST = 16
# The most words of a buffer that may be handles, places that take the same number, and calls
# that take a number though it was not compared with anything.
_WORDS, _PLACES, _BLIND = 32, 3, 24
# The most calls that are made on a descriptor.
_CALLS_ON_FILE = 12
_ON_FILE = frozenset({Op.READ, Op.WRITE, Op.IOCTL, Op.MMAP, Op.POLL, Op.LSEEK, Op.MAP, Op.EPOLL})
_READ_SIZE, _PAGE = 64, 4096
# Errors of calls that may have been given no file, or one of another kind; and the first words of
# a buffer that a descriptor is put into.
_NO_FILE, _FILE_WORDS = frozenset({errno.EBADF, errno.EINVAL}), 8
# Thresholds for a call to take a number beside its handle, or else another handle; and the share
# of files among the latter.
_BESIDE, _OTHER, _A_FILE = 0.3, 0.5, 0.2
# The share of new calls that are made on a descriptor which the driver handed out.
_ON_ADOPTED = 0.5
_TAKEN = (LinkKind.TAKE, LinkKind.TAKE_NEXT, LinkKind.TAKE_LAST)


@dataclass(frozen=True, slots=True)
class GivenValue:
    """A ``value`` that call number ``call`` gave, at offset ``at`` of its buffer.

    With ``at`` of CALL the call returned it.
    """

    call: int
    at: int
    value: int
    size: int = 4


@dataclass(frozen=True, slots=True)
class Result:
    """The result of a call: its value, -1 if it failed, and the bytes in its buffer afterwards.

    ``handed`` tells that the value is a descriptor; ``error`` is the errno of a failure.
    """

    ret: int
    output: bytes
    handed: bool = False
    error: int = 0


def linked(
    chunks: Sequence[bytes],
    results: Sequence[Result],
    comparisons: Iterable[Comparison],
    created: Sequence[int] = (),
) -> list[list[bytes]]:
    """Return programs with a link each, the most promising first.

    ``chunks`` are the calls of a program, in wire form, that ran with these ``results``
    and ``comparisons``. ``created`` are the kinds of files of which the driver takes
    descriptors.
    """
    made: dict[tuple[bytes, ...], None] = {}
    for program in islice(_given_files(chunks, results, created), MOST // 2):
        made[tuple(program)] = None
    found = given(chunks, results)
    for program in islice(_on_files(chunks, results), MOST // 4):
        made[tuple(program)] = None
    for program in islice(_compared(chunks, found, comparisons), MOST):
        made[tuple(program)] = None
    for program in islice(_blind(chunks, found), _BLIND):
        made[tuple(program)] = None
    made.pop(tuple(chunks), None)
    return [list(program) for program in islice(made, MOST)]


def given(chunks: Sequence[bytes], results: Sequence[Result]) -> list[GivenValue]:
    """Return the numbers that calls returned, and those that they put into their buffers."""
    found: list[GivenValue] = []
    for call, (chunk, result) in enumerate(zip(chunks, results, strict=False)):
        if result.ret == -1 or chunk[0] not in _ON_FILE:
            continue
        if chunk[0] == Op.IOCTL and result.ret >= _LEAST:
            found.append(GivenValue(call, CALL, result.ret & (1 << 64) - 1))
        body = chunk[HEADER_SIZE + FIXUP_SIZE * chunk[3] :] if chunk[0] == Op.IOCTL else b""
        places = [
            place
            for each in addresses_of(chunk)
            for place in range(each.at, each.at + each.size, 4)
        ]
        output = result.output[: 4 * _WORDS]
        for at in range(0, len(output) - 3, 4):
            if at in places:
                continue
            for size in (8, 4) if at % 8 == 0 and at + 8 <= len(output) else (4,):
                word = output[at : at + size]
                value = int.from_bytes(word, "little")
                is_wide = value >> 32 > 0 < value & 0xFFFFFFFF
                changed = word != body[at : at + size]
                if changed and value >= _LEAST and (is_wide or size == 4):
                    found.append(GivenValue(call, at, value, size))
    return found


def links_of(chunk: bytes) -> list[Link]:
    """Return the links of a call in wire form."""
    return links(fixups_of(chunk)) if chunk[3] else []


def _compared(
    chunks: Sequence[bytes], found: Sequence[GivenValue], comparisons: Iterable[Comparison]
) -> Iterator[list[bytes]]:
    """Yield programs in which a call takes the number that it was compared with."""
    by_value: dict[int, list[GivenValue]] = {}
    for each in found:
        by_value.setdefault(each.value, []).append(each)
    for comparison in comparisons:
        a, b, call, size, constant, _ = comparison
        if constant or size < 4 or call >= len(chunks):
            continue
        for own, wanted in ((a, b), (b, a)):
            for each in by_value.get(wanted, ()):
                if each.call >= call:
                    continue
                places = _places(chunks[call], own, each.size)
                for place in islice(places, _PLACES):
                    if program := _link(chunks, each, call, place):
                        yield program


def _blind(chunks: Sequence[bytes], found: Sequence[GivenValue]) -> Iterator[list[bytes]]:
    """Yield programs in which a later call takes a number at its first places, without a hint."""
    for each in found:
        for call in range(each.call + 1, len(chunks)):
            chunk = chunks[call]
            if chunk[0] != Op.IOCTL or chunk[4:8] == chunks[each.call][4:8]:
                continue
            place = CALL if chunk[2] & FLAG_VALUE else each.at if each.at != CALL else 0
            if program := _link(chunks, each, call, place):
                yield program


def _places(chunk: bytes, value: int, size: int) -> Iterator[int]:
    """Yield the places where a call has a number: its argument or offsets in its payload."""
    if chunk[0] == Op.IOCTL and chunk[2] & FLAG_VALUE:
        if int.from_bytes(chunk[8 : 8 + size], "little") == value:
            yield CALL
        return
    body = HEADER_SIZE + FIXUP_SIZE * chunk[3]
    data = chunk[body : body + 4 * _WORDS]
    word = (value & (1 << 8 * size) - 1).to_bytes(size, "little")
    yield from (at for at in range(0, len(data) - size + 1, 4) if data[at : at + size] == word)


def _link(chunks: Sequence[bytes], each: GivenValue, call: int, place: int) -> list[bytes] | None:
    """Return a program in which a call takes the number that an earlier one gives, at a place."""
    made = list(chunks)
    wide = each.size == 8
    handle = None
    for known in map(link_of, fixups_of(made[each.call])):
        if known and known.kind is LinkKind.GIVE and known.at == each.at:
            handle = known.number
    if handle is None:
        handle = _free_handle(chunks)
        link = Link(LinkKind.GIVE, each.at, handle, wide and each.at != CALL)
        made[each.call] = with_link(made[each.call], link)
    made[call] = with_link(made[call], Link(LinkKind.TAKE, place, handle, wide and place != CALL))
    return made if len(b"".join(made)) > len(b"".join(chunks)) else None


def _free_handle(chunks: Sequence[bytes]) -> int:
    used = {
        link.number
        for chunk in chunks
        for link in map(link_of, fixups_of(chunk))
        if link and not link.is_file
    }
    return next((number for number in range(N_HANDLES) if number not in used), 0)


def with_link(chunk: bytes, link: Link) -> bytes:
    """Return a call with one more link, in place of one of the same kind at the same place.

    The bytes at that place of its buffer become zero. A call with all fixups used is not
    changed.
    """
    kept = [
        fixup
        for fixup in fixups_of(chunk)
        if not ((old := link_of(fixup)) and old.at == link.at and _gives(old) == _gives(link))
    ]
    if len(kept) >= MAX_FIXUPS:
        return chunk
    data = bytearray(chunk[HEADER_SIZE + FIXUP_SIZE * chunk[3] :])
    if link.at == CALL and chunk[0] in MAPPING and not _gives(link):
        # The offset.
        chunk = chunk[:4] + bytes(4) + chunk[8:]
    elif link.at == CALL and not _gives(link):
        chunk = chunk[:8] + bytes(8) + chunk[16:]
    elif not _gives(link):
        end = min(len(data), link.at + link.size)
        data[link.at : end] = bytes(max(0, end - link.at))
    added = link.fixup()
    # Fixups of the buffer come first.
    before = [each for each in kept if each.at != CALL]
    behind = [each for each in kept if each.at == CALL]
    if link.at == CALL:
        behind.append(added)
    else:
        # Links are in the order of their places, behind the addresses.
        place = sum(1 for each in before if each.to < LINK or each.at <= link.at)
        before.insert(place, added)
    fixups = [*before, *behind]
    packed = b"".join([FIXUP.pack(each.at, each.to) for each in fixups])
    return chunk[:3] + bytes((len(fixups),)) + chunk[4:HEADER_SIZE] + packed + data


def _gives(link: Link) -> bool:
    return link.kind is LinkKind.GIVE


def _on_files(chunks: Sequence[bytes], results: Sequence[Result]) -> Iterator[list[bytes]]:
    """Yield programs that make some of their calls on a descriptor that a call handed out."""
    file = _free_file(chunks)
    for call, (chunk, result) in enumerate(zip(chunks, results, strict=False)):
        if not result.handed or chunk[0] != Op.IOCTL or file is None:
            continue
        if len(chunks) + 1 + _CALLS_ON_FILE > MAX_CALLS:
            return
        given = [each for each in links_of(chunk) if _gives(each)]
        known = next((each.number for each in given if each.at == CALL), None)
        if given and known is None:
            continue
        handle = _free_handle(chunks) if known is None else known
        if any(_adopts(each, handle) for each in chunks[call + 1 :]):
            continue
        giving = with_link(chunk, Link(LinkKind.GIVE, CALL, handle))
        adopt = with_link(
            PLAIN_HEADER.pack(int(Op.ADOPT), file, 0, 0, 0, 0, 0), Link(LinkKind.TAKE, CALL, handle)
        )
        begun = [*chunks[:call], giving, adopt]
        others = [each for each in chunks if each[0] in _ON_FILE and each != chunk]
        on_file = [each[:1] + bytes((file,)) + each[2:] for each in dict.fromkeys(others)]
        plain = [
            PLAIN_HEADER.pack(int(Op.READ), file, 0, 0, 0, _READ_SIZE, 0),
            PLAIN_HEADER.pack(int(Op.WRITE), file, 0, 0, 0, 0, 8) + bytes(8),
            PLAIN_HEADER.pack(int(Op.POLL), file, 0, 0, 1, 0, 0),
            PLAIN_HEADER.pack(int(Op.MMAP), file, 0, 0, 0, _PAGE, 0),
        ]
        yield [*begun, *on_file[:_CALLS_ON_FILE], *chunks[call + 1 :]]
        yield [*begun, *plain, *chunks[call + 1 :]]
        yield [*begun, *chunks[call + 1 :]]


def _adopts(chunk: bytes, handle: int) -> bool:
    return chunk[0] == Op.ADOPT and any(each.number == handle for each in links_of(chunk))


def _given_files(
    chunks: Sequence[bytes], results: Sequence[Result], created: Sequence[int]
) -> Iterator[list[bytes]]:
    """Yield programs in which a call that failed is given the descriptor of a file.

    Of each kind that the driver takes one is created, or it is the program's first file.
    """
    file = _free_file(chunks)
    if not created or file is None or len(chunks) >= MAX_CALLS:
        return
    failed = [
        (result.error != errno.EBADF, call)
        for call, (chunk, result) in enumerate(zip(chunks, results, strict=False))
        if chunk[0] == Op.IOCTL and result.ret == -1 and result.error in _NO_FILE
    ]
    for _, call in sorted(failed):
        chunk = chunks[call]
        places = [CALL] if chunk[2] & FLAG_VALUE else _free_places(chunk)
        for place in places:
            for kind in created:
                create = PLAIN_HEADER.pack(int(Op.CREATE), file, 0, 0, kind, 0, 0)
                given = with_link(chunk, Link(LinkKind.TAKE, place, file, is_file=True))
                yield [*chunks[:call], create, given, *chunks[call + 1 :]]
            own = with_link(chunk, Link(LinkKind.TAKE, place, 0, is_file=True))
            yield [*chunks[:call], own, *chunks[call + 1 :]]


def _free_file(chunks: Sequence[bytes]) -> int | None:
    used = {chunk[1] for chunk in chunks}
    return next((number for number in reversed(range(N_FILES)) if number not in used), None)


def _free_places(chunk: bytes) -> list[int]:
    """Return the first words of a buffer that are neither an address nor a link."""
    size = len(chunk) - HEADER_SIZE - FIXUP_SIZE * chunk[3]
    used = {at for each in addresses_of(chunk) for at in range(each.at, each.at + each.size, 4)}
    used |= {link.at for link in links_of(chunk)}
    return [at for at in range(0, min(size, 4 * _FILE_WORDS) - 3, 4) if at not in used]


class Relinker:
    """Changes the links of programs; ``created`` are the kinds of files that calls take."""

    def __init__(self, rng: random.Random, created: Sequence[int] = ()) -> None:
        self._random = rng.random
        self._created = created

    def give_file(self, chunks: list[bytes], room: int) -> bool:
        """Give a call the descriptor of a file that is created before it; False if it cannot."""
        rand, file = self._random, _free_file(chunks)
        ioctls = [index for index, chunk in enumerate(chunks) if chunk[0] == Op.IOCTL]
        if file is None or not ioctls or not self._created or room < HEADER_SIZE + FIXUP_SIZE:
            return False
        at = ioctls[int(rand() * len(ioctls))]
        places = [CALL] if chunks[at][2] & FLAG_VALUE else _free_places(chunks[at])
        if not places:
            return False
        kind = self._created[int(rand() * len(self._created))]
        place = places[int(rand() * len(places))]
        chunks[at] = with_link(chunks[at], Link(LinkKind.TAKE, place, file, is_file=True))
        chunks.insert(at, PLAIN_HEADER.pack(int(Op.CREATE), file, 0, 0, kind, 0, 0))
        return True

    def relink(self, chunks: list[bytes], room: int) -> bool:
        """Change the handle that a call takes, or link another call; False if no call has a link.

        The program grows by at most ``room`` bytes.
        """
        rand = self._random
        taken = [
            (at, link)
            for at, chunk in enumerate(chunks)
            for link in links_of(chunk)
            if not _gives(link)
        ]
        if not taken:
            return False
        at, link = taken[int(rand() * len(taken))]
        kind = rand()
        if kind < _BESIDE:
            link = replace(link, kind=_TAKEN[int(rand() * len(_TAKEN))])
        elif kind < _OTHER:
            is_file = rand() < _A_FILE
            link = replace(link, number=int(rand() * N_HANDLES), is_file=is_file)
        else:
            others = [index for index, chunk in enumerate(chunks) if chunk[0] == Op.IOCTL]
            at = others[int(rand() * len(others))] if others else at
        changed = with_link(chunks[at], link)
        if len(changed) - len(chunks[at]) <= room:
            chunks[at] = changed
        return True

    def on_adopted(self, chunk: bytes, before: Sequence[bytes]) -> bytes:
        """Return a new call, often on a file that a call before it adopted, if one did."""
        adopted = [each[1] for each in before if each[0] == Op.ADOPT]
        if not adopted or chunk[0] not in _ON_FILE or self._random() > _ON_ADOPTED:
            return chunk
        return chunk[:1] + bytes((adopted[-1],)) + chunk[2:]
