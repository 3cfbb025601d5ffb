# SPDX-License-Identifier: Apache-2.0
"""Values of a driver's expressions, as far as the caller of the driver decides about them.

A path names what the caller gives: it begins with the operand of the call (``arg``, ``buf``,
``count``), ``*`` is what an address is of, then there are members: ``("arg", "*", "size")``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

Path: TypeAlias = tuple[str, ...]
OF = "*"
"""Step of a path from an address to the memory that it is of."""

ELEMENT = "[]"
"""Any element of an array that is a member."""

_ALL = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class SourcePlace:
    """A variable, or what is allocated at some place, and the members that lead to a part of it."""

    root: str
    path: Path = ()

    def part(self, *names: str) -> SourcePlace:
        """Return a part of it."""
        return SourcePlace(self.root, (*self.path, *names))


@dataclass(frozen=True, slots=True)
class Given:
    """Memory of the caller, as a place of it."""

    path: Path

    def part(self, *names: str) -> Given:
        """Return a part of it."""
        return Given((*self.path, *names))


@dataclass(frozen=True, slots=True)
class Constant:
    """A constant."""

    number: int


@dataclass(frozen=True, slots=True)
class Text:
    """A string literal."""

    text: bytes


@dataclass(frozen=True, slots=True)
class IoctlNumber:
    """The ioctl's number, or a part of it: ``(number >> shift) & mask``."""

    shift: int = 0
    mask: int = _ALL

    def equal(self, number: int) -> Key:
        """Return what is known of the number if this is ``number``."""
        number &= _ALL
        if not self.shift and self.mask.bit_count() >= 16:
            return Key(_ALL, number)
        return Key(self.mask << self.shift & _ALL, number << self.shift & _ALL)


@dataclass(frozen=True, slots=True)
class Key:
    """Knowledge of an ioctl's number: it is ``value`` where ``mask`` has ones."""

    mask: int
    value: int

    @property
    def is_whole(self) -> bool:
        """True if the number is known."""
        return self.mask == _ALL

    def both(self, other: Key) -> Key | None:
        """Return what is known if both are true; None if they contradict each other."""
        common = self.mask & other.mask
        if self.value & common != other.value & common:
            return None
        return Key(self.mask | other.mask, self.value | other.value)

    def covers(self, other: Key) -> bool:
        """Return True if it says no more than another one, and nothing else."""
        return self.mask & other.mask == self.mask and other.value & self.mask == self.value


@dataclass(frozen=True, slots=True)
class User:
    """A number or an address that the caller gives."""

    path: Path


@dataclass(frozen=True, slots=True)
class Size:
    """A number made from one of the caller's: ``factor`` times that, and ``more``."""

    path: Path
    factor: int = 1
    more: int = 0


@dataclass(frozen=True, slots=True)
class AddressOf:
    """The address of a place, of the driver's or of the caller's memory."""

    of: SourcePlace | Given


@dataclass(frozen=True, slots=True)
class Rows:
    """The member ``path`` of any row of a table."""

    table: str
    path: Path = ()


@dataclass(frozen=True, slots=True)
class Functions:
    """One of some functions."""

    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Handle:
    """A number that the driver makes, and takes again later: of ``kind`` ``fd`` a descriptor."""

    kind: str


SourceValue: TypeAlias = (
    Constant | Text | IoctlNumber | User | Size | AddressOf | Rows | Functions | Handle | None
)
Context: TypeAlias = frozenset[Key] | None
"""The ioctls that lead to a statement; None for any."""


def narrowed(context: Context, keys: Iterable[Key] | None) -> Context:
    """Return a context in which the number is one of ``keys`` as well; None says nothing."""
    if keys is None:
        return context
    keys = frozenset(keys)
    if context is None:
        return keys
    found = (a.both(b) for a in context for b in keys)
    return frozenset(each for each in found if each is not None)


def address_of(value: SourceValue) -> SourcePlace | Given | None:
    """Return the place that a value is the address of."""
    if isinstance(value, AddressOf):
        return value.of
    if isinstance(value, User):
        return Given((*value.path, OF))
    return None


def size_of(value: SourceValue) -> Size | None:
    """Return a number of the caller's, however it is made."""
    if isinstance(value, User):
        return Size(value.path)
    return value if isinstance(value, Size) else None
