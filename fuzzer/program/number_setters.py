# SPDX-License-Identifier: Apache-2.0
"""Setters of the numbers in a struct: values, ranges, flags, lengths and counts."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

from fuzzer.program.choices import Seen, integer_chooser
from fuzzer.program.made_struct import StructSetter, StructState, WantedLength
from fuzzer.target.calls import (
    CountField,
    Field,
    FlagsField,
    LenField,
    RangeField,
    ValuesField,
)
from fuzzer.target.field_parser import PARENT
from fuzzer.target.layout import Member, StructLayout

UNSPECIFIED = 0.3
"""Share of members without a description that are not zero."""

_OUT_OF_RANGE = 0.05
"""Share of numbers outside of the range that the description has for them."""

_LIE = 0.06
"""Share of lengths and counts that are not the true ones."""

_FEW_FLAGS = 0.5
"""Share of flags that are one or none of those there are; others are any of them."""

_FEW = 1 << 8
"""The most values of a number, mostly a bit-field, of which all are tried alike."""


class NumberSetters:
    """Makes the setters of one struct's numbers."""

    def __init__(self, rng: random.Random, layout: StructLayout) -> None:
        self._random = rng.random
        self._integer = integer_chooser(rng)
        self._layout = layout
        self._size = layout.size

    def _writer(self, member: Member) -> Callable[[StructState, int], None]:
        """Return what puts a number, cut to its width, at a member."""
        start, size = member.offset, member.size
        end, mask = start + size, (1 << (8 * size)) - 1
        if member.bits or member.is_big:
            return lambda state, value: member.write(state.data, value)

        def write(state: StructState, value: int) -> None:
            state.data[start:end] = (value & mask).to_bytes(size, "little")

        return write

    def setter(self, member: Member, rule: Field | None) -> StructSetter:
        """Return what sets a number as its rule says, or to any."""
        rand, choose, write = self._random, self._integer, self._writer(member)
        if isinstance(rule, LenField | CountField):
            return self._length(member, rule)
        if isinstance(rule, ValuesField):
            values = rule.values
            return lambda state, seen: write(state, values[int(rand() * len(values))])
        if isinstance(rule, FlagsField):
            return self._flags(rule, write)
        if isinstance(rule, RangeField):
            low, align = rule.low, rule.align
            span = (rule.high - low) // align + 1

            def put_range(state: StructState, seen: Seen) -> None:
                value = low + align * min(int(rand() * span), span - 1)
                write(state, choose() if rand() < _OUT_OF_RANGE else value)

            return put_range
        limit = 1 << member.width

        def put_any(state: StructState, seen: Seen) -> None:
            value = choose() if rand() < UNSPECIFIED else 0
            # Most numbers at limits are none of a bit-field's, which are few.
            if value >= limit and limit < _FEW:
                value = int(rand() * limit)
            write(state, value)

        return put_any

    def _flags(self, rule: FlagsField, write: Callable[[StructState, int], None]) -> StructSetter:
        rand, choose, flags = self._random, self._integer, rule.flags

        def put(state: StructState, seen: Seen) -> None:
            kind = rand()
            if kind < _OUT_OF_RANGE:
                value = choose()
            elif kind < _FEW_FLAGS:
                one = int(rand() * (len(flags) + 1))
                value = flags[one] if one < len(flags) else 0
            else:
                value = 0
                for flag in flags:
                    value = value | flag if rand() < 0.5 else value
            write(state, value)

        return put

    def _length(self, member: Member, rule: LenField | CountField) -> StructSetter:
        offset, write = member.offset, self._writer(member)
        if self._layout.member(rule.of) is None and rule.of != PARENT:
            placed = replace(member, offset=0)
            return lambda state, seen: state.wanted.append(WantedLength(offset, placed, rule))
        number = self._teller(rule)
        return lambda state, seen: write(state, number(state))

    def settle(self, state: StructState, one: WantedLength) -> None:
        """Put a length of one of these members where a struct inside wants it, if it is one."""
        if self._layout.member(one.rule.of) is None:
            state.wanted.append(one)
            return
        end = one.at + one.member.size
        data = state.data[one.at : end]
        one.member.write(data, self._teller(one.rule)(state))
        state.data[one.at : end] = data

    def _teller(self, rule: LenField | CountField) -> Callable[[StructState], int]:
        """Return what tells the length or the count of a member, mostly the true one."""
        rand, integer, name = self._random, self._integer, rule.of
        of = self._layout.member(name)
        capacity = of.size if of is not None else self._size
        counts = isinstance(rule, CountField)
        unit = 1 if isinstance(rule, CountField) else rule.unit

        def number(state: StructState) -> int:
            if counts:
                value = state.counts.get(name, 0)
            else:
                value = state.end if of is None else state.lengths.get(name, 0)
                if unit > 1:
                    value //= unit
            kind = rand()
            if kind < _LIE:
                lies = (value + 1, value - 1, 0, capacity, capacity + 1, integer())
                value = lies[int(kind * 100)]
            return value

        return number
