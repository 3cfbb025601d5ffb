# SPDX-License-Identifier: Apache-2.0
"""Metrics of a payload: lengths of spans, numbers of records, numbers written as text.

The format of the payload is not known. A separator is a byte below 128 that is neither
letter, digit nor underscore; a driver may limit the length of a span between separators.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

_SEPARATOR = re.compile(rb"[^0-9A-Za-z_\x80-\xff]")
_SEPARATORS = frozenset(byte for byte in range(256) if _SEPARATOR.match(bytes((byte,))))
_WORD = re.compile(rb"[0-9A-Za-z_\x80-\xff]+")
_NUMBER = re.compile(rb"0[xX][0-9a-fA-F]{1,16}|-?[0-9]{1,20}")

_MASK = (1 << 64) - 1
# The most separators of one payload that are used.
_BOUNDARIES = 64
_NUMBERS = 64
_REACH = 6
# The most spans of one length.
_ALIKE = 4


@dataclass(frozen=True, slots=True)
class TextNumber:
    """A number written as text at ``[start, end)``."""

    start: int
    end: int
    value: int
    hexadecimal: bool

    def text(self, value: int, size: int) -> bytes:
        """Return the text of another value (unsigned, of ``size`` bytes) in the same style."""
        if self.hexadecimal:
            return b"0x%x" % value
        if self.value < 0 or value >> (8 * size - 1):
            value -= (value >> (8 * size - 1)) << (8 * size)
        return b"%d" % value


def lengths(data: bytes) -> dict[int, list[tuple[int, int]]]:
    """Return spans ``(start, end)`` of a payload by their length.

    A span reaches from a separator or the payload's beginning to another separator or the
    end, and its last byte is no separator. Spans with few separators in them come first;
    the whole payload is not a span.
    """
    bounds = [-1]
    for match in _SEPARATOR.finditer(data):
        at = match.start()
        # Only the beginning and the end of a run of zeros, which is padding, count as separators.
        if data[at] == 0 and data[at - 1 : at + 2] == b"\0\0\0":
            continue
        bounds.append(at)
        if len(bounds) == _BOUNDARIES:
            break
    bounds.append(len(data))
    found: dict[int, list[tuple[int, int]]] = {}

    def add(first: int, last: int) -> None:
        start, end = first + 1, last
        if end > start and data[end - 1] in _SEPARATORS:
            return
        spans = found.setdefault(end - start, [])
        if (start, end) in spans or end - start == len(data):
            return
        if len(spans) == _ALIKE:
            # The first spans and the last one are kept.
            spans.pop()
        spans.append((start, end))

    for reach in range(1, _REACH + 1):
        for first, last in zip(bounds, bounds[reach:], strict=False):
            add(first, last)
    # Spans from each separator to the next equal one, whatever is between.
    before: dict[int, int] = {}
    for at in bounds[1:-1]:
        add(before.get(data[at], -1), at)
        before[data[at]] = at
    for at in before.values():
        add(at, len(data))
    return found


def counts(data: bytes) -> dict[int, int]:
    """Return the number of records in a payload by separator, which ends or divides records.

    The payload's last byte comes first, if it is a separator.
    """
    separators = dict.fromkeys(match[0][0] for match in _SEPARATOR.finditer(data[-1:] + data[:256]))
    return {
        separator: data.count(separator) + (data[-1] != separator)
        for separator in separators
        if separator
    }


def numbers(data: bytes) -> dict[int, list[TextNumber]]:
    """Return the numbers written as text in a payload, by value as unsigned 64-bit integer."""
    found: dict[int, list[TextNumber]] = {}
    for count, match in enumerate(_NUMBER.finditer(data)):
        if count == _NUMBERS:
            break
        text = match[0]
        hexadecimal = text[1:2] in (b"x", b"X")
        value = int(text, 16 if hexadecimal else 10)
        found.setdefault(value & _MASK, []).append(
            TextNumber(match.start(), match.end(), value, hexadecimal)
        )
    return found


def resize(data: bytes, length: int) -> bytes:
    """Return bytes cut to a length, or extended by repeating the last one."""
    return data[:length] + (data[-1:] or b"a") * (length - len(data))


def resize_payload(data: bytes, length: int) -> bytes:
    """Return a payload of another length that ends with the same separators.

    The bytes before them are cut or extended.
    """
    words = list(_WORD.finditer(data))
    end = words[-1].end() if words else len(data)
    tail = data[end:] if len(data) - end < length else b""
    return resize(data[: len(data) - len(tail)], length - len(tail)) + tail


def resize_records(data: bytes, separator: int, count: int) -> bytes:
    """Return a payload with another number of records (1 or more).

    Further records are copies of the last one, each with a number of its own
    in its first word, so that they differ.
    """
    mark = bytes((separator,))
    ended = data.endswith(mark)
    records = (data[:-1] if ended else data).split(mark)
    kept = records[:count]
    kept += numbered(records[-1], count - len(kept))
    return mark.join(kept) + (mark if ended else b"")


def numbered(data: bytes, count: int) -> list[bytes]:
    """Return copies of ``data`` with different numbers in their first word.

    A word that is too short for the number grows. Without a word the copies are the same.
    """
    word = _WORD.search(data)
    if word is None:
        return [data] * max(0, count)
    digits = _digits(count)
    head, rest = data[: word.start()], word[0][digits:] + data[word.end() :]
    return [head + tag + rest for tag in _tags(digits, count)]


def numbered_alike(data: bytes, count: int) -> list[bytes]:
    """Return copies of ``data`` of the same length, with different numbers in their first word.

    A word that is too short for the number grows into the zeros behind it, except the last
    one, and a number before it that is its length is changed with it. Where that is not
    enough, the number is cut.
    """
    word = _WORD.search(data)
    if word is None:
        return [data] * max(0, count)
    length, end = len(word[0]), word.end()
    zeros = len(data) - end - len(data[end:].lstrip(b"\0"))
    digits = min(_digits(count), length + max(0, zeros - 1))
    head, rest = data[: word.start()], word[0][digits:] + data[max(end, word.start() + digits) :]
    if digits > length:
        head = _lengthened(head, length, digits)
    return [head + tag + rest for tag in _tags(digits, count)]


def counted_up(data: bytes, count: int, word: int) -> list[bytes]:
    """Return copies of ``data`` in which a word of 32 bits counts up, from its value plus 1."""
    at = 4 * word
    if len(data) < at + 4:
        return [data] * max(0, count)
    value = int.from_bytes(data[at : at + 4], "little")
    numbers = ((value + i) & 0xFFFF_FFFF for i in range(1, count + 1))
    return [data[:at] + number.to_bytes(4, "little") + data[at + 4 :] for number in numbers]


def _digits(count: int) -> int:
    return len(str(max(0, count - 1)))


def _lengthened(head: bytes, length: int, new: int) -> bytes:
    """Return the bytes before a word with its length, the last such number of 32 bits, changed."""
    for at in range(len(head) // 4 * 4 - 4, -1, -4):
        if int.from_bytes(head[at : at + 4], "little") == length:
            return head[:at] + new.to_bytes(4, "little") + head[at + 4 :]
    return head


@lru_cache(maxsize=16)
def _tags(digits: int, count: int) -> tuple[bytes, ...]:
    return tuple([b"%0*d" % (digits, i % 10**digits) for i in range(count)])
