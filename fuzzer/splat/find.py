# SPDX-License-Identifier: Apache-2.0
"""The splats of a console log, and one of which only the title is known."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fuzzer.splat.analyse import analyse
from fuzzer.splat.rules import Family, read_title
from fuzzer.splat.severity import Level, Severity
from fuzzer.splat.splat import Splat, Task
from fuzzer.splat.splitter import split_lines

_UNKNOWN = Severity(Level.LOW, 0, ())
_NO_REPORT = "there is no report"


def splats_in(lines: Sequence[str]) -> Iterator[Splat]:
    """Return the splats in a console log, by where they start. Notices do not count."""
    reports = [report for report in split_lines(lines) if report.rule.crash]
    yield from map(analyse, sorted(reports, key=lambda report: report.first.number))


def find_splat(lines: Sequence[str]) -> Splat | None:
    """Return the first splat in a console log, or None."""
    return next(splats_in(lines), None)


def bare_splat(title: str, kind: str, function: str | None = None, text: str = "") -> Splat:
    """Return a splat of which no report is there; its family is that of its title's rule."""
    known = read_title(title)
    family = known.rule.family if known else Family.HANG if kind == "hang" else Family.OTHER
    return Splat(
        title=title,
        kind=kind,
        family=family,
        function=function,
        corrupted=None if function else _NO_REPORT,
        severity=_UNKNOWN,
        access=None,
        object=None,
        task=Task(),
        stacks=(),
        locks=(),
        modules=(),
        kernel=None,
        taint=None,
        line=0,
        caller=None,
        crash=True,
        text=text,
    )


def splat_titled(title: str) -> Splat:
    """Return what a title alone says of a splat."""
    known = read_title(title)
    return bare_splat(title, known.rule.kind if known else "", known.function if known else None)
