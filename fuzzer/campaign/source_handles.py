# SPDX-License-Identifier: Apache-2.0
"""Kinds of handles of a description, of what a driver's source tells of numbers.

A handle that nothing in the driver gives, or one that nothing takes, is none in a description.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from fuzzer.driver.source.interface import DriverEntry, GivenNumber, Interface, Operand
from fuzzer.target.calls import FD

_RETURN = ("return",)
_ENDING = re.compile(
    r"(?:_?(?:idrs?|idas?|xas?|xarray|table|tree|list|map|fops|ops|file_operations))+\Z"
)
_UNNAMED = re.compile(r"\W+", re.ASCII)
_ID, _MADE, _FOUND = "id:", "made:", "found:"


def _places(interface: Interface) -> Iterator[tuple[Operand, tuple[str, ...], str, str]]:
    """Yield operands with the path of a number in each, what it takes and what it gives."""
    for entry in interface.entries:
        for operand in (entry.operand, *(each.operand for each in entry.ioctls)):
            yield operand, _RETURN, "", operand.gives
            for number in operand.numbers:
                # In a call that gives a number nothing can be looked up by it.
                takes = "" if _gives_id(number.gives) else number.takes
                if is_said_otherwise(number):
                    takes, gives = _told(takes), _told(number.gives)
                else:
                    gives = number.gives
                yield operand, number.path, takes, gives


def _gives_id(kind: str) -> bool:
    return kind.startswith((_ID, _MADE, FD)) or kind == "id"


def is_said_otherwise(number: GivenNumber) -> bool:
    """Tell whether constants say what a number is, which is then no handle by its looks alone."""
    constants = {value for value, _ in (*number.values, *number.required)} - {0}
    return bool(constants or number.masks or {limit for _, limit in number.bounds} - {0})


def _told(kind: str) -> str:
    """Return a kind that is told by more than a number of the driver's own."""
    return "" if kind.startswith((_MADE, _FOUND)) else kind


class HandleKinds:
    """The kinds of handles that numbers of a driver's callers are."""

    def __init__(self, interface: Interface) -> None:
        self._files = _file_kinds(interface)
        places = list(_places(interface))
        given = {(path, gives) for _, path, _, gives in places if gives}
        taken = {(path, takes) for _, path, takes, _ in places if takes}
        self._kinds: dict[tuple[tuple[str, ...], str], str] = {}
        for path, takes in sorted(taken):
            for giving in _givers(path, takes, given):
                kind = self._kinds.get(giving) or _kind(giving, (path, takes))
                self._kinds[giving] = self._kinds[path, takes] = kind
        # What is compared with the same member is the same, whatever the caller calls it.
        by_member = {takes: kind for (_, takes), kind in self._kinds.items()}
        for path, takes in taken:
            if takes.startswith(_FOUND) and takes in by_member:
                self._kinds.setdefault((path, takes), by_member[takes])

    def taken(self, path: tuple[str, ...], takes: str, gives: str = "") -> str:
        """Return the kind that a number takes; empty if it is none of a description's."""
        if takes == FD:
            return FD
        return "" if self.given(path, gives) else self._kinds.get((path, takes), "")

    def given(self, path: tuple[str, ...], gives: str) -> str:
        """Return the kind that a number gives; empty if it is none of a description's."""
        if gives.startswith(f"{FD}:"):
            return self._files.get(gives.removeprefix(f"{FD}:"), "")
        return self._kinds.get((path, gives), "")

    def returned(self, operand: Operand) -> str:
        """Return the kind that a call returns."""
        return self.given(_RETURN, operand.gives)

    def file_of(self, entry: DriverEntry) -> str:
        """Return the kind of file that an entry is for, empty for the driver's own files."""
        return self._files.get(entry.table, "")


def _file_kinds(interface: Interface) -> dict[str, str]:
    """Return the kinds of files that descriptors are of, by their tables."""
    gives = {gives for _, _, _, gives in _places(interface) if gives.startswith(f"{FD}:")}
    tables = {each.removeprefix(f"{FD}:") for each in gives}
    found = {each.table for each in interface.entries} & tables
    return {table: _plain(table) or "file" for table in sorted(found)}


def _givers(
    path: tuple[str, ...], takes: str, given: set[tuple[tuple[str, ...], str]]
) -> list[tuple[tuple[str, ...], str]]:
    """Return where the numbers come from that a number can be, the best told."""
    ids = [each for each in sorted(given) if _gives_id(each[1]) and not each[1].startswith(FD)]
    made = [each for each in ids if not each[1].startswith(_MADE)]
    if takes == "id" or takes.startswith(_ID):
        same = [each for each in made if each[1] == takes]
        return same or made
    if not takes.startswith(_FOUND):
        return []
    member = takes.removeprefix(_FOUND)
    alike = [each for each in ids if each[1] == f"{_MADE}{member}"]
    named = [each for each in ids if each[0][-1] == path[-1] and path[-1].isidentifier()]
    # A version or a state that is told and compared is no handle: they are ids if they are made.
    return [*dict.fromkeys((*alike, *named))] or made


def _kind(giving: tuple[tuple[str, ...], str], taking: tuple[tuple[str, ...], str]) -> str:
    """Return a name for a kind."""
    _, _, container = giving[1].partition(":")
    if giving[1].startswith(_ID) and _plain(container):
        return _plain(container)
    name = taking[0][-1]
    if not name.isidentifier():
        name = taking[1].partition(":")[2]
    return _plain(name) or "id"


def _plain(name: str) -> str:
    """Return a name without what only tells that it is a table; empty if nothing is left."""
    name = _UNNAMED.sub("_", name.partition("#")[0])
    return _ENDING.sub("", name).strip("_")
