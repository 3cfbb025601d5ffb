# SPDX-License-Identifier: Apache-2.0
"""The start of a worker: measures the time of calls before anything is mutated."""

from __future__ import annotations

import time
from collections.abc import Callable

# Seconds that the programs to start from may take. Those that have not run by then are tried
# among the mutants.
_PATIENCE = 10.0
# Seconds from which on a call is slow: it has to wait for something.
_SLOW_CALL = 0.05
# Seconds of calls after which the idle share of that time is known.
_ENOUGH = 2.0
# Seconds between two reports of a worker.
_TELL_EVERY = 1.0


class Start:
    """Watches the first programs of a worker.

    ``progress`` counts the calls of a machine, ``busy`` the seconds of CPU time that it took.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._looked: float | None = None
        self._last = self._calls = 0
        self._took = self._worked = self._busy = 0.0
        self._told = clock()
        self.call_seconds = 0.0
        """Average seconds of a call so far."""

    def look(self, progress: int, busy: float = 0.0) -> None:
        """Measure the time, at the beginning of the first program and later."""
        now = self._clock()
        if self._looked is not None:
            self._took += now - self._looked
            self._worked += max(0.0, busy - self._busy)
            self._calls += max(0, progress - self._last)
        self._looked, self._last, self._busy = now, progress, busy
        if self._calls:
            self.call_seconds = self._took / self._calls

    def pause(self) -> None:
        """Leave out the time until the next look, in which the machine is replaced."""
        self._looked = None

    @property
    def idle_share(self) -> float:
        """The share of the time in which calls only waited; 0 while too little is known."""
        if self._took < _ENOUGH or not self._calls:
            return 0.0
        return max(0.0, 1 - self._worked / self._took)

    @property
    def is_slow(self) -> bool:
        """True if a call takes so long that programs must not run more often than needed."""
        return self.call_seconds > _SLOW_CALL

    @property
    def is_too_long(self) -> bool:
        """True if the programs to start from take too long."""
        return self.is_slow and self._took > _PATIENCE

    def is_time(self) -> bool:
        """Return True once a second, when it is time to report."""
        now = self._clock()
        if now - self._told < _TELL_EVERY:
            return False
        self._told = now
        return True
