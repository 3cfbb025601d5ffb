# SPDX-License-Identifier: Apache-2.0
"""The suite of planted bugs: what a run found, and how runs are scheduled and ended."""

from __future__ import annotations

import dataclasses
import math
import os
import pickle
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from fuzzer.bench.bugs.result import (
    BugResult,
    FoundTitle,
    RunOutcome,
    RunResult,
    outcome_of,
    seconds_sighted,
)
from fuzzer.bench.bugs.run import Recorder, RunState, RunTask, read_result, read_state
from fuzzer.bench.bugs.suite import Suite, SuiteState, choose_bugs
from fuzzer.campaign.snapshot import Snapshot
from fuzzer.campaign.subject import Subject
from fuzzer.crash.crash import Crash
from fuzzer.crash.sighting import Spool
from fuzzer.engine.statistics import WorkerCounts
from fuzzer.errors import BadInputError
from fuzzer.kernel.kernel import KernelOptions
from fuzzer.machine.accel import Accel
from fuzzer.target.target import Target
from tests.unit.suite_results import EXPECT, VERSIONS, bug, found_run, run_result, settings, title
from tests.unit.test_store import crash

OTHER = "WARNING in demo_read"


class Clock:
    """A monotonic clock that stands where it is put."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr("fuzzer.bench.bugs.run.time.monotonic", lambda: self.now)


def snapshot(seconds: float, programs: int, *crashes: Crash, finishing: bool = False) -> Snapshot:
    counts = WorkerCounts(programs=programs, fuzzing=1)
    return Snapshot(
        elapsed=seconds, counts=counts, crashes=crashes, finishing=finishing, started=True
    )


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path)


def test_a_bug_is_sighted_under_any_title_that_the_judge_puts_down_to_it(
    clock: Clock, spool: Spool
) -> None:
    recorder = Recorder(spool, EXPECT)
    assert not recorder.enough(snapshot(0.0, 0))
    clock.now += 3
    spool.count("KASAN: the title on fast")
    assert not recorder.enough(snapshot(3.0, 400))
    clock.now += 4
    spool.count(EXPECT)
    judged = crash(title=EXPECT, sighted_as=("KASAN: the title on fast",), history=())
    assert recorder.enough(snapshot(7.0, 900, judged))
    (found,) = recorder.titles((judged,))
    assert (found.title, found.reproduced, found.machines, found.calls) == (EXPECT, 3, 3, 2)
    assert found.sighted
    assert (found.sighted.seconds, found.sighted.programs) == (3.0, 400)
    assert found.verified
    assert (found.verified.seconds, found.verified.programs) == (7.0, 900)


def test_neither_another_title_nor_an_unverified_one_ends_a_run(clock: Clock, spool: Spool) -> None:
    recorder = Recorder(spool, EXPECT)
    other = crash(title=OTHER, sighted_as=(OTHER,))
    unjudged = crash(title=EXPECT, sighted_as=(EXPECT,), reproduced=0, runs=0)
    assert not recorder.enough(snapshot(1.0, 10, other, unjudged))


def test_a_bug_judged_after_the_fuzzing_is_verified_later_than_it_ended(
    clock: Clock, spool: Spool
) -> None:
    recorder = Recorder(spool, EXPECT)
    assert not recorder.enough(snapshot(0.0, 0))
    clock.now += 70
    judged = crash(title=EXPECT, sighted_as=(EXPECT,))
    assert recorder.enough(snapshot(60.0, 900, judged, finishing=True))
    (found,) = recorder.titles((judged,))
    assert found.verified
    assert found.verified.seconds == 70.0


def test_judging_after_the_fuzzing_does_not_take_for_ever(clock: Clock, spool: Spool) -> None:
    recorder = Recorder(spool, EXPECT)
    assert not recorder.enough(snapshot(60.0, 900, finishing=True))
    clock.now += 299
    assert not recorder.enough(snapshot(60.0, 900, finishing=True))
    clock.now += 2
    assert recorder.enough(snapshot(60.0, 900, finishing=True))


@pytest.mark.parametrize(
    ("stored", "interrupted", "outcome"),
    [
        ([title(EXPECT), title(OTHER)], False, RunOutcome.FOUND),
        ([title(EXPECT)], True, RunOutcome.FOUND),
        ([title(OTHER)], True, RunOutcome.INTERRUPTED),
        ([title(OTHER), title(EXPECT, reproduced=0)], False, RunOutcome.UNVERIFIED),
        ([title(OTHER)], False, RunOutcome.OTHER),
        ([], False, RunOutcome.NOTHING),
    ],
)
def test_only_the_expected_title_reproduced_is_found(
    stored: list[FoundTitle], interrupted: bool, outcome: RunOutcome
) -> None:
    assert outcome_of(stored, EXPECT, interrupted=interrupted) is outcome


def test_a_run_that_found_nothing_counts_in_the_median_as_one_without_end() -> None:
    missed = run_result(RunOutcome.NOTHING)
    cut = run_result(RunOutcome.INTERRUPTED)
    most = BugResult(bug("a"), (found_run(2.0), missed, found_run(8.0), cut))
    assert most.median(seconds_sighted) == 8.0
    few = BugResult(bug("a"), (missed, found_run(2.0), missed))
    assert few.median(seconds_sighted) == math.inf
    assert BugResult(bug("a"), (cut,)).median(seconds_sighted) is None


def test_wrong_answers_are_run_when_they_are_named_only() -> None:
    bugs = [bug("a"), bug("b", "wrong answer")]
    assert [each.name for each in choose_bugs(bugs, [])] == ["a"]
    assert [each.name for each in choose_bugs(bugs, ["b", "b"])] == ["b"]
    with pytest.raises(BadInputError, match="--bug c: no such bug; there are: a, b"):
        choose_bugs(bugs, ["a", "c"])
    with pytest.raises(BadInputError, match="no planted bugs"):
        choose_bugs([], [])


def test_a_bug_that_one_kernel_alone_reports_is_run_on_that_one() -> None:
    bugs = [bug("a"), dataclasses.replace(bug("b"), kernel="kcsan")]
    assert [each.name for each in choose_bugs(bugs, [])] == ["a"]
    assert [each.name for each in choose_bugs(bugs, [], "kcsan")] == ["b"]
    assert [each.name for each in choose_bugs(bugs, ["b"])] == ["b"]


class FakeProcess:
    """A run that ends when its plan says so."""

    running: tuple[int, int] = (0, 0)  # now, and most at a time

    def __init__(self, task: RunTask, plan: Callable[[RunTask], RunResult | None]) -> None:
        self.task = task
        self.plan = plan
        self.looks = 0
        self.terminated = False
        now, most = FakeProcess.running
        FakeProcess.running = (now + 1, max(most, now + 1))

    def is_running(self) -> bool:
        self.looks += 1
        if self.looks < 2 and not self.terminated:
            return True
        if not self.terminated and (result := self.plan(self.task)):
            (self.task.directory / "result").write_bytes(pickle.dumps(result))
        return False

    def terminate(self) -> None:
        self.terminated = True

    def kill(self) -> None:
        now, most = FakeProcess.running
        FakeProcess.running = (now - 1, most)

    def last_words(self) -> str:
        return "out of luck"


class Runner:
    """A suite of two bugs with fake processes, and what it reported."""

    def __init__(self, directory: Path, target: Target, **changes: object) -> None:
        self.order: list[tuple[str, int]] = []
        self.states: list[SuiteState] = []
        self.plan: Callable[[RunTask], RunResult | None] = lambda task: found_run(1.0, task.seed)
        self.on_show: Callable[[], None] = lambda: None
        keep = bool(changes.pop("keep", False))
        subjects = [
            Subject(target, bug(name), KernelOptions(), Accel.TCG) for name in ("one", "two")
        ]
        FakeProcess.running = (0, 0)
        self.suite = Suite(
            subjects,
            dataclasses.replace(settings(), **changes),  # type: ignore[arg-type]
            VERSIONS,
            directory,
            show=self._show,
            ended=lambda result, ended, run: self.order.append((ended.name, run.seed)),
            skipped=[bug("not-run", "wrong answer")],
            keep=keep,
            launch=lambda task: FakeProcess(task, self.plan),
            tick=0.0,
        )

    def _show(self, state: SuiteState) -> None:
        self.states.append(state)
        self.on_show()


def test_each_bug_has_its_first_run_before_any_has_its_second(
    tmp_path: Path, pkv_target: Target
) -> None:
    runner = Runner(tmp_path, pkv_target, runs=2, seed=7)
    result = runner.suite.run()
    assert runner.order == [("one", 7), ("two", 7), ("one", 8), ("two", 8)]
    assert FakeProcess.running == (0, 1)
    assert [each.bug.name for each in result.bugs] == ["not-run", "one", "two"]
    assert [run.seed for run in result.bugs[1].runs] == [7, 8]
    assert result.all_found
    assert not result.interrupted
    assert not list(tmp_path.iterdir())


def test_jobs_run_at_the_same_time(tmp_path: Path, pkv_target: Target) -> None:
    runner = Runner(tmp_path, pkv_target, runs=2, jobs=2, keep=True)
    assert runner.suite.run().all_found
    assert FakeProcess.running == (0, 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one-1", "one-2", "two-1", "two-2"]


def test_the_state_tells_what_runs_and_the_most_time_that_is_left(
    tmp_path: Path, pkv_target: Target
) -> None:
    runner = Runner(tmp_path, pkv_target, runs=2)
    runner.suite.run()
    first, last = runner.states[0], runner.states[-1]
    assert (first.total, first.done, first.found) == (4, 0, 0)
    assert [(run.bug, run.seed) for run in first.active] == [("one", 1)]
    assert first.left == 4 * 600
    assert (last.done, last.found, last.active, last.left) == (4, 4, (), 0)


def test_a_run_that_leaves_no_result_failed_and_the_rest_goes_on(
    tmp_path: Path, pkv_target: Target
) -> None:
    runner = Runner(tmp_path, pkv_target, runs=1)
    runner.plan = lambda task: found_run(1.0) if task.directory.name == "two-1" else None
    result = runner.suite.run()
    (failed,) = result.bugs[1].runs
    assert (failed.outcome, failed.exit_code) == (RunOutcome.FAILED, 3)
    assert "out of luck" in failed.message
    assert result.bugs[2].found
    assert not result.all_found


def test_ctrl_c_ends_what_runs_and_keeps_what_there_is(tmp_path: Path, pkv_target: Target) -> None:
    runner = Runner(tmp_path, pkv_target, runs=2)

    def press() -> None:
        if runner.states[-1].done == 1:
            os.kill(os.getpid(), signal.SIGINT)

    runner.on_show = press
    before = signal.getsignal(signal.SIGINT)
    result = runner.suite.run()
    assert signal.getsignal(signal.SIGINT) is before
    assert result.interrupted
    assert not result.all_found
    assert FakeProcess.running[0] == 0
    assert [each.bug.name for each in result.run] == ["one"]
    assert all(run.outcome is not RunOutcome.FAILED for each in result.bugs for run in each.runs)


def test_what_a_run_leaves_behind_is_read_back_or_is_not_there(tmp_path: Path) -> None:
    assert read_result(tmp_path) is None
    assert read_state(tmp_path) == RunState()
    (tmp_path / "result").write_bytes(pickle.dumps(found_run(1.0))[:-5])
    (tmp_path / "state.json").write_text('{"phase": "fuz')
    assert read_result(tmp_path) is None
    assert read_state(tmp_path) == RunState()
    (tmp_path / "result").write_bytes(pickle.dumps(found_run(1.0)))
    assert read_result(tmp_path) == found_run(1.0)
