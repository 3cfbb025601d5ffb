# SPDX-License-Identifier: Apache-2.0
"""Tests of the user's command for new bugs: once for each, beside the campaign."""

from __future__ import annotations

import itertools
import time
from pathlib import Path

import psutil
import pytest

from fuzzer.campaign.crash_command import CrashCommand
from fuzzer.campaign.workdir import Workdir
from fuzzer.crash.crash import Crash
from fuzzer.crash.dedup import KnownCrashes
from fuzzer.crash.store import CrashStore
from fuzzer.target.target import Target
from tests.unit.reports import LEFT_TIMER, in_timers
from tests.unit.test_dedup import crash
from tests.unit.test_triage import ELSEWHERE, GPF, KASAN

TELL = 'echo "$PKVFUZZ_CRASH_TITLE|$PKVFUZZ_CRASH_SEVERITY|$PKVFUZZ_CRASH_PATH" >> told'


@pytest.fixture
def workdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workdir:
    monkeypatch.chdir(tmp_path)
    found = Workdir(tmp_path / "work")
    found.logs.mkdir(parents=True)
    return found


def told() -> list[str]:
    path = Path("told")
    return sorted(path.read_text().splitlines()) if path.exists() else []


def titles() -> list[str]:
    return [line.partition("|")[0] for line in told()]


def ran_for(
    command: CrashCommand, *rounds: tuple[Crash, ...], last: tuple[Crash, ...] = ()
) -> None:
    for crashes in rounds:
        command.look(crashes)
    command.finish(last)


def test_it_runs_once_for_each_bug_and_knows_the_crash(workdir: Workdir) -> None:
    command = CrashCommand(TELL, workdir, KnownCrashes())
    first = (crash(KASAN),)
    both = (crash(KASAN), crash(ELSEWHERE))
    ran_for(command, first, first, (crash(KASAN),), both, last=both)
    assert titles() == sorted(each.title for each in both)
    title, severity, path = told()[0].split("|")
    (found,) = [each for each in both if each.title == title]
    assert severity == found.splat.severity.level.value
    assert Path(path) == workdir.crashes.path(title)


def test_the_same_bug_under_another_title_is_no_new_one(workdir: Workdir) -> None:
    command = CrashCommand(TELL, workdir, KnownCrashes())
    ran_for(command, (crash(KASAN),), last=(crash(GPF),))
    assert len(told()) == 1


def test_what_waits_for_the_judge_counts_at_the_end_only(workdir: Workdir) -> None:
    command = CrashCommand(TELL, workdir, KnownCrashes())
    unjudged = (crash(KASAN, reproduced=0, runs=0),)
    command.look(unjudged)
    assert not command._running
    command.finish(unjudged)
    assert titles() == [unjudged[0].title]


def test_known_crashes_and_likely_consequences_are_left_out(
    workdir: Workdir, tmp_path: Path, pkv_target: Target
) -> None:
    store = CrashStore(tmp_path / "old")
    store.put(crash(KASAN), pkv_target)
    known = KnownCrashes()
    known.add(store)
    command = CrashCommand(TELL, workdir, known)
    found = (crash(KASAN), crash(in_timers("__run_timers")), crash(LEFT_TIMER))
    ran_for(command, found, last=found)
    assert titles() == [found[2].title]


def test_a_command_that_takes_long_holds_nothing_up_and_is_ended(
    workdir: Workdir, capsys: pytest.CaptureFixture[str]
) -> None:
    seconds = itertools.count(step=5.0)
    command = CrashCommand(
        "sleep 1000 & echo $! > child; wait", workdir, KnownCrashes(), lambda: next(seconds)
    )
    begun = time.monotonic()
    command.look((crash(KASAN),))
    assert time.monotonic() - begun < 5
    while not (Path("child").exists() and Path("child").read_text()):
        time.sleep(0.01)
    child = psutil.Process(int(Path("child").read_text()))
    command.finish(())
    assert "1 of the commands for crashes were still to be done" in capsys.readouterr().err
    _, alive = psutil.wait_procs([child], timeout=10)
    assert not alive


def test_a_command_that_fails_is_told_with_what_it_printed(
    workdir: Workdir, capsys: pytest.CaptureFixture[str]
) -> None:
    command = CrashCommand("echo no mail here; exit 3", workdir, KnownCrashes())
    ran_for(command, last=(crash(KASAN),))
    said = capsys.readouterr().err
    assert "the command of --on-crash ended with status 3" in said
    assert (workdir.logs / "on-crash.log").read_text() == "no mail here\n"


def test_many_bugs_have_a_few_commands_at_a_time(workdir: Workdir) -> None:
    command = CrashCommand(f"{TELL}; sleep 0.2", workdir, KnownCrashes())
    many = tuple(crash(KASAN.replace("drv_last", f"drv_{n}")) for n in range(9))
    command.look(many)
    assert len(command._running) == 4
    command.finish(many)
    assert len(told()) == 9
