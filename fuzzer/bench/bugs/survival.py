# SPDX-License-Identifier: Apache-2.0
"""The time to find planted bugs: their share against time, as an SVG."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from fuzzer.bench.bugs.result import RunOutcome, SuiteResult
from fuzzer.bench.bugs.table import JSON_VERSION, engine_label, to_json
from fuzzer.errors import BadInputError
from fuzzer.program.mechanisms import Mechanisms
from fuzzer.wording import count

_WIDTH, _PLOT_HEIGHT = 820, 340
_LEFT, _RIGHT, _TOP, _BOTTOM = 72, 64, 46, 62
_LEGEND_LINE = 20
_LEAST_SECONDS = 0.1
# Told apart by those who see no red or no green (Okabe and Ito), and by their dashes.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#000000", "#e69f00", "#56b4e9")
_DASHES = ("", "7 4", "2 3", "9 3 2 3")
# Text may be on another curve.
_HALO = ' stroke="#ffffff" stroke-width="4" paint-order="stroke"'
_UNITS = ((1.0, "s"), (60.0, "min"), (3600.0, "h"))
_STEPS = (1, 2, 5, 10, 20, 30)
# At most so many labels fit under the x axis.
_MAX_TICKS = 14


@dataclass(frozen=True, slots=True)
class SurvivalSample:
    """One suite's runs: when bugs were found (seconds, ascending), of how many runs.

    ``limit`` is how long a run was allowed to take, in seconds.
    """

    label: str
    seconds: tuple[float, ...]
    runs: int
    bugs: int
    limit: float

    @property
    def end(self) -> float:
        """The end of the curve: the judge may sight a bug a little after the limit."""
        return max(self.limit, *self.seconds, 0.0)

    def share(self, seconds: float) -> float:
        """Return the share of runs that had found their bug by then, 0 to 1."""
        return sum(each <= seconds for each in self.seconds) / self.runs if self.runs else 0.0


def series_of(result: SuiteResult) -> SurvivalSample:
    """Return the series of a suite that was just run."""
    return _series(json.loads(to_json(result)))


def read_series(path: Path) -> SurvivalSample:
    """Return the series of a suite's JSON file.

    Raises:
        BadInputError: it cannot be read, or is not one.
    """
    try:
        data = json.loads(path.read_text())
        if data["version"] != JSON_VERSION:
            raise BadInputError(
                f"{path}: version {data['version']}; this pkvfuzz reads {JSON_VERSION}"
            )
        return _series(data)
    except OSError as error:
        raise BadInputError(f"{path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadInputError(
            f"{path}: not a result of pkvfuzz bench bugs --json ({type(error).__name__}: {error})"
        ) from error


def _series(data: dict[str, Any]) -> SurvivalSample:
    settings = data["settings"]
    counted = [
        [run for run in bug["runs"] if run["outcome"] != RunOutcome.INTERRUPTED]
        for bug in data["bugs"]
    ]
    runs = [run for bug in counted for run in bug]
    return SurvivalSample(
        label=engine_label(Mechanisms(**settings["mechanisms"]), settings.get("kernel", "fast")),
        seconds=tuple(sorted(float(run["seconds"] or 0) for run in runs if run["found"])),
        runs=len(runs),
        bugs=sum(bool(bug) for bug in counted),
        limit=float(settings["seconds"]),
    )


def _distinct(labels: Sequence[str]) -> list[str]:
    """Number the labels that stand more than once."""
    return [
        f"{label} ({labels[: i + 1].count(label)})" if labels.count(label) > 1 else label
        for i, label in enumerate(labels)
    ]


def _ticks(least: float, most: float) -> list[tuple[float, str]]:
    """Return values within the range for the x axis, with their labels."""
    ticks = [(0.1, "0.1 s"), (0.2, "0.2 s"), (0.5, "0.5 s")]
    ticks += [(size * step, f"{step} {unit}") for size, unit in _UNITS for step in _STEPS]
    ticks += [(3600.0 * hours, f"{hours} h") for hours in (50, 100)]
    inside = [tick for tick in ticks if least <= tick[0] <= most * 1.0001]
    if len(inside) <= _MAX_TICKS:
        return inside
    return [tick for tick in inside if tick[1].split()[0] in {"0.1", "1", "10"}]


class _Axes:
    """From seconds and shares to pixels."""

    def __init__(self, least: float, most: float, top: int) -> None:
        self.least, self.most = least, most
        self.left, self.right = _LEFT, _WIDTH - _RIGHT
        self.top, self.bottom = top, top + _PLOT_HEIGHT

    def x(self, seconds: float) -> float:
        seconds = min(max(seconds, self.least), self.most)
        part = math.log(seconds / self.least) / math.log(self.most / self.least)
        return self.left + part * (self.right - self.left)

    def y(self, share: float) -> float:
        return self.bottom - share * (self.bottom - self.top)


def _text(x: float, y: float, text: str, *, anchor: str = "start", extra: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{extra}>{escape(text)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, style: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" {style}/>'


def _stroke(number: int) -> str:
    dash = _DASHES[number % len(_DASHES)]
    style = f'stroke="{_COLOURS[number % len(_COLOURS)]}" stroke-width="2.2" fill="none"'
    return style + (f' stroke-dasharray="{dash}"' if dash else "")


def _grid(axes: _Axes) -> list[str]:
    faint, strong = 'stroke="#dddddd"', 'stroke="#444444"'
    lines = []
    for percent in range(0, 101, 20):
        y = axes.y(percent / 100)
        lines.append(_line(axes.left, y, axes.right, y, faint))
        lines.append(_text(axes.left - 8, y + 4, f"{percent} %", anchor="end"))
    for seconds, label in _ticks(axes.least, axes.most):
        x = axes.x(seconds)
        lines.append(_line(x, axes.top, x, axes.bottom, faint))
        lines.append(_line(x, axes.bottom, x, axes.bottom + 5, strong))
        lines.append(_text(x, axes.bottom + 20, label, anchor="middle"))
    lines.append(_line(axes.left, axes.bottom, axes.right, axes.bottom, strong))
    lines.append(_line(axes.left, axes.top, axes.left, axes.bottom, strong))
    middle = (axes.left + axes.right) / 2
    lines.append(
        _text(
            middle,
            axes.bottom + 44,
            "time of fuzzing until the bug was first sighted (log scale)",
            anchor="middle",
        )
    )
    y = (axes.top + axes.bottom) / 2
    turned = f' transform="rotate(-90 20 {y:.1f})"'
    lines.append(_text(20, y, "share of bugs found", anchor="middle", extra=turned))
    return lines


def _curve(series: SurvivalSample, axes: _Axes, number: int) -> str:
    path = [f"M{axes.left:.1f} {axes.y(0):.1f}"]
    for seconds in sorted(set(series.seconds)):
        path.append(f"H{axes.x(seconds):.1f}V{axes.y(series.share(seconds)):.1f}")
    path.append(f"H{axes.x(series.end):.1f}")
    return f'<path d="{"".join(path)}" {_stroke(number)}/>'


def _end_labels(many: Sequence[SurvivalSample], axes: _Axes) -> list[str]:
    """Write the share each curve ends with at its end, moved apart where they would touch."""
    ends = sorted((axes.y(series.share(math.inf)), number) for number, series in enumerate(many))
    lines = []
    lowest = -math.inf
    for y, number in ends:
        lowest = max(y, lowest + 15)
        colour = f' fill="{_COLOURS[number % len(_COLOURS)]}" font-weight="bold"{_HALO}'
        share = f"{many[number].share(math.inf):.0%}".replace("%", " %")
        lines.append(_text(axes.x(many[number].end) + 8, lowest + 4, share, extra=colour))
    return lines


def draw(many: Sequence[SurvivalSample]) -> str:
    """Return an SVG with one step curve for each series, in their order.

    A curve's height is the share of all runs, over all bugs, that had found
    their bug by then; a run that never found it counts as well. A series
    without runs has nothing to draw and is left out.
    """
    many = [series for series in many if series.runs]
    found = [seconds for series in many for seconds in series.seconds]
    earliest = max(min(found, default=1.0), _LEAST_SECONDS)
    # Half of the earliest: its step is to be seen apart from the axis.
    least = max(_LEAST_SECONDS, 10 ** math.floor(math.log10(earliest / 2)))
    most = max([*(series.end for series in many), 2 * least])
    top = _TOP + _LEGEND_LINE * len(many)
    axes = _Axes(least, most, top)
    height = axes.bottom + _BOTTOM
    body = [_text(_LEFT, 26, "planted bugs found over time", extra=' font-size="17"')]
    for number, (series, label) in enumerate(
        zip(many, _distinct([series.label for series in many]), strict=True)
    ):
        y = _TOP + _LEGEND_LINE * number
        body.append(_line(_LEFT, y - 4, _LEFT + 34, y - 4, _stroke(number)))
        bugs = count(series.bugs, "bug")
        text = f"{label}: {len(series.seconds)} of {series.runs} runs on {bugs}"
        body.append(_text(_LEFT + 44, y, text))
    body += _grid(axes)
    body += [_curve(series, axes, number) for number, series in enumerate(many)]
    body += _end_labels(many, axes)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" '
        f'width="{_WIDTH}" height="{height}" font-family="sans-serif" font-size="13" '
        'fill="#222222">\n<rect width="100%" height="100%" fill="#ffffff"/>\n'
        + "\n".join(body)
        + "\n</svg>\n"
    )
