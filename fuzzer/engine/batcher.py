# SPDX-License-Identifier: Apache-2.0
"""Batcher: makes candidates while the guest works, and hands over several at a time."""

from __future__ import annotations

from collections import deque

from fuzzer.engine.candidate import Candidate
from fuzzer.engine.sources import Source

# A batch ends with the program that brings it to this cost, in small calls. That is some
# milliseconds: long beside the time that it takes to hand a batch over, short for a person.
BATCH_COST = 300.0
_MOST = 64
# Seconds of a call from which on batches of that cost are too long, and of a batch then.
_SLOW_CALL, _BATCH_SECONDS = 0.01, 1.0


class Batcher:
    """Candidates to run, in order.

    Each comes from the first of the ``sources`` that has one; the last source always has one.
    """

    def __init__(self, *sources: Source) -> None:
        self._sources = sources
        self._most_cost = BATCH_COST
        self._ready: deque[Candidate] = deque()
        self._cost = 0.0

    def slow_down(self, call_seconds: float) -> None:
        """Make batches small where a call takes long: a batch is looked at when it has ended."""
        if call_seconds > _SLOW_CALL:
            self._most_cost = max(1.0, _BATCH_SECONDS / call_seconds)

    def fill(self, asked: bytes) -> None:
        """Make candidates until there is a batch; ``asked`` is the program that libFuzzer chose."""
        while self._cost < self._most_cost and len(self._ready) < _MOST:
            for source in self._sources:
                if (candidate := source.next(asked)) is not None:
                    break
            else:
                raise ValueError(f"none of {len(self._sources)} sources has a candidate")
            self._ready.append(candidate)
            self._cost += candidate.cost

    def take(self, asked: bytes, most: int) -> list[Candidate]:
        """Return the next batch: at least one program and at most ``most``."""
        self.fill(asked)
        batch: list[Candidate] = []
        cost = 0.0
        while self._ready and cost < self._most_cost and len(batch) < most:
            candidate = self._ready.popleft()
            batch.append(candidate)
            cost += candidate.cost
        self._cost -= cost
        return batch

    def put_back(self, batch: list[Candidate]) -> None:
        """Take back the end of a batch, which did not run."""
        for candidate in reversed(batch):
            self._ready.appendleft(candidate)
            self._cost += candidate.cost

    def change_start(self, old: bytes, new: bytes) -> None:
        """Make the waiting programs begin with the calls ``new`` in place of ``old``."""
        self._ready = deque(
            Candidate(new + program.removeprefix(old), cost) for program, cost in self._ready
        )

    def drop(self) -> None:
        """Drop all waiting candidates."""
        self._ready.clear()
        self._cost = 0.0
