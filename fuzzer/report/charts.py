# SPDX-License-Identifier: Apache-2.0
"""Charts over the time of a campaign, as SVG that stands alone in a page or in a file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from fuzzer.wording import time_span

_NAMESPACE = "http://www.w3.org/2000/svg"
_WIDTH, _HEIGHT = 720, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 14, 34, 34
# The most points of a line, and the most marks that get a number.
_POINTS, _NUMBERED = 500, 30
# Colours of lines by light and by dark that people with any colour vision tell apart.
_COLOURS = ("#1f6feb", "#c4432b", "#1a7f4e", "#8250df", "#9a6700", "#57606a")
_TIMES = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400)

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a chart: points by time in seconds.

    With ``steps`` it stays until the next point. Lines of one ``group`` have one colour, and the
    name of the first in the legend.
    """

    name: str
    points: Sequence[Point]
    steps: bool = False
    group: int | None = None


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that happened at a time, in seconds; ``link`` is where it is told of."""

    at: float
    text: str
    link: str = ""


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart; ``name`` is that of a file for it, ``unit`` is of the numbers, ``most`` a limit."""

    name: str
    title: str
    unit: str
    lines: Sequence[Line]
    marks: Sequence[Mark] = ()
    most: float | None = None


def thinned(points: Sequence[Point], most: int = _POINTS) -> list[Point]:
    """Return at most so many of the points, the first and the last among them."""
    if len(points) <= most:
        return list(points)
    step = (len(points) - 1) / (most - 1)
    return [points[round(number * step)] for number in range(most)]


def nice_step(span: float, parts: int) -> float:
    """Return a step of 1, 2 or 5 times a power of ten that divides a span into some parts."""
    rough = max(span, 1e-9) / parts
    power = 10.0 ** math.floor(math.log10(rough))
    return next(each * power for each in (1, 2, 5, 10) if each * power >= rough * 0.999)


def time_step(seconds: float, parts: int) -> float:
    """Return a step of whole seconds, minutes, hours or days."""
    rough = max(seconds, 1.0) / parts
    return next(
        (float(each) for each in _TIMES if each >= rough), 86400.0 * math.ceil(rough / 86400)
    )


def number_text(number: float) -> str:
    """Return a number as it stands at an axis: ``1,200``, ``0.5``."""
    return f"{number:,.0f}" if number == int(number) else f"{number:,.2g}"


def svg(chart: Chart, *, alone: bool = False) -> str:
    """Return a chart as SVG text; ``alone`` in a file, it has colours of its own."""
    return _Drawing(chart).text(alone=alone)


class _Drawing:
    def __init__(self, chart: Chart) -> None:
        self._chart = chart
        times = [at for line in chart.lines for at, _ in line.points]
        times += [mark.at for mark in chart.marks]
        values = [value for line in chart.lines for _, value in line.points]
        self._end = max(1.0, *times) if times else 1.0
        highest = max([*values, chart.most or 0.0], default=0.0)
        step = nice_step(highest or 1.0, 4)
        self._step = max(step, 1.0) if all(value == int(value) for value in values) else step
        self._highest = self._step * max(1, math.ceil(highest / self._step))

    def _x(self, at: float) -> float:
        return round(_LEFT + at / self._end * (_WIDTH - _LEFT - _RIGHT), 1)

    def _y(self, value: float) -> float:
        return round(_HEIGHT - _BOTTOM - value / self._highest * (_HEIGHT - _TOP - _BOTTOM), 1)

    def text(self, *, alone: bool) -> str:
        chart = self._chart
        name = escape(chart.name, quote=True)
        label = f'role="img" aria-labelledby="{name}-title {name}-told"'
        parts = [
            f'<svg xmlns="{_NAMESPACE}" viewBox="0 0 {_WIDTH} {_HEIGHT}" class="chart" {label}>',
            f'<title id="{name}-title">{escape(chart.title)}</title>',
            f'<desc id="{name}-told">{escape(self._told())}</desc>',
        ]
        if alone:
            parts += [_style(), f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#ffffff"/>']
        parts += [*self._axes(), *self._lines(), *self._marks(), *self._legend(), "</svg>"]
        return "\n".join(parts)

    def _told(self) -> str:
        """Return the chart in words."""
        told = [
            f"{line.name} {number_text(round(line.points[-1][1], 2))} {self._chart.unit} "
            f"after {time_span(line.points[-1][0])}"
            for line in self._chart.lines
            if line.points
        ]
        return "; ".join(told) or "no data yet"

    def _axes(self) -> list[str]:
        parts = []
        for number in range(round(self._highest / self._step) + 1):
            value = number * self._step
            y = self._y(value)
            parts.append(f'<path class="grid" d="M{_LEFT} {y}H{_WIDTH - _RIGHT}"/>')
            parts.append(
                f'<text class="tick" x="{_LEFT - 8}" y="{y + 4}" text-anchor="end">'
                f"{number_text(value)}</text>"
            )
        step = time_step(self._end, 6)
        for number in range(int(self._end / step) + 1):
            x = self._x(number * step)
            parts.append(f'<path class="grid" d="M{x} {_HEIGHT - _BOTTOM}v5"/>')
            anchor = "middle" if x < _WIDTH - 40 else "end"
            parts.append(
                f'<text class="tick" x="{x}" y="{_HEIGHT - 12}" text-anchor="{anchor}">'
                f"{time_span(number * step)}</text>"
            )
        if self._chart.most is not None and self._chart.most <= self._highest:
            y = self._y(self._chart.most)
            parts.append(f'<path class="most" d="M{_LEFT} {y}H{_WIDTH - _RIGHT}"/>')
        return parts

    def _lines(self) -> list[str]:
        return [
            f'<path class="line line{_colour(number, line)}" d="{self._path(line)}"/>'
            for number, line in enumerate(self._chart.lines)
            if line.points
        ]

    def _path(self, line: Line) -> str:
        points = thinned(line.points)
        parts = [f"M{self._x(points[0][0])} {self._y(points[0][1])}"]
        for at, value in points[1:]:
            if line.steps:
                parts.append(f"H{self._x(at)}V{self._y(value)}")
            else:
                parts.append(f"L{self._x(at)} {self._y(value)}")
        return "".join(parts)

    def _marks(self) -> list[str]:
        parts = []
        for number, mark in enumerate(self._chart.marks, 1):
            x = self._x(mark.at)
            shape = f'<path class="mark" d="M{x} {_TOP}V{_HEIGHT - _BOTTOM}"/>'
            shape += f'<path class="flag" d="M{x - 5} {_TOP - 8}h10l-5 8z"/>'
            if len(self._chart.marks) <= _NUMBERED:
                shape += (
                    f'<text class="tick" x="{x}" y="{_TOP - 12}" text-anchor="middle">'
                    f"{number}</text>"
                )
            told = f"<title>{escape(f'{time_span(mark.at)}: {mark.text}')}</title>"
            if mark.link:
                link = escape(mark.link, quote=True)
                parts.append(f'<a href="{link}">{told}{shape}</a>')
            else:
                parts.append(f"<g>{told}{shape}</g>")
        return parts

    def _legend(self) -> list[str]:
        unit = escape(self._chart.unit)
        if len(self._chart.lines) < 2:
            return [f'<text class="unit" x="8" y="16">{unit}</text>']
        parts = []
        x = _LEFT
        shown: set[int] = set()
        for number, line in enumerate(self._chart.lines):
            if (colour := _colour(number, line)) in shown:
                continue
            shown.add(colour)
            # Names may be long, and are told whole below a chart of several campaigns.
            name = line.name if len(line.name) <= 24 else f"…{line.name[-23:]}"
            parts.append(
                f'<path class="line line{colour}" d="M{x} 12h18"/>'
                f'<text class="unit" x="{x + 24}" y="16">{escape(name)}</text>'
            )
            x += 40 + 8 * len(name)
        return parts


def _colour(number: int, line: Line) -> int:
    return (number if line.group is None else line.group) % len(_COLOURS)


def _style() -> str:
    lines = "".join(f".line{number}{{stroke:{colour}}}" for number, colour in enumerate(_COLOURS))
    return (
        "<style>text{font:13px sans-serif;fill:#24292f}.line{fill:none;stroke-width:2}"
        f"{lines}.grid{{stroke:#d0d7de;fill:none}}.most{{stroke:#57606a;stroke-dasharray:4 4}}"
        ".mark{stroke:#c4432b;stroke-dasharray:2 3}.flag{fill:#c4432b}</style>"
    )
