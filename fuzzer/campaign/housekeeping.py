# SPDX-License-Identifier: Apache-2.0
"""Housekeeping of a campaign: small logs, workers that get on, and limits that it keeps to."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from fuzzer.campaign.hostload import HostFigures, memory_below, size_of
from fuzzer.campaign.slots import WorkerSlot
from fuzzer.campaign.workdir import Workdir
from fuzzer.engine.statistics import WorkerCounts
from fuzzer.progress import clock, say
from fuzzer.state.document import EventKind
from fuzzer.wording import count, size_text

# Seconds between two looks at logs, and between two looks at a limit that was exceeded.
_LOGS_EVERY, _LIMITS_EVERY = 30.0, 15.0
# A log's size in bytes beyond which its content is moved to a second file, in place of the one
# before it; and the inputs that are kept at which workers ended.
_LOG_SIZE, _MOST_ARTIFACTS = 4 << 20, 20
_ARTIFACTS = ("crash-*", "oom-*", "timeout-*", "leak-*", "slow-unit-*")
_OLD = ".1"
# A worker that was replaced within so many seconds has as little memory as it can.
_FRESH = 600.0
# Seconds between two looks at what workers do, and those without any count that changes and
# with hardly any CPU time (a share) after which one is stuck. One that waits for a slow guest
# looks at it all the time.
_PULSE_EVERY, _STUCK, _IDLE = 20.0, 600.0, 0.001


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits that the user set, in bytes; None for none.

    ``disk`` is for the working directory, ``memory`` for all processes of the campaign.
    """

    disk: int | None = None
    memory: int | None = None


@dataclass(frozen=True, slots=True)
class _Pulse:
    """The counts of a worker's process and its CPU time in seconds, and since when."""

    pid: int
    counts: WorkerCounts
    cpu: float
    since: float


class Housekeeping:
    """Keeps logs small and a campaign within its limits, and has stuck workers replaced.

    ``note`` writes an event down, and ``retire`` ends a worker for good.
    """

    def __init__(
        self,
        workdir: Workdir,
        limits: Limits,
        workers: Sequence[WorkerSlot],
        *,
        note: Callable[[EventKind, str, str], None],
        retire: Callable[[WorkerSlot], None],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._workdir = workdir
        self._limits = limits
        self._workers = workers
        self._note = note
        self._retire = retire
        self._now = now
        self._next_logs = self._next_limits = self._next_pulse = float("-inf")
        self._pulses: dict[str, _Pulse] = {}
        self._relieved: dict[str, float] = {}

    def look(self, figures: HostFigures) -> str:
        """Do what is to be done; return the reason for which fuzzing has to end, or nothing."""
        now = self._now()
        if now >= self._next_logs:
            self._next_logs = now + _LOGS_EVERY
            rotate_logs(self._workdir.logs)
        if now >= self._next_pulse:
            if now > self._next_pulse + _STUCK / 2:
                # This process itself was stopped meanwhile.
                self._pulses.clear()
            self._next_pulse = now + _PULSE_EVERY
            for worker in self._workers:
                if worker.child is not None:
                    self._feel_pulse(worker, now)
        if now < self._next_limits:
            return ""
        limits, reason = self._limits, ""
        if limits.disk is not None and figures.disk > limits.disk:
            self._next_limits = now + _LIMITS_EVERY
            reason = self._trim_disk(limits.disk)
        elif limits.memory is not None and figures.memory > limits.memory:
            self._next_limits = now + _LIMITS_EVERY
            reason = self._trim_memory(figures.memory, limits.memory)
        if reason:
            say(f"{reason}: fuzzing ends")
        return reason

    def _feel_pulse(self, worker: WorkerSlot, now: float) -> None:
        """End a worker that does nothing any more, as one whose process was stopped."""
        assert worker.child is not None
        pid = worker.child.process.pid
        counts, cpu = worker.look(set()), _cpu_seconds(pid)
        pulse = self._pulses.get(worker.name)
        spare = _IDLE * (now - pulse.since) if pulse else 0.0
        if pulse is None or (pulse.pid, pulse.counts) != (pid, counts) or cpu > pulse.cpu + spare:
            self._pulses[worker.name] = _Pulse(pid, counts, cpu, now)
        elif now - pulse.since > _STUCK:
            say(f"{worker.name} has done nothing for {clock(now - pulse.since)}: it is replaced")
            worker.child.kill()

    def _trim_disk(self, limit: int) -> str:
        """Delete what nobody needs; return the reason to end if that is not enough."""
        freed = sum(map(_delete, _disposable(self._workdir)))
        taken = size_of(self._workdir.root)
        if freed:
            self._tell("disk", f"{size_text(freed)} of old logs deleted to keep --max-disk")
        if taken <= limit:
            return ""
        return (
            f"{self._workdir.root} takes {size_text(taken)}, more than the {size_text(limit)} of "
            "--max-disk (pkvfuzz corpus minimize may make room)"
        )

    def _trim_memory(self, taken: int, limit: int) -> str:
        """Replace the largest worker, end one for good, or return the reason to end."""
        now = self._now()
        running = [worker for worker in self._workers if worker.child is not None]
        grown = [
            worker for worker in running
            if now - self._relieved.get(worker.name, float("-inf")) > _FRESH
        ]  # fmt: skip
        over = f"{size_text(taken)} of memory, more than the {size_text(limit)} of --max-mem"
        if grown:
            worker = max(grown, key=_memory_of)
            assert worker.child is not None
            self._relieved[worker.name] = now
            self._tell(worker.name, f"{over}: {worker.name} is replaced")
            # The campaign starts another one in its place.
            worker.child.kill()
            return ""
        if len(running) > 1:
            worker = running[-1]
            self._tell(
                worker.name, f"{over}: the campaign goes on with {count(len(running) - 1, 'VM')}"
            )
            self._retire(worker)
            return ""
        return f"{over}, and one VM is left"

    def _tell(self, subject: str, text: str) -> None:
        say(text)
        self._note(EventKind.TRIMMED, subject, text)


def _memory_of(worker: WorkerSlot) -> int:
    assert worker.child is not None
    with contextlib.suppress(psutil.Error):
        return memory_below(psutil.Process(worker.child.process.pid))
    return 0


def _cpu_seconds(pid: int) -> float:
    with contextlib.suppress(psutil.Error):
        times = psutil.Process(pid).cpu_times()
        return times.user + times.system
    return 0.0


def rotate_logs(directory: Path) -> None:
    """Move the content of logs that have grown large to a second file; keep the newest artifacts.

    Logs are cut where they are, as those who write to them have them open for appending.
    """
    for path in directory.glob("*.log"):
        with contextlib.suppress(OSError):
            if path.stat().st_size > _LOG_SIZE:
                shutil.copyfile(path, path.with_name(path.name + _OLD))
                os.truncate(path, 0)
    for path in _artifacts(directory)[_MOST_ARTIFACTS:]:
        _delete(path)


def _artifacts(directory: Path) -> list[Path]:
    """Return the inputs at which workers ended, the newest first."""
    found = [path for pattern in _ARTIFACTS for path in directory.glob(pattern)]
    return sorted(found, key=_changed, reverse=True)


def _changed(path: Path) -> float:
    with contextlib.suppress(OSError):
        return path.stat().st_mtime
    return 0.0


def _disposable(workdir: Workdir) -> list[Path]:
    """Return the files that neither the campaign nor its reader needs."""
    damaged = workdir.root.glob("state.db*.damaged-*")
    return [*workdir.logs.glob(f"*{_OLD}"), *_artifacts(workdir.logs), *damaged]


def _delete(path: Path) -> int:
    """Delete a file; return the bytes that it took."""
    with contextlib.suppress(OSError):
        size = path.stat().st_blocks * 512
        path.unlink()
        return size
    return 0
