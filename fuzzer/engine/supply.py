# SPDX-License-Identifier: Apache-2.0
"""Programs that are made while the guest works, and handed over several at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TypeAlias

# A batch ends with the program that brings it to this cost, in small calls. That is
# some milliseconds: long beside what it takes to hand it over, short for a person.
BATCH_COST = 300.0
_MOST = 64
# Seconds of a call from which on that is too much, and of a batch then.
_SLOW_CALL, _BATCH_SECONDS = 0.01, 1.0


Made: TypeAlias = tuple[bytes, float]
"""A program and its cost, in small calls."""


class Supply:
    """Programs to run, in order.

    ``make(asked)`` makes one of what libFuzzer asks for, and returns it with its cost.
    """

    def __init__(self, make: Callable[[bytes], Made]) -> None:
        self._make = make
        self._most_cost = BATCH_COST
        self._ready: deque[Made] = deque()
        self._cost = 0.0

    def slow_down(self, call_seconds: float) -> None:
        """Make batches small where a call takes long: nothing is known of one before its end."""
        if call_seconds > _SLOW_CALL:
            self._most_cost = max(1.0, _BATCH_SECONDS / call_seconds)

    def fill(self, asked: bytes) -> None:
        """Make programs until there is a batch of them."""
        while not self.is_full:
            made = self._make(asked)
            self._ready.append(made)
            self._cost += made[1]

    @property
    def is_full(self) -> bool:
        """Whether there is a batch of programs already."""
        return self._cost >= self._most_cost or len(self._ready) >= _MOST

    def take(self, asked: bytes, most: int) -> list[Made]:
        """Return the next batch: at least one program, ``most`` at most."""
        self.fill(asked)
        batch: list[Made] = []
        cost = 0.0
        while self._ready and cost < self._most_cost and len(batch) < most:
            made = self._ready.popleft()
            batch.append(made)
            cost += made[1]
        self._cost -= cost
        return batch

    def put_back(self, batch: list[Made]) -> None:
        """Take back the end of a batch, which did not run."""
        for made in reversed(batch):
            self._ready.appendleft(made)
            self._cost += made[1]

    def change_start(self, old: bytes, new: bytes) -> None:
        """Have the programs that were made begin with ``new`` where they do with ``old``."""
        self._ready = deque((new + each.removeprefix(old), cost) for each, cost in self._ready)

    def drop(self) -> None:
        """Forget what was made."""
        self._ready.clear()
        self._cost = 0.0
