# SPDX-License-Identifier: Apache-2.0
"""Oracle for races with a schedule: finds a program with threads that crashes under one.

The calls of a shorter program take other times, so its schedule is looked for again: the
known one is tried first, then some others.
"""

from __future__ import annotations

import random
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace

from fuzzer.crash.exact import ScheduleSearch, run_exact
from fuzzer.crash.oracles.deterministic import Effort, Matcher, Search, Shown
from fuzzer.crash.reproducer import Reproducer
from fuzzer.machine.executor import Testbed
from fuzzer.program.ops import Op
from fuzzer.program.schedule import Wait, is_scheduled, parallel_parts, with_waits, without_waits
from fuzzer.program.wire import decode, split
from fuzzer.splat.splat import Splat

# Schedules tried for a program before it counts as one that does not crash.
_LIMIT = 8
_SOON = 1


@dataclass(frozen=True, slots=True)
class _Held:
    """A call that is held for so many ticks, by its index among the calls of its thread."""

    thread: int
    call: int
    ticks: int


def unscheduled(reproducer: Reproducer) -> Reproducer:
    """Return a reproducer without its schedule."""
    return replace(reproducer, program=b"".join(without_waits(split(reproducer.program))))


class ScheduledTrials:
    """Tries programs without a schedule; returns those that crash with a schedule."""

    def __init__(
        self, guest: Testbed, match: Matcher, bug: Splat, known: Reproducer, seed: int
    ) -> None:
        self._guest = guest
        self._match = match
        self._title = bug.title
        self._held = _held_in(known.program)
        self._random = random.Random(seed)
        self.effort = Effort()

    def first(self, batch: Sequence[Reproducer]) -> Search:
        """Return the first of a batch that shows the crash, with the schedule that shows it."""
        for index, reproducer in enumerate(batch):
            yield
            shown = self._with_known(reproducer) or (yield from self._searched(reproducer))
            if shown:
                program, splat = shown
                self._held = _held_in(program)
                return Shown(index, replace(reproducer, program=program), splat)
        return None

    def _with_known(self, reproducer: Reproducer) -> tuple[bytes, Splat] | None:
        chunks = split(reproducer.program)
        waits = _waits(chunks, self._held)
        return self._run(reproducer, with_waits(chunks, waits))

    def _run(self, reproducer: Reproducer, program: bytes) -> tuple[bytes, Splat] | None:
        self.effort.runs += 1
        self.effort.restores += 1
        splat = run_exact(self._guest, reproducer.history, program, self._match).splat
        return (program, splat) if splat and self._match(splat) else None

    def _searched(
        self, reproducer: Reproducer
    ) -> Generator[None, None, tuple[bytes, Splat] | None]:
        search = ScheduleSearch(
            self._guest,
            reproducer.history,
            reproducer.program,
            self._random,
            title=self._title,
            limit=_LIMIT,
        )
        while search.step():
            yield
        self.effort.runs += search.tried
        self.effort.restores += search.tried
        found = search.found
        if found is None or found.outcome.splat is None:
            return None
        chunks = split(found.program)
        parts = parallel_parts(chunks)
        if parts and not is_scheduled(chunks):
            # A program with threads counts as scheduled only if it has a wait.
            return self._run(reproducer, with_waits(chunks, [Wait(parts[0][0], _SOON)]))
        return found.program, found.outcome.splat

    def close(self) -> None:
        """End no machines: each ends with its run."""


def _held_in(program: bytes) -> list[_Held]:
    held: list[_Held] = []
    calls: dict[int, int] = {}
    for call in decode(program):
        if call.op is Op.WAIT and call.thread:
            held.append(_Held(call.thread, calls.get(call.thread, 0), call.arg))
        else:
            calls[call.thread] = calls.get(call.thread, 0) + 1
    return held


def _waits(chunks: Sequence[bytes], held: Sequence[_Held]) -> list[Wait]:
    """Return waits for the held calls that a shorter program still has."""
    places: dict[int, list[int]] = {}
    for index, call in enumerate(decode(b"".join(chunks))):
        places.setdefault(call.thread, []).append(index)
    found: dict[int, Wait] = {}
    for each in held:
        of_thread = places.get(each.thread, [])
        if of_thread:
            index = of_thread[min(each.call, len(of_thread) - 1)]
            found.setdefault(index, Wait(index, each.ticks))
    return list(found.values())
