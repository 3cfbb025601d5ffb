# SPDX-License-Identifier: Apache-2.0
"""Schedules: the instants in a parallel part at which one thread takes over from another.

A schedule is part of its program. It consists of waits among the calls of a part, each of
which holds its thread until so many ticks after the part's start. On an exact machine a tick
is an instruction of the threads that do not wait; at the end of the wait these stand still
until the thread that waited is done, or blocks.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fuzzer.program.ops import Op
from fuzzer.program.program import MAX_CALLS, MAX_WAIT, Call
from fuzzer.program.wire import encode_call

_THREAD, _WAIT = 22, int(Op.WAIT)
# Ticks that a thread needs to begin, and the factor by which interruptions prolong calls.
_BEGINNING, _STRETCH = 15_000, 1.2
# The golden ratio: the fractional parts of its multiples fill an interval evenly.
_GOLDEN = 0.6180339887498949
_PAIR = 2
# The kinds of schedule, by turns: the number of the span for a single wait, None: several waits.
_LEVELS = (0, None, 0, 1, None, 2)
# Several waits are within the time of a part, halved up to so many times less one.
_HALVINGS = 3


@dataclass(frozen=True, slots=True)
class Wait:
    """A wait before the call at ``index``: ``ticks`` after the start of its part."""

    index: int
    ticks: int


def is_scheduled(chunks: Sequence[bytes]) -> bool:
    """Tell whether a program has a schedule."""
    return any(chunk[0] == _WAIT and chunk[_THREAD] for chunk in chunks)


def without_waits(chunks: Sequence[bytes]) -> list[bytes]:
    """Return a program's calls without its schedule."""
    return [chunk for chunk in chunks if chunk[0] != _WAIT]


def with_waits(chunks: Sequence[bytes], waits: Sequence[Wait]) -> bytes:
    """Return the program of these calls and waits in wire form."""
    made = list(chunks)
    for wait in sorted(waits, key=lambda wait: wait.index, reverse=True):
        thread = made[wait.index][_THREAD]
        made.insert(wait.index, encode_call(Call(Op.WAIT, arg=wait.ticks, thread=thread)))
    return b"".join(made)


def parallel_parts(chunks: Sequence[bytes]) -> list[range]:
    """Return the ranges of indices of the parallel parts."""
    parts, start = [], 0
    for parallel, calls in itertools.groupby(chunks, key=lambda chunk: bool(chunk[_THREAD])):
        end = start + len(list(calls))
        if parallel:
            parts.append(range(start, end))
        start = end
    return parts


class Schedules:
    """Chooses schedules for a program that has none; the same ``rng`` state gives the same ones.

    ``ticks`` are the times of its calls. By turns a thread is held once, or before each of
    its calls, or two calls are held. Times of a single wait fill a span evenly and ever more
    closely: the time of the first, of some, or of all calls of the other threads. The short
    spans matter, as the first calls of a race often decide it.
    """

    def __init__(self, chunks: Sequence[bytes], ticks: Sequence[int], rng: random.Random) -> None:
        self._random = rng
        self._room = MAX_CALLS - len(chunks)
        self._runs: list[_ThreadCalls] = []
        for part in parallel_parts(chunks):
            by_thread: dict[int, list[int]] = {}
            for index in part:
                by_thread.setdefault(chunks[index][_THREAD], []).append(index)
            for thread, calls in by_thread.items() if len(by_thread) > 1 else ():
                others = [index for index in part if chunks[index][_THREAD] != thread]
                spans = tuple(
                    _span(ticks[index] for index in others[:count])
                    for count in (1, math.isqrt(len(others)), len(others))
                )
                self._runs.append(
                    _ThreadCalls(tuple(calls), spans, _span(ticks[index] for index in part))
                )
        self._fractions = {run: [rng.random() for _ in run.spans] for run in self._runs}
        self._turns = itertools.count()

    def __bool__(self) -> bool:
        """Tell whether there is any schedule to choose."""
        return bool(self._runs) and self._room >= _PAIR

    def choose(self) -> tuple[Wait, ...]:
        """Return a schedule, its waits in the order of their calls."""
        turn, number = divmod(next(self._turns), len(self._runs))
        run = self._runs[number]
        level = _LEVELS[turn % len(_LEVELS)]
        if level is not None:
            return (self._single(run, level),)
        return self._each(run) if len(run.calls) > 1 else self._pair()

    def _single(self, run: _ThreadCalls, level: int) -> Wait:
        fractions = self._fractions[run]
        fractions[level] = (fractions[level] + _GOLDEN) % 1
        return Wait(run.calls[0], 1 + int(fractions[level] * run.spans[level]))

    def _each(self, run: _ThreadCalls) -> tuple[Wait, ...]:
        calls = run.calls[-self._room :]
        span = run.total >> int(self._random.random() * _HALVINGS)
        times = sorted(self._time(span) for _ in calls)
        return tuple(map(Wait, calls, times))

    def _pair(self) -> tuple[Wait, ...]:
        choices = [(call, run) for run in self._runs for call in run.calls]
        chosen = sorted(self._random.sample(choices, _PAIR), key=lambda choice: choice[0])
        return tuple(Wait(call, self._time(run.total)) for call, run in chosen)

    def _time(self, span: int) -> int:
        return 1 + int(self._random.random() * span)


@dataclass(frozen=True, slots=True)
class _ThreadCalls:
    """A thread's calls in a part, and limits for the times that they are held, in ticks.

    ``spans`` are the times of the first, the first few and all calls of the other threads,
    ``total`` is the time of all calls of the part.
    """

    calls: tuple[int, ...]
    spans: tuple[int, ...]
    total: int


def _span(ticks: Iterable[int]) -> int:
    return min(int(sum(ticks) * _STRETCH) + _BEGINNING, MAX_WAIT)
