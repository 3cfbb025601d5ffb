# SPDX-License-Identifier: Apache-2.0
"""Race slots: limit the workers of a campaign that race at a time to the host's CPUs.

The threads of a race meet in the driver while each of their vCPUs has a CPU of
the host. Where there are more vCPUs than CPUs they mostly wait for each other.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from fuzzer.atomic import open_lock
from fuzzer.crash.testbeds import RACING


class RaceSlots:
    """Slots of the processes that share a ``workdir``: as many as the host has CPUs for.

    The slot of a process is released at the latest when it ends.
    """

    def __init__(self, workdir: Path) -> None:
        n = max(1, len(os.sched_getaffinity(0)) // RACING.cpus)
        self._paths = [workdir / f"race-{number}.lock" for number in range(n)]
        self._held: int | None = None

    def acquire(self) -> bool:
        """Acquire a slot if one is free; tell whether this process has one now."""
        for path in self._paths:
            if self._held is not None:
                break
            fd = open_lock(path)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._held = fd
            except BlockingIOError:
                os.close(fd)
        return self._held is not None

    def release(self) -> None:
        """Release the slot, if this process has one."""
        if self._held is not None:
            os.close(self._held)
            self._held = None
