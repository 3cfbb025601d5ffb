# SPDX-License-Identifier: Apache-2.0
"""Stage that minimizes the stored crashes which reproduce."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace

from fuzzer.campaign.kernels import JudgingKernels
from fuzzer.campaign.stages.stage import ALL
from fuzzer.crash.crash import Crash
from fuzzer.crash.minimizer.minimize import Minimized, Minimizer
from fuzzer.crash.reproducer import Reproducer
from fuzzer.crash.store import CrashStore
from fuzzer.errors import InfrastructureError
from fuzzer.machine.machine import LostMachineError
from fuzzer.target.target import Target

_LOG = logging.getLogger(__name__)

_MOST_LOST = 3


def with_minimal(crash: Crash, found: Minimized) -> Crash:
    """Return a crash with its minimal reproducer; the original program is kept."""
    reproducer = found.reproducer
    # A report of the same bug under another title would not match the crash's.
    same = found.splat.title == crash.report_title
    return replace(
        crash,
        program=reproducer.program,
        history=reproducer.history,
        original=crash.original or crash.program,
        report=found.splat.text if same else crash.report,
        log=found.log if same and found.log else crash.log,
        reproduced=found.hits,
        runs=found.runs,
        after=found.after,
        minimized=found.complete,
        minimize_seconds=crash.minimize_seconds + found.seconds,
    )


class Minimizing:
    """Minimizes stored crashes, one at a time.

    ``is_awaited(title)`` tells that another stage is about to change a crash's
    program, so that the crash has to wait. A step takes ``slice_seconds``, and a crash
    at most ``limit`` seconds, which races that show seldom use up.
    """

    name, share = "minimizing", ALL

    def __init__(
        self,
        kernels: JudgingKernels,
        store: CrashStore,
        target: Target,
        seed: int,
        is_awaited: Callable[[str], bool],
        *,
        slice_seconds: float = 0.5,
        limit: float = 120.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._slice_seconds = slice_seconds
        self._limit = limit
        self._clock = clock
        self._kernels = kernels
        self._store = store
        self._target = target
        self._seed = seed
        self._is_awaited = is_awaited
        self._waiting: deque[str] = deque()
        self._lost: dict[str, int] = {}
        self._title = ""
        self._minimizer: Minimizer | None = None
        for crash in store.all():
            self.note(crash)

    def note(self, crash: Crash) -> None:
        """Take note of a stored crash that may be minimized."""
        if not crash.reproduced or not crash.runs or crash.minimized:
            return
        if crash.title not in self._waiting:
            self._waiting.append(crash.title)

    @property
    def has_begun(self) -> bool:
        """True while a crash is being minimized."""
        return self._minimizer is not None

    def step(self) -> bool:
        """Minimize for a slice of time; tell whether there was a crash for it.

        Raises:
            LostMachineError: QEMU was killed from outside; go on.
        """
        try:
            return self._minimize()
        except LostMachineError:
            self._give_back()
            raise
        except InfrastructureError as error:
            _LOG.warning("minimizing %s: %s", self._title, error)
            self.close()
            return True

    def hurry(self) -> None:
        """End the work on the present crash soon."""
        if self._minimizer:
            self._minimizer.hurry(0.0)

    def close(self) -> None:
        """End the machines; the present crash stays as it was stored."""
        if self._minimizer:
            self._minimizer.close()
        self._minimizer = None

    def _give_back(self) -> None:
        """Queue a crash again whose machine was lost, unless that happened too often."""
        self.close()
        self._lost[self._title] = self._lost.get(self._title, 0) + 1
        if self._lost[self._title] < _MOST_LOST:
            self._waiting.append(self._title)

    def _minimize(self) -> bool:
        if self._minimizer is None:
            title = next((each for each in self._waiting if not self._is_awaited(each)), None)
            if title is None:
                return False
            self._waiting.remove(title)
            crash = self._store.get(title)
            if crash is None or not crash.reproduced or crash.minimized:
                return True
            self._title = title
            self._minimizer = Minimizer(
                self._kernels.setups_of(crash),
                self._target,
                Reproducer(crash.program, crash.history),
                crash.splat,
                seed=self._seed,
                limit=self._limit,
            )
        end = self._clock() + self._slice_seconds
        while self._minimizer.step():
            if self._clock() > end:
                return True
        result = self._minimizer.result
        self.close()
        crash = self._store.get(self._title)
        if result and crash:
            self._store.put(with_minimal(crash, result), self._target)
        return True
