# SPDX-License-Identifier: Apache-2.0
"""Search for what an ioctl's addresses have to be of, one run after the other.

A call that follows a wrong address is run with one at each place until it does something
else. What is there then is made out by numbers that occur once: the driver's comparisons tell
which of its words mean something, and with what they are compared. A word that makes the
call follow another address goes on in the same way; one that works is made an array.

The runs are such as show what is compared, for coverage says nothing of them: what a
failing copy leads to is known as soon as one was made to fail.
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

# Runs that wait, all that begin with one program, and how many lead to another.
_WAITING, _OF_ONE, _DEPTH = 64, 96, 10
# Calls of one number that searches begin with: those that followed a wrong address, and others.
_FAILED, _OTHERS = 32, 8
# Places for an address, and words of a struct that are made out.
_PLACES, _WORDS = 16, 16
# The words' numbers begin here: few constants of drivers are among them.
_FIRST_COLOUR = 0x5A000011
_MOST_CONSTANT = 1 << 16
# Parts that addresses are of, and of arrays: their elements, bytes of these, all of one.
_PARTS = 3
_ELEMENTS, _STRIDES, _MOST_STRIDES, _MOST_ARRAYS = (5, 8, 4, 3, 2), range(4, 68, 4), 6, 120


@dataclass(frozen=True, slots=True)
class _Colours:
    """Numbers that occur once, from ``start`` on in place of zeros of ``plain``.

    Words that are ``known`` have none.
    """

    plain: bytes
    start: int
    known: frozenset[int]


@dataclass(frozen=True, slots=True)
class _Run:
    """A run that waits: the program, the call that is tried, and the outcome that it had.

    ``constants`` are those with which it compared something then. ``root`` is where all
    began, by a call that followed a wrong address if it ``is_promising``, ``depth`` how many
    runs led here.
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
    """Says what to run, and makes programs of what comes of it."""

    def __init__(self) -> None:
        # Those of a call that followed a wrong address first, and of these the farthest.
        self._waiting: list[tuple[bool, int, int, _Run]] = []
        self._running: dict[bytes, _Run] = {}
        self._seen: set[int] = set()
        self._made: dict[int, int] = {}
        self._begun: Counter[tuple[bytes, bool]] = Counter()

    def take(self) -> bytes | None:
        """Return a program to run and to be told of by :meth:`learn`; None: there is none."""
        if not self._waiting:
            return None
        *_, run = heapq.heappop(self._waiting)
        program = b"".join(run.chunks)
        self._running[program] = run
        return program

    def has_asked_for(self, program: bytes) -> bool:
        """Whether a program was returned by :meth:`take`, and nothing is known of its run."""
        return program in self._running

    def learn(
        self,
        chunks: Sequence[bytes],
        results: Sequence[Result],
        comparisons: Iterable[Comparison],
    ) -> list[list[bytes]]:
        """Return programs made of one that ran with these results.

        It was asked for by :meth:`take`, or is one to begin with.
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
            # The same call often comes with others.
            root = hash((chunk[4:8], chunk[16:], outcome))
            if root in self._made:
                continue
            self._made[root] = 0
            self._begun[kind] += 1
            # The calls before it may matter, those behind it do not.
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
        """Have what follows from an outcome run, and return programs made of it."""
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
        """Have a run with numbers that occur once."""
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
        """Have words that were found in comparisons be what they are compared with."""
        plain, coloured = argument_of(colours.plain), argument_of(run.chunks[run.call])
        if plain is None or coloured is None:
            return
        found = list(_made_out(coloured, colours.start, compared))
        for at, size, constant in found:
            for value in (constant, constant - 1):
                if 0 < value < _MOST_CONSTANT:
                    self._wait(run, plain.with_word(at, value, size))
        # What a word that is wrong keeps from being compared shows without it.
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
    """Return where the first words are that are zero from a start on."""
    end = min(argument.end_of(start), start + 4 * _WORDS)
    return [
        at
        for at in range(start, end - 3, 4)
        if not argument.is_taken(at, 4) and not any(argument.data[at : at + 4])
    ]


def _made_out(
    argument: Argument, start: int, compared: Sequence[Comparison]
) -> Iterator[tuple[int, int, int]]:
    """Yield the words that were compared: where, their bytes, and with what constant."""
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
    """Yield arguments with arrays of what an address is of that has something in it."""
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
