# SPDX-License-Identifier: Apache-2.0
"""Flips: words of a call's buffer that another thread changes while the call runs.

A driver that reads a word twice, and has checked only what it read first, is found by these.
vm/channel.h has the rules.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from fuzzer.program.choices import integer_chooser
from fuzzer.program.ops import FLAG_VALUE, Op, Payload, ops_with
from fuzzer.program.wire import FIXUP_SIZE, HEADER_SIZE, PLAIN_HEADER
from fuzzer.target.layout import StructLayout

PayloadKind: TypeAlias = tuple[int, bytes]
"""The kind of a call: its operation, and the number of an ioctl."""

FLIP_SIZES = (4, 1, 2, 8)
"""Bytes that a flip is of, by the bits of ``cmd`` from W_FLIP_SIZE on."""

SIZE_SHIFT = 16
"""Bits of ``cmd`` below those (W_FLIP_SIZE)."""

_PLACE = 0xFFFF
_FLIP, _IOCTL = int(Op.FLIP), int(Op.IOCTL)
_WRITES = ops_with(lambda each: each.payload is Payload.WRITTEN)
# So many of the numbers are what is there in another call of the kind, and near the one that is;
# where the driver compares what is there, so many are the other operand or a neighbour of it.
_ANOTHER, _NEAR, _COMPARED = 0.35, 0.25, 0.5
_STEPS = (1, 1, -1, 8, 64, 4096)
# So many of the places in a struct are not those of its members, and so many of one that has
# addresses are in what these are of.
_ANYWHERE, _POINTED_TO = 0.15, 0.4
# Of these, so many are not of 4 bytes.
_OTHER_SIZE = 0.25
# So many of the places are those that the driver compares, if there are any.
_CHECKED = 0.7
# Places that are kept of each kind of call, numbers of each place, and bytes that these are in.
_PLACES, _NUMBERS, _WORDS = 64, 32, (4, 8)


def flip_place(cmd: int) -> tuple[int, int]:
    """Return where in a buffer a flip is, and of how many bytes."""
    return cmd & _PLACE, FLIP_SIZES[cmd >> SIZE_SHIFT & 3]


def flip_cmd(at: int, size: int) -> int:
    """Return ``cmd`` of a flip of ``size`` bytes at a place in a buffer."""
    return at | FLIP_SIZES.index(size) << SIZE_SHIFT


def has_flips(chunks: Sequence[bytes]) -> bool:
    """Tell whether a buffer changes while a call of a program runs."""
    return any(chunk[0] == _FLIP for chunk in chunks)


def without_flips(chunks: Sequence[bytes]) -> list[bytes]:
    """Return a program of which no buffer changes."""
    return [chunk for chunk in chunks if chunk[0] != _FLIP]


def can_flip(chunk: bytes) -> bool:
    """Tell whether a call hands bytes to the driver, which may change meanwhile."""
    op = chunk[0]
    if op not in _WRITES and (op != _IOCTL or chunk[2] & FLAG_VALUE):
        return False
    return len(chunk) > HEADER_SIZE + FIXUP_SIZE * chunk[3]


class FlipMaker:
    """Chooses flips; the same ``rng`` state gives the same.

    ``layouts`` are the structs that ioctls have the address of, by their numbers.
    """

    def __init__(self, rng: random.Random, layouts: Mapping[int, StructLayout]) -> None:
        self._random = rng.random
        self._integer = integer_chooser(rng)
        self._structs = {
            number.to_bytes(4, "little"): (
                layout.size,
                tuple((each.offset, each.size) for each in layout.members),
            )
            for number, layout in layouts.items()
        }

        self.compared: list[PayloadKind] = []
        """The kinds of calls of which the driver compares what they hand over."""
        self._compared: dict[PayloadKind, dict[tuple[int, int], deque[int]]] = {}

    def note(self, chunk: bytes, other: bytes) -> None:
        """Take note of a call, and of it with the other operand of a comparison in its payload."""
        data, others = _payload(chunk), _payload(other)
        if not can_flip(chunk) or len(data) != len(others):
            return
        changed = [at for at in range(len(data)) if data[at] != others[at]]
        if not changed:
            return
        kind = kind_of(chunk)
        if kind not in self._compared:
            self._compared[kind] = {}
            self.compared.append(kind)
        places = self._compared[kind]
        place = self._around(chunk, len(data), changed[0], changed[-1] + 1)
        if place and (place in places or len(places) < _PLACES):
            at, size = place
            numbers = places.setdefault(place, deque(maxlen=_NUMBERS))
            number = int.from_bytes(others[at : at + size], "little")
            if number not in numbers:
                numbers.append(number)

    def flip(self, chunk: bytes, other: bytes) -> bytes:
        """Return a flip of a call that can have one; ``other`` is another call of the kind."""
        rand = self._random
        data, others = _payload(chunk), _payload(other)
        compared = self._compared.get(kind_of(chunk), {})
        at, size = self._checked(compared, len(data)) or self._place(chunk, len(data))
        was = int.from_bytes(data[at : at + size], "little")
        numbers = compared.get((at, size))
        kind = rand()
        if numbers and rand() < _COMPARED:
            number = numbers[int(kind * len(numbers))]
        elif kind < _ANOTHER:
            number = int.from_bytes(others[at : at + size], "little")
        elif kind < _ANOTHER + _NEAR:
            number = was + _STEPS[int(rand() * len(_STEPS))]
        else:
            number = self._integer()
        number &= (1 << 8 * size) - 1
        if number == was:
            number = self._integer() & ((1 << 8 * size) - 1)
        return PLAIN_HEADER.pack(_FLIP, 0, 0, 0, flip_cmd(at, size), number, 0)

    def _checked(
        self, compared: Mapping[tuple[int, int], deque[int]], length: int
    ) -> tuple[int, int] | None:
        """Return a place that is compared, mostly if there is one in a payload."""
        rand = self._random
        if not compared or rand() > _CHECKED:
            return None
        places = tuple(compared)
        at, size = places[int(rand() * len(places))]
        return (at, size) if at + size <= length else None

    def _around(self, chunk: bytes, length: int, start: int, end: int) -> tuple[int, int] | None:
        """Return the member of a struct that has these bytes, or a word."""
        struct = self._structs.get(chunk[4:8]) if chunk[0] == _IOCTL else None
        words = [(start - start % size, size) for size in _WORDS]
        bytes_only = [(start, size) for size in FLIP_SIZES if size < _WORDS[0]]
        for at, size in (*(struct[1] if struct else ()), *words, *bytes_only):
            fits = at <= start and end <= at + size <= min(length, _PLACE)
            if fits and size in FLIP_SIZES:
                return at, size
        return None

    def _place(self, chunk: bytes, length: int) -> tuple[int, int]:
        """Return a place in a payload and a number of bytes that are there."""
        rand = self._random
        struct = self._structs.get(chunk[4:8]) if chunk[0] == _IOCTL else None
        end, members = struct or (length, ())
        first = 0
        if chunk[3] and end < length and rand() < _POINTED_TO:
            first, members = end, ()
        if members and rand() > _ANYWHERE:
            at, size = members[int(rand() * len(members))]
            if size in FLIP_SIZES and at + size <= length:
                return at, size
        room = min(length, _PLACE) - first
        size = FLIP_SIZES[int(rand() * 4)] if rand() < _OTHER_SIZE else FLIP_SIZES[0]
        while size > room:
            size //= 2
        return first + int(rand() * (room // size)) * size, size


def kind_of(chunk: bytes) -> PayloadKind:
    """Return the kind of a call."""
    return chunk[0], chunk[4:8] if chunk[0] == _IOCTL else b""


def _payload(chunk: bytes) -> bytes:
    return chunk[HEADER_SIZE + FIXUP_SIZE * chunk[3] :]
