# SPDX-License-Identifier: Apache-2.0
"""Stage that finds out which privileges the stored crashes take."""

from __future__ import annotations

import logging
from collections import deque
from dataclasses import replace

from fuzzer.campaign.kernels import JudgingKernels
from fuzzer.campaign.stages.stage import ALL
from fuzzer.crash.crash import Crash
from fuzzer.crash.privileges import privileges_of
from fuzzer.crash.store import CrashStore
from fuzzer.errors import InfrastructureError
from fuzzer.machine.machine import LostMachineError
from fuzzer.target.target import Target

_LOG = logging.getLogger(__name__)


class Callers:
    """Runs crashes that reproduced as an unprivileged user, once none is to be minimized."""

    name, share = "callers", ALL

    def __init__(self, kernels: JudgingKernels, store: CrashStore, target: Target) -> None:
        self._kernels = kernels
        self._store = store
        self._target = target
        self._waiting: deque[str] = deque()
        for crash in store.all():
            self.note(crash)

    def note(self, crash: Crash) -> None:
        """Take note of a stored crash."""
        if crash.reproduced and not crash.privileges and crash.title not in self._waiting:
            self._waiting.append(crash.title)

    def step(self) -> bool:
        """Look into one crash; tell whether there was one.

        Raises:
            LostMachineError: QEMU was killed from outside; go on.
        """
        if not self._waiting:
            return False
        crash = self._store.get(self._waiting.popleft())
        if crash is None or not crash.reproduced:
            return True
        try:
            found = privileges_of(crash, self._kernels.setups_of(crash))
        except LostMachineError:
            raise
        except InfrastructureError as error:
            _LOG.warning("running %s as another user: %s", crash.title, error)
            return True
        # Fuzzing may have seen it again meanwhile.
        now = self._store.get(crash.title)
        if now and found and now.program == crash.program:
            self._store.put(replace(now, privileges=found), self._target)
        return True
