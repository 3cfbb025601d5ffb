# SPDX-License-Identifier: Apache-2.0
"""Tests of the record that a campaign makes of itself: resumed, rebuilt, damaged, suspended."""

from __future__ import annotations

import errno
import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from fuzzer.campaign.hostload import HostFigures, HostLoad, size_of
from fuzzer.campaign.looked import Looked
from fuzzer.campaign.outlook import Remark
from fuzzer.campaign.recorded_state import FuzzedDriver
from fuzzer.campaign.recording import CampaignRecorder
from fuzzer.campaign.snapshot import Snapshot, WorkerState
from fuzzer.campaign.timekeeper import Clocks, TimeKeeper
from fuzzer.crash.dedup import KnownCrashes
from fuzzer.crash.store import CrashStore, slug_of
from fuzzer.driver.blocks import Block
from fuzzer.engine.aside import SetAside
from fuzzer.engine.statistics import MachinePhase, WorkerCounts
from fuzzer.engine.tally import Tally
from fuzzer.program.ops import Op
from fuzzer.state.document import CampaignState, EventKind
from fuzzer.state.reader import read_state
from fuzzer.state.schema import state_file
from fuzzer.target.target import Target
from tests.unit.state_records import RUN
from tests.unit.test_dedup import crash
from tests.unit.test_triage import ELSEWHERE, GPF, KASAN

BLOCKS = tuple(Block(".text", 16 * number) for number in range(6))


class _Clock:
    """A clock that advances a second with each look."""

    def __init__(self) -> None:
        self._seconds = itertools.count()

    def __call__(self) -> float:
        return float(next(self._seconds))


def _recorder(
    directory: Path, target: Target, *, known: KnownCrashes | None = None, **run: str
) -> CampaignRecorder:
    driver = FuzzedDriver(target, BLOCKS, frozenset({0}), known or KnownCrashes())
    return CampaignRecorder(directory, replace(RUN, **run), driver, clock=_Clock())  # type: ignore[arg-type]


def _counts(programs: int, **more: int) -> WorkerCounts:
    return WorkerCounts(programs=programs, calls=9 * programs, fuzzing=1, **more)


def _snapshot(elapsed: float, programs: int, reached: set[int], **more: object) -> Snapshot:
    return Snapshot(
        elapsed=elapsed,
        counts=_counts(programs, lost=1, splats=2),
        covered=len(reached),
        blocks=len(BLOCKS),
        corpus=5,
        started=True,
        reached=reached,
        **more,  # type: ignore[arg-type]
    )


def _told(state: CampaignState, kind: EventKind) -> list[str]:
    return [each.subject or each.text for each in state.events if each.kind is kind]


def test_a_snapshot_is_written_whole(tmp_path: Path, pkv_target: Target) -> None:
    recorder = _recorder(tmp_path, pkv_target)
    number = pkv_target.calls[0]
    tally = Tally({(int(Op.IOCTL), 0x1234): Counter({0: 3, errno.EINVAL: 2})})
    worker = WorkerState("worker-0", MachinePhase.RACES, _counts(100, lost=1), 2)
    snapshot = _snapshot(
        2.0, 100, {0, 3},
        waiting=4, replaced=2, judge="4 to judge", looked=Looked(True, ("races",), 7),
        workers=(worker,), tally=tally, aside=SetAside({"BUG in f": 30}, ("WARNING in g",)),
        remarks=(Remark("open", "it does not open"),), crashes=(crash(KASAN), crash(GPF)),
    )  # fmt: skip
    recorder.record(snapshot)
    state = read_state(tmp_path)
    (row,) = state.history
    assert (row.at, row.programs, row.calls, row.covered, row.blocks) == (2.0, 100, 900, 2, 6)
    assert (row.waiting, row.corpus, row.crashes, row.sightings) == (4, 5, 2, 2)
    assert row.memory_free > 0
    assert row.disk_free > 0
    (machine,) = state.machines
    assert (machine.phase, machine.programs, machine.replaced) == (MachinePhase.RACES, 100, 2)
    assert (state.judge.waiting, state.judge.missing, state.judge.unrun) == (4, ("races",), 7)
    assert {each.slug for each in state.crashes} == {slug_of(c.title) for c in snapshot.crashes}
    assert state.crashes[0].level
    assert state.crashes[0].first_at == 2.0
    assert [(b.number, b.first_at) for b in state.blocks if b.first_run] == [(0, 0.0), (3, 2.0)]
    assert {(a.title, a.sightings, a.state) for a in state.aside} == {
        ("BUG in f", 30, "learned"),
        ("WARNING in g", 0, "studied"),
    }
    assert state.remarks[0].holds
    (odd,) = [call for call in state.calls if not call.described]
    assert (odd.name, odd.outcomes) == ("ioctl 0x1234", {0: 3, errno.EINVAL: 2})
    assert sum(call.described for call in state.calls) >= 3, number
    for kind in (EventKind.BEGAN, EventKind.LOST, EventKind.REPLACED, EventKind.ASIDE):
        assert len(_told(state, kind)) == 1, kind
    assert len(_told(state, EventKind.CRASH)) == 2
    assert state.runs[0].fuzzed == 2.0


def test_a_row_is_written_each_second_at_most(tmp_path: Path, pkv_target: Target) -> None:
    driver = FuzzedDriver(pkv_target, BLOCKS)
    times = itertools.count(step=0.25)
    recorder = CampaignRecorder(tmp_path, RUN, driver, clock=lambda: next(times))
    for number in range(41):
        recorder.record(_snapshot(number / 4, number, {0}))
    assert 9 <= len(read_state(tmp_path).history) <= 12


def test_a_resumed_campaign_goes_on(tmp_path: Path, pkv_target: Target) -> None:
    tally = Tally({(int(Op.READ), 0): Counter({0: 3})})
    crashes = (crash(KASAN),)
    first = _recorder(tmp_path, pkv_target)
    first.record(_snapshot(10.0, 100, {0, 1}, tally=tally, crashes=crashes, replaced=3))
    first.end(_snapshot(20.0, 150, {0, 1, 2}, tally=tally, crashes=crashes, replaced=3), "enough")
    second = _recorder(tmp_path, pkv_target)
    # Blocks of the first run count before the corpus has run again.
    second.record(_snapshot(1.0, 7, {0}, tally=tally, crashes=crashes, replaced=1))
    state = read_state(tmp_path)
    assert [run.ended_by for run in state.runs] == ["enough", ""]
    assert [run.starts_at for run in state.runs] == [0.0, 20.0]
    row = state.last
    assert row
    assert (row.run, row.at, row.programs, row.covered) == (2, 21.0, 157, 3)
    assert (row.lost, row.sightings, row.replaced) == (2, 4, 4)
    (read,) = [call for call in state.calls if (call.op, call.number) == (int(Op.READ), 0)]
    assert read.outcomes == {0: 6}
    assert state.crashes[0].first_run == 1
    assert len(_told(state, EventKind.CRASH)) == 1
    assert not _told(state, EventKind.REBUILT)


def test_a_killed_run_is_told_as_killed(tmp_path: Path, pkv_target: Target) -> None:
    first = _recorder(tmp_path, pkv_target)
    first.record(_snapshot(10.0, 100, {0}))
    _recorder(tmp_path, pkv_target)
    run = read_state(tmp_path).runs[0]
    assert (run.ended, run.ended_by) == (None, "it was killed")
    assert run.fuzzed == 10.0


def test_what_is_put_back_is_an_event(tmp_path: Path, pkv_target: Target) -> None:
    recorder = _recorder(tmp_path, pkv_target)
    recorder.record(_snapshot(1.0, 7, {0}, aside=SetAside({"BUG in f": 30})))
    for elapsed in (2.0, 3.0):
        recorder.record(_snapshot(elapsed, 9, {0}, aside=SetAside(put_back=("BUG in f",))))
    state = read_state(tmp_path)
    assert _told(state, EventKind.BACK) == ["BUG in f"]
    assert state.aside == ()


def test_blocks_of_another_build_count_anew(
    tmp_path: Path, pkv_target: Target, capsys: pytest.CaptureFixture[str]
) -> None:
    first = _recorder(tmp_path, pkv_target)
    first.end(_snapshot(10.0, 100, {0, 1, 2, 3}), "enough")
    second = _recorder(tmp_path, pkv_target, driver="e" * 16)
    second.record(_snapshot(1.0, 7, {0, 5}))
    state = read_state(tmp_path)
    assert state.last
    assert state.last.covered == 2
    assert len(_told(state, EventKind.REBUILT)) == 1
    assert "another build of the driver than in the last run: blocks" in capsys.readouterr().err
    _recorder(tmp_path, pkv_target, driver="e" * 16, kernel="l" * 16, fuzzed_on="kcsan")
    assert (
        "another kernel than in the last run (kcsan, not fast): blocks" in capsys.readouterr().err
    )


def test_what_becomes_of_a_crash_is_told(tmp_path: Path, pkv_target: Target) -> None:
    recorder = _recorder(tmp_path, pkv_target)
    gpf = crash(GPF, runs=0, reproduced=0)
    recorder.record(_snapshot(1.0, 1, {0}, crashes=(gpf, crash(ELSEWHERE))))
    judged = (crash(GPF), crash(ELSEWHERE))
    recorder.record(_snapshot(2.0, 2, {0}, crashes=judged))
    # The same bug turns out to have a better report, under which it is stored from then on.
    kasan = crash(KASAN, also_titles=(gpf.title,))
    recorder.record(_snapshot(3.0, 3, {0}, crashes=(kasan, judged[1])))
    state = read_state(tmp_path)
    assert _told(state, EventKind.JUDGED) == [slug_of(gpf.title)]
    assert _told(state, EventKind.GONE) == [slug_of(gpf.title)]
    found = {each.title: each for each in state.crashes}
    assert set(found) == {kasan.title, judged[1].title}
    assert found[kasan.title].first_at == 1.0


def test_crashes_of_elsewhere_are_known_and_those_of_earlier_runs_are_not(
    tmp_path: Path, pkv_target: Target
) -> None:
    known, elsewhere = KnownCrashes(), CrashStore(tmp_path / "stored")
    path = elsewhere.put(crash(KASAN), pkv_target)
    known.add(elsewhere)
    own = CrashStore(tmp_path / "work" / "crashes")
    own.directory.mkdir(parents=True)
    own.put(crash(ELSEWHERE), pkv_target)
    known.add(own)
    recorder = _recorder(tmp_path / "work", pkv_target, known=known)
    recorder.record(_snapshot(1.0, 1, {0}, crashes=(crash(KASAN), crash(ELSEWHERE))))
    found = {each.title: each for each in read_state(tmp_path / "work").crashes}
    assert found[crash(KASAN).title].known == str(path)
    assert found[crash(ELSEWHERE).title].is_new


def test_a_document_damaged_meanwhile_is_begun_anew(
    tmp_path: Path, pkv_target: Target, capsys: pytest.CaptureFixture[str]
) -> None:
    recorder = _recorder(tmp_path, pkv_target)
    recorder.record(_snapshot(1.0, 1, {0, 1}, crashes=(crash(KASAN),)))
    path = state_file(tmp_path)
    assert recorder._document
    recorder._document.writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    recorder._document.writer.execute("PRAGMA shrink_memory")
    path.write_bytes(b"\0" * path.stat().st_size)
    for second in range(2, 5):
        recorder.record(_snapshot(second, second, {0, 1}, crashes=(crash(KASAN),)))
    recorder.end(_snapshot(5, 5, {0, 1}, crashes=(crash(KASAN),)), "enough")
    assert "begun anew" in capsys.readouterr().err
    state = read_state(tmp_path)
    assert state.last
    assert (state.last.programs, state.last.covered, len(state.crashes)) == (5, 2, 1)
    assert state.runs[-1].ended_by == "enough"


def test_a_document_deleted_meanwhile_is_begun_anew(tmp_path: Path, pkv_target: Target) -> None:
    recorder = _recorder(tmp_path, pkv_target)
    recorder.record(_snapshot(1.0, 1, {0, 1}))
    for path in tmp_path.glob("state.db*"):
        path.unlink()
    recorder.record(_snapshot(2.0, 2, {0, 1}))
    recorder.record(_snapshot(3.0, 3, {0, 1}))
    assert [row.programs for row in read_state(tmp_path).history] == [3]


def test_a_full_disk_leaves_a_gap_and_no_more(
    tmp_path: Path, pkv_target: Target, capsys: pytest.CaptureFixture[str]
) -> None:
    recorder = _recorder(tmp_path, pkv_target)
    recorder.record(_snapshot(1.0, 1, {0}))
    assert recorder._document
    database = recorder._document.writer
    database.execute("PRAGMA max_page_count = 1")
    for second in (2.0, 3.0):
        many = tuple(Remark(str(number), "x" * 5000) for number in range(100))
        recorder.record(_snapshot(second, 2, {0, 1}, remarks=many, crashes=(crash(KASAN),)))
    assert capsys.readouterr().err.count("has a gap") == 1
    database.execute("PRAGMA max_page_count = 100000")
    recorder.record(_snapshot(4.0, 4, {0, 1}, remarks=many, crashes=(crash(KASAN),)))
    state = read_state(tmp_path)
    assert [row.at for row in state.history] == [1.0, 4.0]
    assert [block.first_at for block in state.blocks[:2]] == [0.0, 4.0]
    assert (len(state.remarks), len(state.crashes)) == (100, 1)


def _keeper(*readings: tuple[float, float, float]) -> TimeKeeper:
    clocks: Iterator[Clocks] = (Clocks(*each) for each in readings)
    return TimeKeeper(lambda: next(clocks))


def test_a_suspended_host_and_a_clock_that_was_set_are_told(
    tmp_path: Path, pkv_target: Target
) -> None:
    keeper = _keeper((0, 0, 1e9), (1, 1, 1e9 + 1), (2, 3602, 1e9 + 3602), (3, 3603, 1e9 + 3))
    assert keeper.look() == ""
    assert keeper.look() == "the host was suspended for 1:00:00, which does not count"
    assert keeper.look() == "the host's clock was set back by 1:00:00"
    driver = FuzzedDriver(pkv_target, BLOCKS)
    away = _keeper((0, 0, 0), (1, 100, 100))
    recorder = CampaignRecorder(tmp_path, RUN, driver, keeper=away, clock=_Clock())
    recorder.record(_snapshot(1.0, 1, {0}))
    (text,) = _told(read_state(tmp_path), EventKind.CLOCK)
    assert "suspended for 1:39" in text


def test_the_size_of_a_directory_counts_what_is_below(tmp_path: Path) -> None:
    assert size_of(tmp_path / "missing") == 0
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "file").write_bytes(bytes(100_000))
    (tmp_path / "link").symlink_to(tmp_path / "a")
    assert 100_000 <= size_of(tmp_path) < 120_000


def test_what_takes_long_to_find_out_is_looked_at_rarely(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    looks = []

    def slow(directory: Path) -> int:
        nonlocal now
        now += 2.0
        looks.append(directory)
        return 7

    monkeypatch.setattr("fuzzer.campaign.hostload.size_of", slow)
    load = HostLoad(tmp_path, clock=lambda: now)
    for _ in range(300):
        assert load.look().disk == 7
        now += 1.0
    assert len(looks) == 1
    assert load.look() != HostFigures()
