# SPDX-License-Identifier: Apache-2.0
"""State of a driver's variables while its source is followed: what they hold of the caller's."""

from __future__ import annotations

from collections.abc import Iterator

from fuzzer.driver.source.program import SourceProgram, Table
from fuzzer.driver.source.tree import CType, Sort
from fuzzer.driver.source.values import (
    OF,
    AddressOf,
    Functions,
    Given,
    Handle,
    IoctlNumber,
    Path,
    Rows,
    SourcePlace,
    SourceValue,
    User,
)

_GLOBAL = "global:"
_COMMAND: Path = ("arg", OF)
REQUEST = SourcePlace("request")
"""A ``struct io_uring_cmd``, which a driver is handed."""

COMMAND = AddressOf(Given(_COMMAND))
"""The address of the command in it, which the caller gives."""

_SQE = SourcePlace("submitted")
_LONGEST = 12


class SourceState:
    """Values of places, and the memory of the caller's that they are copies of."""

    def __init__(self, program: SourceProgram) -> None:
        self._tables: dict[str, Table] = {
            f"{_GLOBAL}{name}": each for name, each in program.tables.items()
        }
        self._values: dict[SourcePlace, SourceValue] = {
            REQUEST.part("cmd_op"): IoctlNumber(),
            REQUEST.part("cmd"): COMMAND,
            REQUEST.part("sqe"): AddressOf(_SQE),
        }
        self._copies: dict[SourcePlace, Path] = {_SQE.part("cmd"): _COMMAND}

    def table(self, root: str) -> Table | None:
        """Return the table that a variable is."""
        return self._tables.get(root)

    def add_table(self, root: str, made: Table) -> None:
        """Make known a table that is a variable of a function's."""
        self._tables[root] = made

    def load(self, place: SourcePlace | Given, kind: CType) -> SourceValue:
        """Return what is at a place, which is of a type."""
        if kind.sort is Sort.ARRAY:
            return AddressOf(place)
        if isinstance(place, Given):
            return User(place.path)
        if place in self._values:
            return self._values[place]
        if (path := self.copied(place)) is not None:
            return User(path)
        if (table := self._tables.get(place.root)) is not None and place.path:
            if table.is_array:
                return Rows(place.root, place.path)
            found = table.rows[0].members.get(place.path)
            if found is not None:
                return found
        if kind.sort is Sort.POINTER and len(place.path) < _LONGEST:
            return AddressOf(place.part(OF))
        return None

    def copied(self, place: SourcePlace | Given) -> Path | None:
        """Return what of the caller's memory a place is a copy of."""
        if isinstance(place, Given):
            return place.path
        for end in range(len(place.path), -1, -1):
            known = self._copies.get(SourcePlace(place.root, place.path[:end]))
            if known is not None:
                return (*known, *place.path[end:])
        return None

    def store(self, place: SourcePlace, value: SourceValue) -> None:
        """Note what is put at a place."""
        self._values[place] = value
        self._copies.pop(place, None)

    def copy(self, place: SourcePlace, path: Path) -> None:
        """Note that a place becomes a copy of memory of the caller's."""
        for known in [each for each in self._values if _is_in(each, place)]:
            del self._values[known]
        self._copies[place] = path

    def move(self, to: SourcePlace, source: SourcePlace | Given) -> None:
        """Note that a struct is copied."""
        if (path := self.copied(source)) is not None:
            self.copy(to, path)
        elif isinstance(source, SourcePlace):
            for known, value in [*self._values.items()]:
                if _is_in(known, source):
                    self._values[to.part(*known.path[len(source.path) :])] = value

    def handles(self, place: SourcePlace) -> Iterator[tuple[Path, Handle]]:
        """Yield the handles that a struct has, with the members that lead to them."""
        for known, value in self._values.items():
            if isinstance(value, Handle) and _is_in(known, place):
                yield known.path[len(place.path) :], value


def global_place(name: str) -> SourcePlace:
    """Return the place of a variable of the whole driver."""
    return SourcePlace(f"{_GLOBAL}{name}")


def global_name(place: SourcePlace) -> str:
    """Return the name of a variable of the whole driver; empty for another place."""
    return place.root.removeprefix(_GLOBAL) if place.root.startswith(_GLOBAL) else ""


def _is_in(place: SourcePlace, whole: SourcePlace) -> bool:
    return place.root == whole.root and place.path[: len(whole.path)] == whole.path


def called(value: SourceValue) -> tuple[str, ...]:
    """Return the functions that a value may be."""
    return value.names if isinstance(value, Functions) else ()
