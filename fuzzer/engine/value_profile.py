# SPDX-License-Identifier: Apache-2.0
"""Value profile: programs that bring a comparison with a constant nearer are built upon.

What a driver counts or keeps up shows in no coverage once the blocks about it have run some
times. It shows in what is compared: at each place, and for each constant that nothing was equal
to there, the program is kept whose operand came nearest. Changes to it run with comparisons
recorded; one that comes nearer takes its place.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

from fuzzer.machine.channel import Comparisons
from fuzzer.program.comparison import Comparison
from fuzzer.program.cost import is_slow
from fuzzer.program.hints import Hints
from fuzzer.program.wire import split

# Runs for each program that runs as usual, those that are had at once, and the most that add up.
_SHARE, _AT_ONCE, _MOST_SAVED = 0.015, 8.0, 32.0
# A run in vain makes the share smaller by this factor, down to such a part of it.
_IN_VAIN, _LEAST = 0.97, 0.1
# The most goals at a time, and programs whose runs are under way.
_GOALS, _RUNNING = 64, 64
# Changes to a program, one after the other in vain, until it is left: to one that came nearer than
# another, to the first one of a goal, and where operands were on both sides, as of a limit.
_TRIES, _AT_FIRST, _OF_LIMITS = 256, 64, 8
# Programs made of the hints of one run, those that wait, and their share of those that run.
_HINTS, _READY, _HINTED = 3, 12, 0.5
# Programs made of the one that reached a goal.
_BEYOND = 16
# The share of changes that repeat some calls, and the most calls and times of that; the share of
# those that leave some out, where a program has the most calls.
_REPEAT, _MOST_REPEATED, _MOST_TIMES, _LEAVE_OUT = 0.4, 3, 3, 0.5

Goal: TypeAlias = "tuple[int, int, int]"
"""A place in the driver, the constant that an operand is compared with there, and its size."""


@dataclass(slots=True)
class _Nearest:
    """The program that came nearest to a goal, by its ``chunks``, and how far off it was.

    ``sides`` are those of the goal on which operands were, ``ready`` programs that are tried next.
    """

    chunks: list[bytes]
    distance: int
    sides: set[bool]
    tries: int
    ready: deque[bytes] = field(default_factory=lambda: deque(maxlen=_READY))


class ValueProfile:
    """Chooses programs to run with comparisons recorded, and learns from what was compared.

    ``mutate`` returns a mutant of a program. Programs have ``max_calls`` calls and ``max_size``
    bytes at most.
    """

    def __init__(
        self,
        rng: random.Random,
        mutate: Callable[[bytes], bytes],
        max_calls: int,
        max_size: int,
    ) -> None:
        self._random = rng.random
        self._mutate = mutate
        self._max_calls, self._max_size = max_calls, max_size
        self._open: dict[Goal, _Nearest] = {}
        self._reached: set[Goal] = set()
        self._turns: deque[Goal] = deque()
        self._allowed = 0.0
        # The part of the share that there are runs for: all of it while some come nearer.
        self._worth = 1.0
        # With whether hints of the program are to be tried if it comes as near.
        self._running: dict[bytes, tuple[Goal, bool]] = {}

    @property
    def is_due(self) -> bool:
        """True if there is time for some runs, and a goal that may be come nearer to."""
        return bool(self._turns) and self._allowed >= _AT_ONCE

    def allow(self, programs: int) -> None:
        """Allow for further runs, as so many programs ran as usual."""
        self._allowed = min(_MOST_SAVED, self._allowed + programs * _SHARE * self._worth)

    def take(self) -> bytes | None:
        """Return a program to run, whose comparisons go to :meth:`learn`; None if there is none."""
        while self._turns and self._allowed >= 1:
            goal = self._turns.popleft()
            nearest = self._open.get(goal)
            if nearest is None or nearest.tries <= 0:
                continue
            self._turns.append(goal)
            nearest.tries -= 1
            self._allowed -= 1
            is_changed = not nearest.ready or self._random() >= _HINTED
            program = self._change(nearest.chunks) if is_changed else nearest.ready.popleft()
            if len(self._running) >= _RUNNING:
                self._running.clear()
            self._running[program] = goal, is_changed
            return program
        return None

    def has_asked_for(self, program: bytes) -> bool:
        """Tell whether a program was returned by :meth:`take` and not learned from yet."""
        return program in self._running

    def learn(self, program: bytes, comparisons: Comparisons) -> list[bytes]:
        """Learn from what a program compared; return programs that are worth a run as usual."""
        tried, is_changed = self._running.pop(program, (None, False))
        chunks = split(program)
        if is_slow(chunks):
            return []
        made: list[bytes] = []
        for goal in {(each.site, each.a, each.size) for each in comparisons.equal}:
            self._reached.add(goal)
            if self._open.pop(goal, None) and tried == goal:
                # A limit is exceeded one further.
                made += [program, *(self._change(chunks) for _ in range(_BEYOND))]
        for goal, distance, sides in _distances(comparisons.found):
            if goal in self._reached:
                continue
            nearest = self._open.get(goal)
            if nearest is None:
                self._begin(goal, _Nearest(chunks, distance, sides, _AT_FIRST))
                continue
            nearest.sides |= sides
            if distance < nearest.distance:
                if tried is not None:
                    made.append(program)
                before, nearest.chunks, nearest.distance = nearest.chunks, chunks, distance
                nearest.tries = _OF_LIMITS if len(nearest.sides) > 1 else _TRIES
                nearest.ready.clear()
                self._add_hints(nearest, chunks, before, comparisons.found, goal)
                if goal not in self._turns:
                    self._turns.append(goal)
            elif tried == goal and is_changed and distance == nearest.distance:
                if len(chunks) < len(nearest.chunks):
                    nearest.chunks = chunks
                else:
                    self._add_hints(nearest, chunks, nearest.chunks, comparisons.found, goal)
        if tried is not None:
            self._worth = 1.0 if made else max(_LEAST, self._worth * _IN_VAIN)
        return list(dict.fromkeys(made))

    def _begin(self, goal: Goal, nearest: _Nearest) -> None:
        if len(self._open) >= _GOALS:
            left = (other for other, each in self._open.items() if each.tries <= 0)
            given_up = next(left, None)
            if given_up is None:
                return
            del self._open[given_up]
        if len(nearest.sides) > 1:
            nearest.tries = _OF_LIMITS
        self._open[goal] = nearest
        self._turns.append(goal)

    def _add_hints(
        self,
        nearest: _Nearest,
        chunks: list[bytes],
        before: list[bytes],
        found: Iterable[Comparison],
        goal: Goal,
    ) -> None:
        """Enqueue programs made of comparisons of calls that differ from the program ``before``."""
        same = 0
        for one, other in zip(chunks, before, strict=False):
            if one != other:
                break
            same += 1
        others = [each for each in found if each.call >= same and each.site != goal[0]]
        hints = Hints(
            b"".join(chunks),
            others,
            max_size=self._max_size,
            max_calls=self._max_calls,
            limit=_HINTS,
        )
        nearest.ready.extendleft(map(hints.apply, reversed(range(len(hints)))))

    def _change(self, chunks: list[bytes]) -> bytes:
        """Return the program with some calls repeated or left out, or a mutant of it."""
        rand, n = self._random, len(chunks)
        start = int(rand() * n)
        run = chunks[start : start + 1 + int(rand() * _MOST_REPEATED)]
        if len(run) < n and rand() < _LEAVE_OUT * n / self._max_calls:
            return b"".join([*chunks[:start], *chunks[start + len(run) :]])
        if n < self._max_calls and rand() < _REPEAT:
            run *= 1 + int(rand() * _MOST_TIMES)
            at = n if rand() < 0.5 else int(rand() * (n + 1))
            made = b"".join([*chunks[:at], *run[: self._max_calls - n], *chunks[at:]])
            if len(made) <= self._max_size:
                return made
        return self._mutate(b"".join(chunks))


def _distances(found: Iterable[Comparison]) -> Iterator[tuple[Goal, int, set[bool]]]:
    """Yield for each goal how far off the nearest operand was, and on which sides there were some.

    The order is that of the places in the driver.
    """
    nearest: dict[Goal, tuple[int, set[bool]]] = {}
    for a, b, _, size, constant, site in found:
        if not constant:
            continue
        distance, sides = nearest.get((site, a, size), (1 << 64, set()))
        sides.add(b > a)
        nearest[site, a, size] = min(distance, abs(a - b)), sides
    for goal, (distance, sides) in sorted(nearest.items()):
        yield goal, distance, sides
