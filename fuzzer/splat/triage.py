# SPDX-License-Identifier: Apache-2.0
"""What is in logs: each distinct report once, with how often and where it is.

Memory does not grow with the logs: of each title one report and a few places are kept, and
of titles only so many.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from fuzzer.splat.analyse import NOTHING_KNOWN, analyse
from fuzzer.splat.look import look_of
from fuzzer.splat.scan import Scanner
from fuzzer.splat.severity import Facts
from fuzzer.splat.signature import Signature, first_of_each, same_bug, signature_of
from fuzzer.splat.splat import Splat, to_json
from fuzzer.splat.splitter import Report
from fuzzer.splat.symbols import Symbols

FORMAT = 1
MAX_PLACES = 20
MAX_TITLES = 2000
MAX_LOOKS = 10_000
"""Reports that are recognised when they come again, without being analysed."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a report starts: the log's name and the line, from 1."""

    log: str
    line: int


@dataclass(slots=True)
class Finding:
    """A distinct report: the best one of its title, how many there were, and where.

    ``places`` are the first ones only.
    """

    record: Splat
    signature: Signature
    count: int = 0
    places: list[Place] = field(default_factory=list)


class Triage:
    """Collects the reports of logs.

    ``dropped`` counts reports whose title came after too many others.
    """

    def __init__(self, facts: Facts = NOTHING_KNOWN) -> None:
        self._facts = facts
        self._found: dict[str, Finding] = {}
        # Titles of reports that differ in what a title and a severity do not depend on.
        self._looks: dict[bytes, str] = {}
        self.dropped = 0
        self.lines = 0
        self.size = 0

    def add_log(self, name: str, chunks: Iterable[bytes]) -> None:
        """Go through a log; ``name`` is what its places are called by."""
        scanner = Scanner()
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
        finding.count += 1
        if len(finding.places) < MAX_PLACES:
            finding.places.append(Place(log, report.first.number))

    def _analyse(self, report: Report) -> str:
        """Return a report's title, having kept the record if it is the best one."""
        record = analyse(report, self._facts)
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
            finding.record = symbols.symbolise(finding.record)

    def findings(self) -> list[Finding]:
        """Return the distinct reports: crashes before notices, the worst first."""
        return sorted(
            self._found.values(),
            key=lambda each: (not each.record.crash, -each.record.severity.score),
        )


def same_bugs(findings: Sequence[Finding]) -> list[int | None]:
    """Return for each finding the index of the first one before it that is the same bug."""
    return first_of_each([each.signature for each in findings], same_bug)


def findings_json(triage: Triage) -> dict[str, Any]:
    """Return all of it as JSON values."""
    findings = triage.findings()
    return {
        "format": FORMAT,
        "lines": triage.lines,
        "bytes": triage.size,
        "dropped": triage.dropped,
        "reports": [
            {
                **to_json(finding.record),
                "signature": str(finding.signature),
                "same_bug_as": None if same is None else findings[same].record.title,
                "count": finding.count,
                "where": [{"log": each.log, "line": each.line} for each in finding.places],
            }
            for finding, same in zip(findings, same_bugs(findings), strict=True)
        ],
    }
