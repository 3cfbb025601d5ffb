# SPDX-License-Identifier: Apache-2.0
"""The layout of a C struct, as the compiler sees it."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field, replace
from typing import Any


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
    """

    name: str
    offset: int
    size: int
    kind: MemberKind
    count: int = 1
    signed: bool = False
    is_text: bool = field(default=False, compare=False)
    of: StructLayout | None = field(default=None, compare=False)

    @property
    def is_pointer(self) -> bool:
        """True if the C type is a pointer."""
        return self.kind is MemberKind.POINTER

    @property
    def holds_address(self) -> bool:
        """True if an address fits: a pointer, or a 64-bit integer as UAPI headers use."""
        return self.kind is not MemberKind.BYTES and self.size == 8


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
    def c_type(self) -> str:
        """The type as C writes it."""
        return f"{self.keyword} {self.name}".lstrip()

    def named(self, name: str, keyword: str) -> StructLayout:
        """Return the same layout under another name."""
        return replace(self, name=name, keyword=keyword)

    def member(self, name: str) -> Member | None:
        """Return the member called ``name``, or None."""
        for member in self.members:
            if member.name == name:
                return member
        return None


def layout_to_json(layout: StructLayout) -> list[Any]:
    """Return a layout as JSON has it."""
    members = [
        [m.name, m.offset, m.size, m.kind.value, m.count, m.signed, m.is_text]
        for m in layout.members
    ]
    return [layout.name, layout.size, members, layout.keyword]


def layout_from_json(content: list[Any]) -> StructLayout:
    """Return the layout of which ``content`` was made."""
    name, size, members, keyword = content
    made = [
        Member(each, offset, length, MemberKind(kind), count, signed, is_text)
        for each, offset, length, kind, count, signed, is_text in members
    ]
    return StructLayout(name, size, tuple(made), keyword)
