# SPDX-License-Identifier: Apache-2.0
"""The counts of a worker and its phase, in a file that the campaign reads.

A mapped file costs the fuzzing loop nothing and survives the worker, so what
a killed worker had counted still counts.
"""

from __future__ import annotations

import enum
import mmap
import os
import struct
from dataclasses import dataclass
from pathlib import Path

from fuzzer.atomic import open_own, write_whole
from fuzzer.untrusted import read_bytes

_COUNTS = struct.Struct("<11Q")


class MachinePhase(enum.StrEnum):
    """The work of a worker's machine at the moment."""

    STARTING = "starting"
    """The process has just begun."""
    SEEDS = "seeds"
    """It runs the programs that the campaign starts with."""
    SERIAL = "serial"
    """Programs whose calls follow each other."""
    RACES = "races"
    """Programs with calls on several threads."""
    PRELOADED = "preloaded"
    """Serial programs on a driver that was loaded with other parameters."""
    SLOW = "slow"
    """Serial programs whose calls take so long that few of them run."""
    STUDYING = "studying"
    """The worker finds out the cause of a bug that shows over and over."""
    ENDED = "ended"
    """No process runs."""


_PHASES = tuple(MachinePhase)


@dataclass(slots=True)
class WorkerCounts:
    """Counts of one worker process.

    ``lost`` counts machines that died or hung without a report, ``flaky`` programs whose
    new coverage did not repeat. ``call_us`` is the time of a call in microseconds before
    fuzzing began, ``idle`` the percentage of that time in which the machine only waited.
    ``phase`` is the number of its machine's phase in :class:`MachinePhase`.
    """

    programs: int = 0
    calls: int = 0
    splats: int = 0
    restores: int = 0
    lost: int = 0
    timeouts: int = 0
    fuzzing: int = 0
    flaky: int = 0
    call_us: int = 0
    idle: int = 0
    phase: int = 0

    @property
    def machine_phase(self) -> MachinePhase:
        """The phase of the worker's machine."""
        return _PHASES[self.phase % len(_PHASES)]

    @machine_phase.setter
    def machine_phase(self, phase: MachinePhase) -> None:
        self.phase = _PHASES.index(phase)


class WorkerStatistics:
    """The worker's side of the file: writes it."""

    def __init__(self, path: Path, n_blocks: int) -> None:
        size = _COUNTS.size + n_blocks
        write_whole(path, bytes(size), sync=False)
        fd = open_own(path, os.O_RDWR)
        try:
            self._map = mmap.mmap(fd, size)
        finally:
            os.close(fd)
        self._n_blocks = n_blocks
        self.counts = WorkerCounts()

    def publish(self, covered: int) -> None:
        """Write the counts and the blocks whose bytes in the integer ``covered`` are not 0."""
        counts = self.counts
        _COUNTS.pack_into(
            self._map,
            0,
            counts.programs,
            counts.calls,
            counts.splats,
            counts.restores,
            counts.lost,
            counts.timeouts,
            counts.fuzzing,
            counts.flaky,
            counts.call_us,
            counts.idle,
            counts.phase,
        )
        self._map[_COUNTS.size :] = covered.to_bytes(self._n_blocks, "little")


def read_statistics(path: Path) -> tuple[WorkerCounts, frozenset[int]]:
    """Return a worker's counts and the numbers of the blocks it has covered."""
    data = read_bytes(path)
    if len(data) < _COUNTS.size:
        return WorkerCounts(), frozenset()
    counts = WorkerCounts(*_COUNTS.unpack_from(data))
    covered = frozenset(i for i, value in enumerate(data[_COUNTS.size :]) if value)
    return counts, covered
