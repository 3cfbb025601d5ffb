# SPDX-License-Identifier: Apache-2.0
"""Guessed buffers for addresses, where the content that a driver expects is unknown.

Such a buffer may be bytes, a struct, or an array of structs that have addresses themselves.
Elements of an array are equal, as a content that is right for one is right for all.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from fuzzer.program.choices import integer_chooser
from fuzzer.program.links import Address
from fuzzer.program.program import MAX_FIXUPS

_SIZES = (8, 16, 32, 64, 64, 256)
_STRIDES = (8, 16, 16, 16, 24, 24, 32, 40, 48)
_ELEMENTS = 6
# Shares: of buffers that are arrays, of arrays that have addresses, of those that nest arrays.
_ARRAY, _ADDRESSES, _DEEPER = 0.7, 0.7, 0.25
_DEPTH = 3
# Shares: of words of an element that are not zero, and of those that are small numbers.
_SET, _SMALL = 0.5, 0.8
_NUMBERS = (1, 1, 2, 3, 4, 8, 16, 32, 32, 64, 128)


@dataclass(slots=True)
class Content:
    """The content of a buffer, and the addresses in it, which point to bytes of it."""

    data: bytearray
    addresses: list[Address] = field(default_factory=list)


class Guesser:
    """Makes guessed buffers; the same ``rng`` state gives the same ones.

    With ``low`` addresses have 4 bytes.
    """

    def __init__(self, rng: random.Random, *, low: bool = False) -> None:
        self._random = rng.random
        self._integer = integer_chooser(rng)
        self._low = low
        self._width = 4 if low else 8

    def content(self, room: int = MAX_FIXUPS, depth: int = 1) -> Content:
        """Return a buffer with up to ``room`` addresses in it."""
        rand = self._random
        if rand() > _ARRAY:
            size = _SIZES[int(rand() * len(_SIZES))]
            return Content(bytearray(size))
        width = self._width
        stride = _STRIDES[int(rand() * len(_STRIDES))] * width // 8
        n = 1 + int(rand() * _ELEMENTS)
        element = bytearray(stride)
        for at in range(0, stride - 3, 4):
            if rand() < _SET:
                element[at : at + 4] = self._word()
        if rand() > _ADDRESSES or not room or depth >= _DEPTH:
            return Content(element * n)
        place = width * int(rand() * (stride // width))
        n = min(n, room)
        element[place : place + width] = bytes(width)
        made = Content(element * n)
        end = len(made.data)
        if rand() < _DEEPER:
            inner = self.content(room - n, depth + 1)
        else:
            inner = Content(bytearray(_SIZES[int(rand() * len(_SIZES))]))
        made.addresses = [
            Address(stride * number + place, end, is_low=self._low) for number in range(n)
        ]
        made.addresses += [
            Address(end + a.at, end + a.to, is_low=self._low) for a in inner.addresses
        ]
        made.data += inner.data
        return made

    def _word(self) -> bytes:
        rand = self._random
        if rand() < _SMALL:
            return _NUMBERS[int(rand() * len(_NUMBERS))].to_bytes(4, "little")
        return (self._integer() & 0xFFFFFFFF).to_bytes(4, "little")
