# SPDX-License-Identifier: Apache-2.0
"""Programs that are made while the guest works, and handed over several at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

# A batch ends with the program that brings it to this cost, in small calls. That is
# some milliseconds: long beside what it takes to hand it over, short for a person.
BATCH_COST = 300.0
_MOST = 64


class Supply:
    """Programs to run, in order.

    ``make(asked)`` makes one of what libFuzzer asks for, and returns it with its cost.
    """

    def __init__(self, make: Callable[[bytes], tuple[bytes, float]]) -> None:
        self._make = make
        self._ready: deque[tuple[bytes, float]] = deque()
        self._taken: list[tuple[bytes, float]] = []
        self._cost = 0.0

    def fill(self, asked: bytes) -> None:
        """Make programs until there is a batch of them."""
        while self._cost < BATCH_COST and len(self._ready) < _MOST:
            made = self._make(asked)
            self._ready.append(made)
            self._cost += made[1]

    def take(self, asked: bytes, most: int) -> list[bytes]:
        """Return the next batch: at least one program, ``most`` at most."""
        self.fill(asked)
        batch: list[tuple[bytes, float]] = []
        cost = 0.0
        while self._ready and cost < BATCH_COST and len(batch) < most:
            made = self._ready.popleft()
            batch.append(made)
            cost += made[1]
        self._cost -= cost
        self._taken = batch
        return [program for program, _ in batch]

    def put_back(self, count: int) -> None:
        """Take back so many programs at the end of the last batch, which did not run."""
        for made in reversed(self._taken[len(self._taken) - count :]):
            self._ready.appendleft(made)
            self._cost += made[1]

    def change_start(self, old: bytes, new: bytes) -> None:
        """Have the programs that were made begin with ``new`` where they do with ``old``."""
        self._ready = deque((new + each.removeprefix(old), cost) for each, cost in self._ready)

    def drop(self) -> None:
        """Forget what was made."""
        self._ready.clear()
        self._cost = 0.0
