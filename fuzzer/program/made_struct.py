# SPDX-License-Identifier: Apache-2.0
"""Structs in the making: their bytes, and the places in them that mean something."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeAlias

from fuzzer.program.choices import Seen
from fuzzer.program.links import Address, Link
from fuzzer.program.program import MAX_FIXUPS
from fuzzer.target.calls import CountField, LenField
from fuzzer.target.layout import Member


@dataclass(frozen=True, slots=True)
class WantedLength:
    """A length or count at a place, of a member of a struct around or before this one."""

    at: int
    member: Member
    rule: LenField | CountField


class Made:
    """A struct and what it points to, which begins at ``end``.

    Offsets of the addresses, links and lengths count from its start.
    """

    __slots__ = ("addresses", "data", "end", "links", "wanted")

    def __init__(self, data: bytearray) -> None:
        self.data = data
        self.end = 0
        self.addresses: list[Address] = []
        self.links: list[Link] = []
        self.wanted: list[WantedLength] = []

    @property
    def n_fixups(self) -> int:
        """The number of its fixups."""
        return len(self.addresses) + len(self.links)

    def take(self, other: Made, place: int, to: int) -> None:
        """Take over what another struct has, which is moved to ``place``, its buffers to ``to``."""
        end = other.end
        self.addresses += [moved(each, end, place, to) for each in other.addresses]
        for each in other.links:
            self.links.append(replace(each, at=each.at + (place if each.at < end else to - end)))
        for one in other.wanted:
            self.wanted.append(replace(one, at=one.at + (place if one.at < end else to - end)))


class StructState(Made):
    """A payload in the making.

    ``lengths`` are the lengths in bytes of the members' content, ``counts`` the numbers of
    structs or elements that they have or point to; ``cases`` are the values of the members that
    tell the choices of unions. There is ``room`` for so many further fixups. ``later`` adds the
    buffers that elements at the end point to.
    """

    __slots__ = ("cases", "counts", "later", "lengths", "room")

    def __init__(self, data: bytearray, lengths: dict[str, int], room: int = MAX_FIXUPS) -> None:
        # One is made for each struct: all is set here.
        self.data = data
        self.end = 0
        self.addresses = []
        self.links = []
        self.wanted = []
        self.lengths = lengths
        self.counts: dict[str, int] = {}
        self.cases: dict[str, int] = {}
        self.room = room
        self.later: list[Callable[[], None]] = []


StructSetter: TypeAlias = Callable[[StructState, Seen], None]
"""Sets a member of a struct in the making."""


def moved(address: Address, end: int, place: int, to: int) -> Address:
    """Return an address of a struct that is moved to ``place`` and its buffers to ``to``."""
    at = address.at + (place if address.at < end else to - end)
    return Address(at, address.to + (place if address.to < end else to - end), address.is_low)
