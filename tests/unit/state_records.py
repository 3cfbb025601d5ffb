# SPDX-License-Identifier: Apache-2.0
"""Records of a campaign's state for tests, with values that differ from each other."""

from __future__ import annotations

from dataclasses import replace

from fuzzer.engine.statistics import MachinePhase
from fuzzer.state.document import (
    AsideRecord,
    BlockRecord,
    CrashRecord,
    EventKind,
    EventRecord,
    HistoryRow,
    JudgeRecord,
    MachineRecord,
    RemarkRecord,
    RunPhase,
    RunRecord,
)

WALL = 1_700_000_000.0

RUN = RunRecord(
    id=1,
    began=WALL,
    alive=WALL + 60,
    ended=None,
    ended_by="",
    phase=RunPhase.FUZZING,
    starts_at=0.0,
    fuzzed=50.0,
    seconds=600.0,
    programs=None,
    seeds=20,
    vms=2,
    seed=7,
    options="run mydrv.yaml",
    target="mydrv",
    bug=None,
    driver="d" * 16,
    kernel="k" * 16,
    release="6.12.1",
    fuzzed_on="fast",
    judged_on="full",
    version="1.0",
    qemu="7.2.0",
    accel="tcg",
    host="box",
    cpus=2,
    host_memory=8 << 30,
)

ROW = HistoryRow(
    run=1,
    at=1.0,
    wall=WALL + 11,
    programs=1000,
    calls=9000,
    covered=41,
    blocks=90,
    corpus=12,
    crashes=1,
    sightings=3,
    waiting=2,
    restores=4,
    lost=1,
    timeouts=5,
    flaky=6,
    replaced=2,
    cpu=0.75,
    load=1.5,
    memory=300 << 20,
    memory_free=2 << 30,
    disk=50 << 20,
    disk_free=9 << 30,
)

MACHINE = MachineRecord("worker-0", 1, MachinePhase.RACES, WALL + 5, 900, 8000, 3, 4, 1, 5, 2)
JUDGE = JudgeRecord("2 to judge", 2, True, 7, ("races", "lost memory"), 1)
CRASH = CrashRecord(
    slug="kasan-use-after-free-in-f",
    title="KASAN: use-after-free in f",
    kind="kasan",
    function="f",
    level="high",
    score=80,
    reproduced=3,
    runs=3,
    verdict="reproduced 3 of 3, rate 29 to 100 %",
    judged_on="full",
    known="",
    cause="",
    sightings=3,
    first_run=1,
    first_at=0.5,
    first_wall=WALL + 10.5,
)
BLOCKS = (
    BlockRecord(0, ".text", 16, 1, 0.0, WALL),
    BlockRecord(1, ".text", 40, None, None, None),
)
ASIDE = AsideRecord("WARNING in g", 300, "learned")
REMARK = RemarkRecord("open", "/dev/x does not open", 1, 0.25, WALL + 10.25, True)
EVENT = EventRecord(1, 0.5, WALL + 10.5, EventKind.CRASH, CRASH.slug, CRASH.title)


def row_at(at: float, **changes: float) -> HistoryRow:
    """Return a row of a moment, with the wall clock in step."""
    return replace(ROW, at=at, wall=WALL + at, **changes)  # type: ignore[arg-type]
