# SPDX-License-Identifier: Apache-2.0
"""The layout of a C struct, as the compiler sees it."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Literal


class MemberKind(enum.Enum):
    """The kind of a member's contents, as far as it matters for making values."""

    INTEGER = "integer"
    POINTER = "pointer"
    BYTES = "bytes"


@dataclass(frozen=True, slots=True)
class Member:
    """One member of a struct.

    Members of nested structs are listed with dotted names (``outer.inner``),
    members of anonymous ones as if they were the outer struct's own. Arrays
    are bytes, whatever their elements; so are floating point members, named
    unions, anonymous unions (``union_OFFSET``) and bit-fields, which are
    merged where they touch (``bits_OFFSET``).

    ``offset`` and ``size`` are in bytes. ``count`` is the number of array
    elements: 1 for a scalar, 0 for a flexible array member, whose size is 0.
    ``is_text`` tells that it is an array of characters, which a string can fill. ``of`` is
    the struct that a description says it has the address of.

    ``choices`` are the members of a union, or the one choice of bit-fields that are merged.
    A bit-field has ``bits`` of them, the first of which is number ``shift`` of those at
    ``offset``, the low ones first. ``is_big`` tells that the first byte is the high one.
    ``element`` is that of an array: a struct, or one without a name whose only member, without
    one as well, is a number. ``by`` is the member whose value tells the choice of a union,
    ``cases`` are the values with the names of the choices.
    """

    name: str
    offset: int
    size: int
    kind: MemberKind
    count: int = 1
    signed: bool = False
    is_text: bool = field(default=False, compare=False)
    of: StructLayout | None = field(default=None, compare=False)
    bits: int = 0
    shift: int = 0
    is_big: bool = False
    choices: tuple[UnionChoice, ...] = field(default=(), compare=False)
    element: StructLayout | None = field(default=None, compare=False)
    by: str = field(default="", compare=False)
    cases: tuple[tuple[int, str], ...] = field(default=(), compare=False)

    @property
    def is_union(self) -> bool:
        """True for a union."""
        return bool(self.choices) and not self.choices[0].members[0].bits

    @property
    def width(self) -> int:
        """Bits of an integer or a bit-field."""
        return self.bits or 8 * self.size

    def read(self, data: bytes) -> int:
        """Return the number that a struct's bytes have here, unsigned or as the type is."""
        order: Literal["big", "little"] = "big" if self.is_big else "little"
        number = int.from_bytes(data[self.offset : self.offset + self.size], order)
        number = number >> self.shift & (1 << self.width) - 1
        return number - (1 << self.width) if self.signed and number >> self.width - 1 else number

    def write(self, data: bytearray, number: int) -> None:
        """Put a number, cut to the width, into a struct's bytes; bits beside it stay."""
        number &= (1 << self.width) - 1
        end = self.offset + self.size
        if self.bits:
            known = int.from_bytes(data[self.offset : end], "little")
            number = known & ~((1 << self.bits) - 1 << self.shift) | number << self.shift
        data[self.offset : end] = number.to_bytes(self.size, "big" if self.is_big else "little")

    @property
    def is_pointer(self) -> bool:
        """True if the C type is a pointer."""
        return self.kind is MemberKind.POINTER

    @property
    def holds_address(self) -> bool:
        """True if an address fits: a pointer, or a 64-bit integer as UAPI headers use."""
        return self.kind is not MemberKind.BYTES and self.size == 8


@dataclass(frozen=True, slots=True)
class UnionChoice:
    """A member of a union, with its members, whose names and offsets are those of the struct."""

    name: str
    members: tuple[Member, ...]


@dataclass(frozen=True, slots=True)
class StructLayout:
    """A struct: its name without ``struct``, its size in bytes, its members by offset.

    ``keyword`` is what C writes in front of the name: ``struct``, ``union`` or, of a typedef,
    nothing. A union has one member, ``union_0``.
    """

    name: str
    size: int
    members: tuple[Member, ...]
    keyword: str = field(default="struct", compare=False)

    @property
    def is_number(self) -> bool:
        """True for a number alone, see :data:`NUMBERS`."""
        return self == NUMBERS.get(self.name)

    @property
    def c_type(self) -> str:
        """The type as C writes it."""
        return f"{self.keyword} {self.name}".lstrip()

    def named(self, name: str, keyword: str) -> StructLayout:
        """Return the same layout under another name."""
        return replace(self, name=name, keyword=keyword)

    def member(self, name: str) -> Member | None:
        """Return the member called ``name``, of a choice as well, or None."""
        return next((each for each in self.every() if each.name == name), None)

    def every(self) -> Iterator[Member]:
        """Yield all members in their order, behind a union those of its choices."""
        return every_member(self.members)


def every_member(members: Iterable[Member]) -> Iterator[Member]:
    """Yield members in their order, behind a union those of its choices."""
    for member in members:
        yield member
        for choice in member.choices:
            yield from every_member(choice.members)


def _numbers() -> Iterator[StructLayout]:
    for bits in (8, 16, 32, 64):
        for name in (f"__u{bits}", f"__s{bits}", f"__be{bits}"):
            signed, is_big = "s" in name, name.startswith("__be")
            size = bits // 8
            value = Member("value", 0, size, MemberKind.INTEGER, signed=signed, is_big=is_big)
            if not is_big or bits > 8:
                yield StructLayout(name, size, (value,), "")


NUMBERS = {each.name: each for each in _numbers()}
"""Numbers that a call takes the address of, by the names of <linux/types.h>.

They are described as structs with one member, ``value``.
"""


def layout_to_json(layout: StructLayout) -> list[Any]:
    """Return a layout as JSON has it."""
    return [layout.name, layout.size, [*map(_to_json, layout.members)], layout.keyword]


def _to_json(member: Member) -> list[Any]:
    element = layout_to_json(member.element) if member.element is not None else None
    choices = [[each.name, [*map(_to_json, each.members)]] for each in member.choices]
    m = member
    plain = [m.name, m.offset, m.size, m.kind.value, m.count, m.signed, m.is_text]
    return [*plain, m.bits, m.shift, m.is_big, choices, element]


def layout_from_json(content: list[Any]) -> StructLayout:
    """Return the layout of which ``content`` was made."""
    name, size, members, keyword = content
    return StructLayout(name, size, tuple(map(_from_json, members)), keyword)


def _from_json(content: list[Any]) -> Member:
    name, offset, size, kind, count, signed, is_text, bits, shift, is_big, choices, of = content
    return Member(
        name,
        offset,
        size,
        MemberKind(kind),
        count,
        signed,
        is_text,
        bits=bits,
        shift=shift,
        is_big=is_big,
        choices=tuple(
            UnionChoice(each, tuple(map(_from_json, members))) for each, members in choices
        ),
        element=layout_from_json(of) if of is not None else None,
    )
