# SPDX-License-Identifier: Apache-2.0
"""Whose turn it is to race, among the workers of a campaign.

The threads of a race meet in the driver while each of their vCPUs has a CPU of
the host. Where there are more vCPUs than CPUs they mostly wait for each other.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from fuzzer.crash.setups import RACING


class Turns:
    """Turns that processes which share a ``workdir`` take: as many as the host has CPUs for.

    A process that ends gives its turn back by that.
    """

    def __init__(self, workdir: Path) -> None:
        n = max(1, len(os.sched_getaffinity(0)) // RACING.cpus)
        self._paths = [workdir / f"race-{number}.lock" for number in range(n)]
        self._held: int | None = None

    def take(self) -> bool:
        """Take a turn, if one is free; tells whether this process has one now."""
        for path in self._paths:
            if self._held is not None:
                break
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._held = fd
            except BlockingIOError:
                os.close(fd)
        return self._held is not None

    def give_back(self) -> None:
        """Let others have the turn, if there is one."""
        if self._held is not None:
            os.close(self._held)
            self._held = None
