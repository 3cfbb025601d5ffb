# SPDX-License-Identifier: Apache-2.0
"""Stage that tries stored crashes again which did not reproduce, as some need luck."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace

from fuzzer.campaign.kernels import JudgingKernels, Verdict
from fuzzer.campaign.stages.stage import ALL
from fuzzer.crash.crash import Crash
from fuzzer.crash.dedup import absorb
from fuzzer.crash.sighting import Sighting
from fuzzer.crash.store import CrashStore
from fuzzer.errors import InfrastructureError
from fuzzer.machine.machine import LostMachineError
from fuzzer.target.target import Target

_LOG = logging.getLogger(__name__)

_RETRIES = 3
_ORIGIN = "retry"


class Retries:
    """Tries each crash that did not reproduce a few times.

    The programs before a sighted one may take ``patience`` seconds. As that is long, nothing
    is tried while ``is_busy()``, for ``pause`` seconds after a crash was stored, and for
    ``rest`` times as long as the last try took. ``found`` is called with each crash that
    reproduced.
    """

    name, share = "retries", ALL

    def __init__(
        self,
        kernels: JudgingKernels,
        store: CrashStore,
        target: Target,
        *,
        is_busy: Callable[[], bool],
        found: Callable[[Crash], None],
        patience: float = 60.0,
        pause: float = 10.0,
        rest: float = 2.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._kernels = kernels
        self._store = store
        self._target = target
        self._is_busy = is_busy
        self._found = found
        self._patience = patience
        self._pause = pause
        self._rest = rest
        self._clock = clock
        self._waiting: deque[str] = deque()
        self._at = 0.0
        for crash in store.all():
            self.note(crash)

    def note(self, crash: Crash) -> None:
        """Take note of a stored crash that may be tried again."""
        if crash.reproduced:
            return
        self._at = self._clock() + self._pause
        if crash.runs and not crash.minimized and crash.title not in self._waiting:
            self._waiting.append(crash.title)

    def step(self) -> bool:
        """Try a crash once more; tell whether there was one.

        Raises:
            LostMachineError: QEMU was killed from outside; go on.
        """
        if not self._waiting or self._clock() < self._at or self._is_busy():
            return False
        title = self._waiting.popleft()
        crash = self._store.get(title)
        if crash is None or crash.reproduced or crash.retries >= _RETRIES:
            return True
        try:
            self._retry(crash)
        except LostMachineError:
            raise
        except InfrastructureError as error:
            _LOG.warning("trying %s again: %s", title, error)
        return True

    def _retry(self, crash: Crash) -> None:
        begun = self._clock()
        programs = crash.first_run or (*crash.history, crash.program)
        sighting = Sighting(
            crash.report_title,
            crash.kind,
            programs[-1],
            programs[:-1],
            crash.first_log.encode(),
            _ORIGIN,
        )
        verdict = self._kernels.judge(sighting, patience=self._patience)
        took = self._clock() - begun
        tried = replace(crash, retries=crash.retries + 1)
        if verdict.judgement.reproduced:
            shown = _as_shown(tried, verdict)
            if new := absorb(self._store, shown, self._target, tried=crash.title):
                self._found(new)
            return
        instead = verdict.instead or crash.instead
        tried = replace(tried, runs=crash.runs + verdict.judgement.runs, instead=instead)
        self._store.put(tried, self._target)
        self.note(tried)
        self._at = self._clock() + max(self._pause, self._rest * took)


def _as_shown(crash: Crash, verdict: Verdict) -> Crash:
    """Return a crash with the findings of a verdict."""
    judgement = verdict.judgement
    splat = judgement.splat
    return replace(
        crash,
        title=splat.title,
        kind=splat.kind,
        function=splat.function,
        judged_on=verdict.judged_on.value,
        unseen_on=verdict.unseen_on,
        instead=verdict.instead,
        after=judgement.after,
        reproduced=judgement.reproduced,
        runs=judgement.runs,
        report=splat.text,
        program=judgement.program,
        history=judgement.history,
        log=judgement.log,
    )
