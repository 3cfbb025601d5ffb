# SPDX-License-Identifier: Apache-2.0
"""Coverage of a driver by function, and the calls that lead to functions nothing reaches."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fuzzer.driver.blocks import Block
from fuzzer.driver.callgraph import Caller, CallGraph, Function
from fuzzer.driver.provision import Guest
from fuzzer.errors import BadInputError
from fuzzer.splat.symbols import SymbolFile

CodePlace = tuple[str, int]
Locate = Callable[[Sequence[CodePlace]], dict[CodePlace, tuple[str, ...]]]
"""Returns the ``file:line`` of places in the code, the innermost inlined function's first."""


@dataclass(frozen=True, slots=True)
class CallEdge:
    """A caller of a function.

    ``place`` is the ``file:line`` of the call, if known. ``taken`` tells that the function's
    address is taken there, rather than that it is called; ``reached``, that programs reached
    the caller.
    """

    caller: str
    place: str
    taken: bool
    reached: bool


@dataclass(frozen=True, slots=True)
class FunctionCoverage:
    """The coverage of a function.

    ``missed`` are the lines of the other blocks, as ``file:line``, if some were reached.
    ``links`` lead from its caller to the nearest caller that was reached, if there is one;
    ``entry`` says how the last of them is called otherwise, empty if nobody calls it.
    ``gain`` is the number of blocks that are out of reach until its coverage gets better.
    """

    name: str
    blocks: int
    reached: int
    gain: int
    missed: tuple[str, ...] = ()
    links: tuple[CallEdge, ...] = ()
    entry: str = ""

    @property
    def rank(self) -> tuple[int, int, str]:
        """A sort key: functions next to reached code first, of these the largest gain first."""
        if self.reached == self.blocks:
            return 3, 0, self.name
        if self.reached:
            return 0, -self.gain, self.name
        nearest = self.links[0].reached if self.links else bool(self.entry)
        return 0 if nearest else 1 if self.links or self.entry else 2, -self.gain, self.name


def reached_blocks(
    guest: Guest,
    run: Callable[[bytes], bytes | None],
    programs: Iterable[bytes],
    progress: Callable[[int], None] = lambda done: None,
) -> tuple[frozenset[int], int]:
    """Return the blocks reached by loading the driver and by programs, and a count of crashes.

    Blocks are numbers. The count is of the programs for which ``run`` returned None.
    """
    reached = set(guest.load_blocks)
    n_blocks, crashed = len(guest.blocks), 0
    for number, program in enumerate(programs, 1):
        progress(number)
        counters = run(program)
        if counters is None:
            crashed += 1
            continue
        reached.update(n for n, count in enumerate(counters[:n_blocks]) if count)
    return frozenset(reached), crashed


def source_lines_of(path: Path) -> Locate:
    """Return a function that finds source lines of an object, none without debug information."""
    try:
        symbols = SymbolFile(path, path.stem)
    except BadInputError:
        return lambda _places: {}

    def locate(places: Sequence[CodePlace]) -> dict[CodePlace, tuple[str, ...]]:
        found = symbols.locate(places) if places else {}
        return {
            place: tuple(frame.file for frame in frames if frame.file)
            for place, frames in found.items()
        }

    return locate


def function_coverage(
    blocks: Sequence[Block], reached: Collection[int], graph: CallGraph, locate: Locate
) -> list[FunctionCoverage]:
    """Return the coverage of each function with blocks, sorted by rank."""
    return sorted(_Measured(blocks, reached, graph, locate).all(), key=lambda each: each.rank)


class _Measured:
    def __init__(
        self, blocks: Sequence[Block], reached: Collection[int], graph: CallGraph, locate: Locate
    ) -> None:
        index = graph.index()
        self._graph = graph
        self._all: dict[Function, int] = defaultdict(int)
        self._reached: dict[Function, int] = defaultdict(int)
        self._missed: dict[Function, list[CodePlace]] = defaultdict(list)
        for number, block in enumerate(blocks):
            # A block's offset is the return address of the call at its beginning.
            place = (block.section, block.offset - 1)
            function = index.at(*place)
            if function is None:
                continue
            self._all[function] += 1
            if number in reached:
                self._reached[function] += 1
            else:
                self._missed[function].append(place)
        self._callees: dict[Function, set[Function]] = defaultdict(set)
        for function, callers in graph.callers.items():
            for caller in callers:
                self._callees[caller.function].add(function)
        self._ways = {
            function: self._way(function) for function in self._all if not self._reached[function]
        }
        self._lines = locate(self._places())
        # The driver's own files, by outermost frames: code inlined from the kernel's headers is
        # shown by its line in these.
        self._own = {lines[-1].rpartition(":")[0] for lines in self._lines.values() if lines}

    def _places(self) -> list[CodePlace]:
        """Return the places whose source lines are shown."""
        missed = [
            place for function, places in self._missed.items() for place in places
            if self._reached[function]
        ]  # fmt: skip
        calls = [(each.section, each.offset) for way in self._ways.values() for each in way]
        return [*missed, *calls]

    def _line(self, place: CodePlace) -> str:
        lines = self._lines.get(place, ())
        return next((line for line in lines if line.rpartition(":")[0] in self._own), "")

    def _way(self, function: Function) -> tuple[Caller, ...]:
        """Return the chain of callers up to the nearest one that was reached.

        If there is none, it is the chain up to the nearest one that is called in another way.
        """
        ways: dict[Function, tuple[Caller, ...]] = {function: ()}
        waiting = [function]
        outside: Function | None = None
        while waiting:
            at = waiting.pop(0)
            if outside is None and self._graph.entries.get(at):
                outside = at
            for caller in self._graph.callers.get(at, ()):
                if caller.function in ways:
                    continue
                ways[caller.function] = (*ways[at], caller)
                if self._reached[caller.function]:
                    return ways[caller.function]
                waiting.append(caller.function)
        if outside is not None:
            return ways[outside]
        direct = self._graph.callers.get(function, ())
        return direct[:1]

    def _behind(self, function: Function) -> int:
        """Return the number of blocks of a function and of the unreached functions it leads to."""
        seen, waiting = {function}, [function]
        while waiting:
            for other in self._callees[waiting.pop()]:
                if other not in seen and not self._reached[other]:
                    seen.add(other)
                    waiting.append(other)
        return sum(self._all[each] for each in seen if each in self._all)

    def all(self) -> list[FunctionCoverage]:
        """Return the coverage of all functions, in no order."""
        return [
            self._part(function) if self._reached[function] else self._whole(function)
            for function in self._all
        ]

    def _part(self, function: Function) -> FunctionCoverage:
        missed = self._missed[function]
        lines = sorted({line for place in missed if (line := self._line(place))}, key=_by_line)
        return FunctionCoverage(
            function.name,
            self._all[function],
            self._reached[function],
            len(missed),
            tuple(lines),
        )

    def _whole(self, function: Function) -> FunctionCoverage:
        """Return the coverage of a function that no program reached."""
        way = self._ways[function]
        links = tuple(
            CallEdge(
                each.function.name,
                self._line((each.section, each.offset)),
                each.taken,
                self._reached[each.function] > 0,
            )
            for each in way
        )
        last = way[-1].function if way else function
        entries = self._graph.entries.get(last, ()) if not self._reached[last] else ()
        return FunctionCoverage(
            function.name, self._all[function], 0, self._behind(function), (), links,
            "; or ".join(entries),
        )  # fmt: skip


def _by_line(place: str) -> tuple[str, int]:
    file, _, line = place.rpartition(":")
    return file, int(line)
