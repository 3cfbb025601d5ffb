# SPDX-License-Identifier: Apache-2.0
"""Links between the calls of a program: numbers that one call gives and a later one takes.

In the wire form they are among the fixups; vm/channel.h has the rules.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass

from fuzzer.program.program import Fixup
from fuzzer.program.wire import FIXUP, FIXUP_SIZE, HEADER_SIZE

N_HANDLES = 8
"""The number of handles of a program (W_N_HANDLES)."""

LOW = 0xE000
"""Least ``to`` of a fixup that is an address of 4 bytes; the excess is its target (W_LOW)."""

LINK = 0xF000
"""Least ``to`` of a fixup that is a link (W_LINK)."""

CALL = 0xFFFF
"""``at`` of a link to the call's result or argument (W_LINK_CALL)."""

WIDE = 0x80
"""Bit of ``to``: the place has 8 bytes (W_LINK_WIDE)."""

FILE = 0x40
"""Bit of ``to``: the link takes the descriptor of a file (W_LINK_FILE)."""

_KIND_SHIFT = 8


class LinkKind(enum.IntEnum):
    """Kinds of links (``enum w_link``)."""

    GIVE = 0
    TAKE = 1
    TAKE_NEXT = 2
    TAKE_LAST = 3


@dataclass(frozen=True, slots=True)
class Link:
    """A link of a call: to a handle, or with ``is_file`` to the descriptor of a file.

    ``at`` is an offset in its buffer, of 4 bytes or if ``is_wide`` of 8; or it is CALL:
    the call then gives its result, or takes its argument.
    """

    kind: LinkKind
    at: int
    number: int
    is_wide: bool = False
    is_file: bool = False

    @property
    def size(self) -> int:
        """Bytes of the buffer."""
        return 8 if self.is_wide else 4

    def fixup(self) -> Fixup:
        """Return the link as a call has it."""
        flags = WIDE * self.is_wide | FILE * self.is_file
        return Fixup(self.at, LINK | self.kind << _KIND_SHIFT | flags | self.number)


@dataclass(frozen=True, slots=True)
class Address:
    """The address of ``data[to]`` at ``data[at]``, of 8 bytes or if ``is_low`` of 4."""

    at: int
    to: int
    is_low: bool = False

    @property
    def size(self) -> int:
        """Bytes of the buffer."""
        return 4 if self.is_low else 8

    def fixup(self) -> Fixup:
        """Return the address as a call has it; one that is too far to say becomes the farthest."""
        most = LINK - 1 - LOW if self.is_low else LOW - 1
        return Fixup(self.at, min(self.to, most) + LOW * self.is_low)


def address_of(fixup: Fixup) -> Address | None:
    """Return the address that a fixup is; None if it is a link."""
    if fixup.to >= LINK:
        return None
    is_low = fixup.to >= LOW
    return Address(fixup.at, fixup.to - LOW * is_low, is_low)


def link_of(fixup: Fixup) -> Link | None:
    """Return the link that a fixup is; None if it is an address."""
    if fixup.to < LINK:
        return None
    kind = LinkKind((fixup.to >> _KIND_SHIFT) % 16 % len(LinkKind))
    is_file = bool(fixup.to & FILE) and kind is not LinkKind.GIVE
    is_wide = bool(fixup.to & WIDE) and fixup.at != CALL
    return Link(kind, fixup.at, fixup.to % N_HANDLES, is_wide, is_file)


def addresses(fixups: Iterable[Fixup]) -> tuple[Address, ...]:
    """Return the fixups that are addresses."""
    return tuple(address for fixup in fixups if (address := address_of(fixup)))


def addresses_of(chunk: bytes) -> tuple[Address, ...]:
    """Return the addresses of a call in wire form."""
    return addresses(fixups_of(chunk)) if chunk[3] else ()


def fixups_of(chunk: bytes) -> list[Fixup]:
    """Return the fixups of a call in wire form."""
    body = HEADER_SIZE + FIXUP_SIZE * chunk[3]
    return [Fixup(at, to) for at, to in FIXUP.iter_unpack(chunk[HEADER_SIZE:body])]


def links(fixups: Iterable[Fixup]) -> list[Link]:
    """Return the fixups that are links."""
    return [link for fixup in fixups if (link := link_of(fixup))]


def in_buffer(fixups: Iterable[Fixup]) -> tuple[Fixup, ...]:
    """Return the fixups, links and addresses, that are in a call's buffer."""
    return tuple(fixup for fixup in fixups if fixup.at != CALL or fixup.to < LINK)


def of_call(fixups: Iterable[Fixup]) -> tuple[Fixup, ...]:
    """Return the links with a call's result and argument."""
    return tuple(fixup for fixup in fixups if fixup.at == CALL and fixup.to >= LINK)
