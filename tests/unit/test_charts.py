# SPDX-License-Identifier: Apache-2.0
"""Charts as elements of a page and as files."""

from __future__ import annotations

import re
import struct
from dataclasses import replace
from xml.etree import ElementTree as ET

import pytest

from fuzzer.report.charts import Chart, ChartLine, Flag, number_text, png, svg, thinned, time_step

POINTS = ((0.0, 0.0), (10.0, 40.0), (100.0, 300.0), (180.0, 340.0))
COVERED = ChartLine("covered", POINTS, steps=True)
CRASH = Flag(50.0, "KASAN in <script>f", "#crash-1")
CHART = Chart("coverage", "Blocks reached", "blocks", (COVERED,), (CRASH,), 900.0)
_SVG, _XLINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}"


def parsed(drawn: str) -> ET.Element:
    return ET.fromstring(drawn)  # noqa: S314 - drawn here


def texts(drawn: str) -> list[str]:
    return [each.text or "" for each in parsed(drawn).iter(f"{_SVG}text")]


def test_axes_are_named_in_units_that_people_read() -> None:
    shown = texts(svg(CHART))
    assert {"0 s", "1 min", "2 min", "3 min", "blocks", "0", "800"} <= set(shown)


def test_a_flag_leads_to_its_crash_and_says_what_it_is() -> None:
    root = parsed(svg(CHART))
    (link,) = root.iter(f"{_SVG}a")
    assert link.attrib == {f"{_XLINK}href": "#crash-1"}
    title = link.find(f"{_SVG}title")
    assert title is not None
    assert title.text == "50 s: KASAN in <script>f"
    assert root.attrib["role"] == "group"
    assert "1" in texts(svg(CHART))


def test_a_chart_is_told_in_words() -> None:
    told = parsed(svg(CHART)).find(f"{_SVG}desc")
    assert told is not None
    assert told.text == "covered 340 blocks after 3 min"
    empty = replace(CHART, lines=(), flags=())
    assert "no data yet" in svg(empty)


def test_names_from_elsewhere_are_text_and_no_markup() -> None:
    hostile = "<img src=x onerror=alert(1)> $x^{2}$ \x1b[31m"
    lines = (ChartLine(hostile, POINTS), ChartLine("b", POINTS))
    chart = Chart("c", hostile, hostile, lines, (Flag(1.0, hostile),))
    drawn = svg(chart)
    assert "<img" not in drawn
    assert "\x1b" not in drawn
    parsed(drawn)


def test_colours_are_those_of_the_page_and_fonts_too() -> None:
    drawn = svg(replace(CHART, lines=[replace(COVERED, group=n) for n in range(6)]))
    assert not re.search(r"#[0-9a-f]{6}\b", drawn)
    assert {f"var(--c{n})" for n in range(6)} <= set(re.findall(r"var\(--\w+\)", drawn))
    assert "<style" not in drawn
    assert "font-family" not in drawn


def test_two_charts_of_a_page_share_no_name() -> None:
    def names(chart: Chart) -> set[str]:
        return set(re.findall(r'\bid="([^"]+)"', svg(chart)))

    assert not names(CHART) & names(replace(CHART, name="speed"))
    drawn = svg(CHART)
    for used in re.findall(r'xlink:href="#([^"]+)"|url\(#([^)]+)\)', drawn):
        name = "".join(used)
        assert name == "crash-1" or f'id="{name}"' in drawn


def test_a_group_of_lines_has_one_colour_and_one_name() -> None:
    lines = [
        ChartLine("A", POINTS, group=0),
        ChartLine("A", POINTS, group=0),
        ChartLine("B", POINTS, group=1),
    ]
    shown = texts(svg(Chart("c", "t", "u", lines)))
    assert (shown.count("A"), shown.count("B")) == (1, 1)


def test_the_same_chart_is_drawn_the_same() -> None:
    assert svg(CHART) == svg(CHART)


def test_a_png_is_of_a_size_for_slides() -> None:
    drawn = png(CHART)
    assert drawn.startswith(b"\x89PNG")
    width, height = struct.unpack(">II", drawn[16:24])
    assert width > 1200
    assert 300 < height < width


@pytest.mark.parametrize("points", [(), ((0.0, 0.0),), ((5.0, 7.0), (5.0, 7.0))])
def test_few_points_are_drawn_as_well(points: tuple[tuple[float, float], ...]) -> None:
    parsed(svg(Chart("c", "t", "u", (ChartLine("a", points),))))


def test_many_points_are_thinned_and_the_ends_stay() -> None:
    points = [(float(n), float(n)) for n in range(10_000)]
    kept = thinned(points)
    assert len(kept) == 500
    assert (kept[0], kept[-1]) == (points[0], points[-1])
    assert thinned(points[:3]) == points[:3]
    assert len(svg(Chart("c", "t", "u", (ChartLine("a", points),)))) < 40_000


def test_steps_of_time_are_round_ones() -> None:
    assert [time_step(seconds, 5) for seconds in (1, 60, 3600, 8 * 3600)] == [1, 15, 900, 7200]
    assert time_step(30 * 86400, 5) == 6 * 86400
    assert [number_text(each) for each in (1200, 0.5)] == ["1,200", "0.5"]
