# SPDX-License-Identifier: Apache-2.0
"""Programs that are made while the guest works, and handed over several at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from fuzzer.program.cost import cost_of
from fuzzer.program.wire import split

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
        batch: list[bytes] = []
        cost = 0.0
        while self._ready and cost < BATCH_COST and len(batch) < most:
            program, its_cost = self._ready.popleft()
            batch.append(program)
            cost += its_cost
        self._cost -= cost
        return batch

    def put_back(self, programs: list[bytes]) -> None:
        """Take back the end of a batch, which did not run."""
        for program in reversed(programs):
            cost = cost_of(split(program))
            self._ready.appendleft((program, cost))
            self._cost += cost

    def drop(self) -> None:
        """Forget what was made."""
        self._ready.clear()
        self._cost = 0.0
