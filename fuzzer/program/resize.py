# SPDX-License-Identifier: Apache-2.0
"""Resizing of payloads: lengths and repetitions that are usual limits in programs.

Of binary ones the lengths are kept true: of a record that grows, and of those that it is in.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

# Lengths and counts that programmers choose, before a step to either side.
_ROUND = (1, 2, 4, 8, 10, 16, 20, 32, 50, 64, 100, 128, 200, 255, 256, 500, 512, 1000, 1024, 4096)
_WORD = re.compile(rb"[0-9A-Za-z_]+")
_RECORD = 0.4
# Of what is no text.
_STRETCH = 0.7
# So many bytes of a payload are looked through for lengths; those of one byte are mostly others.
_LOOKED_AT, _ONE_BYTE = 64, 0.3
_FORMS: tuple[tuple[int, Literal["big", "little"]], ...] = (
    *((4, "little"), (4, "big"), (2, "little"), (2, "big"), (1, "little")),
)
# Bytes from the start of a record to its length, where that counts the record as a whole.
_HEADS = (0, 1, 2, 4)
_DIGITS = b"0123456789abcdefghijklmnopqrstuvwxyz"


def _numbers() -> tuple[bytes, ...]:
    """Return texts of the same length that differ, for a counter in repeated records."""
    return tuple(bytes((a, b)) for a in _DIGITS for b in _DIGITS)


_COUNTER = _numbers()


@dataclass(frozen=True, slots=True)
class LengthPlace:
    """A number at ``place`` that may be the length of the bytes from ``start`` to ``end``."""

    place: int
    width: int
    order: Literal["big", "little"]
    start: int
    end: int

    @property
    def value(self) -> int:
        """The number."""
        return self.end - self.start


def length_places(data: bytes) -> Iterator[LengthPlace]:
    """Yield the numbers of binary data that may be lengths of what follows, or of all around."""
    for place in range(min(len(data), _LOOKED_AT)):
        for width, order in _FORMS:
            after = place + width
            value = int.from_bytes(data[place:after], order)
            if after > len(data) or not 0 < value <= len(data):
                continue
            for start in (after, *(place - head for head in _HEADS)):
                if start >= 0 and after <= start + value <= len(data):
                    yield LengthPlace(place, width, order, start, start + value)


class Resizer:
    """Resizes payloads; the same ``rng`` state gives the same results."""

    def __init__(self, rng: random.Random) -> None:
        self._random = rng.random

    def resize(self, data: bytes, limit: int) -> bytes:
        """Return the data with one word of a length near a usual limit, or repeated as a whole.

        ``data`` is not empty; the result has at most ``limit`` bytes, or is ``data`` itself.
        """
        rand = self._random
        if not _is_text(data) and rand() < _STRETCH:
            result = self._stretch(data)
        else:
            result = self._repeat(data) if rand() < _RECORD else self._resize_word(data)
        return result if len(result) <= limit else data

    def _number(self) -> int:
        rand = self._random
        return max(0, _ROUND[int(rand() * len(_ROUND))] + int(rand() * 3) - 1)

    def _resize_word(self, data: bytes) -> bytes:
        """Return the data with a word, or the whole, cut or filled with its last character."""
        rand = self._random
        words = [match.span() for match in _WORD.finditer(data)]
        words.append((0, len(data)))
        start, end = words[int(rand() * len(words))]
        word = data[start:end]
        length = self._number()
        # Sometimes the length of the whole meets the limit, and not that of the word.
        if rand() < 0.3:
            length = max(0, length - (len(data) - len(word)))
        return data[:start] + word[:length].ljust(length, word[-1:] or b"a") + data[end:]

    def _stretch(self, data: bytes) -> bytes:
        """Return binary data with bytes put into what a length is of; lengths stay true."""
        rand = self._random
        places = [each for each in length_places(data) if each.width > 1 or rand() < _ONE_BYTE]
        if not places:
            return self._repeat(data)
        chosen = places[int(rand() * len(places))]
        at, more = chosen.end, self._more(data, chosen)
        made, taken = bytearray(data), set[int]()
        # The chosen one first: numbers that overlap with it are others.
        for each in (chosen, *places):
            own = range(each.place, each.place + each.width)
            if not (own.stop <= at and each.start <= at <= each.end) or not taken.isdisjoint(own):
                continue
            value = each.value + len(more)
            if value >> 8 * each.width:
                continue
            taken.update(own)
            made[each.place : own.stop] = value.to_bytes(each.width, each.order)
        return bytes(made[:at] + more + made[at:])

    def _more(self, data: bytes, chosen: LengthPlace) -> bytes:
        """Return what a record grows by: itself or what it begins with, or other bytes."""
        rand = self._random
        start = min(chosen.start, max(0, chosen.place - _HEADS[int(rand() * len(_HEADS))]))
        copy = data[start : chosen.end]
        if rand() < 0.5 and copy:
            return copy
        length = 1 + self._number() % 256
        return (copy[-1:] if rand() < 0.5 else bytes(1)) * length

    def _repeat(self, data: bytes) -> bytes:
        """Return the data repeated, each time with another number at one place."""
        count = min(self._number(), len(_COUNTER))
        at = 0 if self._random() < 0.5 else int(self._random() * (len(data) + 1))
        head, tail = data[:at], data[at:]
        return b"".join([head + number + tail for number in _COUNTER[:count]]) or data


def _is_text(data: bytes) -> bool:
    return all(each >= 0x20 or each in b"\t\n\r" for each in data) and data.isascii()
