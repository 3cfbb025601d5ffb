# SPDX-License-Identifier: Apache-2.0
"""Operands of a call: finds a value in it, and puts another value in its place."""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import islice
from typing import Literal, TypeAlias

from fuzzer.program import payload_metrics
from fuzzer.program.links import fixups_of
from fuzzer.program.ops import (
    FLAG_VALUE,
    FLAG_VECTOR,
    FLAG_WIDE,
    OPERATIONS,
    SEEN,
    Number,
    Op,
    Operation,
    Payload,
    ops_with,
)
from fuzzer.program.program import MAX_PAYLOAD
from fuzzer.program.wire import FIXUP_SIZE, HEADER_SIZE, position_of, with_position
from fuzzer.target.layout import Member

PAGE = 4096

_Order: TypeAlias = Literal["little", "big"]

_IOCTL = int(Op.IOCTL)
_CMD, _ARG, _HALF_ARG = (4, 32), (8, 64), (8, 32)
_OFFSET_BITS = 64


def _fields_of(operation: Operation) -> tuple[tuple[int, int], ...]:
    """Return the fields that the driver sees, as (offset in struct w_call, bits).

    A position is left out: its place depends on flags.
    """
    arg = (_ARG,) if operation.arg in SEEN - {Number.VALUE} else ()
    return (*arg, _CMD) if operation.cmd in SEEN - {Number.POSITION} else arg


_FIELDS = tuple(_fields_of(OPERATIONS[op]) for op in Op)
_POSITIONED = ops_with(lambda each: each.cmd is Number.POSITION)
# Operations that can be made as a vector, with parts of ``cmd`` bytes.
_WITH_PARTS = ops_with(lambda each: bool(each.flags & FLAG_VECTOR))
_WITH_PAYLOAD = ops_with(lambda each: each.payload is not Payload.NONE)
# Parts of an ioctl's number, as (shift, bits): size, magic, number.
_IOCTL_PARTS = ((16, 14), (8, 8), (0, 8))

# Values below this occur in many places by chance.
_SMALL = 256
_OCCURRENCES = 6
# A value with more occurrences than this occurs by chance.
_FEW = 3
# The bytes of a payload that are searched for small values.
_SEARCHED = 512

# An ioctl's payload of at most so many bytes is taken for one struct, which has few members.
_STRUCT = 64


# Sums and multiples: the widths of words in bytes, the words searched, the results of a value.
_RESULTS, _RESULT_WORDS, _RESULTS_OF_ONE = frozenset({4, 8}), 16, 4
# The largest size of what a number may be the count of.
_MOST_FACTOR = 4096
# Text has no such words.
_TEXT = re.compile(rb"[\t\n -~]*\Z")


class MatchKind(enum.StrEnum):
    """The form in which a value occurs in a program."""

    FIELD = "field"
    BYTES = "bytes"
    TEXT = "text"
    LENGTH = "length"
    COUNT = "count"
    CALLS = "calls"


@dataclass(frozen=True, slots=True)
class Match:
    """A value found in a call.

    ``strong`` tells that it hardly occurs by chance. ``put`` returns the call's wire bytes
    with another value there, None where that one does not fit. ``is_name`` tells that the
    value is a name, as a part of an ioctl's number: its neighbours mean nothing.
    """

    kind: MatchKind
    strong: bool
    put: Callable[[int], bytes | None]
    is_name: bool = False


def mask(bits: int) -> int:
    """Return a number with the lowest ``bits`` bits set."""
    return (1 << bits) - 1


def fit(value: int, bits: int, width: int) -> int | None:
    """Return a value of ``bits`` cut to ``width`` bits; None if extending that changes it."""
    low = value & mask(width)
    if low == value:
        return low
    negative = low >> (width - 1)
    return low if negative and value == low | mask(bits) ^ mask(width) else None


class CallView:
    """A view of one call's canonical wire bytes that finds values in it.

    ``bit_fields`` are those of the struct that its payload is.
    """

    def __init__(self, chunk: bytes, bit_fields: Sequence[Member] = ()) -> None:
        self._bit_fields = bit_fields
        self.chunk = chunk
        self.op = chunk[0]
        self._body = HEADER_SIZE + FIXUP_SIZE * chunk[3]
        is_value = self.op == _IOCTL and bool(chunk[2] & FLAG_VALUE)
        used = self.op in _WITH_PAYLOAD and not is_value
        self.data = chunk[self._body :] if used else b""
        # Bytes behind a change must not move: a struct's members, or the targets of fixups.
        self.rigid = self.op == _IOCTL or chunk[3] > 0
        # The driver does not see the bytes that addresses and links replace.
        self._fixed = (
            frozenset(
                place for fixup in fixups_of(chunk) for place in range(fixup.at, fixup.at + 4)
            )
            if chunk[3]
            else frozenset()
        )
        self._fields = (_ARG, _CMD) if is_value else _FIELDS[self.op]
        if self.op == Op.PREAD and chunk[2] & FLAG_WIDE:
            self._fields = (_HALF_ARG,)
        if self.op in _WITH_PARTS and chunk[2] & FLAG_VECTOR:
            self._fields = (*self._fields, _CMD)
        self._is_struct = self.op == _IOCTL and len(self.data) <= _STRUCT
        self._aligned: dict[int, dict[bytes, list[int]]] = {}
        self._words: dict[int, list[tuple[int, int]]] = {}

    def matches(self, value: int, size: int) -> Iterator[Match]:
        """Yield the occurrences of an unsigned value of ``size`` bytes; new values are as wide."""
        yield from self._in_fields(value, size)
        if self.data:
            yield from self._in_lengths(value)
            yield from self._in_counts(value)
            yield from self._in_text(value, size)
            yield from self._in_bytes(value, size)
            yield from self._in_bits(value)

    def results(self, value: int, size: int, wanted: int) -> Iterator[tuple[Match, int, list[int]]]:
        """Yield words from which ``value`` may be computed, their width, and new values for them.

        It is the sum of two words, or a multiple of one. The new values make the result
        0 by overflow, or ``wanted``, as nearly as possible.
        """
        for width in (size, size // 2):
            if width not in _RESULTS or value > mask(8 * width):
                continue
            whole = mask(8 * width) + 1
            words = self._words.get(width)
            if words is None:
                words = self._words[width] = self._words_of(width)
            known = {word: at for at, word in words}
            n = 0
            for at, word in words:
                put = partial(self._put_bytes, (at, width, "little"), width)
                match = Match(MatchKind.BYTES, False, put)
                other = (value - word) % whole
                if other and known.get(other, at) != at:
                    n += 1
                    yield match, width, [-other % whole, (wanted - other) % whole]
                elif 1 < word < value <= _MOST_FACTOR * word and value % word == 0:
                    factor = value // word
                    n += 1
                    yield match, width, [-(-whole // factor), wanted // factor]
                if n == _RESULTS_OF_ONE:
                    break

    def _words_of(self, width: int) -> list[tuple[int, int]]:
        """Return offset and value of those of the payload's first words that are not 0."""
        data = b"" if _TEXT.match(self.data) else self.data[: _RESULT_WORDS * width]
        words = [
            (at, int.from_bytes(data[at : at + width], "little"))
            for at in range(0, len(data) - width + 1, width)
            if at not in self._fixed
        ]
        return [(at, word) for at, word in words if word]

    @cached_property
    def counts(self) -> dict[int, int]:
        """The number of records by separator; empty if it cannot be changed."""
        return {} if self.rigid or not self.data else payload_metrics.counts(self.data)

    @cached_property
    def _lengths(self) -> dict[int, list[tuple[int, int]]]:
        return payload_metrics.lengths(self.data)

    @cached_property
    def _numbers(self) -> dict[int, list[payload_metrics.TextNumber]]:
        return payload_metrics.numbers(self.data)

    def put_records(self, separator: int, count: int) -> bytes | None:
        """Return the call with another number of records; None if that does not fit."""
        data = self.data
        if count < 1 or count * (len(data) // self.counts[separator]) > MAX_PAYLOAD:
            return None
        return self._with_payload(payload_metrics.resize_records(data, separator, count))

    def _with_payload(self, data: bytes) -> bytes | None:
        if len(data) > MAX_PAYLOAD:
            return None
        length = len(data).to_bytes(2, "little")
        return self.chunk[:16] + length + self.chunk[18 : self._body] + data

    def _splice(self, start: int, end: int, new: bytes) -> bytes | None:
        """Replace ``[start, end)`` of the payload; a rigid payload keeps its length."""
        data = self.data
        if self.rigid:
            new = new.ljust(end - start, b"\0")
            end = start + len(new)
            if end > len(data):
                return None
        return self._with_payload(data[:start] + new + data[end:])

    def _in_fields(self, value: int, size: int) -> Iterator[Match]:
        for at, bits in self._fields:
            field = int.from_bytes(self.chunk[at : at + bits // 8], "little")
            parts = ((0, bits), *_IOCTL_PARTS) if self.op == _IOCTL and at == 4 else ((0, bits),)
            for shift, width in parts:
                part = field >> shift & mask(width)
                # The driver may compare only the low part of a wider field.
                seen = part & mask(8 * size) if width > 8 * size else part
                if fit(value, 8 * size, width) != seen:
                    continue
                strong = value >= _SMALL or (value > 0 and width == bits)
                place = (at, bits, shift, min(width, 8 * size))
                put = partial(self._put_field, place, size)
                yield Match(MatchKind.FIELD, strong, put, is_name=len(parts) > 1 and width == bits)
        if self.op in _POSITIONED:
            seen = position_of(self.chunk) & mask(8 * size)
            if value == seen:
                yield Match(MatchKind.FIELD, value > 0, partial(self._put_position, size))
        if self.op == Op.MMAP and value:
            # The driver sees a length in whole pages, and may count in pages.
            pages = -(-int.from_bytes(self.chunk[8:16], "little") // PAGE)
            for unit in (1, PAGE):
                if value * unit == pages * PAGE:
                    yield Match(MatchKind.FIELD, True, partial(self._put_pages, unit))

    def _put_field(self, place: tuple[int, int, int, int], size: int, value: int) -> bytes | None:
        at, bits, shift, width = place
        new = fit(value, 8 * size, width)
        if new is None:
            return None
        end = at + bits // 8
        field = int.from_bytes(self.chunk[at:end], "little") & ~(mask(width) << shift)
        return (
            self.chunk[:at] + (field | new << shift).to_bytes(end - at, "little") + self.chunk[end:]
        )

    def _put_position(self, size: int, value: int) -> bytes | None:
        upper = position_of(self.chunk) & ~mask(8 * size)
        return with_position(self.chunk, upper | value)

    def _put_pages(self, unit: int, value: int) -> bytes | None:
        length = value * unit
        if length > mask(64):
            return None
        return self.chunk[:8] + length.to_bytes(8, "little") + self.chunk[16:]

    def _in_lengths(self, value: int) -> Iterator[Match]:
        data = self.data
        if value == len(data) and not self.rigid:
            yield Match(MatchKind.LENGTH, True, self._put_length)
        for start, end in self._lengths.get(value, ()):
            if value or not self.rigid:
                yield Match(MatchKind.LENGTH, value > 1, partial(self._put_span, start, end))

    def _put_length(self, value: int) -> bytes | None:
        if value > MAX_PAYLOAD:
            return None
        return self._with_payload(payload_metrics.resize_payload(self.data, value))

    def _put_span(self, start: int, end: int, value: int) -> bytes | None:
        if value > MAX_PAYLOAD:
            return None
        return self._splice(start, end, payload_metrics.resize(self.data[start:end], value))

    def _in_counts(self, value: int) -> Iterator[Match]:
        last = self.data[-1]
        for separator, count in self.counts.items():
            if count == value:
                strong = separator == last
                yield Match(MatchKind.COUNT, strong, partial(self.put_records, separator))

    def _in_text(self, value: int, size: int) -> Iterator[Match]:
        negative = value >> (8 * size - 1)
        for known in (value, value | mask(64) ^ mask(8 * size)) if negative else (value,):
            for number in self._numbers.get(known, ()):
                yield Match(MatchKind.TEXT, True, partial(self._put_number, number, size))

    def _put_number(
        self, number: payload_metrics.TextNumber, size: int, value: int
    ) -> bytes | None:
        return self._splice(number.start, number.end, number.text(value, size))

    def _in_bytes(self, value: int, size: int) -> Iterator[Match]:
        for width in (8, 4, 2, 1):
            low = fit(value, 8 * size, 8 * width) if width <= size else None
            if low is None:
                continue
            pattern = low.to_bytes(width, "little")
            narrow = width < size and width < 4
            if low >= _SMALL and low != mask(8 * width):
                places = self._find(pattern)
                yield from self._at(places, width, "little", size, strong=True)
                yield from self._at(self._find(pattern[::-1]), width, "big", size, strong=True)
                continue
            # A struct's 16-bit member may be compared as a wider number.
            if narrow and low <= 8 and not (width == 2 and self._is_struct):
                continue
            places = self._find_aligned(pattern)
            few = bool(low) and not narrow and len(places) <= _FEW
            yield from self._at(places, width, "little", size, strong=few)
            if width > 1 and low:
                places = self._find_aligned(pattern[::-1])
                yield from self._at(places, width, "big", size, strong=False)

    def _in_bits(self, value: int) -> Iterator[Match]:
        for member in self._bit_fields:
            if len(self.data) >= member.offset + member.size:
                known = member.read(self.data) & mask(member.bits)
                if known == value:
                    put = partial(self._put_bits, member)
                    yield Match(MatchKind.FIELD, value > 0, put)

    def _put_bits(self, member: Member, value: int) -> bytes | None:
        if value > mask(member.bits):
            return None
        data = bytearray(self.data)
        member.write(data, value)
        return self._with_payload(bytes(data))

    def _at(
        self, places: list[int], width: int, order: _Order, size: int, *, strong: bool
    ) -> Iterator[Match]:
        many = strong or width == size or self._is_struct
        for at in islice(places, _OCCURRENCES if many else 2):
            place = (at, width, order)
            yield Match(MatchKind.BYTES, strong, partial(self._put_bytes, place, size))

    def _find(self, pattern: bytes) -> list[int]:
        places: list[int] = []
        at = self.data.find(pattern)
        while at >= 0 and len(places) < _OCCURRENCES:
            if at not in self._fixed:
                places.append(at)
            at = self.data.find(pattern, at + 1)
        return places

    def _find_aligned(self, pattern: bytes) -> list[int]:
        width = len(pattern)
        index = self._aligned.get(width)
        if index is None:
            index = self._aligned[width] = {}
            data = self.data
            for at in range(0, min(len(data), _SEARCHED) - width + 1, width):
                if at not in self._fixed:
                    index.setdefault(data[at : at + width], []).append(at)
        return index.get(pattern, [])

    def _put_bytes(self, place: tuple[int, int, _Order], size: int, value: int) -> bytes | None:
        at, width, order = place
        low = fit(value, 8 * size, 8 * width)
        if low is None:
            return None
        return self._with_payload(
            self.data[:at] + low.to_bytes(width, order) + self.data[at + width :]
        )
