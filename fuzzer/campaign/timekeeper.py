# SPDX-License-Identifier: Apache-2.0
"""Jumps of the host's clocks: a suspended host, and a clock that was set."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from fuzzer.progress import clock

# Differences of clocks in seconds from which on a jump is told; clocks drift by less.
_JUMP = 5.0


@dataclass(frozen=True, slots=True)
class Clocks:
    """Readings of three clocks in seconds.

    ``running`` stands still while the host is suspended, ``boot`` goes on, ``wall`` is Unix time.
    """

    running: float
    boot: float
    wall: float


def read_clocks() -> Clocks:
    """Return the present readings."""
    return Clocks(time.monotonic(), time.clock_gettime(time.CLOCK_BOOTTIME), time.time())


class TimeKeeper:
    """Notices that the host was suspended, or that its clock was set.

    A campaign's time is by the clock that stands still meanwhile, so neither ends it early.
    """

    def __init__(self, read: Callable[[], Clocks] = read_clocks) -> None:
        self._read = read
        self._last = read()

    def look(self) -> str:
        """Return what happened to the clocks since the last look, in words; empty for nothing."""
        last, now = self._last, self._read()
        self._last = now
        ran = now.running - last.running
        away = now.boot - last.boot - ran
        if away > _JUMP:
            return f"the host was suspended for {clock(away)}, which does not count"
        turned = now.wall - last.wall - (now.boot - last.boot)
        if abs(turned) > _JUMP:
            way = "forward" if turned > 0 else "back"
            return f"the host's clock was set {way} by {clock(abs(turned))}"
        return ""
