# SPDX-License-Identifier: Apache-2.0
"""Tests of the slots of workers, by which their counts add up."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import cast

from fuzzer.campaign.slots import WorkerSlot
from fuzzer.child import Child
from fuzzer.engine.statistics import MachinePhase, WorkerCounts, WorkerStatistics


def process() -> Child:
    return cast("Child", SimpleNamespace(kill=lambda: None))


def publish(directory: Path, programs: int, covered: int = 0) -> None:
    statistics = WorkerStatistics(directory / "worker-0.stats", 4)
    statistics.counts.programs = programs
    statistics.publish(covered)


def test_counts_of_all_processes_add_up(tmp_path: Path) -> None:
    slot, covered = WorkerSlot("worker-0", tmp_path), set[int]()
    for programs, blocks in ((10, 0x01), (5, 0x01000000)):
        slot.child = process()
        # It has not written anything yet.
        slot.look(covered)
        publish(tmp_path, programs, blocks)
        slot.close(covered)
    assert slot.look(covered).programs == 15
    assert covered == {0, 3}
    assert slot.state(slot.look(covered)).phase is MachinePhase.ENDED


def test_counts_of_a_campaign_that_was_killed_are_none_of_this_one(tmp_path: Path) -> None:
    publish(tmp_path, 500, 0x01)
    slot, covered = WorkerSlot("worker-0", tmp_path), set[int]()
    slot.child = process()
    assert slot.look(covered) == WorkerCounts()
    assert not covered
