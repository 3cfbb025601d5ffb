# SPDX-License-Identifier: Apache-2.0
"""Bringing stored crashes further, in time that is left.

Crashes that reproduce are made minimal. Those that do not are tried again, a
few times: what it took may have been luck.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

from fuzzer.campaign.kernels import JudgingKernels
from fuzzer.crash.crash import Crash
from fuzzer.crash.dedup import absorb
from fuzzer.crash.minimize import Minimized, Minimizer
from fuzzer.crash.reproducer import Reproducer
from fuzzer.crash.sighting import Sighting
from fuzzer.crash.store import CrashStore
from fuzzer.errors import InfrastructureError
from fuzzer.machine.machine import LostMachineError
from fuzzer.target.target import Target

_RETRIES = 3
_MOST_LOST = 3
_ORIGIN = "retry"


@dataclass(frozen=True, slots=True)
class Times:
    """The reducer's times, in seconds: ``slice_seconds`` of work between two looks at the spool.

    One crash has ``limit`` to be made minimal, as races that happen seldom take as long
    as they may. A retry, in which what ran before a sighted program may take
    ``patience``, comes after ``retry_pause``, or ``retry_rest`` times what the last one took.
    """

    slice_seconds: float = 0.5
    limit: float = 120.0
    patience: float = 60.0
    retry_pause: float = 10.0
    retry_rest: float = 2.0


def with_minimal(crash: Crash, found: Minimized) -> Crash:
    """Return a crash with its minimal reproducer; the original program is kept."""
    reproducer = found.reproducer
    # Another report of the same bug would not go with the title.
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


class Reducer:
    """Works on stored crashes, one at a time.

    ``is_awaited(title)`` tells that somebody else is about to change a crash's
    program, so that it has to wait.
    """

    def __init__(
        self,
        kernels: JudgingKernels,
        store: CrashStore,
        target: Target,
        seed: int,
        is_awaited: Callable[[str], bool],
        *,
        times: Times = Times(),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._times = times
        self._clock = clock
        self._kernels = kernels
        self._store = store
        self._target = target
        self._seed = seed
        self._is_awaited = is_awaited
        self._waiting: deque[str] = deque()
        self._failed: deque[str] = deque()
        self._retry_at = 0.0
        self._lost: dict[str, int] = {}
        self._title = ""
        self._minimizer: Minimizer | None = None
        for crash in store.all():
            self.note(crash)

    def note(self, crash: Crash) -> None:
        """Take note of a stored crash that may need work."""
        queue = self._waiting if crash.reproduced else self._failed
        if not crash.reproduced:
            self._retry_at = self._clock() + self._times.retry_pause
        if crash.runs and not crash.minimized and crash.title not in queue:
            queue.append(crash.title)

    def step(self, *, finish: bool = False, busy: bool = False) -> bool:
        """Do a piece of work; tell whether there was any.

        With ``finish`` only the crash that was begun is worked on. While others
        are ``busy``, nothing is retried, which takes long.

        Raises:
            LostMachineError: QEMU was killed from outside; go on.
        """
        try:
            if finish and self._minimizer is None:
                return False
            return self._minimize() or (not busy and self._retry())
        except LostMachineError:
            self._give_back()
            raise
        except InfrastructureError as error:
            print(f"minimizing {self._title}: {error}", file=sys.stderr, flush=True)
            self.close()
            return True

    def hurry(self) -> None:
        """Have the crash that is being worked on done with soon."""
        if self._minimizer:
            self._minimizer.hurry(0.0)

    def close(self) -> None:
        """End the machines; what is being worked on stays as it was stored."""
        if self._minimizer:
            self._minimizer.close()
        self._minimizer = None

    def _give_back(self) -> None:
        """Begin a crash anew whose machine was lost, but not for ever."""
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
                limit=self._times.limit,
            )
        end = self._clock() + self._times.slice_seconds
        while self._minimizer.step():
            if self._clock() > end:
                return True
        result = self._minimizer.result
        self.close()
        crash = self._store.get(self._title)
        if result and crash:
            self._store.put(with_minimal(crash, result), self._target)
        return True

    def _retry(self) -> bool:
        """Try a crash again that did not reproduce."""
        if not self._failed or self._clock() < self._retry_at:
            return False
        self._title = self._failed.popleft()
        crash = self._store.get(self._title)
        if crash is None or crash.reproduced or crash.retries >= _RETRIES:
            return True
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
        verdict = self._kernels.judge(sighting, patience=self._times.patience)
        judgement = verdict.judgement
        took = self._clock() - begun
        tried = replace(crash, retries=crash.retries + 1)
        if not judgement.reproduced:
            instead = verdict.instead or crash.instead
            tried = replace(tried, runs=crash.runs + judgement.runs, instead=instead)
            self._store.put(tried, self._target)
            self.note(tried)
            rest = max(self._times.retry_pause, self._times.retry_rest * took)
            self._retry_at = self._clock() + rest
            return True
        splat = judgement.splat
        shown = replace(
            tried,
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
        new = absorb(self._store, shown, self._target, tried=crash.title)
        if new:
            self.note(new)
        return True
