# SPDX-License-Identifier: Apache-2.0
"""Sweeps: series of runs that a stage goes on with for a slice of time."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from fuzzer.campaign.stages.workbench import Workbench


class Sweeps:
    """A queue of sweeps; each yields after a run, False where the next one is to have a turn.

    With ``most``, older sweeps are dropped for new ones.
    """

    def __init__(self, bench: Workbench, most: int | None = None) -> None:
        self._bench = bench
        self._waiting: deque[Iterator[bool]] = deque(maxlen=most)

    def append(self, sweep: Iterator[bool]) -> None:
        """Queue a sweep behind the others."""
        self._waiting.append(sweep)

    def prepend(self, sweep: Iterator[bool]) -> None:
        """Queue a sweep before the others."""
        self._waiting.appendleft(sweep)

    def step(self) -> bool:
        """Go on with sweeps for a slice of time; tell whether there was any."""
        waiting = self._waiting
        if not waiting:
            return False
        for _ in self._bench.slice():
            if not waiting:
                break
            go_on = next(waiting[0], None)
            if go_on is None:
                waiting.popleft()
            elif not go_on:
                waiting.rotate(-1)
        return True
