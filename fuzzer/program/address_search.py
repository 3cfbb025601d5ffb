# SPDX-License-Identifier: Apache-2.0
"""Address search: finds the addresses that an ioctl's struct needs, and their targets, by runs.

A call that followed a wrong address is run with an address of a new buffer at each place in
turn, until its outcome changes. The new buffer is then filled with colours, numbers that occur
nowhere else: the comparisons that the driver makes with them tell which words it reads, and the
constants that it expects there. Where such a constant makes the call follow another address, the
search goes on from there; where the call succeeds, the buffer is made an array.

The runs record comparisons, as coverage does not guide this search: the code behind a failing
copy was covered before, by an injected fault.
"""

from __future__ import annotations

import errno
import heapq
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from fuzzer.program.argument import SMALL, Argument, argument_of, count_words, places_in
from fuzzer.program.comparison import Comparison
from fuzzer.program.linking import Result
from fuzzer.program.pointing import is_whole

# The most runs that wait, the most runs that follow from one call, and the longest chain of them.
_WAITING, _OF_ONE, _DEPTH = 64, 96, 10
# Searches for one ioctl number: from calls that followed a wrong address, and from others.
_FAILED, _OTHERS = 32, 8
# The most places where an address is tried, and words of a buffer that get colours.
_PLACES, _WORDS = 16, 16
# The first colour: few constants of drivers are near it.
_FIRST_COLOUR = 0x5A000011
_MOST_CONSTANT = 1 << 16
# The most parts of an argument that get colours; and of arrays the numbers of elements, the sizes
# of one, the sizes tried for a part, and all that are made of an argument.
_PARTS = 3
_ELEMENTS, _STRIDES, _MOST_STRIDES, _MOST_ARRAYS = (5, 8, 4, 3, 2), range(4, 68, 4), 6, 120


@dataclass(frozen=True, slots=True)
class _Colours:
    """Colours, numbers that occur once, in place of the zeros from ``start`` on in ``plain``.

    Words at the ``known`` offsets have none.
    """

    plain: bytes
    start: int
    known: frozenset[int]


@dataclass(frozen=True, slots=True)
class _Run:
    """A run that waits: the program, the index of the tried call, and its outcome ``before``.

    ``constants`` are those that the call was compared with before. ``root`` identifies the
    call that the search began with; it ``is_promising`` if that one followed a wrong address.
    ``depth`` is the number of runs that led here.
    """

    chunks: tuple[bytes, ...]
    call: int
    before: tuple[int, int]
    constants: frozenset[tuple[int, int]]
    root: int
    is_promising: bool
    depth: int = 0
    colours: _Colours | None = None


class AddressSearch:
    """Chooses programs to run, and makes programs of their outcomes."""

    def __init__(self) -> None:
        # A heap: promising runs first, and of these the deepest.
        self._waiting: list[tuple[bool, int, int, _Run]] = []
        self._running: dict[bytes, _Run] = {}
        self._seen: set[int] = set()
        self._made: dict[int, int] = {}
        self._begun: Counter[tuple[bytes, bool]] = Counter()

    def take(self) -> bytes | None:
        """Return a program to run, whose outcome goes to :meth:`learn`; None if there is none."""
        if not self._waiting:
            return None
        *_, run = heapq.heappop(self._waiting)
        program = b"".join(run.chunks)
        self._running[program] = run
        return program

    def has_asked_for(self, program: bytes) -> bool:
        """Tell whether a program was returned by :meth:`take` and its outcome is not known yet."""
        return program in self._running

    def learn(
        self,
        chunks: Sequence[bytes],
        results: Sequence[Result],
        comparisons: Iterable[Comparison],
    ) -> list[list[bytes]]:
        """Return programs made of a program that ran with these results.

        It was returned by :meth:`take`, or is one that a search may begin with.
        """
        run = self._running.pop(b"".join(chunks), None)
        if run is None:
            return self._begin(chunks, results, comparisons)
        if run.call >= len(results):
            return []
        own = [each for each in comparisons if each.call == run.call and each.constant]
        return self._go_on(run, results[run.call], own)

    def _begin(
        self,
        chunks: Sequence[bytes],
        results: Sequence[Result],
        comparisons: Iterable[Comparison],
    ) -> list[list[bytes]]:
        made: list[list[bytes]] = []
        compared = list(comparisons)
        for call, (chunk, result) in enumerate(zip(chunks, results, strict=False)):
            argument = argument_of(chunk)
            if argument is None or not is_whole(chunk):
                continue
            outcome = _outcome(result)
            is_promising = outcome[0] == errno.EFAULT
            if not is_promising and not argument.addresses:
                continue
            kind = (chunk[4:8], is_promising)
            if self._begun[kind] >= (_FAILED if is_promising else _OTHERS):
                continue
            # The same call often occurs in several programs.
            root = hash((chunk[4:8], chunk[16:], outcome))
            if root in self._made:
                continue
            self._made[root] = 0
            self._begun[kind] += 1
            # The calls before it may matter, those after it do not.
            own = [each for each in compared if each.call == call and each.constant]
            run = _Run(
                tuple(chunks[: call + 1]),
                call,
                outcome,
                _constants(own),
                root,
                is_promising,
            )
            made += self._expand(run, argument)
        return made

    def _go_on(
        self, run: _Run, result: Result, compared: Sequence[Comparison]
    ) -> list[list[bytes]]:
        if run.colours is not None:
            self._try_numbers(run, run.colours, compared)
            return []
        outcome, constants = _outcome(result), _constants(compared)
        argument = argument_of(run.chunks[run.call])
        same = outcome == run.before and constants <= run.constants
        if argument is None or same or run.depth >= _DEPTH:
            return []
        then = replace(run, before=outcome, constants=constants | run.constants)
        return [[*run.chunks], *self._expand(then, argument)]

    def _expand(self, run: _Run, argument: Argument) -> list[list[bytes]]:
        """Enqueue the runs that follow from an outcome, and return programs made of it."""
        error = run.before[0]
        if error == errno.EFAULT:
            places = list(places_in(argument)) if argument.room else []
            zero = [at for at in places if not any(argument.data[at : at + argument.width])]
            others = [at for at in places if at not in zero]
            for at in (*zero, *others)[:_PLACES]:
                self._wait(run, argument.pointing([at], bytes(SMALL)))
            return []
        for start in argument.starts[:_PARTS]:
            self._colour(run, _Colours(argument.wire() or b"", start, frozenset()))
        if error:
            return []
        made = (each.wire() for each in islice(_arrays(argument), _MOST_ARRAYS))
        return [[*run.chunks[: run.call], wire] for wire in made if wire is not None]

    def _colour(self, run: _Run, colours: _Colours) -> None:
        """Enqueue a run with colours."""
        argument = argument_of(colours.plain) if colours.plain else None
        if argument is None:
            return
        words = [at for at in _words(argument, colours.start) if at not in colours.known]
        coloured = argument
        for at in words:
            coloured = coloured.with_word(at, _FIRST_COLOUR + at)
        if words:
            self._wait(run, coloured, colours)

    def _try_numbers(self, run: _Run, colours: _Colours, compared: Sequence[Comparison]) -> None:
        """Enqueue runs with the constants that coloured words were compared with in their place."""
        plain, coloured = argument_of(colours.plain), argument_of(run.chunks[run.call])
        if plain is None or coloured is None:
            return
        found = list(_made_out(coloured, colours.start, compared))
        for at, size, constant in found:
            for value in (constant, constant - 1):
                if 0 < value < _MOST_CONSTANT:
                    self._wait(run, plain.with_word(at, value, size))
        # A wrong word may keep others from being compared: these show in a run where it is zero.
        more = {at - at % 4 for at, _, _ in found} - colours.known
        if more:
            self._colour(run, replace(colours, known=colours.known | more))

    def _wait(self, run: _Run, argument: Argument, colours: _Colours | None = None) -> None:
        wire = argument.wire()
        if wire is None or len(self._waiting) >= _WAITING or self._made[run.root] >= _OF_ONE:
            return
        chunks = (*run.chunks[: run.call], wire)
        key = hash(chunks)
        if key not in self._seen:
            self._seen.add(key)
            self._made[run.root] += 1
            following = replace(run, chunks=chunks, depth=run.depth + 1, colours=colours)
            rank = (not run.is_promising, -following.depth, len(self._seen))
            heapq.heappush(self._waiting, (*rank, following))


def _constants(compared: Iterable[Comparison]) -> frozenset[tuple[int, int]]:
    return frozenset((each.a, each.size) for each in compared)


def _outcome(result: Result) -> tuple[int, int]:
    """Return the error and the value of a call."""
    return (result.error, -1) if result.ret == -1 else (0, result.ret)


def _words(argument: Argument, start: int) -> list[int]:
    """Return the offsets of the first words from a start on that are zero."""
    end = min(argument.end_of(start), start + 4 * _WORDS)
    return [
        at
        for at in range(start, end - 3, 4)
        if not argument.is_taken(at, 4) and not any(argument.data[at : at + 4])
    ]


def _made_out(
    argument: Argument, start: int, compared: Sequence[Comparison]
) -> Iterator[tuple[int, int, int]]:
    """Yield the offset, the size and the constant of words that were compared."""
    seen: set[tuple[int, int, int]] = set()
    end = min(argument.end_of(start), start + 4 * _WORDS)
    for each in compared:
        size = min(each.size, 4)
        for at in range(-(-start // size) * size, end - size + 1, size):
            if argument.is_taken(at, size):
                continue
            word, found = argument.data[at : at + each.size], (at, size, each.a)
            if any(word) and int.from_bytes(word, "little") == each.b and found not in seen:
                seen.add(found)
                yield found


def _arrays(argument: Argument) -> Iterator[Argument]:
    """Yield arguments with an array in place of a part that has an address and is not zero."""
    for start in argument.starts:
        end = argument.end_of(start)
        used = [at for at in range(start, end) if argument.data[at]]
        used += [address.at + address.size - 1 for address in argument.addresses
                 if start <= address.at < end]  # fmt: skip
        if not used:
            continue
        least = max(used) - start + 1
        strides = [each for each in _STRIDES if each >= least and each % argument.width == 0]
        words = count_words(argument, start)
        for stride in strides[:_MOST_STRIDES]:
            for n in _ELEMENTS:
                array = argument.as_array(start, stride, None, n)
                yield array
                yield from (array.with_word(at, n) for at in words)
