# SPDX-License-Identifier: Apache-2.0
"""The plot of bugs found over time: well formed, true to the numbers, comparable."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import pytest

from fuzzer.bench.bugs.result import BugResult, RunOutcome
from fuzzer.bench.bugs.survival import SurvivalSample, draw, read_series, series_of
from fuzzer.bench.bugs.table import to_json
from fuzzer.cli.main import main
from fuzzer.errors import BadInputError
from fuzzer.program.mechanisms import Mechanisms
from tests.unit.suite_results import bug, found_run, run_result, suite_result

_SVG = "{http://www.w3.org/2000/svg}"
RANDOM = Mechanisms(coverage=False)
RESULT = suite_result(
    BugResult(bug("a"), (found_run(2.0), found_run(20.0, 2))),
    BugResult(bug("b"), (run_result(RunOutcome.NOTHING), run_result(RunOutcome.INTERRUPTED))),
    BugResult(bug("c", "wrong answer"), (), skipped=True),
    mechanisms=RANDOM,
)


def texts(svg: str) -> list[str]:
    return [each.text or "" for each in ElementTree.fromstring(svg).iter(f"{_SVG}text")]  # noqa: S314


def curves(svg: str) -> list[list[tuple[float, float]]]:
    """Return the corners of each curve, in pixels."""
    found = []
    for path in ElementTree.fromstring(svg).iter(f"{_SVG}path"):  # noqa: S314
        x = y = 0.0
        corners = []
        for letter, first, second in re.findall(
            r"([MHV])([\d.]+)(?: ([\d.]+))?", path.get("d", "")
        ):
            x = float(first) if letter in "MH" else x
            y = float(second) if letter == "M" else float(first) if letter == "V" else y
            corners.append((x, y))
        found.append(corners)
    return found


def test_runs_that_were_cut_short_do_not_count() -> None:
    assert series_of(RESULT) == SurvivalSample("random", (2.0, 20.0), 3, 2, 600.0)


def test_a_file_gives_the_same_series(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(to_json(RESULT))
    assert read_series(path) == series_of(RESULT)


@pytest.mark.parametrize("text", ["", "[]", '{"version": 1}', '{"version": 1, "settings": 3}'])
def test_another_file_is_refused_by_name(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(BadInputError, match=r"x\.json: not a result of pkvfuzz bench bugs"):
        read_series(path)


def test_a_file_of_another_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text('{"version": 99}')
    with pytest.raises(BadInputError, match="version 99; this pkvfuzz reads 1"):
        read_series(path)


def test_a_curve_is_steps_up_to_the_share_found() -> None:
    svg = draw([SurvivalSample("libfuzzer", (1.0, 10.0, 100.0), 4, 4, 1000.0)])
    (corners,) = curves(svg)
    assert all(a[0] == b[0] or a[1] == b[1] for a, b in pairwise(corners))
    assert all(a[0] <= b[0] and a[1] >= b[1] for a, b in pairwise(corners))
    heights = sorted({y for _, y in corners}, reverse=True)
    steps = [low - high for low, high in pairwise(heights)]
    assert steps == pytest.approx([85.0] * 3)  # a quarter of the plot each
    xs = sorted({x for x, _ in corners})
    widths = [right - left for left, right in pairwise(xs)]
    assert widths[-3:] == pytest.approx([widths[-1]] * 3, abs=0.2)  # a decade each
    assert "75 %" in texts(svg)


def test_the_axes_are_labelled() -> None:
    shown = texts(draw([SurvivalSample("libfuzzer", (0.2,), 1, 1, 36000.0)]))
    assert {"0 %", "100 %", "share of bugs found"} <= set(shown)
    assert {"0.1 s", "1 s", "10 s", "1 min", "10 min", "1 h", "10 h"} <= set(shown)
    assert "2 min" not in shown  # no room for more
    assert any("log scale" in text for text in shown)
    assert {"2 s", "5 s", "30 s"} <= set(texts(draw([SurvivalSample("x", (1.0,), 1, 1, 60.0)])))


def test_each_series_has_its_own_line_and_name() -> None:
    svg = draw(
        [SurvivalSample("libfuzzer", (1.0,), 2, 1, 60.0), SurvivalSample("a<b", (), 2, 2, 60.0)] * 2
    )
    strokes = [
        (path.get("stroke"), path.get("stroke-dasharray"))
        for path in ElementTree.fromstring(svg).iter(f"{_SVG}path")  # noqa: S314
    ]
    assert len(set(strokes)) == 4
    assert {
        "libfuzzer (1): 1 of 2 runs on 1 bug",
        "libfuzzer (2): 1 of 2 runs on 1 bug",
        "a<b (1): 0 of 2 runs on 2 bugs",
    } <= set(texts(svg))


def test_without_runs_there_is_no_curve() -> None:
    svg = draw([SurvivalSample("libfuzzer", (), 0, 0, 60.0)])
    assert curves(svg) == []
    assert "100 %" in texts(svg)


def test_labels_at_the_ends_do_not_touch() -> None:
    svg = draw([SurvivalSample(str(i), (1.0,), 50 + i % 2, 1, 60.0) for i in range(4)])
    ys = [
        float(text.get("y", "0"))
        for text in ElementTree.fromstring(svg).iter(f"{_SVG}text")  # noqa: S314
        if text.get("font-weight") == "bold"
    ]
    assert all(b - a >= 14 for a, b in pairwise(sorted(ys)))


def test_earlier_results_are_drawn_without_a_run(tmp_path: Path) -> None:
    files = []
    for name in ("x.json", "y.json"):
        (tmp_path / name).write_text(to_json(RESULT))
        files += ["--compare", str(tmp_path / name)]
    plot = tmp_path / "plot.svg"
    assert main(["bench", "bugs", "--no-run", "--plot", str(plot), *files]) == 0
    assert len(curves(plot.read_text())) == 2
