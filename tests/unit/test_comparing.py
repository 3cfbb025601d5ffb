# SPDX-License-Identifier: Apache-2.0
"""Campaigns side by side."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from fuzzer.cli.main import main
from fuzzer.report.comparing import compare, comparison_text, grown, read_side
from fuzzer.state.document import CrashRecord, RunRecord
from fuzzer.state.writer import StateWriter
from tests.unit.state_records import CRASH, RUN, row_at


def campaign(
    directory: Path,
    covered: Sequence[int],
    *,
    crashes: Sequence[CrashRecord] = (),
    run: RunRecord = RUN,
    speed: int = 100,
) -> Path:
    """Write the state of a campaign that reached so many blocks by each ten seconds."""
    directory.mkdir(parents=True)
    writer = StateWriter(directory)
    with writer.changing():
        writer.put("run", run)
        for number, each in enumerate(covered):
            at = 10.0 * number
            writer.add_row(row_at(at, covered=each, programs=int(speed * at), crashes=0))
        for crash in crashes:
            writer.put("crash", crash)
    writer.close()
    return directory


def sides(tmp_path: Path) -> list[Path]:
    """Three campaigns on each of two sides; those of b reach more, and one finds a bug."""
    late = replace(CRASH, first_at=25.0)
    for n in range(3):
        campaign(tmp_path / "a" / f"s{n}", [0, 10 + n, 20 + n, 30 + n], speed=100 + n)
        crashes = [late] if n == 1 else []
        campaign(tmp_path / "b" / f"s{n}", [0, 50 + n, 60 + n, 70 + n], crashes=crashes, speed=50)
    return [tmp_path / "a", tmp_path / "b"]


def test_blocks_after_parts_of_the_shortest_time_are_compared(tmp_path: Path) -> None:
    first = campaign(tmp_path / "a", [1, 2, 3, 4, 5, 6, 7, 8, 9])
    second = campaign(tmp_path / "b", [11, 12, 13, 14, 15])
    found = compare([read_side(first), read_side(second)])
    blocks = {m.name: m.numbers for m in found.measures if m.name.startswith("blocks")}
    assert blocks == {
        "blocks after 3 s": ((1,), (11,)),
        "blocks after 10 s": ((2,), (12,)),
        "blocks after 40 s": ((5,), (15,)),
    }
    assert any("fuzzed for 40 s to 1 min 20 s" in each for each in found.remarks)


def test_with_several_runs_a_side_chance_is_weighed(tmp_path: Path) -> None:
    found = compare([read_side(path) for path in sides(tmp_path)])
    last = next(m for m in found.measures if m.name == "blocks after 30 s")
    (difference,) = last.differences()
    assert (difference.side, difference.a12) == (1, 1.0)
    assert difference.p == pytest.approx(0.1)
    speed = next(m for m in found.measures if m.name == "programs/s")
    assert speed.differences()[0].a12 == 0.0
    given = next(m for m in found.measures if m.name == "fuzzing")
    assert given.differences() == ()
    text = comparison_text(found)
    assert "B: A12 1.00, p 0.100" in text
    assert "A12: probability of a larger number than A's" in text


def test_one_run_a_side_is_not_weighed(tmp_path: Path) -> None:
    first, second = (campaign(tmp_path / name, [1, 2]) for name in "ab")
    text = comparison_text(compare([read_side(first), read_side(second)]))
    assert "A12" not in text
    assert "time to bug" not in text


def test_the_time_to_a_bug_tells_how_many_runs_found_it(tmp_path: Path) -> None:
    found = compare([read_side(path) for path in sides(tmp_path)])
    (bug,) = found.bugs
    assert bug.name == CRASH.title
    text = comparison_text(found)
    row = next(line for line in text.splitlines() if line.startswith(CRASH.title))
    assert re.search(r" -  +25 s in 1 of 3", row)


def test_a_consequence_of_another_crash_is_no_bug(tmp_path: Path) -> None:
    effect = replace(CRASH, slug="b", title="GPF in g", cause=CRASH.title)
    side = read_side(campaign(tmp_path / "a", [1, 2], crashes=[CRASH, effect]))
    assert list(side.runs[0].bugs()) == [CRASH.title]


@pytest.mark.parametrize(
    ("changes", "remark"),
    [
        ({"target": "other"}, "they fuzz different drivers"),
        ({"driver": "e" * 16}, "the driver is another build"),
        ({"cpus": 64}, "they ran on different hosts"),
        ({"vms": 7}, "different numbers of machines"),
        ({}, ""),
    ],
)
def test_what_makes_sides_hard_to_compare_is_said(
    tmp_path: Path, changes: dict[str, object], remark: str
) -> None:
    first = campaign(tmp_path / "a", [1, 2])
    second = campaign(tmp_path / "b", [1, 2], run=replace(RUN, **changes))  # type: ignore[arg-type]
    remarks = compare([read_side(first), read_side(second)]).remarks
    assert [remark in each for each in remarks] == ([True] if remark else [])


def test_a_line_has_the_points_at_which_coverage_grew() -> None:
    rows = [row_at(n, covered=covered) for n, covered in enumerate((1, 1, 5, 5, 5))]
    assert grown(rows) == [(0, 1), (2, 5), (4, 5)]
    assert grown(rows[:1]) == [(0, 1)]


def test_the_command_prints_tables_json_and_a_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [str(path) for path in sides(tmp_path)]
    assert main(["compare", *paths]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"A  {paths[0]} (3 campaigns)"
    page = tmp_path / "page.html"
    assert main(["compare", *paths, "--json", "--html", str(page)]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [side["name"] for side in told["sides"]] == paths
    (bug,) = told["time_to_bug"]
    assert bug["runs"] == [[None, None, None], [None, 25.0, None]]
    assert told["measures"][0]["against_first"] == []
    text = page.read_text()
    assert "Mann-Whitney" in text
    assert CRASH.title in text
    assert text.count("<svg") == 2


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["a"], "two directories at least"),
        (["a", "none"], "no such directory"),
        (["a", "empty"], "no campaign of this version"),
        (["a", "begun"], "no history yet"),
    ],
)
def test_what_cannot_be_compared_is_explained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], given: list[str], message: str
) -> None:
    campaign(tmp_path / "a", [1, 2])
    campaign(tmp_path / "begun", [])
    (tmp_path / "empty").mkdir()
    assert main(["compare", *(str(tmp_path / name) for name in given)]) == 2
    assert message in capsys.readouterr().err
