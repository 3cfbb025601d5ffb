# SPDX-License-Identifier: Apache-2.0
"""The table, the lines and the JSON of the suite of planted bugs, and its switches."""

from __future__ import annotations

import argparse
import dataclasses
import io
import json
from pathlib import Path

import pytest

from fuzzer.bench.bugs.result import BugResult, RunOutcome, RunResult
from fuzzer.bench.bugs.run import RunState
from fuzzer.bench.bugs.suite import ActiveRun, SuiteState
from fuzzer.bench.bugs.table import engine_label, run_line, summary, table, to_json
from fuzzer.bench.bugs.view import SuiteView, suite_line
from fuzzer.cli.main import main
from fuzzer.cli.mechanisms import add_switches, mechanisms_of
from fuzzer.cli.options import add_kernel_to_fuzz
from fuzzer.cli.parser import build_parser
from fuzzer.program.mechanisms import ALL, Mechanisms
from tests.unit.suite_results import EXPECT, bug, found_run, run_result, suite_result, title

OTHER = title("WARNING in demo_read", reproduced=2)


def missed(outcome: RunOutcome = RunOutcome.NOTHING) -> RunResult:
    return run_result(outcome)


def rows(*bugs: BugResult) -> list[str]:
    return table(suite_result(*bugs)).splitlines()


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.split("  ") if cell.strip()]


def test_a_bug_found_in_all_runs_is_one_line_with_medians() -> None:
    head, line = rows(BugResult(bug("b"), (found_run(1.0), found_run(3.0), found_run(5.0))))
    row = dict(zip(cells(head), cells(line), strict=True))
    assert row == {
        "bug": "b",
        "found": "3 of 3",
        "sighted": "3.0 s",
        "programs": "3,000",
        "verified": "5.0 s",
        "reproduced": "9 of 9",
        "calls": "9",
        "minimal": "4",
        "in": "2.5 s",
        "title": EXPECT,
    }


@pytest.mark.parametrize(("seconds", "minimal", "took"), [(0.0, "-", "-"), (60.0, "<= 4", "1:00")])
def test_what_was_not_made_minimal_is_so_short_at_least(
    seconds: float, minimal: str, took: str
) -> None:
    found = found_run(1.0)
    left = tuple(
        dataclasses.replace(each, minimized=False, minimize_seconds=seconds)
        for each in found.titles
    )
    head, line = rows(BugResult(bug("b"), (dataclasses.replace(found, titles=left),)))
    row = dict(zip(cells(head), cells(line), strict=True))
    assert (row["calls"], row["minimal"], row["in"]) == ("9", minimal, took)


def test_another_title_does_not_count_as_found_and_is_shown() -> None:
    other = run_result(RunOutcome.OTHER, OTHER)
    _, line, *below = rows(BugResult(bug("b"), (other, other, found_run(3.0))))
    assert cells(line)[:3] == ["b", "1 of 3", "> 10:00"]
    assert [text.strip() for text in below] == [
        f"missed in 2 runs: {EXPECT}",
        "other title in 2 runs: WARNING in demo_read (reproduced 4 of 6)",
    ]


def test_what_else_a_run_found_is_shown_beside_the_expected() -> None:
    unjudged = dataclasses.replace(OTHER, machines=0, reproduced=0)
    _, line, *below = rows(BugResult(bug("b"), (found_run(3.0, 1, unjudged),)))
    assert cells(line)[1] == "1 of 1"
    assert [text.strip() for text in below] == ["also in 1 run: WARNING in demo_read (not judged)"]


def test_an_expected_title_that_no_machine_showed_again_is_not_found() -> None:
    run = run_result(RunOutcome.UNVERIFIED, title(EXPECT, reproduced=0))
    _, line, *below = rows(BugResult(bug("b"), (run,)))
    assert cells(line)[1] == "0 of 1"
    assert f"    sighted, not reproduced in 1 run: {EXPECT}" in below


def test_bugs_that_were_not_run_are_listed() -> None:
    cut = BugResult(bug("cut"), (missed(RunOutcome.INTERRUPTED),))
    lines = rows(cut, BugResult(bug("wrong", "wrong answer"), (), skipped=True))
    assert cells(lines[1]) == ["cut", "not run to an end"]
    assert cells(lines[2]) == ["wrong", "not run: wrong answer"]


def test_a_failed_run_says_why() -> None:
    run = RunResult(1, RunOutcome.FAILED, message="the disk is full", exit_code=3)
    _, line, *below = rows(BugResult(bug("b"), (found_run(1.0), run)))
    assert cells(line)[1] == "1 of 2"
    assert below == ["    failed: the disk is full"]


def test_the_summary_counts_bugs_and_runs() -> None:
    result = suite_result(
        BugResult(bug("a"), (found_run(1.0), found_run(2.0))),
        BugResult(bug("b"), (found_run(5.0), missed())),
        BugResult(bug("c"), (missed(), run_result(RunOutcome.OTHER, OTHER))),
        BugResult(bug("d", "wrong answer"), (), skipped=True),
        interrupted=True,
    )
    text = summary(result)
    assert "found 2 of 3 bugs, 1 in every run (3 of 6 runs)" in text
    assert "median over bugs: > 10:00" in text
    assert "1 more with another title only" in text
    assert text.endswith("; interrupted")


def test_the_line_on_a_run_tells_what_was_found_when() -> None:
    text = run_line("b", found_run(3.0), EXPECT)
    assert text == (
        f"b, seed 1: found after 3.0 s, verified after 5.0 s (reproduced 3 of 3): {EXPECT}"
    )
    text = run_line("b", run_result(RunOutcome.OTHER, OTHER), EXPECT)
    assert text == "b, seed 1: other title in 10:00 and 1,000,000 programs: WARNING in demo_read"


def test_the_json_has_the_settings_and_every_run() -> None:
    other = run_result(RunOutcome.OTHER, OTHER, seed=2)
    data = json.loads(to_json(suite_result(BugResult(bug("b"), (found_run(1.0), other)))))
    assert data["version"] == 1
    assert data["settings"]["mechanisms"]["coverage"] is True
    assert data["versions"]["qemu"] == "QEMU"
    (only,) = data["bugs"]
    assert (only["expect"], only["found"], only["of"]) == (EXPECT, 1, 2)
    hit, miss = only["runs"]
    assert (hit["seed"], hit["found"], hit["seconds"], hit["programs"]) == (1, True, 1.0, 1000)
    assert (miss["found"], miss["seconds"], miss["outcome"]) == (False, None, "other title")
    assert miss["titles"][0]["title"] == "WARNING in demo_read"


def test_the_label_names_the_engine_and_what_is_off() -> None:
    assert engine_label(ALL) == "libfuzzer"
    assert engine_label(Mechanisms(faults=False), "full") == "libfuzzer on full, no faults"
    assert engine_label(Mechanisms(coverage=False, faults=False)) == "random, no faults"


def test_the_status_line_names_what_runs() -> None:
    state = RunState("fuzzing", 12.0, 45000, 120, 240, 1)
    active = (ActiveRun("b", 2, state), ActiveRun("c", 2, RunState()))
    line = suite_line(SuiteState(9, 4, 3, active, 3000.0, ending=False))
    assert line == (
        "4 of 9 runs, 3 found  b (seed 2) 12 s, 45,000 programs, 50% of blocks, crashes 1  "
        "c (seed 2) preparing  at most 50:00 of fuzzing left"
    )


def test_a_line_into_a_file_stays() -> None:
    stream = io.StringIO()
    view = SuiteView(stream)
    view.show(SuiteState(9, 4, 3, (), 3000.0, ending=False))
    view.say("done")
    view.clear()
    assert stream.getvalue() == "done\n"


def parsed(*arguments: str) -> Mechanisms:
    parser = argparse.ArgumentParser()
    add_switches(parser)
    add_kernel_to_fuzz(parser)
    return mechanisms_of(parser.parse_args(arguments))


def test_each_mechanism_has_its_switch() -> None:
    assert parsed() == ALL
    assert parsed("--engine", "random") == dataclasses.replace(ALL, coverage=False)
    for field in dataclasses.fields(Mechanisms):
        if field.name != "coverage":
            changed = parsed(f"--no-{field.name.replace('_', '-')}")
            assert changed == dataclasses.replace(ALL, **{field.name: False})


def test_bench_takes_its_own_options_still() -> None:
    options = build_parser().parse_args(["bench", "--time", "5s", "--json", "-"])
    assert (options.command, options.time, options.json) == ("bench", 5.0, Path("-"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--bug", "nosuch"], "--bug nosuch: no such bug"),
        (["--compare", "x.json"], "--plot FILE.svg"),
        (["--plot", "x.svg", "--no-run"], "--compare FILE.json"),
        (["--plot", "x.svg", "--compare", "nosuch.json"], "nosuch.json: No such file"),
        (["--json", "nosuch/x.json"], "--json nosuch/x.json: not a file"),
        (["--runs", "0"], "above 0"),
        (["--engine", "afl"], "invalid choice"),
    ],
)
def test_bad_input_is_told_before_anything_runs(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", "bugs", *arguments]) == 2
    assert words in capsys.readouterr().err


def test_a_directory_of_an_earlier_run_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "stale-last-5").mkdir()
    arguments = ["--bug", "stale-last", "--seed", "4", "--workdir", str(tmp_path)]
    assert main(["bench", "bugs", *arguments]) == 2
    assert "is there already" in capsys.readouterr().err
