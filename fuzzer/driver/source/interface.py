# SPDX-License-Identifier: Apache-2.0
"""The interface of a driver as its source tells it: a plain record, and its JSON form."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Length:
    """A length in bytes: of another member or operand, times ``factor``, and ``more``."""

    path: tuple[str, ...]
    factor: int = 1
    more: int = 0


@dataclass(frozen=True, slots=True)
class GivenMemory:
    """Memory that an address of the caller's is of.

    ``record`` is a struct, a union or a typedef of one, ``size`` that of it (or of the number
    or bytes that it is) in bytes, 0 if it is not known; ``length`` tells how much there is.
    """

    path: tuple[str, ...]
    record: str = ""
    size: int = 0
    length: Length | None = None
    is_read: bool = False
    is_written: bool = False
    is_text: bool = False
    texts: tuple[str, ...] = ()
    formats: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class GivenNumber:
    """A number that the caller gives: what it is compared with, and what it stands for.

    ``values``, ``required`` (any other ends the call) and ``masks`` are constants with their
    names ("" without one), ``bounds`` operators and constants. ``takes`` and ``gives`` are
    kinds of handles: ``fd`` and, behind a colon, the table of such files; ``id`` and what it is
    made and looked up in; ``found`` and ``made`` with the driver's member that it is compared
    with or comes from; ``pid``; or a time that is waited for.
    """

    path: tuple[str, ...]
    values: tuple[tuple[int, str], ...] = ()
    required: tuple[tuple[int, str], ...] = ()
    masks: tuple[tuple[int, str], ...] = ()
    bounds: tuple[tuple[str, int], ...] = ()
    takes: str = ""
    gives: str = ""


@dataclass(frozen=True, slots=True)
class Operand:
    """Operands of a call: memory and numbers, by path.

    ``gives`` is the kind of the handle that it returns; ``unclear`` are functions of the
    kernel that it is given to. ``cases`` are paths of what is looked at only where a number, by
    its path, has a value.
    """

    memory: tuple[GivenMemory, ...] = ()
    numbers: tuple[GivenNumber, ...] = ()
    gives: str = ""
    unclear: tuple[str, ...] = ()
    cases: tuple[tuple[tuple[str, ...], tuple[str, ...], int], ...] = ()


@dataclass(frozen=True, slots=True)
class Ioctl:
    """An ioctl. Of ``number`` the bits in ``mask`` are known; ``name`` is its macro's, or ""."""

    number: int
    mask: int
    name: str
    file: str
    line: int
    operand: Operand


@dataclass(frozen=True, slots=True)
class DriverEntry:
    """A function that the kernel calls for a file: ``member`` of the table ``table``."""

    table: str
    record: str
    member: str
    function: str
    ioctls: tuple[Ioctl, ...] = ()
    operand: Operand = Operand()
    is_whole: bool = True


@dataclass(frozen=True, slots=True)
class Registered:
    """A file that the driver makes: what registers it, its name, and its table."""

    how: str
    name: str
    table: str


@dataclass(frozen=True, slots=True)
class Unread:
    """Something that could not be read, and where it is."""

    file: str
    line: int
    text: str


@dataclass(frozen=True, slots=True)
class Interface:
    """All that the source tells."""

    entries: tuple[DriverEntry, ...] = ()
    files: tuple[Registered, ...] = ()
    unread: tuple[Unread, ...] = ()


NOTHING = Interface()
"""The interface of a driver whose source was not read."""


def to_json(interface: Interface) -> dict[str, Any]:
    """Return it as JSON has it."""
    return dataclasses.asdict(interface)


def from_json(content: dict[str, Any]) -> Interface:
    """Return the interface of which ``content`` was made."""
    return Interface(
        tuple(map(_entry, content["entries"])),
        tuple(Registered(**each) for each in content["files"]),
        tuple(Unread(**each) for each in content["unread"]),
    )


def _entry(content: dict[str, Any]) -> DriverEntry:
    ioctls = tuple(
        Ioctl(**{**each, "operand": _operand(each["operand"])}) for each in content["ioctls"]
    )
    return DriverEntry(**{**content, "ioctls": ioctls, "operand": _operand(content["operand"])})


def _operand(content: dict[str, Any]) -> Operand:
    return Operand(
        tuple(map(_memory, content["memory"])),
        tuple(map(_number, content["numbers"])),
        content["gives"],
        tuple(content["unclear"]),
        tuple((tuple(path), tuple(by), number) for path, by, number in content["cases"]),
    )


def _memory(content: dict[str, Any]) -> GivenMemory:
    length = content["length"]
    if length is not None:
        length = Length(tuple(length["path"]), length["factor"], length["more"])
    lists = {name: tuple(content[name]) for name in ("path", "texts", "formats")}
    return GivenMemory(**{**content, **lists, "length": length})


def _number(content: dict[str, Any]) -> GivenNumber:
    pairs = {
        name: tuple((a, b) for a, b in content[name])
        for name in ("values", "required", "masks", "bounds")
    }
    return GivenNumber(**{**content, **pairs, "path": tuple(content["path"])})
