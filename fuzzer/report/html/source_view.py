# SPDX-License-Identifier: Apache-2.0
"""The driver's source with what programs reached of each line."""

from __future__ import annotations

import enum
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fuzzer.engine.compared import ConstantCompared
from fuzzer.engine.reached import FirstReach
from fuzzer.report.html.gathering import Gathered
from fuzzer.report.source_map import FileLine, SourceMap

# The most lines of source in a page; of files beyond that only the figures are told.
_MOST_LINES = 25_000
# Lines behind a comparison in which code that was not reached is put down to it.
_NEAR = 3


class LineStatus(enum.StrEnum):
    """The part of a line's blocks that programs reached."""

    NONE = ""
    """It has no code."""
    COVERED = "covered"
    """All of them."""
    PARTLY = "partly"
    """Some of them."""
    FAULT = "fault"
    """Some, but only where an allocation or a user copy was made to fail."""
    MISSED = "missed"
    """None of them."""


@dataclass(frozen=True, slots=True)
class NeverEqual:
    """A comparison with a constant that no operand was equal to, at a place in the source.

    ``leads_on`` tells that code was not reached beside or right behind it.
    """

    file: str
    line: int
    text: str
    compared: ConstantCompared
    leads_on: bool


@dataclass(frozen=True, slots=True)
class SourceLine:
    """A line: ``reached`` of ``blocks`` were; ``program`` is the one that reached it first."""

    number: int
    text: str
    status: LineStatus
    reached: int
    blocks: int
    program: str
    never_equal: tuple[NeverEqual, ...]


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file of the driver; of one that is too long for the page, ``lines`` is empty.

    ``reached`` of ``blocks`` that begin in it were reached, ``fault`` of them only under a fault.
    """

    number: int
    name: str
    lines: tuple[SourceLine, ...]
    reached: int
    fault: int
    blocks: int


@dataclass(frozen=True, slots=True)
class FunctionFigures:
    """A function, with the place of its first block that is in the driver's own files."""

    name: str
    file: str
    line: int
    reached: int
    blocks: int


def fault_only(reached: Sequence[FirstReach]) -> frozenset[int]:
    """Return the blocks that only programs with an injected fault reached."""
    with_fault = {block for each in reached if each.fault for block in each.blocks}
    return frozenset(
        with_fault - {block for each in reached if not each.fault for block in each.blocks}
    )


def first_programs(reached: Sequence[FirstReach]) -> dict[int, str]:
    """Return the name of the program that reached each block first."""
    first: dict[int, str] = {}
    for each in reached:
        for block in each.blocks:
            first.setdefault(block, each.program)
    return first


def source_files(gathered: Gathered) -> tuple[SourceFile, ...]:
    """Return the files of the driver, those with most blocks first."""
    source = gathered.source
    if source is None:
        return ()
    faults = fault_only(gathered.reached) & gathered.covered
    blocks: dict[str, list[int]] = defaultdict(list)
    for number, start in enumerate(source.starts):
        if start is not None:
            blocks[start[0]].append(number)
    marks = _Marks(gathered, source, faults)
    left = _MOST_LINES
    made = []
    names = sorted(source.files, key=lambda name: (-len(blocks[name]), name))
    for order, name in enumerate(names):
        texts = source.files[name].splitlines()
        shown = texts if len(texts) <= left else []
        left -= len(shown)
        own = blocks[name]
        made.append(
            SourceFile(
                order,
                name,
                tuple(marks.line(name, at, text) for at, text in enumerate(shown, 1)),
                sum(block in gathered.covered for block in own),
                sum(block in faults for block in own),
                len(own),
            )
        )
    return tuple(made)


def functions_of(gathered: Gathered) -> tuple[FunctionFigures, ...]:
    """Return the functions of the driver, those with most blocks that were not reached first."""
    source = gathered.source
    if source is None:
        return ()
    blocks: dict[str, list[int]] = defaultdict(list)
    for number, name in enumerate(source.functions):
        if name:
            blocks[name].append(number)
    made = []
    for name, own in blocks.items():
        start = next((found for each in own if (found := source.starts[each])), ("", 0))
        reached = sum(each in gathered.covered for each in own)
        made.append(FunctionFigures(name, *start, reached, len(own)))
    return tuple(sorted(made, key=lambda each: (each.reached - each.blocks, each.name)))


def never_equal(gathered: Gathered) -> tuple[NeverEqual, ...]:
    """Return the comparisons that never were equal, those that lead to unreached code first."""
    source = gathered.source
    if source is None:
        return ()
    marks = _Marks(gathered, source, frozenset())
    found = [each for per_line in marks.never_equal.values() for each in per_line]
    return tuple(sorted(found, key=lambda each: (not each.leads_on, each.file, each.line)))


class _Marks:
    """The marks of a driver's lines."""

    def __init__(self, gathered: Gathered, source: SourceMap, faults: frozenset[int]) -> None:
        self._source = source
        self._covered = gathered.covered
        self._faults = faults
        self._blocks = source.blocks_of_lines()
        self._first = first_programs(gathered.reached)
        self._texts = {name: text.splitlines() for name, text in source.files.items()}
        self.never_equal = self._compared(gathered.compared.constants, gathered.places)

    def _compared(
        self, constants: Sequence[ConstantCompared], places: Mapping[int, FileLine]
    ) -> dict[FileLine, list[NeverEqual]]:
        found: dict[FileLine, list[NeverEqual]] = defaultdict(list)
        for each in constants:
            place = places.get(each.site)
            if place is None or each.equal:
                continue
            texts = self._texts.get(place[0], [])
            text = texts[place[1] - 1].strip() if place[1] <= len(texts) else ""
            found[place].append(NeverEqual(*place, text, each, self._leads_on(place)))
        return found

    def _leads_on(self, place: FileLine) -> bool:
        file, line = place
        return any(
            block not in self._covered
            for at in range(line, line + _NEAR + 1)
            for block in self._blocks.get((file, at), ())
        )

    def line(self, file: str, number: int, text: str) -> SourceLine:
        """Return a line with its marks."""
        place = file, number
        blocks = self._blocks.get(place, ())
        reached = [block for block in blocks if block in self._covered]
        status = self._status(len(blocks), reached)
        program = next((self._first[block] for block in reached if block in self._first), "")
        compared = tuple(self.never_equal.get(place, ()))
        return SourceLine(number, text, status, len(reached), len(blocks), program, compared)

    def _status(self, blocks: int, reached: Sequence[int]) -> LineStatus:
        if not blocks:
            return LineStatus.NONE
        if not reached:
            return LineStatus.MISSED
        if all(block in self._faults for block in reached):
            return LineStatus.FAULT
        return LineStatus.COVERED if len(reached) == blocks else LineStatus.PARTLY
