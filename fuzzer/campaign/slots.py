# SPDX-License-Identifier: Apache-2.0
"""Slots of workers: the present process of each, and the counts of those before it."""

from __future__ import annotations

from pathlib import Path

from fuzzer.campaign.snapshot import WorkerState
from fuzzer.child import Child
from fuzzer.engine.statistics import MachinePhase, WorkerCounts, read_statistics


def sum_of(first: WorkerCounts, second: WorkerCounts) -> WorkerCounts:
    """Return the counts of two processes together; times are the longer ones."""
    return WorkerCounts(
        first.programs + second.programs,
        first.calls + second.calls,
        first.splats + second.splats,
        first.restores + second.restores,
        first.lost + second.lost,
        first.timeouts + second.timeouts,
        max(first.fuzzing, second.fuzzing),
        first.flaky + second.flaky,
        max(first.call_us, second.call_us),
        max(first.idle, second.idle),
        second.phase,
    )


class WorkerSlot:
    """Slot of a worker: its present process, and the counts of the processes before it.

    Counts are read from the worker's file in ``directory``.
    """

    def __init__(self, name: str, directory: Path) -> None:
        self.name = name
        self.child: Child | None = None
        self.before = WorkerCounts()
        self.short_lives = 0
        self.replaced = 0
        self.is_retired = False
        """True if it was ended for good."""
        self._file = directory / f"{name}.stats"

    def look(self, covered: set[int]) -> WorkerCounts:
        """Return the counts of all processes so far; add the blocks that this one covered."""
        return sum_of(self.before, self._present(covered)) if self.child else self.before

    def _present(self, covered: set[int]) -> WorkerCounts:
        try:
            counts, blocks = read_statistics(self._file)
        except OSError:
            return WorkerCounts()
        covered |= blocks
        return counts

    def state(self, counts: WorkerCounts) -> WorkerState:
        """Return the worker's state, given its counts."""
        phase = counts.machine_phase if self.child else MachinePhase.ENDED
        return WorkerState(self.name, phase, counts, self.replaced)

    def close(self, covered: set[int]) -> None:
        """End the process, and keep its counts."""
        if self.child is None:
            return
        self.child.kill()
        self.before = self.look(covered)
        self._file.unlink(missing_ok=True)
        self.child = None
