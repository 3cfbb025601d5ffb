# SPDX-License-Identifier: Apache-2.0
"""Rotation of machines: a worker gets a fresh one when a phase is over."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from fuzzer.engine.crashes import CrashObserver
from fuzzer.engine.executor import WorkerExecutor
from fuzzer.engine.phases import Phases
from fuzzer.engine.statistics import WorkerCounts


class Rotation:
    """Replaces the machine of a worker, and preloads some machines.

    ``choose`` returns calls that preload a machine. When they change, ``note_preload`` is
    called with those of before and the new ones.
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

        While programs are ``waiting`` that were made for a plain machine, it is not preloaded.
        """
        self._phases.change(may_race=may_race and self._executor.can_race)
        if may_preload:
            self._preload_with(b"" if waiting else self._phases.choose_preload(self.choose))
        self._replace()

    def race_from_now_on(self) -> None:
        """Begin a phase of races that does not end, to measure how fast races are."""
        self._phases.race_from_now_on()
        self.renew()

    def renew(self) -> None:
        """Replace the machine by a fresh one within a phase."""
        if self._executor.preloaded:
            # With other parameters it may run for longer.
            self._phases.spend_machine()
        self._replace()

    def _replace(self) -> None:
        executor = self._executor
        # The slot is released once the machine that raced is gone.
        executor.close()
        self._phases.release_slot()
        executor.races = self._phases.racing
        executor.renew()
        self._counts.restores += 1
        if executor.preloaded:
            self._preload()

    def _preload(self) -> None:
        """Preload the fresh machine; if that fails, go on without, or with another machine."""
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
