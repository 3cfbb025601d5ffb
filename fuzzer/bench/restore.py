# SPDX-License-Identifier: Apache-2.0
"""The time from a template to a machine that runs programs."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

from fuzzer.driver.provision import Guest
from fuzzer.machine.machine import Machine

_RESTORES = 9


@dataclass(frozen=True, slots=True)
class Spread:
    """A quantity measured several times: seconds, or whatever the samples were."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, samples: Sequence[float]) -> Spread:
        """Return the spread of at least one sample."""
        return cls(statistics.median(samples), min(samples), max(samples))


@dataclass(frozen=True, slots=True)
class RestoreTimes:
    """Seconds from asking for a machine until it runs, and until its first program is done."""

    running: Spread
    first_program: Spread


def measure_restores(guest: Guest, times: int = _RESTORES) -> RestoreTimes:
    """Restore ``times`` machines, one after the other; the first is not counted.

    It may have to read the template from disk, which fuzzing does once.
    """
    running, first = [], []
    for _ in range(times + 1):
        start = time.perf_counter()
        with Machine.restore(guest.template) as machine:
            running.append(time.perf_counter() - start)
            guest.equip(machine)
            machine.run(b"")
            first.append(time.perf_counter() - start)
    return RestoreTimes(Spread.of(running[1:]), Spread.of(first[1:]))
