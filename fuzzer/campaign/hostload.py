# SPDX-License-Identifier: Apache-2.0
"""The host's load while a campaign runs, and the room that it takes and leaves."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

# Seconds between two looks at memory, and at the size of the working directory; each takes this
# share of all time at most.
_MEMORY_EVERY, _SIZE_EVERY, _SHARE = 5.0, 30.0, 0.005


@dataclass(frozen=True, slots=True)
class HostFigures:
    """The host's load: ``cpu`` is 0 to 1, ``load`` runnable processes for each CPU; bytes.

    ``memory`` is what the campaign's processes have to themselves and their part of what they
    share; ``disk`` is the size of the working directory.
    """

    cpu: float = 0.0
    load: float = 0.0
    memory: int = 0
    memory_free: int = 0
    disk: int = 0
    disk_free: int = 0


class _Seldom:
    """A figure that is found out now and then, the more rarely the longer that takes."""

    def __init__(self, find: Callable[[], int], every: float, clock: Callable[[], float]) -> None:
        self._find = find
        self._every = every
        self._clock = clock
        self._next = float("-inf")
        self.value = 0

    def look(self) -> int:
        """Return the figure, as it was a moment ago."""
        start = self._clock()
        if start >= self._next:
            self.value = self._find()
            end = self._clock()
            self._next = end + max(self._every, (end - start) / _SHARE)
        return self.value


class HostLoad:
    """Figures of the host and of this process with all that it started, for a directory."""

    def __init__(self, directory: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._directory = directory
        self._memory = _Seldom(memory_of_campaign, _MEMORY_EVERY, clock)
        self._size = _Seldom(lambda: size_of(directory), _SIZE_EVERY, clock)
        psutil.cpu_percent()  # the next call tells the load since this one

    def look(self) -> HostFigures:
        """Return the present figures; those of the CPU are of the time since the last look."""
        return HostFigures(
            cpu=psutil.cpu_percent() / 100,
            load=os.getloadavg()[0] / (os.cpu_count() or 1),
            memory=self._memory.look(),
            memory_free=psutil.virtual_memory().available,
            disk=self._size.look(),
            disk_free=shutil.disk_usage(self._directory).free,
        )


def memory_of_campaign() -> int:
    """Return the memory of this process and all that it started, in bytes."""
    return memory_below(psutil.Process())


def memory_below(own: psutil.Process) -> int:
    """Return the memory of a process and all that it started, in bytes.

    Pages that machines share, as those of their template, are counted once.

    Raises:
        psutil.NoSuchProcess: it is gone.
    """
    total = 0
    for process in (own, *own.children(recursive=True)):
        with contextlib.suppress(psutil.Error):
            total += process.memory_full_info().pss
    return total


def size_of(directory: Path) -> int:
    """Return the bytes that the files below a directory take on the disk."""
    total, left = 0, [directory]
    while left:
        # Files come and go meanwhile.
        with contextlib.suppress(OSError), os.scandir(left.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    left.append(Path(entry.path))
                else:
                    with contextlib.suppress(OSError):
                        total += entry.stat(follow_symlinks=False).st_blocks * 512
    return total
