# SPDX-License-Identifier: Apache-2.0
"""Triage of logs: each distinct report once, with how often and where it is.

Memory does not grow with the logs: of each title one report and a few places are kept, and
of titles only so many.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from fuzzer.splat.analyse import NOTHING_KNOWN, analyse
from fuzzer.splat.guilty import guilty_frame, main_frames
from fuzzer.splat.look import look_of
from fuzzer.splat.machinery import is_machinery
from fuzzer.splat.report import Report
from fuzzer.splat.scan import Scanner
from fuzzer.splat.severity import Facts
from fuzzer.splat.signature import Signature, first_of_each, same_bug, signature_of
from fuzzer.splat.splat import Splat, to_json
from fuzzer.splat.symbols import Symbols

FORMAT = 2
MAX_PLACES = 20
MAX_TITLES = 2000
MAX_LOOKS = 10_000
"""Reports that are recognised when they come again, without being analysed."""

# The number that the kernel counts its oopses by, and its word that one went before.
_OOPS = re.compile(r"\[#(\d+)\]")
_DIED = re.compile(r"\bTainted: [A-Z ]*D[A-Z ]*\b")
_HEAD_LINES = 40


@dataclass(frozen=True, slots=True)
class LogPosition:
    """The start of a report: the log's name and the line, from 1."""

    log: str
    line: int


@dataclass(slots=True)
class Finding:
    """A distinct report: the best one of its title, how many there were, and where.

    ``places`` are the first ones only. ``after`` is the title of the report that this one is a
    likely consequence of, each time.
    """

    record: Splat
    signature: Signature
    count: int = 0
    places: list[LogPosition] = field(default_factory=list)
    after: str | None = None


@dataclass(frozen=True, slots=True)
class Bug:
    """The findings of one bug: the first one, and others under other titles."""

    finding: Finding
    others: tuple[Finding, ...]


class LogTriage:
    """Collects the reports of logs.

    ``dropped`` counts reports whose title came after too many others.
    """

    def __init__(self, facts: Facts = NOTHING_KNOWN) -> None:
        self._facts = facts
        self._found: dict[str, Finding] = {}
        # Titles of reports that differ in what a title and a severity do not depend on.
        self._looks: dict[bytes, str] = {}
        # The first report of the log's kernel that killed one of its threads.
        self._cause: str | None = None
        # Titles of reports with such a number.
        self._counted: set[str] = set()
        self.dropped = 0
        self.lines = 0
        self.size = 0

    def add_log(self, name: str, chunks: Iterable[bytes]) -> None:
        """Go through a log; ``name`` is what its places are called by."""
        scanner = Scanner()
        self._cause = None
        for chunk in chunks:
            for report in scanner.feed(chunk):
                self._add(name, report)
        for report in scanner.finish():
            self._add(name, report)
        self.lines += scanner.lines
        self.size += scanner.size

    def _add(self, log: str, report: Report) -> None:
        looks = look_of(report)
        title = self._looks.get(looks)
        if title is None:
            title = self._analyse(report)
            if len(self._looks) >= MAX_LOOKS:
                self._looks.pop(next(iter(self._looks)))
            self._looks[looks] = title
        finding = self._found.get(title)
        if finding is None:
            self.dropped += 1
            return
        if report.rule.crash:
            cause = self._cause_of(report, title)
            finding.after = cause if finding.count == 0 or finding.after is not None else None
        finding.count += 1
        if len(finding.places) < MAX_PLACES:
            finding.places.append(LogPosition(log, report.first.number))

    def _cause_of(self, report: Report, title: str) -> str | None:
        """Return what a report is a likely consequence of: an earlier one that was fatal."""
        if self._cause is None and title not in self._counted:
            return None
        head = report.lines[: _HEAD_LINES + report.lead]
        marked = (line.raw for line in head if "[#" in line.raw)
        counted = next((found for raw in marked if (found := _OOPS.search(raw))), None)
        number = int(counted[1]) if counted else 0
        died = number > 1 or any(_DIED.search(line.raw) for line in head)
        if not died:
            # Another kernel's, or this one's first.
            if number == 1 or report.rule.kind == "reboot":
                self._cause = title if number else None
            return None
        return self._cause if self._cause != title else None

    def _analyse(self, report: Report) -> str:
        """Return a report's title, having kept the record if it is the best one."""
        record = analyse(report, self._facts)
        if len(self._found) < MAX_TITLES and _OOPS.search(record.text):
            self._counted.add(record.title)
        finding = self._found.get(record.title)
        if finding is None:
            if len(self._found) < MAX_TITLES:
                self._found[record.title] = Finding(record, signature_of(record))
        elif record.severity.score > finding.record.severity.score:
            finding.record, finding.signature = record, signature_of(record)
        return record.title

    def symbolise(self, symbols: Symbols) -> None:
        """Give the frames of what was found file and line."""
        for finding in self._found.values():
            finding.record = with_guilty_by_file(symbols.symbolise(finding.record))
            finding.signature = signature_of(finding.record)

    def findings(self) -> list[Finding]:
        """Return the distinct reports: crashes before notices, causes first, the worst first."""
        return sorted(
            self._found.values(),
            key=lambda each: (
                not each.record.crash,
                each.after is not None,
                -each.record.severity.score,
            ),
        )

    def bugs(self) -> list[Bug]:
        """Return the findings in their order, those of one bug together."""
        findings = self.findings()
        same = first_of_each([each.signature for each in findings], same_bug)
        return [
            Bug(each, tuple(f for f, first in zip(findings, same, strict=True) if first == index))
            for index, each in enumerate(findings)
            if same[index] is None
        ]


def with_guilty_by_file(record: Splat) -> Splat:
    """Return a record that blames no function of the core's, by the files that symbols tell."""
    frames = main_frames(record.stacks, interrupted=record.kind == "hang")
    own = [frame for frame in frames if not frame.inline]
    now = next((frame for frame in own if frame.function == record.function), None)
    if now is None or now.file is None:
        return record
    guilty = guilty_frame(own) if is_machinery(now) else now
    if guilty is None:
        return record
    title = record.title
    if title.endswith(f" in {record.function}"):
        title = f"{title.removesuffix(record.function or '')}{guilty.function}"
    source = record.source or guilty.file
    return dataclasses.replace(record, title=title, function=guilty.function, source=source)


def findings_json(triage: LogTriage) -> dict[str, Any]:
    """Return all of it as JSON values."""
    return {
        "format": FORMAT,
        "lines": triage.lines,
        "bytes": triage.size,
        "dropped": triage.dropped,
        "reports": [
            {
                **to_json(bug.finding.record),
                "signature": str(bug.finding.signature),
                "after": bug.finding.after,
                **_seen(bug.finding),
                "others": [
                    {"title": each.record.title, "kind": each.record.kind, **_seen(each)}
                    for each in bug.others
                ],
            }
            for bug in triage.bugs()
        ],
    }


def _seen(finding: Finding) -> dict[str, Any]:
    where = [{"log": each.log, "line": each.line} for each in finding.places]
    return {"count": finding.count, "where": where}
