# SPDX-License-Identifier: Apache-2.0
"""Stage that searches schedules for crashes that need a race.

A crash keeps its program and its rate until a schedule is found that shows it
each time.
"""

from __future__ import annotations

import logging
import random
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace

from fuzzer.campaign.stages.stage import ALL
from fuzzer.crash.crash import Crash
from fuzzer.crash.dedup import titled
from fuzzer.crash.exact import ScheduleSearch, run_exact
from fuzzer.crash.judge import VERIFY_RUNS
from fuzzer.crash.store import CrashStore
from fuzzer.crash.testbeds import Testbeds
from fuzzer.errors import InfrastructureError
from fuzzer.program.conditions import is_parallel
from fuzzer.program.schedule import is_scheduled
from fuzzer.program.wire import split
from fuzzer.target.target import Target

_LOG = logging.getLogger(__name__)

# Seconds of work between two looks at the spool.
_SLICE = 0.5
# Programs of a history, at most: every try runs them, and more would take too long.
_LONGEST_HISTORY = 32


class ScheduleSearches:
    """Searches the schedules of stored crashes; ``seed`` decides which are tried.

    ``setups_of(crash)`` returns the guests on the kernel that showed a crash.
    ``found`` is called with each crash that has got a schedule.
    """

    name, share = "schedules", ALL

    def __init__(
        self,
        setups_of: Callable[[Crash], Testbeds],
        store: CrashStore,
        target: Target,
        seed: int,
        found: Callable[[Crash], None] = lambda crash: None,
    ) -> None:
        self._tell = found
        self._setups_of = setups_of
        self._store = store
        self._target = target
        self._random = random.Random(seed)
        self._waiting: deque[Crash] = deque()
        self._crash: Crash | None = None
        self._search: ScheduleSearch | None = None
        self._gave_up = False

    def note(self, crash: Crash) -> None:
        """Take note of a crash that was just stored."""
        chunks = split(crash.program)
        if is_parallel(chunks) and not is_scheduled(chunks) and not self._gave_up:
            self._waiting.append(crash)

    def is_pending(self, title: str) -> bool:
        """Return whether the schedule of a crash is still to be searched."""
        searched = [self._crash] if self._crash and self._search else []
        return any(crash.title == title for crash in (*self._waiting, *searched))

    def stop(self) -> None:
        """Drop the searches that wait, and the one begun."""
        self._waiting.clear()
        self._search = None

    def step(self) -> bool:
        """Try some schedules; tell whether there was a crash that needs one."""
        if self._search is None:
            if not self._waiting:
                return False
            self._begin(self._waiting.popleft())
            if self._search is None:
                return True
        end = time.monotonic() + _SLICE
        while self._search.step():
            if time.monotonic() > end:
                return True
        self._finish(self._search)
        self._search = None
        return True

    def _begin(self, crash: Crash) -> None:
        usable = crash.reproduced and len(crash.history) <= _LONGEST_HISTORY
        self._crash = replace(crash, history=crash.history if usable else ())
        try:
            guest = self._setups_of(crash).exact
        except InfrastructureError as error:
            # An exact machine boots slowly, and may fail to; crashes do without a schedule then.
            _LOG.warning("no exact machine: %s", error)
            self._waiting.clear()
            self._gave_up = True
            return
        self._search = ScheduleSearch(
            guest,
            self._crash.history,
            crash.program,
            self._random,
            title=crash.report_title,
        )

    def _finish(self, search: ScheduleSearch) -> None:
        crash, found = self._crash, search.found
        if crash is None or found is None:
            return
        setups, same = self._setups_of(crash), 0
        for _ in range(VERIFY_RUNS):
            wanted = titled(crash.report_title)
            splat = run_exact(setups.exact, crash.history, found.program, wanted).splat
            same += splat is not None and wanted(splat)
        if same < VERIFY_RUNS or found.outcome.splat is None:
            return
        stored = self._store.get(crash.title)
        if stored is None:
            # The bug is stored under another title by now.
            return
        exact = replace(
            stored,
            program=found.program,
            history=crash.history,
            report=found.outcome.splat.text,
            log=found.outcome.log,
            reproduced=same,
            runs=same,
            exact=True,
            minimized=False,
        )
        self._store.put(exact, self._target)
        self._tell(exact)
