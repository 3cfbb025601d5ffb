# SPDX-License-Identifier: Apache-2.0
"""Rotation of machines: when a phase is over, the worker goes on with a fresh one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from fuzzer.engine.crashes import CrashObserver
from fuzzer.engine.executor import WorkerExecutor
from fuzzer.engine.phases import Phases
from fuzzer.engine.statistics import WorkerCounts


class Rotation:
    """Replaces the machine of a worker, and has the module of some preloaded.

    ``choose`` returns calls that preload it, and ``note_preload`` is told of those of
    before and the new ones when they change.
    """

    def __init__(
        self,
        executor: WorkerExecutor,
        phases: Phases,
        counts: WorkerCounts,
        crashes: CrashObserver,
        *,
        choose: Callable[[Counter[bytes]], bytes],
        note_preload: Callable[[bytes, bytes], None],
    ) -> None:
        self._executor = executor
        self._phases = phases
        self._counts = counts
        self._crashes = crashes
        self.choose = choose
        self._note_preload = note_preload

    def begin_phase(self, *, may_race: bool, may_preload: bool, waiting: bool) -> None:
        """Begin the next phase on a fresh machine, of several vCPUs if it is time for races.

        With programs ``waiting`` that were made for the module as it is, it stays so.
        """
        self._phases.change(may_race=may_race and self._executor.can_race)
        if may_preload:
            self._preload_with(b"" if waiting else self._phases.choose_preload(self.choose))
        self.renew()

    def race_from_now_on(self) -> None:
        """Have all further programs make calls on several threads, to measure how fast that is."""
        self._phases.race_from_now_on()
        self.renew()

    def renew(self) -> None:
        """Replace the machine by a fresh one."""
        executor = self._executor
        # Others may race once the last machine that did is gone.
        executor.close()
        self._phases.release_slot()
        executor.races = self._phases.racing
        executor.renew()
        self._counts.restores += 1
        if executor.preloaded:
            self._preload()

    def _preload(self) -> None:
        """Load the module with other parameters for all programs that this machine will run."""
        calls, header = self._executor.preloaded, self._executor.channel.header
        answered = self._executor.preload()
        if answered and self._executor.has_loaded_well():
            return
        self._preload_with(b"")
        if not answered:
            self._crashes.lose(calls)
        elif not (header.log_length or header.status) or not self._crashes.examine(calls):
            self.renew()

    def _preload_with(self, calls: bytes) -> None:
        before = self._executor.preloaded
        if calls != before:
            self._executor.preloaded = calls
            self._note_preload(before, calls)
