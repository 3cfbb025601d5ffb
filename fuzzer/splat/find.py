# SPDX-License-Identifier: Apache-2.0
"""The splats of a console log, with their titles."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fuzzer.splat.analyse import analyse
from fuzzer.splat.record import Record
from fuzzer.splat.splitter import split_lines


@dataclass(frozen=True, slots=True)
class Splat:
    """One kernel report. ``text`` is all of it, as a console would show it.

    ``complete`` is false when the report is damaged or has no stack: then the
    title names no function.
    """

    title: str
    kind: str
    function: str | None
    complete: bool
    text: str


def records_in(lines: Sequence[str]) -> Iterator[Record]:
    """Return the reports in a log's lines, by where they start. Notices do not count."""
    reports = [report for report in split_lines(lines) if report.rule.crash]
    yield from map(analyse, sorted(reports, key=lambda report: report.first.number))


def splats_in(lines: Sequence[str]) -> Iterator[Splat]:
    """Return the splats in a console log, by where they start."""
    for record in records_in(lines):
        whole = record.corrupted is None
        yield Splat(record.title, record.kind, record.function, whole, record.text)


def find_splat(lines: Sequence[str]) -> Splat | None:
    """Return the first splat in a console log, or None."""
    return next(splats_in(lines), None)
