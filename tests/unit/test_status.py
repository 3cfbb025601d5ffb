# SPDX-License-Identifier: Apache-2.0
"""A campaign's messages on its crashes."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

from fuzzer.campaign.looked import LEAKS, RACES, Looked
from fuzzer.campaign.snapshot import Snapshot
from fuzzer.crash.dedup import KnownCrashes
from fuzzer.crash.store import CrashStore
from fuzzer.engine.aside import SetAside
from fuzzer.engine.statistics import WorkerCounts
from fuzzer.report.display import LogDisplay
from fuzzer.report.status import StatusView, is_judged, summary
from fuzzer.target.target import Target
from tests.unit.reports import LEFT_TIMER, in_timers
from tests.unit.test_dedup import crash
from tests.unit.test_triage import ELSEWHERE, GPF, KASAN


def test_a_known_crash_is_announced_as_known(tmp_path: Path, pkv_target: Target) -> None:
    known, store = KnownCrashes(), CrashStore(tmp_path / "crashes")
    path = store.put(crash(KASAN), pkv_target)
    known.add(store)
    stream = io.StringIO()
    view = StatusView(CrashStore(tmp_path / "work"), LogDisplay(stream), known)
    view.show(Snapshot(crashes=(crash(GPF), crash(ELSEWHERE))))
    first, second, *_ = stream.getvalue().splitlines()
    assert first.startswith("crash: general protection fault in drv_last (reproduced 3 of 3")
    assert first.endswith(f", known: {path}")
    assert ", known: " not in second


def test_the_summary_counts_bugs_and_what_is_new(tmp_path: Path, pkv_target: Target) -> None:
    known, store = KnownCrashes(), CrashStore(tmp_path)
    store.put(crash(ELSEWHERE), pkv_target)
    known.add(store)
    kasan = crash(KASAN, also_titles=("list corruption in drv_last",))
    text = summary(Snapshot(crashes=(kasan, crash(GPF), crash(ELSEWHERE))), tmp_path, known)
    assert "2 bugs in 3 crashes, 2 of them new" in text
    assert "    also seen as list corruption in drv_last" in text
    assert "1 bug in 1 crash, 0 of them new" in summary(
        Snapshot(crashes=(crash(ELSEWHERE),)), tmp_path, known
    )
    assert "no crash" in summary(Snapshot(looked=Looked(ready=True)), tmp_path, known)


def test_a_likely_consequence_is_told_as_one_and_is_no_bug_of_its_own(
    tmp_path: Path, pkv_target: Target
) -> None:
    stream = io.StringIO()
    crashes = (crash(in_timers("__run_timers")), crash(LEFT_TIMER))
    view = StatusView(CrashStore(tmp_path), LogDisplay(stream))
    view.show(Snapshot(crashes=crashes))
    later, cause, *_ = stream.getvalue().splitlines()
    assert later.endswith(f", likely a consequence of {crashes[1].title}")
    assert "likely" not in cause.split(" in ")[-1].partition(",")[2]
    text = summary(Snapshot(crashes=crashes), tmp_path, KnownCrashes())
    assert "1 bug in 2 crashes, 2 of them new" in text
    assert f"    likely a consequence of {crashes[1].title}: " in text


def test_what_nobody_judged_is_not_called_no_crash(tmp_path: Path) -> None:
    text = summary(Snapshot(), tmp_path, KnownCrashes())
    assert "no crash" not in text
    assert "nothing seen, and nothing judged" in text
    assert "the full kernel was not ready before the end" in text
    assert "sleeping in atomic context" in text
    fuzzed_there = summary(Snapshot(only_there=False), tmp_path, KnownCrashes())
    assert "sleeping in atomic context" not in fuzzed_there
    ready = Snapshot(looked=Looked(True, (LEAKS, RACES), 3), waiting=2)
    text = summary(ready, tmp_path, KnownCrashes())
    assert "2 sightings wait for the judge" in text
    assert "3 programs of the corpus not run on the full kernel" in text
    assert "not done on the full kernel: lost memory, races" in text
    assert not is_judged(ready)
    assert is_judged(replace(ready, waiting=0))


def test_what_does_not_reproduce_is_told_once(tmp_path: Path) -> None:
    stream = io.StringIO()
    view = StatusView(CrashStore(tmp_path), LogDisplay(stream))
    for tries in ({"runs": 0}, {"runs": 2}, {"runs": 4}, {"runs": 6, "instead": ("WARNING in a",)}):
        view.show(Snapshot(crashes=(crash(KASAN, reproduced=0, **tries),)))
    view.show(Snapshot(crashes=(crash(KASAN),)))
    told = [line for line in stream.getvalue().splitlines() if line.startswith("crash: ")]
    assert ["not judged yet" in line for line in told] == [True, False, False]
    assert "reproduced 0 of 2" in told[1]
    assert "reproduced 3 of 3" in told[2]


def test_a_bug_that_is_set_aside_is_told_once_and_summed_up(tmp_path: Path) -> None:
    out = io.StringIO()
    view = StatusView(CrashStore(tmp_path), LogDisplay(out))
    for seen in (3, 5):
        aside = SetAside({"divide error in f": seen}, ("WARNING in g",))
        snapshot = Snapshot(elapsed=60, counts=WorkerCounts(fuzzing=1), started=True, aside=aside)
        view.show(snapshot)
    assert out.getvalue().count("set aside: divide error in f, 3 sightings; ") == 1
    text = summary(snapshot, tmp_path, KnownCrashes())
    assert "set aside: divide error in f, 5 sightings" in text.splitlines()
