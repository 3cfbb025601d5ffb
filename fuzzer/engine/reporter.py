# SPDX-License-Identifier: Apache-2.0
"""Reporter of a worker: writes counts and results for the campaign to read."""

from __future__ import annotations

from collections.abc import Callable

from fuzzer.engine.compared import ComparedFile
from fuzzer.engine.crashes import CrashObserver
from fuzzer.engine.executor import WorkerExecutor
from fuzzer.engine.statistics import MachinePhase, WorkerStatistics
from fuzzer.engine.tally import TallyFile

_PUBLISH_EVERY = 256


class Reporter:
    """Writes a worker's counts and results to its files.

    ``covered`` returns the features of the covered blocks, ``races`` whether calls are made on
    several threads.
    """

    def __init__(
        self,
        executor: WorkerExecutor,
        statistics: WorkerStatistics,
        tally: TallyFile,
        crashes: CrashObserver,
        *,
        compared: ComparedFile,
        covered: Callable[[], int],
        races: Callable[[], bool],
    ) -> None:
        self._executor = executor
        self._statistics = statistics
        self._counts = statistics.counts
        self._tally = tally
        self._compared = compared
        self._crashes = crashes
        self._covered = covered
        self._races = races
        self._published = 0

    def publish(self) -> None:
        """Write everything."""
        counts, start = self._counts, self._executor.start
        if not counts.fuzzing:
            self._executor.look()
            counts.call_us = int(1e6 * start.call_seconds)
            counts.idle = int(100 * start.idle_share)
        self._published = counts.programs
        counts.machine_phase = self._phase()
        self._statistics.publish(self._covered())
        self._tally.write()
        self._compared.write(self._executor.known_ioctls)
        self._crashes.publish()

    def _phase(self) -> MachinePhase:
        if not self._counts.fuzzing:
            return MachinePhase.SEEDS
        if self._crashes.is_studying:
            return MachinePhase.STUDYING
        if self._races():
            return MachinePhase.RACES
        if self._executor.preloaded:
            return MachinePhase.PRELOADED
        return MachinePhase.SLOW if self._executor.start.is_slow else MachinePhase.SERIAL

    def publish_if_due(self) -> None:
        """Write everything if enough programs ran, or a second has passed, since the last time."""
        due = self._counts.programs - self._published >= _PUBLISH_EVERY
        if due or self._executor.start.is_time():
            self.publish()

    def finish(self) -> None:
        """Write everything for the last time."""
        self.publish()
        self._tally.write(now=True)
        self._compared.write(self._executor.known_ioctls, now=True)
