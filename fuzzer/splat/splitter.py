# SPDX-License-Identifier: Apache-2.0
"""Cuts a log into reports, line by line, in bounded memory.

Reports of several CPUs or tasks may be interleaved: with caller ids each line goes
to the report of its caller. Without, a report that starts inside another one ends it, and
both are marked as mixed.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from fuzzer.splat.frames import parse_frame
from fuzzer.splat.line import Line, parse_line
from fuzzer.splat.plain import plain_lines
from fuzzer.splat.rules import OWN_STACK, Rule, first_match

MAX_LINES = 400
"""Lines of one report; a longer one is cut here."""

_MAX_LINE = 4096
# Lines of the same caller that look like no part of a report before the report counts as over.
_PATIENCE = 20
# Lines of anybody without one of the report's own: its caller has gone on.
_SILENCE = 2000
_MAX_OPEN = 64
# Lines between two looks for reports that nobody continues.
_CHECK = 100
# How long a report keeps a consequence (a panic, an end mark) from being one of its own.
_AFTERMATH = 500
_CALLERS = 256

LEAVING = "reboot: "
"""Begins what a kernel prints before it restarts or halts, as it was told to."""

_LEAD = re.compile(r"^(?:=+|-+\[ cut here \]-+)$")
_RULER = re.compile(r"^={20,}$")
_END_TRACE = re.compile(r"^---\[ end trace")
_EPILOGUE = re.compile(
    r"^(?:Disabling lock debugging|Kernel Offset|Rebooting in|---\[ end|note: |R[A-Z0-9]{2}: |RIP: "
    r"|RSP: |Code: |[FCDE]S: |CR2: |DR\d: |PKRU: | *$|pstate|pc : |lr : |sp : |x\d+ *: "
    r"|Modules linked)"
)
_PART = re.compile(
    r"""^(?:\s|$|=+$|-+$|\?\ |>|\#|CPU:|Hardware\ name|RIP:|RSP:|R[A-Z0-9]{2}:|[FCDE]S:|CR2:|DR\d:
    |PKRU|EFLAGS|Code:|Call\ [Tt]race|Modules\ linked|Tainted|pc\ :|lr\ :|sp\ :|x\d+\ *:|pstate
    |irq\ event|(?:hard|soft)irqs|[Aa]llocated\ |[Ff]reed\ |The\ buggy|page|flags|raw:|head
    |Memory\ |(?:Read|Write|Free)\ (?:of|at)|Last\ pot|Second\ to\ last|other\ info|which\ |but\ |->
    |\d+\ locks?\ held|no\ locks\ held|INFO:\ lockdep\ is|stack\ backtrace|---\[|note:
    |Kernel\ Offset|Rebooting|Disabling\ lock|Showing\ |task:|NMI\ |Sending\ NMI|rcu:|Workqueue:
    |Uninit|Bytes?\ \d|value\ changed|Reported\ by|kfence-|\*\*\*|Mem\ abort|Data\ abort|swapper\ pg
    |\[[0-9a-f]{16}\]|\#PF|PGD|Oops|Internal\ error|Object|Slab|Padding|Redzone|FIX|the\ |Possible
    |preempt|in_atomic|\[<|read|write|race|no\ |Dumping|Thread\ overran|comm|hex\ dump|backtrace
    |watchdog:|Mem-Info|active_|Node\ |Normal|DMA|lowmem|Out\ of\ memory|oom|Kernel\ panic
    |This\ frame|Local\ var|pool\ |workqueue\ |\S+/\d+\ (?:is|just)|INFO:\ task|\d+\.\d+\.\d+)""",
    re.VERBOSE,
)


@dataclass(slots=True)
class Report:
    """The lines of one report, in order. ``lead`` lines stand before its first line.

    ``mixed`` tells that another report's lines may be among these, ``cut`` that the
    log ended, or the bound was reached, while it was going on.
    """

    rule: Rule
    match: re.Match[str]
    first: Line
    lead: int
    lines: list[Line]
    mixed: bool = False
    cut: bool = False

    @property
    def texts(self) -> list[str]:
        """What the kernel said, from the first line of the report."""
        return [line.text for line in self.lines[self.lead :]]

    @property
    def raw(self) -> str:
        """The report as the log had it."""
        return "\n".join(line.raw for line in self.lines) + "\n"


@dataclass(slots=True)
class _Open:
    report: Report
    last_seen: int
    stack: bool = False
    """A frame was seen."""
    ended: bool = False
    asked: bool = False
    """Other CPUs were asked for their stacks."""
    parts: int = 0
    """How many of the lines are known to be part of it."""


class Splitter:
    """Takes lines one at a time and gives back each report when it is over."""

    def __init__(self) -> None:
        self._open: dict[str | None, _Open] = {}
        self._lead: deque[Line] = deque(maxlen=3)
        self._recent: dict[str | None, int] = {}
        self._helpers: dict[str | None, str | None] = {}
        self._booted = False
        self._leaving = False

    @property
    def idle(self) -> bool:
        """No report is going on: lines without a hint need not be fed, but for the last three."""
        return not self._open

    def feed(self, line: Line) -> list[Report]:
        """Take the next line; return the reports that it ended."""
        if len(line.text) > _MAX_LINE:
            text = line.text[:_MAX_LINE]
            line = Line(line.number, line.raw[: 2 * _MAX_LINE], text, line.caller, line.stamped)
        done: list[Report] = []
        if line.foreign:
            return done
        if LEAVING in line.text:
            self._leaving = True
        if not line.stamped and line.caller is None and self._rejoined(line):
            return done
        owner = self._owner(line)
        going = self._open.get(owner)
        if going and not self._belongs(going, line):
            done.append(self._close(owner))
            going = None
        started = first_match(line.text)
        if started and owner != line.caller:
            # A CPU that showed its stack for another one's report has one of its own.
            self._helpers.pop(line.caller)
            going = None
        if started and not self._starts(going, line, *started):
            started = None
        if started:
            mixed = False
            if going:
                mixed = line.caller is None and self._unfinished(going)
                going.report.mixed = going.report.mixed or mixed
                if len(going.report.lines) > 1 and _LEAD.match(going.report.lines[-1].text.strip()):
                    going.report.lines.pop()
                done.append(self._close(line.caller))
            self._begin(line, *started, mixed=mixed)
        elif going:
            self._add(going, line)
        if self._open and (line.number % _CHECK == 0 or len(self._open) > _MAX_OPEN):
            done += self._give_up(line.number)
        self._lead.append(line)
        return done

    def take_plain(self, block: bytes, position: int, number: int) -> tuple[int, int]:
        """Take the lines from ``position`` on that are plainly part of the last line's report.

        Does with them what :meth:`feed` would do. ``number`` is that of the last line
        before. Returns where the first line is that must be fed, and the last number taken.
        """
        caller = self._lead[-1].caller if self._lead else None
        going = self._open.get(caller)
        if going is None or going.ended or not going.report.first.stamped:
            return position, number
        lines = going.report.lines
        if self._helpers or len(lines) - going.parts >= _PATIENCE or len(self._open) > _MAX_OPEN:
            return position, number
        room = MAX_LINES - len(lines)
        if len(self._open) > 1:
            # Where reports are looked for that nobody continues, that is done.
            room = min(room, _CHECK - 1 - number % _CHECK)
        raws, stamp = plain_lines(block, position, self._lead[-1].raw)
        del raws[room:]
        if not raws:
            return position, number
        lines += [
            Line(each, raw, raw[stamp:], caller, True) for each, raw in enumerate(raws, number + 1)
        ]
        if not going.stack:
            going.stack = any("+0x" in raw for raw in raws)
        number += len(raws)
        going.last_seen, going.parts = number, len(lines)
        self._lead.extend(lines[-3:])
        return position + sum(map(len, raws)) + len(raws), number

    def finish(self) -> list[Report]:
        """The log is over: return what was going on, oldest first."""
        callers = sorted(self._open, key=lambda caller: self._open[caller].report.first.number)
        done = []
        for caller in callers:
            going = self._open[caller]
            going.report.cut = not going.ended
            done.append(self._close(caller))
        return done

    def _owner(self, line: Line) -> str | None:
        """Return whose report a line belongs to: the CPU that asked this one for its stack."""
        if line.caller in self._open:
            return line.caller
        if line.text.startswith("NMI backtrace for cpu"):
            asking = [caller for caller, going in self._open.items() if going.asked]
            if asking:
                self._helpers[line.caller] = asking[-1]
        return self._helpers.get(line.caller, line.caller)

    def _rejoined(self, line: Line) -> bool:
        """Deal with a line without a stamp among lines that have one; tell whether that is done.

        It is the rest of a stack frame that a terminal wrapped, or somebody else's.
        """
        stamped = [going for going in self._open.values() if going.report.first.stamped]
        if not stamped or not line.text or line.text[0] == " ":
            return False
        going = max(stamped, key=lambda each: each.last_seen)
        last = going.report.lines[-1]
        text = last.text + line.text
        if parse_frame(last.text) is None and parse_frame(text) is not None:
            raw = f"{last.raw}\n{line.raw}"
            going.report.lines[-1] = Line(last.number, raw, text, last.caller, True)
            going.stack = True
        return first_match(line.text) is None

    def _belongs(self, going: _Open, line: Line) -> bool:
        if len(going.report.lines) >= MAX_LINES:
            going.report.cut = not going.ended
            return False
        if OWN_STACK.search(line.text):
            return False
        if going.ended:
            return _EPILOGUE.match(line.text) is not None or "Kernel panic" in line.text
        return len(going.report.lines) - going.parts < _PATIENCE

    def _starts(self, going: _Open | None, line: Line, rule: Rule, match: re.Match[str]) -> bool:
        """Tell whether a first line starts a report, and is not part of the one going on."""
        if rule.kind == "reboot":
            first, self._booted = not self._booted, True
            leaving, self._leaving = self._leaving, False
            return not first and not leaving
        self._booted = True
        # A kernel that panics may be told to boot again.
        self._leaving = self._leaving or rule.kind == "panic"
        if going and not going.stack and rule.kind in going.report.rule.absorbs:
            return False
        if going and len(going.report.lines) == going.report.lead + 1:
            # Symbolised: one such line for each function that was inlined.
            report = going.report
            if (
                rule is report.rule
                and match[0] == report.match[0]
                and "inline]" in report.first.raw
            ):
                return False
        if not rule.opener:
            if going:
                return False
            near = [n for n in self._recent.values() if line.number - n < _AFTERMATH]
            return not near and not self._open
        return True

    def _unfinished(self, going: _Open) -> bool:
        return not going.stack and "{function}" in going.report.rule.title

    def _begin(self, line: Line, rule: Rule, match: re.Match[str], *, mixed: bool) -> None:
        before = [each for each in self._lead if each.caller == line.caller]
        lead: list[Line] = []
        if before and _LEAD.match(before[-1].text.strip()):
            lead = [before[-1]]
        report = Report(rule, match, line, len(lead), [*lead, line], mixed=mixed)
        going = _Open(report, line.number, parts=len(report.lines))
        # The headline of an arm64 oops, or of an end mark, may be all there is.
        going.ended = rule.kind == "lost"
        self._open[line.caller] = going

    def _add(self, going: _Open, line: Line) -> None:
        report, text = going.report, line.text
        report.lines.append(line)
        going.last_seen = line.number
        if _PART.match(text):
            going.parts = len(report.lines)
        if not going.stack and text.startswith((" ", "RIP: ", "pc :")):
            going.stack = parse_frame(text) is not None
        going.asked = going.asked or text.startswith("Sending NMI from CPU")
        if "Kernel panic" in text:
            going.ended = False
            going.parts = len(report.lines)
        elif _END_TRACE.match(text) or (
            report.rule.ruled and _RULER.match(text) and len(report.lines) - report.lead > 2
        ):
            going.ended = True

    def _give_up(self, number: int) -> list[Report]:
        over = [c for c, going in self._open.items() if number - going.last_seen > _SILENCE]
        if len(self._open) > _MAX_OPEN:
            over.append(min(self._open, key=lambda caller: self._open[caller].last_seen))
        return [self._close(caller) for caller in dict.fromkeys(over)]

    def _close(self, caller: str | None) -> Report:
        going = self._open.pop(caller)
        if self._helpers:
            self._helpers = {cpu: owner for cpu, owner in self._helpers.items() if owner != caller}
        del going.report.lines[max(going.parts, going.report.lead + 1) :]
        if len(self._recent) >= _CALLERS:
            self._recent.pop(next(iter(self._recent)))
        self._recent.pop(caller, None)
        self._recent[caller] = going.last_seen
        return going.report


def split_lines(lines: Iterable[str]) -> Iterator[Report]:
    """Return the reports of a log's lines, each when it is over."""
    splitter = Splitter()
    for number, raw in enumerate(lines, 1):
        yield from splitter.feed(parse_line(raw, number))
    yield from splitter.finish()
