# SPDX-License-Identifier: Apache-2.0
"""Tests of a campaign's limits: small logs, a limit of disk, a limit of memory."""

from __future__ import annotations

import os
import subprocess
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from fuzzer.campaign import housekeeping
from fuzzer.campaign.hostload import HostFigures
from fuzzer.campaign.housekeeping import Housekeeping, Limits, rotate_logs
from fuzzer.campaign.slots import WorkerSlot
from fuzzer.campaign.workdir import Workdir
from fuzzer.engine.statistics import WorkerCounts
from fuzzer.state.document import EventKind

MIB = 1 << 20


class Ground:
    """A working directory, workers that only count how often they are ended, and a clock."""

    def __init__(self, root: Path, limits: Limits, workers: int = 2) -> None:
        self.workdir = Workdir(root)
        for directory in (self.workdir.logs, self.workdir.corpus):
            directory.mkdir(parents=True)
        self.killed: Counter[str] = Counter()
        self.counts = {f"worker-{number}": WorkerCounts() for number in range(workers)}
        self.retired: list[str] = []
        self.events: list[tuple[EventKind, str]] = []
        self.now = 0.0
        self.slots = [self._slot(f"worker-{number}") for number in range(workers)]
        self.housekeeping = Housekeeping(
            self.workdir,
            limits,
            cast("list[WorkerSlot]", self.slots),
            note=lambda kind, subject, text: self.events.append((kind, subject)),
            retire=self._retire,
            now=lambda: self.now,
        )

    def _slot(self, name: str) -> SimpleNamespace:
        child = SimpleNamespace(
            kill=lambda: self.killed.update([name]), process=SimpleNamespace(pid=os.getpid())
        )
        return SimpleNamespace(name=name, child=child, look=lambda _: self.counts[name])

    def _retire(self, worker: WorkerSlot) -> None:
        worker.child = None
        self.retired.append(worker.name)

    def look(self, **figures: int) -> str:
        self.now += 20
        return self.housekeeping.look(HostFigures(**figures))


def test_a_large_log_is_cut_while_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "worker-0.log"
    with path.open("ab", buffering=0) as log:
        log.write(b"old\n" * (2 * MIB))
        rotate_logs(tmp_path)
        assert path.stat().st_size == 0
        assert (tmp_path / "worker-0.log.1").stat().st_size == 8 * MIB
        log.write(b"new\n")
        rotate_logs(tmp_path)
    assert path.read_bytes() == b"new\n"


def test_the_newest_inputs_at_which_workers_ended_are_kept(tmp_path: Path) -> None:
    for number in range(30):
        path = tmp_path / f"crash-{number}"
        path.touch()
        os.utime(path, (number, number))
    rotate_logs(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {f"crash-{n}" for n in range(10, 30)}


def test_a_directory_that_is_too_large_loses_what_nobody_needs(tmp_path: Path) -> None:
    ground = Ground(tmp_path, Limits(disk=3 * MIB))
    kept = [ground.workdir.corpus / "program", ground.workdir.logs / "judge.log"]
    for path in (*kept, ground.workdir.logs / "judge.log.1", tmp_path / "state.db.damaged-1"):
        path.write_bytes(b"x" * MIB)
    assert ground.look(disk=2 * MIB) == ""
    assert ground.events == []
    assert ground.look(disk=4 * MIB) == ""
    assert ground.events == [(EventKind.TRIMMED, "disk")]
    assert all(path.exists() for path in kept)
    assert not (tmp_path / "state.db.damaged-1").exists()
    (ground.workdir.corpus / "large").write_bytes(b"x" * 2 * MIB)
    reason = ground.look(disk=4 * MIB)
    assert "more than the 3.0 MiB of --max-disk" in reason
    assert all(path.exists() for path in kept)


def test_a_campaign_that_takes_too_much_memory_is_made_smaller(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ground = Ground(tmp_path, Limits(memory=100 * MIB))
    sizes = {"worker-0": 10, "worker-1": 20}
    monkeypatch.setattr(housekeeping, "_memory_of", lambda worker: sizes[worker.name])
    assert ground.look(memory=100 * MIB) == ""
    assert not ground.killed
    assert ground.look(memory=101 * MIB) == ""
    assert ground.killed == {"worker-1": 1}
    ground.look(memory=101 * MIB)
    assert ground.killed == {"worker-0": 1, "worker-1": 1}
    ground.look(memory=101 * MIB)
    assert ground.retired == ["worker-1"]
    assert "one VM is left" in ground.look(memory=101 * MIB)
    # Later it has grown again, which is no reason to end.
    ground.now += 3600
    assert ground.look(memory=101 * MIB) == ""
    assert ground.killed == {"worker-0": 2, "worker-1": 1}


def test_a_limit_is_looked_at_now_and_then(tmp_path: Path) -> None:
    ground = Ground(tmp_path, Limits(memory=MIB), workers=3)
    for _ in range(3):
        ground.housekeeping.look(HostFigures(memory=2 * MIB))
    assert sum(ground.killed.values()) == 1


def test_a_worker_that_does_nothing_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ground = Ground(tmp_path, Limits(), workers=3)
    # Of the others one runs programs, and one waits for a guest.
    cpu = 0.0
    numbers = iter(range(10_000))
    monkeypatch.setattr(
        housekeeping, "_cpu_seconds", lambda _: cpu * (next(numbers) % 3 == 1)
    )  # in turn: worker-0, worker-1, worker-2
    while ground.now < 590:
        cpu += 1.0
        ground.counts["worker-0"] = WorkerCounts(programs=int(ground.now))
        ground.look()
    assert not ground.killed
    for _ in range(3):
        cpu += 1.0
        ground.counts["worker-0"] = WorkerCounts(programs=int(ground.now))
        ground.look()
    assert set(ground.killed) == {"worker-2"}


def test_a_stopped_process_takes_no_time() -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        assert housekeeping._cpu_seconds(process.pid) < 1.0
        process.kill()
    assert housekeeping._cpu_seconds(process.pid) == 0.0
    assert housekeeping._cpu_seconds(os.getpid()) > 0.0
