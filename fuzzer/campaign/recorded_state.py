# SPDX-License-Identifier: Apache-2.0
"""The state document as a campaign writes it: what changed in a snapshot, as rows."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace

from fuzzer.campaign.hostload import HostFigures
from fuzzer.campaign.outlook import described_calls
from fuzzer.campaign.snapshot import Snapshot
from fuzzer.crash.crash import Crash
from fuzzer.crash.dedup import KnownCrashes, likely_causes
from fuzzer.crash.store import slug_of
from fuzzer.driver.blocks import Block
from fuzzer.engine.statistics import WorkerCounts
from fuzzer.program.ops import OPERATIONS, Op
from fuzzer.progress import say
from fuzzer.state.document import (
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
from fuzzer.state.writer import StateWriter
from fuzzer.target.target import Target

# Seconds between two writes of what changes with nearly every program.
_TALLY_EVERY = 5.0


@dataclass(frozen=True, slots=True)
class FuzzedDriver:
    """The driver as the document tells of it: its description, blocks, and those loading reaches.

    ``known`` are the crashes that were stored before.
    """

    target: Target
    blocks: Sequence[Block]
    loaded: AbstractSet[int] = frozenset()
    known: KnownCrashes = field(default_factory=KnownCrashes)


class RecordedState:
    """The document as this run writes it, with what it has to know of the runs before."""

    def __init__(self, writer: StateWriter, run: RunRecord, driver: FuzzedDriver) -> None:
        self.writer = writer
        self._driver = driver
        self._complained = False
        self._seen: dict[str, object] = {}
        self._crashes: tuple[Crash, ...] | None = None
        self._remarks: dict[str, str] = {}
        self._aside: dict[str, int] = {}
        self._back: set[str] = set()
        self._replaced: dict[str, int] = {}
        self._lost: dict[str, int] = {}
        self._phases: dict[str, tuple[str, float]] = {}
        self._at = 0.0
        self._tallied = float("-inf")
        with writer.changing():
            before = writer.baseline()
            self._base = before.row
            self._at = self._base.at if self._base else 0.0
            last = before.run
            number = last.id + 1 if last else 1
            self._run = replace(run, id=number, starts_at=self._at, fuzzed=0.0)
            writer.execute(
                "UPDATE run SET ended_by = 'it was killed' WHERE ended IS NULL AND ended_by = ''"
            )
            writer.put("run", self._run)
            self._reached = self._begin_blocks(last)
            self._begin_calls()
            for table in ("machine", "judge", "aside"):
                writer.execute(f"DELETE FROM {table}")  # noqa: S608 - a name of ours
            writer.execute("UPDATE remark SET holds = 0")
            self._note(EventKind.BEGAN, "", run.options)

    def _begin_blocks(self, last: RunRecord | None) -> set[int]:
        """Make the table of blocks, or go on with it; return the numbers of those reached."""
        driver, run = self._driver, self._run
        built = (run.driver, run.kernel)
        rows = self.writer.execute("SELECT number, first_at FROM block")
        if last and (last.driver, last.kernel) == built and len(rows) == len(driver.blocks):
            return {number for number, first in rows if first is not None}
        if last:
            what = _difference(last, run)
            self._note(EventKind.REBUILT, "", f"{what}: blocks count anew")
            say(f"{what}: blocks count anew; corpus and crashes are kept")
        self.writer.execute("DELETE FROM block")
        for number, block in enumerate(driver.blocks):
            record = BlockRecord(number, block.section, block.offset, None, None, None)
            if number in driver.loaded:
                record = replace(record, first_run=run.id, first_at=self._at, first_wall=run.began)
            self.writer.put("block", record)
        return set(driver.loaded)

    def _begin_calls(self) -> None:
        self.writer.execute("UPDATE call SET described = 0")
        for name, op, number in described_calls(self._driver.target):
            self._put_call(op, number, name, described=True)
        rows = self.writer.execute("SELECT op, number, error, count FROM outcome")
        self._outcomes = {(op, number, error): count for op, number, error, count in rows}
        self._written = dict(self._outcomes)
        self._named = {tuple(row) for row in self.writer.execute("SELECT op, number FROM call")}

    def _put_call(self, op: int, number: int, name: str, *, described: bool) -> None:
        self.writer.execute(
            "INSERT OR REPLACE INTO call (op, number, name, described) VALUES (?, ?, ?, ?)",
            (op, number, name, int(described)),
        )

    def complain(self, error: OSError) -> None:
        """Say once that the document cannot be written."""
        if not self._complained:
            self._complained = True
            say(f"the campaign's state cannot be written now ({error}): its history has a gap")

    def note(self, kind: EventKind, subject: str, text: str) -> None:
        """Add an event."""
        with self.writer.changing():
            self._note(kind, subject, text)

    def _note(self, kind: EventKind, subject: str, text: str) -> None:
        event = EventRecord(self._run.id, self._at, time.time(), kind, subject, text)
        self.writer.add_event(event)

    def end(self, reason: str) -> None:
        """Write down the end of the run."""
        with self.writer.changing():
            self.writer.execute(
                "UPDATE run SET ended = ?, ended_by = ? WHERE id = ?",
                (time.time(), reason, self._run.id),
            )
            self._note(EventKind.ENDED, "", reason)

    def write(self, snapshot: Snapshot, host: HostFigures, jump: str) -> None:
        """Write a snapshot and the host's figures."""
        wall = time.time()
        self._at = self._run.starts_at + snapshot.elapsed
        try:
            with self.writer.changing():
                if jump:
                    self._note(EventKind.CLOCK, "", jump)
                self._write_blocks(snapshot, wall)
                self.writer.add_row(self._row(snapshot, host, wall))
                self.writer.execute(
                    "UPDATE run SET alive = ?, fuzzed = ?, phase = ?, seeds = ? WHERE id = ?",
                    (wall, snapshot.elapsed, _phase(snapshot), snapshot.seeds, self._run.id),
                )
                self._write_workers(snapshot, wall)
                self._write_judge(snapshot)
                self._write_crashes(snapshot, wall)
                self._write_remarks(snapshot, wall)
                self._write_aside(snapshot)
                self._note_put_back(snapshot)
                self._write_outcomes(snapshot)
        except OSError:
            # What is thought to be written is not.
            with self.writer.changing():
                self._forget()
            raise
        self._complained = False

    def _forget(self) -> None:
        self._crashes = None
        self._seen.clear()
        self._remarks.clear()
        rows = self.writer.execute("SELECT number FROM block WHERE first_at IS NOT NULL")
        self._reached = {number for (number,) in rows}
        rows = self.writer.execute("SELECT op, number, error, count FROM outcome")
        self._written = {(op, number, error): count for op, number, error, count in rows}

    def _row(self, snapshot: Snapshot, host: HostFigures, wall: float) -> HistoryRow:
        counts, base = snapshot.counts, self._base
        before = WorkerCounts()
        replaced = snapshot.replaced
        if base:
            replaced += base.replaced
            before = WorkerCounts(
                base.programs, base.calls, base.sightings, base.restores, base.lost, base.timeouts,
                flaky=base.flaky,
            )  # fmt: skip
        return HistoryRow(
            run=self._run.id,
            at=self._at,
            wall=wall,
            programs=before.programs + counts.programs,
            calls=before.calls + counts.calls,
            covered=len(self._reached),
            blocks=snapshot.blocks,
            corpus=snapshot.corpus,
            crashes=len(snapshot.crashes),
            sightings=before.splats + counts.splats,
            waiting=snapshot.waiting,
            restores=before.restores + counts.restores,
            lost=before.lost + counts.lost,
            timeouts=before.timeouts + counts.timeouts,
            flaky=before.flaky + counts.flaky,
            replaced=replaced,
            cpu=host.cpu,
            load=host.load,
            memory=host.memory,
            memory_free=host.memory_free,
            disk=host.disk,
            disk_free=host.disk_free,
        )

    def _write_blocks(self, snapshot: Snapshot, wall: float) -> None:
        if len(snapshot.reached) == self._seen.get("reached"):
            return
        for number in sorted(snapshot.reached - self._reached):
            self.writer.execute(
                "UPDATE block SET first_run = ?, first_at = ?, first_wall = ? WHERE number = ?",
                (self._run.id, self._at, wall, number),
            )
        self._reached |= snapshot.reached
        self._seen["reached"] = len(snapshot.reached)

    def _write_workers(self, snapshot: Snapshot, wall: float) -> None:
        for worker in snapshot.workers:
            counts, name = worker.counts, worker.name
            phase, since = self._phases.get(name, ("", 0.0))
            if phase != worker.phase:
                since = wall
                self._phases[name] = (worker.phase, since)
            record = MachineRecord(
                name, self._run.id, worker.phase, since, counts.programs, counts.calls,
                counts.splats, counts.restores, counts.lost, counts.timeouts, worker.replaced,
            )  # fmt: skip
            self._put_if_new("machine", name, record)
            self._grew(EventKind.LOST, self._lost, name, counts.lost, "a machine was lost")
            self._grew(
                EventKind.REPLACED, self._replaced, name, worker.replaced, "its process ended"
            )

    def _grew(
        self, kind: EventKind, counts: dict[str, int], name: str, count: int, text: str
    ) -> None:
        """Add an event if a count has grown."""
        if count > counts.get(name, 0):
            self._note(kind, name, text)
        counts[name] = count

    def _write_judge(self, snapshot: Snapshot) -> None:
        looked = snapshot.looked
        record = JudgeRecord(
            snapshot.judge,
            snapshot.waiting,
            looked.ready,
            looked.unrun,
            looked.missing,
            snapshot.judge_replaced,
        )
        self._put_if_new("judge", "", record, only=1)
        deaths = snapshot.judge_replaced
        self._grew(EventKind.REPLACED, self._replaced, "judge", deaths, "its process ended")

    def _put_if_new(self, table: str, key: str, record: object, **more: object) -> None:
        if self._seen.get(f"{table} {key}") != record:
            self.writer.put(table, record, **more)
            self._seen[f"{table} {key}"] = record

    def _write_crashes(self, snapshot: Snapshot, wall: float) -> None:
        crashes = snapshot.crashes
        if crashes is self._crashes:
            return
        rows = self.writer.execute(
            "SELECT slug, title, known, first_run, first_at, first_wall, runs, reproduced "
            "FROM crash"
        )
        stored = {row[0]: row for row in rows}
        gone = {row[1]: row for row in rows} if rows else {}
        for crash, cause in zip(crashes, likely_causes(crashes), strict=True):
            slug = slug_of(crash.title)
            old = stored.pop(slug, None)
            # One that was stored under another title first is as old as it was then.
            merged = [gone[title] for title in crash.also_titles if title in gone]
            oldest = min((row for row in (old, *merged) if row), key=_first_wall, default=None)
            first = oldest[3:6] if oldest else (self._run.id, self._at, wall)
            known = oldest[2] if oldest else self._known_path(crash)
            record = _crash_record(crash, slug, known, crashes[cause].title if cause is not None
                                   else "", first)  # fmt: skip
            self._put_if_new("crash", slug, record)
            if old is None:
                self._note(EventKind.CRASH, slug, crash.title)
            elif old[6:] != (crash.runs, crash.reproduced):
                self._note(EventKind.JUDGED, slug, f"{crash.title}: {record.verdict}")
        for slug, row in stored.items():
            self.writer.execute("DELETE FROM crash WHERE slug = ?", (slug,))
            self._seen.pop(f"crash {slug}", None)
            self._note(EventKind.GONE, slug, str(row[1]))
        self._crashes = crashes

    def _known_path(self, crash: Crash) -> str:
        path = self._driver.known.find(crash)
        # With the document lost, crashes of this campaign's own earlier runs are not known ones.
        own = path is None or path.resolve().is_relative_to(self.writer.path.parent.resolve())
        return "" if own else str(path)

    def _write_remarks(self, snapshot: Snapshot, wall: float) -> None:
        present = {remark.about: remark.text for remark in snapshot.remarks}
        if present == self._remarks:
            return
        for about, text in present.items():
            rows = self.writer.execute("SELECT run, at, wall FROM remark WHERE about = ?", (about,))
            run, at, since = rows[0] if rows else (self._run.id, self._at, wall)
            self.writer.put("remark", RemarkRecord(about, text, run, at, since, True))
            if not rows:
                self._note(EventKind.REMARK, about, text)
        for about in self._remarks.keys() - present.keys():
            self.writer.execute("UPDATE remark SET holds = 0 WHERE about = ?", (about,))
        self._remarks = present

    def _write_aside(self, snapshot: Snapshot) -> None:
        rows = dict(aside_states(snapshot))
        if rows == self._seen.get("aside"):
            return
        self.writer.execute("DELETE FROM aside")
        for title, (sightings, state) in rows.items():
            self.writer.execute("INSERT INTO aside VALUES (?, ?, ?)", (title, sightings, state))
        for title, sightings in snapshot.aside.sightings.items():
            if title not in self._aside:
                self._note(EventKind.ASIDE, title, f"{sightings} sightings")
        self._aside = dict(snapshot.aside.sightings)
        self._seen["aside"] = rows

    def _note_put_back(self, snapshot: Snapshot) -> None:
        for title in snapshot.aside.put_back:
            if title not in self._back:
                self._note(EventKind.BACK, title, "the user put it back")
        self._back |= set(snapshot.aside.put_back)

    def _write_outcomes(self, snapshot: Snapshot) -> None:
        if self._at - self._tallied < _TALLY_EVERY and not snapshot.finishing:
            return
        self._tallied = self._at
        for (op, number), ends in snapshot.tally.ends.items():
            if (op, number) not in self._named:
                self._named.add((op, number))
                self._put_call(op, number, _name_of(op, number), described=False)
            for error, counted in ends.items():
                key = (op, number, error)
                count = self._outcomes.get(key, 0) + counted
                if self._written.get(key) != count:
                    self._written[key] = count
                    self.writer.execute(
                        "INSERT OR REPLACE INTO outcome VALUES (?, ?, ?, ?)", (*key, count)
                    )


def _difference(last: RunRecord, run: RunRecord) -> str:
    """Return in words what is built differently than in the last run."""
    if last.fuzzed_on != run.fuzzed_on:
        return f"another kernel than in the last run ({run.fuzzed_on}, not {last.fuzzed_on})"
    parts = [name for name, before, now in (("driver", last.driver, run.driver),
                                            ("kernel", last.kernel, run.kernel))
             if before != now]  # fmt: skip
    return f"another build of the {' and the '.join(parts) or 'driver'} than in the last run"


def _phase(snapshot: Snapshot) -> RunPhase:
    if snapshot.finishing:
        return RunPhase.JUDGING
    return RunPhase.FUZZING if snapshot.counts.fuzzing else RunPhase.STARTING


def aside_states(snapshot: Snapshot) -> Iterable[tuple[str, tuple[int, str]]]:
    """Yield the title of each bug set aside or studied, with its sightings and its state."""
    for title, sightings in snapshot.aside.sightings.items():
        yield title, (sightings, "learned")
    for title in snapshot.aside.studied:
        yield title, (snapshot.aside.sightings.get(title, 0), "studied")


def _first_wall(row: tuple[object, ...]) -> float:
    return float(str(row[5]))


def _crash_record(
    crash: Crash, slug: str, known: str, cause: str, first: tuple[int, float, float]
) -> CrashRecord:
    severity = crash.splat.severity
    return CrashRecord(
        slug=slug,
        title=crash.title,
        kind=crash.kind,
        function=crash.function or "",
        level=severity.level.value,
        score=severity.score,
        reproduced=crash.reproduced,
        runs=crash.runs,
        verdict=crash.verdict(),
        judged_on=crash.judged_on,
        known=known,
        cause=cause,
        sightings=crash.sightings,
        first_run=first[0],
        first_at=first[1],
        first_wall=first[2],
    )


def _name_of(op: int, number: int) -> str:
    name = OPERATIONS[op].name if op in OPERATIONS else f"operation {op}"
    if op == Op.IOCTL:
        return f"{name} {number:#x}"
    return f"{name} of device {number}" if op == Op.OPEN and number else name
