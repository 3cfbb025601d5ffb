# SPDX-License-Identifier: Apache-2.0
"""Stage that links crashes which are one bug, with another report on each kernel."""

from __future__ import annotations

import logging
from collections import deque

from fuzzer.campaign.kernels import JudgingKernels
from fuzzer.campaign.stages.stage import ALL
from fuzzer.crash.crash import Crash
from fuzzer.crash.dedup import Wanted, link, same_bug
from fuzzer.crash.judge import VERIFY_RUNS
from fuzzer.crash.store import CrashStore
from fuzzer.crash.testbeds import Testbeds
from fuzzer.errors import InfrastructureError
from fuzzer.machine.machine import LostMachineError
from fuzzer.target.target import Target

_LOG = logging.getLogger(__name__)


class Links:
    """Links a crash that only the fuzzed kernel showed to the one that the judge's shows for it.

    Both programs have to show the one report on the one kernel and the other on the other, each
    time. A report that the judge's kernel makes of every program, as of each open, is linked to
    none: its program, once it is minimal, shows nothing on the fuzzed one.
    """

    name, share = "links", ALL

    def __init__(self, kernels: JudgingKernels, store: CrashStore, target: Target) -> None:
        self._kernels = kernels
        self._store = store
        self._target = target
        self._waiting: deque[str] = deque()
        for crash in store.all():
            self.note(crash)

    def note(self, crash: Crash) -> None:
        """Take note of a stored crash."""
        if crash.reproduced and crash.unseen_on and crash.instead:
            self._waiting.append(crash.title)

    def step(self) -> bool:
        """Look into one crash; tell whether there was one. None may be left to be minimized.

        Raises:
            LostMachineError: QEMU was killed from outside; go on.
        """
        if not self._waiting:
            return False
        crash = self._store.get(self._waiting.popleft())
        if crash is None or not crash.unseen_on or not crash.reproduced:
            return True
        try:
            for other in self._store.all():
                if self._is_one(crash, other):
                    link(self._store, other, crash, self._target)
                    break
        except LostMachineError:
            raise
        except InfrastructureError as error:
            _LOG.warning("linking %s: %s", crash.title, error)
        return True

    def _is_one(self, crash: Crash, other: Crash) -> bool:
        """Tell whether the other crash is what the judge's kernel shows in place of the first."""
        if other.unseen_on or not other.minimized or other.report_title not in crash.instead:
            return False
        fuzzed, own = self._kernels.setups_of(crash), self._kernels.own
        return _shows(own, crash, other) and _shows(fuzzed, other, crash)


def _shows(setups: Testbeds, crash: Crash, report: Crash) -> bool:
    """Tell whether a crash's program has a kernel make the report of another one each time."""
    observe = setups.observe(report.kind, Wanted(report.splat))
    for _ in range(VERIFY_RUNS):
        splat = observe(crash.history, crash.program)[0].splat
        if splat is None or not same_bug(splat, report.splat):
            return False
    return True
