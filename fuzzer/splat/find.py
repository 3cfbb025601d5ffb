# SPDX-License-Identifier: Apache-2.0
"""The first splat of a console log, with its title."""

from __future__ import annotations

from collections.abc import Sequence
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


def first_record(lines: Sequence[str]) -> Record | None:
    """Return the report that starts first in a log's lines, or None. Notices do not count."""
    reports = [report for report in split_lines(lines) if report.rule.crash]
    if not reports:
        return None
    return analyse(min(reports, key=lambda report: report.first.number))


def find_splat(lines: Sequence[str]) -> Splat | None:
    """Return the first splat in a console log, or None."""
    record = first_record(lines)
    if record is None:
        return None
    return Splat(record.title, record.kind, record.function, record.corrupted is None, record.text)
