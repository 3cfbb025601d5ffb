# SPDX-License-Identifier: Apache-2.0
"""Cuts a log into reports, line by line, in bounded memory.

Reports of several CPUs or tasks may be interleaved: with caller ids each line goes
to the report of its caller. Without, a report that starts inside another one ends it; both
are marked as mixed if their lines are.

A line of prose that names a report is none: one without anything that a log of the kernel's has
in front counts only with lines of a report after it, or where it is complete in itself.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from fuzzer.splat.forms import current_forms
from fuzzer.splat.frames import parse_frame
from fuzzer.splat.line import Line, parse_line, split_glued
from fuzzer.splat.parts import (
    are_confirmed,
    are_mixed,
    find_remnant,
    is_complete,
    is_evidence,
    is_part,
    is_talk,
    seconds_of,
)
from fuzzer.splat.plain import plain_lines
from fuzzer.splat.prefix import ReportStart, find_start, shape_of, without_prefix
from fuzzer.splat.report import LEAD, Report
from fuzzer.splat.rules import OWN_STACK
from fuzzer.splat.wrapped import rejoined, rejoined_frame, wrapped_start

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
# Seconds in which a consequence (a panic, an end mark) belongs to the report before it.
_AFTERMATH = 500
_CALLERS = 256
# Lines after a report of one line in which another one may say who is to blame.
_ATTENTION = 3
# Makes a Line of all its fields, several times as fast as the class does.
_new = tuple.__new__

LEAVING = "reboot: "
"""The beginning of a kernel's message before it restarts or halts, as it was told to."""

LEAD_LINES = 6
"""Lines before a report's first one that may belong to it: "cut here", and what WARN() says."""

_CUT_HERE = re.compile(r"^(?:-+\[ cut here \]-+|8<--- cut here ---)$")
_RULER = re.compile(r"^={20,} *$")
_END_PANIC = re.compile(r"^---\[ end Kernel panic")
_END_TRACE = re.compile(r"^---\[ end trace")
_EPILOGUE = re.compile(
    r"^(?:Disabling lock debugging|Kernel Offset|Rebooting in|---\[ end|note: |R[A-Z0-9]{2}: |RIP: "
    r"|RSP: |Code: |[FCDE]S: |CR2: |DR\d: |PKRU: | *$|pstate|pc : |lr : |sp : |x\d+ *: "
    r"|Modules linked)"
)
# These name a function, and stand before the Oops line.
_POINTER = re.compile(r"^\s*(?:E?IP:|IP is|EIP is|PC is|LR is|NIP|LR|pc|lr|epc|ra) ")
# Lines at the beginning of a log that may be the rest of a report.
_BEGINNING = 400
# Reports that follow each other within so many seconds may be of two CPUs at a time.
_AT_ONCE = 1.0


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
    """The number of lines that are known to be part of it."""
    sure: bool = True
    """It is known to be a report, not prose about one."""
    talk: bool = False
    """Words stand before its first line."""
    evidence: bool = False
    """A line after the first is one that only a report has."""
    crowded: bool = False
    """It started inside another one."""


class Splitter:
    """Takes lines one at a time and gives back each report when it is over."""

    def __init__(self) -> None:
        self._open: dict[str | None, _Open] = {}
        self._lead: deque[Line] = deque(maxlen=LEAD_LINES)
        self._shape: re.Pattern[str] | None = None
        self._beginning: list[Line] | None = []
        self._recent: dict[str | None, int] = {}
        self._helpers: dict[str | None, str | None] = {}
        self._booted = False
        self._leaving = False
        # Lines to come of which the first may tell more of a report that is over.
        self._attentive = 0

    @property
    def idle(self) -> bool:
        """No report is going on: lines without a hint need not be fed, but for the last three."""
        return not (self._open or self._attentive) and self._beginning is None

    def skip_beginning(self) -> None:
        """Look for no rest of a report in the log's first lines: there is none."""
        self._beginning = None

    def begins(self, text: str) -> bool:
        """Tell whether a line with this text may start a report."""
        text = text[:_MAX_LINE]
        if self._shape is not None:
            bare = without_prefix(self._shape, text)
            text = text if bare is None else bare
        return LEAVING in text or find_start(text) is not None

    def feed(self, line: Line) -> list[Report]:
        """Take the next line; return the reports that it ended."""
        if len(line.text) > _MAX_LINE:
            text = line.text[:_MAX_LINE]
            line = Line(line.number, line.raw[: 2 * _MAX_LINE], text, line.caller, line.stamped)
        done: list[Report] = []
        if self._attentive:
            self._attentive -= 1
        if line.foreign:
            return done
        shaped = None if self._shape is None else self._without_shape(line)
        if shaped is not None:
            line = shaped
        if LEAVING in line.text:
            self._leaving = True
        if not line.stamped and line.caller is None:
            is_rest = line.bare and shaped is None
            line = (self._wrapped(line) if is_rest else None) or line
            if not line.stamped and self._rejoined(line, is_rest=is_rest):
                return done
        owner = self._owner(line)
        going = self._open.get(owner)
        if going and shaped is not None:
            going.sure = True
        if going and not self._belongs(going, line):
            done += self._close(owner)
            going = None
        started = find_start(line.text)
        if started and owner != line.caller:
            # A CPU that showed its stack for another one's report has one of its own.
            self._helpers.pop(line.caller)
            going = None
        if started and started.rule.single:
            if not (line.bare and is_talk(line.text[: started.before])):
                line = line._replace(text=line.text[started.before :])
                done.append(Report(started.rule, started.match, line, 0, [line]))
                self._attentive = _ATTENTION if started.rule.crash else 0
            self._lead.append(line)
            return done
        if started and going and self._is_replaced(going, started, line):
            self._open.pop(owner)
            going = None
        if started and not self._starts(going, line, started):
            started = None
        if started:
            crowded = False
            if going:
                crowded = line.caller is None and self._unfinished(going)
                going.report.mixed = going.report.mixed or (crowded and self._at_once(going, line))
                if len(going.report.lines) > 1 and LEAD.match(going.report.lines[-1].text.strip()):
                    going.report.lines.pop()
                done += self._close(line.caller)
            talk = not line.stamped and is_talk(line.text[: started.before])
            line = self._learned(line, started, is_shaped=shaped is not None)
            self._begin(line, started, crowded=crowded, talk=talk)
        elif going:
            self._add(going, line)
        elif self._beginning is not None:
            self._look_back(line)
        if self._open and (line.number % _CHECK == 0 or len(self._open) > _MAX_OPEN):
            done += self._give_up(line.number)
        self._lead.append(line)
        return done

    def _without_shape(self, line: Line) -> Line | None:
        """Return a line without the prefix that was learned, None where it has none."""
        if self._shape is None:
            return None
        text = without_prefix(self._shape, line.text)
        return None if text is None else line._replace(text=text)

    def _learned(self, line: Line, start: ReportStart, *, is_shaped: bool) -> Line:
        """Learn what stands before a report's first line; return the line without it."""
        if not start.before:
            if not is_shaped:
                self._shape = None
            return line
        if not is_shaped:
            self._shape = shape_of(line.text[: start.before])
            self._lead = deque(
                (self._without_shape(each) or each for each in self._lead), maxlen=LEAD_LINES
            )
        return line._replace(text=line.text[start.before :])

    def _look_back(self, line: Line) -> None:
        """Look at the first lines of a log: is it the rest of a report?"""
        assert self._beginning is not None
        if remnant := find_remnant(line.text, self._beginning):
            self._begin(line, remnant)
        elif len(self._beginning) < _BEGINNING:
            self._beginning.append(line)
        else:
            self._beginning = None

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
            _new(Line, (each, raw, raw[stamp:], caller, True, False, False))
            for each, raw in enumerate(raws, number + 1)
        ]
        if not going.stack:
            going.stack = any("+0x" in raw for raw in raws)
        # Prose has no stamp.
        going.evidence = True
        number += len(raws)
        going.last_seen, going.parts = number, len(lines)
        self._lead.extend(lines[-LEAD_LINES:])
        return position + sum(map(len, raws)) + len(raws), number

    def finish(self) -> list[Report]:
        """End the log; return the reports that were not over, oldest first."""
        callers = sorted(self._open, key=lambda caller: self._open[caller].report.first.number)
        done = []
        for caller in callers:
            going = self._open[caller]
            going.report.cut = not going.ended
            done += self._close(caller)
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

    def _rejoined(self, line: Line, *, is_rest: bool) -> bool:
        """Deal with a line without a stamp among lines that have one; tell whether that is done.

        It is the rest of a line that a terminal or a mail program wrapped, or somebody else's.
        Where no line has a stamp, it is such a rest, or none. ``is_rest`` tells that nothing
        stands before it: then it may be the rest of more than a stack's frame.
        """
        if not self._open:
            return False
        going = max(self._open.values(), key=lambda each: each.last_seen)
        report = going.report
        last = report.lines[-1]
        text = rejoined_frame(last.text, line.text) if report.first.stamped else None
        if is_rest and text is None:
            text = rejoined(last.text, line.text, len(last.raw))
            if text is None and last is report.first:
                start = ReportStart(report.rule, report.match)
                text = wrapped_start(last.text, line.text, len(last.raw), start)
        if text is not None:
            self._extend(going, last, line, text)
            return True
        if not going.report.first.stamped or not line.text or line.text[0] == " ":
            return False
        return find_start(line.text) is None

    def _wrapped(self, line: Line) -> Line | None:
        """Return a line and the one before it as the first line of a report that they are."""
        last = self._lead[-1] if self._lead else None
        if last is None or find_start(last.text):
            return None
        text = wrapped_start(last.text, line.text, len(last.raw))
        if text is None:
            return None
        self._lead.pop()
        return last._replace(raw=f"{last.raw}\n{line.raw}", text=text)

    def _extend(self, going: _Open, last: Line, line: Line, text: str) -> None:
        """Put the rest of a line to what there is of it."""
        report = going.report
        report.lines[-1] = last._replace(raw=f"{last.raw}\n{line.raw}", text=text)
        if last is report.first:
            report.first = report.lines[-1]
            if start := find_start(text):
                report.rule, report.match = start.rule, start.match
        going.evidence = going.evidence or is_evidence(text)
        if is_part(text):
            going.parts = len(report.lines)
        going.stack = going.stack or (not _POINTER.match(text) and parse_frame(text) is not None)

    def _belongs(self, going: _Open, line: Line) -> bool:
        if len(going.report.lines) >= MAX_LINES:
            going.report.cut = not going.ended
            return False
        if OWN_STACK.search(line.text):
            return False
        if going.ended:
            return _EPILOGUE.match(line.text) is not None or "Kernel panic" in line.text
        return len(going.report.lines) - going.parts < _PATIENCE

    def _is_replaced(self, going: _Open, start: ReportStart, line: Line) -> bool:
        """Tell whether what seemed to be a report was a word about the one that starts here."""
        report = going.report
        if report.rule.doubtful and start.rule is report.rule and not going.evidence:
            return True
        if going.evidence or "inline]" in report.first.raw:
            return False
        if start.rule is report.rule:
            is_again = line.text[start.before :] == report.first.text
            return report.first.bare or (is_again and len(report.lines) <= going.parts)
        return not going.sure and (going.talk or start.rule.kind not in report.rule.absorbs)

    def _starts(self, going: _Open | None, line: Line, start: ReportStart) -> bool:
        """Tell whether a first line starts a report, and is not part of the one going on."""
        rule = start.rule
        if rule.kind == "reboot":
            first, self._booted = not self._booted, True
            leaving, self._leaving = self._leaving, False
            return not first and not leaving
        self._booted = True
        # A kernel that panics may be told to boot again.
        self._leaving = self._leaving or rule.kind == "panic"
        if going and not going.stack and rule.kind in going.report.rule.absorbs:
            return False
        is_first = going is not None and not going.stack and going.report.rule.plain
        if going and is_first and going.report.rule.kind in rule.absorbs:
            # Kernels before 4.14 print what WARN() says after its first line.
            going.report.rule, going.report.match = rule, start.match
            return False
        if going and len(going.report.lines) == going.report.lead + 1:
            # Symbolised: one such line for each function that was inlined.
            report = going.report
            if (
                rule is report.rule
                and start.match[0] == report.match[0]
                and "inline]" in report.first.raw
            ):
                return False
        if not rule.opener or _END_PANIC.match(line.text):
            if going:
                return False
            near = [n for n in self._recent.values() if line.number - n < _AFTERMATH]
            return not near and not self._open
        return True

    def _unfinished(self, going: _Open) -> bool:
        return not going.stack and "{function}" in going.report.rule.title

    def _at_once(self, going: _Open, line: Line) -> bool:
        """Tell whether a line may be of the same moment as the report before."""
        then, now = seconds_of(going.report.first.raw), seconds_of(line.raw)
        if then is not None and now is not None:
            return abs(now - then) < _AT_ONCE
        return bool(going.report.lines[-1].text.strip())

    def _begin(
        self, line: Line, start: ReportStart, *, crowded: bool = False, talk: bool = False
    ) -> None:
        rule = start.rule
        lead = self._lead_of(line)
        lines = [*lead, line]
        is_rest = rule.kind == "lost" and self._beginning is not None
        if is_rest:
            # All that is left of it.
            lines = [*self._rest_of(line), line]
            lead, line = [], lines[0]
        self._beginning = None
        report = Report(rule, start.match, line, len(lead), lines)
        going = _Open(report, lines[-1].number, parts=len(lines), crowded=crowded)
        going.sure = not (line.bare and start.before)
        going.talk = talk
        going.evidence = going.stack = is_rest
        # The headline of an arm64 oops, or of an end mark, may be all there is.
        going.ended = rule.kind == "lost" and "end trace" in lines[-1].text
        self._open[line.caller] = going

    def _rest_of(self, line: Line) -> list[Line]:
        """Return the lines right before one that are parts of a report, at a log's beginning."""
        before = self._beginning or []
        first = len(before)
        while first and is_part(before[first - 1].text) and before[first - 1].caller == line.caller:
            first -= 1
        return before[first:]

    def _lead_of(self, line: Line) -> list[Line]:
        """Return the lines before a report's first one that belong to it."""
        before = [each for each in self._lead if each.caller == line.caller]
        for index in range(len(before) - 1, -1, -1):
            text = before[index].text.strip()
            if _CUT_HERE.match(text):
                return before[index:]
            if LEAD.match(text) or not text or is_part(before[index].text) or find_start(text):
                break
        return before[-1:] if before and LEAD.match(before[-1].text.strip()) else []

    def _add(self, going: _Open, line: Line) -> None:
        report, text = going.report, line.text
        report.lines.append(line)
        going.last_seen = line.number
        if is_part(text):
            going.parts = len(report.lines)
        if not going.evidence:
            going.evidence = is_evidence(text)
        if not going.stack and ("+0x" in text or ".c:" in text) and not _POINTER.match(text):
            going.stack = any(map(parse_frame, current_forms(["", text])))
        going.asked = going.asked or text.startswith("Sending NMI from CPU")
        if "Kernel panic" in text:
            going.ended = False
            going.parts = len(report.lines)
        elif _END_TRACE.match(text) or (
            # Before 4.8 SLUB's rulers are inside of KASAN's.
            report.rule.ruled and going.stack and _RULER.match(text)
        ):
            going.ended = True

    def _give_up(self, number: int) -> list[Report]:
        over = [c for c, going in self._open.items() if number - going.last_seen > _SILENCE]
        if len(self._open) > _MAX_OPEN:
            over.append(min(self._open, key=lambda caller: self._open[caller].last_seen))
        return [report for caller in dict.fromkeys(over) for report in self._close(caller)]

    def _close(self, caller: str | None) -> list[Report]:
        """Return a report that is over; none if it was only prose about one."""
        going = self._open.pop(caller)
        if self._helpers:
            self._helpers = {cpu: owner for cpu, owner in self._helpers.items() if owner != caller}
        report = going.report
        is_word = going.talk or (
            report.first.bare and not is_complete(report.first.text, report.rule)
        )
        if is_word and not going.evidence:
            return []
        if report.rule.doubtful and not (going.stack or are_confirmed(report.lines)):
            return []
        del report.lines[max(going.parts, report.lead + 1) :]
        report.mixed = report.mixed or (going.crowded and are_mixed(report.lines))
        if len(self._recent) >= _CALLERS:
            self._recent.pop(next(iter(self._recent)))
        self._recent.pop(caller, None)
        self._recent[caller] = going.last_seen
        return [report]


def split_lines(lines: Iterable[str]) -> Iterator[Report]:
    """Return the reports of a log's lines, each when it is over."""
    splitter = Splitter()
    for number, raw in enumerate(lines, 1):
        for part in split_glued(raw):
            yield from splitter.feed(parse_line(part, number))
    yield from splitter.finish()
