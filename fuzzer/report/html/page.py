# SPDX-License-Identifier: Apache-2.0
"""The report on a campaign as one HTML page that needs nothing else.

All text of the kernel, the driver and programs is escaped by the templates; what no screen shows
is replaced first. Text is cut so that the page stays small: the files beside it have all.
"""

from __future__ import annotations

import base64
import errno
import functools
import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fuzzer import __version__
from fuzzer.crash.store import shown_report
from fuzzer.crash.trace import kept_trace
from fuzzer.engine.compared import ConstantCompared
from fuzzer.program.ops import Op
from fuzzer.report.charts import Chart, ChartLine, Flag, svg
from fuzzer.report.html.gathering import Gathered, StoredCrash
from fuzzer.report.html.source_view import (
    FunctionFigures,
    NeverEqual,
    SourceFile,
    fault_only,
    functions_of,
    never_equal,
    source_files,
)
from fuzzer.report.html.telling import moment, what_happened
from fuzzer.state.document import CallRecord, HistoryRow
from fuzzer.target.lint import ioctl_parts
from fuzzer.wording import count, time_span, visible

if TYPE_CHECKING:
    import jinja2

_TEMPLATES = Path(__file__).with_name("templates")
# Characters of a line; of the report, the program and the C source of a crash, and of those that
# are not among the first; and the number of these.
_LINE = 1000
_REPORT, _PROGRAM, _SOURCE = 24_000, 6_000, 16_000
_REPORT_LATER, _PROGRAM_LATER = 5_000, 1_500
_FIRST = 80
# Characters of all texts of crashes, and of all programs that reached something, escaped.
_ALL_CRASHES, _ALL_PROGRAMS = 10_000_000, 2_500_000
_ONE_PROGRAM = 2_000
_POINTS = 240
_EVENTS = 200


@dataclass(frozen=True, slots=True)
class CrashView:
    """A crash as the page shows it; texts may be cut, or empty where there is no room."""

    number: int
    stored: StoredCrash
    path: str
    new: bool
    first_at: float | None
    report: str
    program: str
    source: str
    trace: str


@dataclass(frozen=True, slots=True)
class CallRow:
    """A kind of call; ``errors`` are names of error numbers with how often, most first.

    What is not an ioctl counts as described: files are opened and modules loaded of itself.
    """

    name: str
    described: bool
    succeeded: int
    failed: int
    errors: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class IoctlView:
    """An ioctl that the driver compares and the description lacks; ``made`` calls were looked at.

    ``macro`` (``_IOW('p', 0x99)``) and ``size`` are what its number says, if it was made by the
    usual macros.
    """

    number: int
    macro: str
    size: int
    made: int
    succeeded: int


@dataclass(frozen=True, slots=True)
class ProgramView:
    """A program that reached ``blocks`` blocks first."""

    name: str
    at: float
    fault: bool
    blocks: int
    text: str


class _Room:
    """The characters that are left for texts of a kind."""

    def __init__(self, characters: int) -> None:
        self._left = characters

    def take(self, text: str, most: int) -> str:
        """Return a text as it is shown, cut to ``most`` characters; empty if there is no room."""
        from markupsafe import escape

        text = shown(text, most)
        size = len(escape(text))
        if size > self._left:
            return ""
        self._left -= size
        return text


def shown(text: str, most: int) -> str:
    """Return text that a page can have: no control characters, lines and all of it cut."""
    cut = text[: most + 1]
    if len(text) > most:
        kept = cut[:most].rpartition("\n")[0] or cut[:most]
        cut = f"{kept}\n… ({len(text) - len(kept):,} more characters in the file)"
    lines = (line if len(line) <= _LINE else f"{line[:_LINE]} …" for line in cut.splitlines())
    return visible("\n".join(lines))


def report_page(gathered: Gathered, *, live: str = "") -> str:
    """Return the page on a campaign; ``live`` is what it asks for to know of changes."""
    programs, programs_left_out = _programs(gathered)
    crashes = _crash_views(gathered)
    known = {each.name for each in programs}
    return _template("report.html.j2").render(
        g=gathered,
        title=_title(gathered),
        made=moment(time.time()),
        version=__version__,
        live=live,
        sentences=what_happened(gathered),
        charts=[svg(chart) for chart in campaign_charts(gathered)],
        crashes=crashes,
        crash_numbers={each.stored.slug: each.number for each in crashes},
        calls=_call_views(gathered.state.calls),
        ioctls=_ioctl_views(gathered),
        files=source_files(gathered),
        functions=functions_of(gathered),
        never_equal=never_equal(gathered),
        faults=len(fault_only(gathered.reached) & gathered.covered),
        programs=programs,
        programs_left_out=programs_left_out,
        known_programs=known,
        events=gathered.state.events[-_EVENTS:],
    )


def _title(gathered: Gathered) -> str:
    return f"{gathered.target} with {gathered.bug}" if gathered.bug else gathered.target


def campaign_charts(gathered: Gathered) -> list[Chart]:
    """Return the charts of a campaign: coverage with its crashes, and speed."""
    history = gathered.state.history
    if len(history) < 2:
        return []
    number = {each.slug: at for at, each in enumerate(gathered.crashes, 1)}
    flags = [
        Flag(each.first_at, each.title, f"#crash-{number[each.slug]}")
        for each in sorted(gathered.state.crashes, key=lambda each: each.first_at)
        if each.slug in number
    ]
    covered = ChartLine("covered", [(row.at, row.covered) for row in history], steps=True)
    return [
        Chart(
            "coverage",
            "Blocks reached over the time of fuzzing, and when crashes were found",
            "blocks",
            (covered,),
            flags,
            history[-1].blocks,
        ),
        Chart(
            "speed",
            "Programs a second over the time of fuzzing",
            "programs/s",
            (ChartLine("speed", speed(history)),),
        ),
    ]


def speed(history: Sequence[HistoryRow], points: int = _POINTS) -> list[tuple[float, float]]:
    """Return programs a second by campaign time, averaged over so many parts of it."""
    width = max(2.0, history[-1].at / points)
    found = []
    start = history[0]
    for row in history[1:]:
        if row.at - start.at >= width:
            found.append((row.at, (row.programs - start.programs) / (row.at - start.at)))
            start = row
    return found or [(history[-1].at, history[-1].programs / max(history[-1].at, 1.0))]


def _crash_views(gathered: Gathered) -> list[CrashView]:
    known = {each.slug: each for each in gathered.state.crashes}
    room = _Room(_ALL_CRASHES)
    views = []
    for number, stored in enumerate(gathered.crashes, 1):
        early = number <= _FIRST
        record = known.get(stored.slug)
        report = shown_report(stored.path, stored.crash)
        views.append(
            CrashView(
                number,
                stored,
                shown(str(stored.path), _LINE),
                record.is_new if record else True,
                record.first_at if record else None,
                room.take(report, _REPORT if early else _REPORT_LATER),
                room.take(
                    _text(stored.path / "program.prog"), _PROGRAM if early else _PROGRAM_LATER
                ),
                room.take(_text(stored.path / "repro.c"), _SOURCE) if early else "",
                room.take(kept_trace(stored.path), _PROGRAM) if early else "",
            )
        )
    return views


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def _call_views(calls: Sequence[CallRecord]) -> list[CallRow]:
    views = []
    for each in calls:
        failed = {number: times for number, times in each.outcomes.items() if number}
        errors = sorted(failed.items(), key=lambda pair: (-pair[1], pair[0]))
        views.append(
            CallRow(
                each.name,
                each.described or each.op != Op.IOCTL,
                each.outcomes.get(0, 0),
                sum(failed.values()),
                tuple((errno.errorcode.get(number, str(number)), n) for number, n in errors),
            )
        )
    return sorted(views, key=lambda view: (-view.succeeded - view.failed, view.name))


def _ioctl_views(gathered: Gathered) -> list[IoctlView]:
    if gathered.driver is None:
        return []
    made = {each.number: each.outcomes for each in gathered.state.calls if each.op == Op.IOCTL}
    views = []
    for number in sorted(gathered.compared.ioctls - gathered.driver.ioctls.keys()):
        macro, size = ioctl_parts(number & 0xFFFFFFFF)
        kind, order = number >> 8 & 0xFF, number & 0xFF
        letter = f"'{chr(kind)}'" if chr(kind).isascii() and chr(kind).isprintable() else str(kind)
        macro = f"{macro}({letter}, {order:#x})"
        outcomes = made.get(number, {})
        views.append(IoctlView(number, macro, size, sum(outcomes.values()), outcomes.get(0, 0)))
    return views


def _programs(gathered: Gathered) -> tuple[list[ProgramView], int]:
    """Return the programs that reached something first, and how many there is no room for."""
    room = _Room(_ALL_PROGRAMS)
    views: dict[str, ProgramView] = {}
    left_out = 0
    for each in gathered.reached:
        if each.program in views:
            continue
        text = room.take(each.text, _ONE_PROGRAM)
        if text:
            views[each.program] = ProgramView(
                each.program, each.at, each.fault, len(each.blocks), text
            )
        else:
            left_out += 1
    return list(views.values()), left_out


def operand(number: int | None, size: int) -> str:
    """Return an operand of so many bytes as a person reads it: ``0x1f``, ``-22``, ``7``."""
    if number is None:
        return "none"
    if number >> (8 * size - 1):
        signed = number - (1 << 8 * size)
        if signed > -0x10000:
            return str(signed)
    return str(number) if number < 10 else f"{number} ({number:#x})"


def compared_text(compared: ConstantCompared) -> str:
    """Return what was seen at a comparison, in words."""
    constant = operand(compared.constant, compared.size)
    sides = [
        f"nearest {side} {operand(value, compared.size)}"
        for side, value in (("below", compared.below), ("above", compared.above))
        if value is not None
    ]
    return f"compared with {constant} {count(compared.times, 'time')}, never equal; " + ", ".join(
        sides
    )


def _anchor(found: NeverEqual | FunctionFigures, files: Sequence[SourceFile]) -> str:
    """Return the link to a line, or to its file where that is too long for the page."""
    file = next((each for each in files if each.name == found.file), None)
    if file is None:
        return "#source"
    return f"#L{file.number}-{found.line}" if file.lines else f"#file-{file.number}"


@functools.cache
def _environment() -> jinja2.Environment:
    # Only reports take it, and each start would.
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    script = (_TEMPLATES / "script.js").read_text()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    environment.globals.update(
        style=(_TEMPLATES / "style.css").read_text(),
        script=script,
        script_hash=f"sha256-{digest}",
    )
    environment.filters.update(
        count=count,
        span=time_span,
        moment=moment,
        shown=lambda text: shown(str(text), _LINE),
        compared=compared_text,
        anchor=_anchor,
    )
    return environment


def _template(name: str) -> jinja2.Template:
    return _environment().get_template(name)


def render(name: str, **values: object) -> str:
    """Return a page that is made of a template of this directory."""
    return _template(name).render(**values)
