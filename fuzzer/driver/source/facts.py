# SPDX-License-Identifier: Apache-2.0
"""Facts about what the caller of a driver gives, by the ioctls and by the paths they are of."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TypeAlias

from fuzzer.driver.source.tree import CType
from fuzzer.driver.source.values import Context, Key, Path, Size

RETURNED: Path = ("return",)
"""Path of what an entry returns."""

MADE_FILE: Path = ("file",)
"""Path of a file that is made for a descriptor; it gives the table of that."""


@dataclass(slots=True)
class Fact:
    """Knowledge of a number, or of memory, of the caller's.

    ``types`` are weighted. ``sizes`` are those of copies, in bytes: constants or numbers of
    the caller's. ``bounds`` are operators and the constants compared with.
    """

    types: dict[CType, int] = field(default_factory=dict)
    sizes: set[int | Size] = field(default_factory=set)
    is_read: bool = False
    is_written: bool = False
    is_text: bool = False
    values: dict[int, str] = field(default_factory=dict)
    required: dict[int, str] = field(default_factory=dict)
    masks: dict[int, str] = field(default_factory=dict)
    bounds: set[tuple[str, int]] = field(default_factory=set)
    texts: set[bytes] = field(default_factory=set)
    formats: set[bytes] = field(default_factory=set)
    takes: str = ""
    gives: str = ""
    passed_to: set[str] = field(default_factory=set)

    def add(self, other: Fact) -> None:
        """Take over what another one says."""
        for each, weight in other.types.items():
            self.types[each] = self.types.get(each, 0) + weight
        self.sizes |= other.sizes
        self.is_read |= other.is_read
        self.is_written |= other.is_written
        self.is_text |= other.is_text
        self.values = {**other.values, **self.values}
        self.required = {**other.required, **self.required}
        self.masks = {**other.masks, **self.masks}
        self.bounds |= other.bounds
        self.texts |= other.texts
        self.formats |= other.formats
        self.takes = self.takes or other.takes
        self.gives = self.gives or other.gives
        self.passed_to |= other.passed_to


SourceFacts = dict[Path, Fact]

Case: TypeAlias = tuple[Path, Path, int]
"""The path of what is looked at only where a number of the caller's has a value, and those."""


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """Something that could not be read, and where it is."""

    file: str
    line: int
    text: str


class Notes:
    """Findings about one entry of a driver: facts, by context; ioctls; problems."""

    def __init__(self) -> None:
        self._facts: dict[Key | None, SourceFacts] = defaultdict(dict)
        self._same: dict[Key, Key] = {}
        self._cases: dict[Key | None, set[Case]] = defaultdict(set)
        self.commands: dict[Key, tuple[str, str, int]] = {}
        self.problems: set[Problem] = set()
        # If something of the entry is unclear, there may be more ioctls.
        self.is_whole = True

    def command(self, key: Key, name: str, place: tuple[str, int]) -> None:
        """Note an ioctl, with its macro's name ("" if it is not known) and its place."""
        # What says nothing of its lowest byte, which numbers the ioctls of a driver, is none.
        if key.mask & 0xFF:
            known = self.commands.get(key)
            if known is None or (name and not known[0]):
                self.commands[key] = (name, *place)

    def facts(self, context: Context, path: Path) -> list[Fact]:
        """Return the facts to add to."""
        keys: list[Key | None] = [None] if context is None else [*context]
        return [self._facts[key].setdefault(path, Fact()) for key in keys]

    def case(self, context: Context, case: Case) -> None:
        """Note what is looked at only where a number has a value."""
        keys: list[Key | None] = [None] if context is None else [*context]
        for key in keys:
            self._cases[key].add(case)

    def cases(self, key: Key | None) -> set[Case]:
        """Return the cases of an ioctl, or without one those of every call."""
        found = set(self._cases.get(None, ()))
        for known, cases in self._cases.items():
            if known is not None and key is not None and known.covers(key):
                found |= cases
        return found

    def same(self, context: Context, number: int) -> None:
        """Note that some ioctls are handled as another one is."""
        for key in context or ():
            self._same[key] = Key(0xFFFFFFFF, number & 0xFFFFFFFF)

    def of(self, key: Key | None) -> SourceFacts:
        """Return all that is true of an ioctl, or without one of every call."""
        found: SourceFacts = {}
        for known, facts in self._facts.items():
            other = self._same.get(key) if key is not None else None
            if known is None or (
                key is not None
                and (known.covers(key) or (other is not None and known.covers(other)))
            ):
                for path, fact in facts.items():
                    found.setdefault(path, Fact()).add(fact)
        return found
