# SPDX-License-Identifier: Apache-2.0
"""Resizing of text: gives it lengths and repetitions that are usual limits in programs."""

from __future__ import annotations

import random
import re

# Lengths and counts that programmers choose, before a step to either side.
_ROUND = (1, 2, 4, 8, 10, 16, 20, 32, 50, 64, 100, 128, 200, 255, 256, 500, 512, 1000, 1024, 4096)
_WORD = re.compile(rb"[0-9A-Za-z_]+")
_RECORD = 0.4
_DIGITS = b"0123456789abcdefghijklmnopqrstuvwxyz"


def _numbers() -> tuple[bytes, ...]:
    """Return texts of the same length that differ, for a counter in repeated records."""
    return tuple(bytes((a, b)) for a in _DIGITS for b in _DIGITS)


_COUNTER = _numbers()


class Resizer:
    """Resizes payloads; the same ``rng`` state gives the same results."""

    def __init__(self, rng: random.Random) -> None:
        self._random = rng.random

    def resize(self, data: bytes, limit: int) -> bytes:
        """Return the data with one word of a length near a usual limit, or repeated as a whole.

        ``data`` is not empty; the result has at most ``limit`` bytes, or is ``data`` itself.
        """
        result = self._repeat(data) if self._random() < _RECORD else self._resize_word(data)
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

    def _repeat(self, data: bytes) -> bytes:
        """Return the data repeated, each time with another number at one place."""
        count = min(self._number(), len(_COUNTER))
        at = 0 if self._random() < 0.5 else int(self._random() * (len(data) + 1))
        head, tail = data[:at], data[at:]
        return b"".join([head + number + tail for number in _COUNTER[:count]]) or data
