# SPDX-License-Identifier: Apache-2.0
"""Charts over the time of a campaign, drawn by matplotlib: as SVG for a page, and as PNG."""

from __future__ import annotations

import contextlib
import functools
import io
import logging
import math
import os
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

from fuzzer.paths import cache_dir
from fuzzer.wording import time_span, visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Inches, of 72 units of an SVG each; and the dots of an inch in a PNG.
_SIZE, _DPI = (7.0, 3.2), 200
# The most points of a line, and the most flags that get a pole and a number.
_POINTS, _NUMBERED = 500, 30
_TICKS = 5
# Colours of lines by light that people with any colour vision tell apart, each with the name by
# which the page's style has it, by light and by dark.
_COLOURS = {
    "#1f6feb": "--c0",
    "#c4432b": "--c1",
    "#1a7f4e": "--c2",
    "#8250df": "--c3",
    "#9a6700": "--c4",
    "#57606b": "--c5",
}
_LINES = tuple(_COLOURS)
_SOFT, _EDGE, _FLAG = "#57606a", "#d0d7de", _LINES[1]
_VARIABLES = {**_COLOURS, _SOFT: "--soft", _EDGE: "--edge"}
_TIMES = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400)
_ID = re.compile(r'(?P<before>\bid="|href="#|url\(#)(?P<id>[\w.-]+)')
# What would bind all of a page, what only a file needs, and fonts: the page has its own.
_NOT_OF_A_PAGE = re.compile(
    r" *<metadata>.*?</metadata>\n?| *<style.*?</style>\n?"
    r"| target=\"_blank\"|font-family: [^;\"]*; ?",
    re.DOTALL,
)
_FLAG_ID = "crash-flag-"

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class ChartLine:
    """A line of a chart: points by time in seconds.

    With ``steps`` it stays until the next point. Lines of one ``group`` have one colour, and the
    name of the first in the legend.
    """

    name: str
    points: Sequence[Point]
    steps: bool = False
    group: int | None = None


@dataclass(frozen=True, slots=True)
class Flag:
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
    lines: Sequence[ChartLine]
    flags: Sequence[Flag] = ()
    most: float | None = None

    @property
    def told(self) -> str:
        """The chart in words: the end of each line."""
        ends = [
            f"{line.name} {number_text(round(line.points[-1][1], 2))} {self.unit} "
            f"after {time_span(line.points[-1][0])}"
            for line in self.lines
            if line.points
        ]
        return "; ".join(ends) or "no data yet"


def thinned(points: Sequence[Point], most: int = _POINTS) -> list[Point]:
    """Return at most so many of the points, the first and the last among them."""
    if len(points) <= most:
        return list(points)
    step = (len(points) - 1) / (most - 1)
    return [points[round(number * step)] for number in range(most)]


def time_step(seconds: float, parts: int) -> float:
    """Return a step of whole seconds, minutes, hours or days."""
    rough = max(seconds, 1.0) / parts
    return next(
        (float(each) for each in _TIMES if each >= rough), 86400.0 * math.ceil(rough / 86400)
    )


def number_text(number: float) -> str:
    """Return a number as it stands at an axis: ``1,200``, ``0.5``."""
    return f"{number:,.0f}" if number == int(number) else f"{number:,.2g}"


def svg(chart: Chart) -> str:
    """Return a chart as an element of a page, in the colours of the page's style."""
    with _style():
        figure = _drawn(chart)
        written = io.StringIO()
        figure.savefig(written, format="svg", transparent=True)
    text = _NOT_OF_A_PAGE.sub("", written.getvalue())
    text = text[text.index("<svg") :]
    for colour, name in _VARIABLES.items():
        text = text.replace(colour, f"var({name})")
    return _described(_with_own_ids(text, chart.name), chart)


def png(chart: Chart) -> bytes:
    """Return a chart as a PNG file."""
    with _style():
        figure = _drawn(chart, heading=True)
        written = io.BytesIO()
        figure.savefig(written, format="png", dpi=_DPI)
    return written.getvalue()


@functools.cache
def _settings() -> dict[Any, Any]:
    # It keeps a list of the host's fonts, and tells so. Its import takes half a second.
    os.environ.setdefault("MPLCONFIGDIR", str(cache_dir() / "matplotlib"))
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    return {
        "svg.fonttype": "none",
        "svg.hashsalt": "pkvfuzz",
        "font.size": 11,
        "text.color": _SOFT,
        "axes.edgecolor": _EDGE,
        "axes.labelcolor": _SOFT,
        "xtick.color": _EDGE,
        "ytick.color": _EDGE,
        "xtick.labelcolor": _SOFT,
        "ytick.labelcolor": _SOFT,
        "grid.color": _EDGE,
        "legend.labelcolor": _SOFT,
        # Names may have a dollar, which is none of mathematics.
        "text.parse_math": False,
    }


@contextlib.contextmanager
def _style() -> Iterator[None]:
    settings = _settings()
    import matplotlib

    with matplotlib.rc_context(settings), warnings.catch_warnings():
        # Its own font lacks some scripts; a page is shown in the reader's fonts.
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        yield


def _drawn(chart: Chart, *, heading: bool = False) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=_SIZE, layout="constrained")
    axes = figure.add_subplot()
    _draw_axes(axes, chart)
    shown: set[int] = set()
    for number, line in enumerate(chart.lines):
        colour = (number if line.group is None else line.group) % len(_LINES)
        points = thinned(line.points)
        axes.plot(
            [at for at, _ in points],
            [value for _, value in points],
            color=_LINES[colour],
            linewidth=1.8,
            drawstyle="steps-post" if line.steps else "default",
            marker="o" if len(points) == 1 else "",
            label=_legend_name(line.name) if colour not in shown else "_",
        )
        shown.add(colour)
    _draw_flags(axes, chart.flags)
    if len(shown) > 1:
        axes.legend(loc="lower right", frameon=False, ncols=2)
    if heading:
        figure.suptitle(visible(chart.title), fontsize=12)
    return figure


def _legend_name(name: str) -> str:
    # Names may be long, and are told whole below a chart of several campaigns.
    name = visible(name)
    return (name if len(name) <= 24 else f"…{name[-23:]}").lstrip("_") or "-"


def _draw_axes(axes: Axes, chart: Chart) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator, MultipleLocator

    times = [at for line in chart.lines for at, _ in line.points]
    times += [flag.at for flag in chart.flags]
    values = [value for line in chart.lines for _, value in line.points]
    end = max([1.0, *times])
    highest = max([*values, chart.most or 0.0]) if values else 1.0
    axes.set_xlim(0, end)
    axes.set_ylim(0, 1.06 * highest or 1.0)
    whole = all(value == int(value) for value in values)
    axes.yaxis.set_major_locator(MaxNLocator(_TICKS, integer=whole, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: number_text(value)))
    axes.xaxis.set_major_locator(MultipleLocator(time_step(end, _TICKS)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: time_span(value)))
    axes.set_ylabel(visible(chart.unit))
    axes.grid(axis="y", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    if chart.most is not None and values:
        axes.axhline(chart.most, color=_SOFT, linewidth=1, linestyle=(0, (4, 4)))


def _draw_flags(axes: Axes, flags: Sequence[Flag]) -> None:
    from matplotlib.lines import Line2D

    across = axes.get_xaxis_transform()
    # Poles of many would hide the lines.
    few = len(flags) <= _NUMBERED
    for number, flag in enumerate(flags, 1):
        drawn = Line2D(
            [flag.at],
            [1.0],
            transform=across,
            color=_FLAG,
            marker="v",
            markersize=8,
            linestyle="",
            clip_on=False,
        )
        drawn.set_gid(f"{_FLAG_ID}{number}")
        if flag.link:
            drawn.set_url(flag.link)
        axes.add_artist(drawn)
        if few:
            axes.axvline(flag.at, color=_FLAG, linewidth=1, linestyle=(0, (2, 3)))
            axes.annotate(
                str(number),
                (flag.at, 1.0),
                xycoords=across,
                xytext=(0, 6),
                textcoords="offset points",
                ha="center",
                fontsize=10,
                annotation_clip=False,
            )


def _with_own_ids(text: str, name: str) -> str:
    """Return an SVG whose ids are no other chart's: all of a page share one space of names."""
    own = {match["id"] for match in _ID.finditer(text) if match["before"].endswith('id="')}

    def renamed(match: re.Match[str]) -> str:
        return f"{match['before']}{name}-{match['id']}" if match["id"] in own else match[0]

    return _ID.sub(renamed, text)


def _described(text: str, chart: Chart) -> str:
    """Return an SVG with a title and a description for those who do not see it, and of flags."""
    name = chart.name
    # An image has no links in it.
    role = "group" if any(flag.link for flag in chart.flags) else "img"
    head, _, rest = text.partition(">")
    head += f' class="chart" role="{role}" aria-labelledby="{name}-title {name}-told">'
    head += f'\n<title id="{name}-title">{_safe(chart.title)}</title>'
    head += f'\n<desc id="{name}-told">{_safe(chart.told)}</desc>'
    for number, flag in enumerate(chart.flags, 1):
        begin = rest.index(f'<g id="{name}-{_FLAG_ID}{number}">')
        if flag.link:
            begin = rest.index("<a ", begin)
        at = rest.index(">", begin) + 1
        told = f"<title>{_safe(f'{time_span(flag.at)}: {flag.text}')}</title>"
        rest = rest[:at] + told + rest[at:]
    return head + rest


def _safe(text: str) -> str:
    return escape(visible(text))
