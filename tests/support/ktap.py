# SPDX-License-Identifier: Apache-2.0
"""Test results in a kernel log: KTAP version 1, as KUnit prints it.

The format is that of Documentation/dev-tools/ktap.rst in the kernel, the
lines around it those of lib/kunit/test.c. A log may be console text, with or
without timestamps, callers and levels, or the raw records of ``/dev/kmsg``.
Whatever else the kernel printed meanwhile is kept as a diagnostic of the test
that was running.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

_RECORD = re.compile(r"\d+,\d+,\d+,[^;]*;(.*)")
_ESCAPE = re.compile(rb"\\x([0-9a-f]{2})")
# Whose device a record is about: " SUBSYSTEM=misc", " DEVICE=c10:125".
_DICTIONARY = re.compile(r" [A-Z_]+=")
# "<6>[    1.234567][   T42] "; each part is there or not, as the kernel was configured.
_PREFIX = re.compile(r"(?=[<\[])(?:<\d{1,3}>)?(?:\[ *\d+\.\d{6}\])?(?:\[ *[TC]\d+\])?(?: |$)")

_VERSION = re.compile(r"( *)K?TAP version \d+$")
_SUBTEST = re.compile(r"( *)# Subtest: (.+)$")
_PLAN = re.compile(r"( *)1\.\.(\d{1,9})$")
_RESULT = re.compile(r"( *)(ok|not ok) (\d{1,9})(?: (.*))?$")
_DIRECTIVE = re.compile(r"(?:^| )# (.*)$")
_SKIP = re.compile(r"SKIP\b:? ?(.*)$", re.IGNORECASE)

# KUnit has three levels. A log full of nonsense must not nest until Python's stack ends.
_MOST_LEVELS = 16


class Outcome(enum.Enum):
    """The end of a test; the values are KTAP's words where it has some."""

    OK = "ok"
    NOT_OK = "not ok"
    SKIPPED = "skip"
    # Began, and no result line came: the kernel crashed, or the log was cut.
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class Result:
    """A test: a suite with its cases, a case with its parameters, or one parameter.

    ``reason`` is what follows the name, for a skipped test without the word
    SKIP. ``diagnostics`` are the lines printed while it ran, as they were
    printed, without those of ``parts``. ``errors`` tell what is wrong with the
    output, not with the test: a plan that was not kept, a number out of order.
    """

    name: str
    outcome: Outcome
    reason: str = ""
    diagnostics: tuple[str, ...] = ()
    parts: tuple[Result, ...] = ()
    errors: tuple[str, ...] = ()

    def describe(self) -> str:
        """Return the result and all that may explain it, over several lines."""
        reason = f" ({self.reason})" if self.reason else ""
        lines = [f"{self.name}: {self.outcome.value}{reason}"]
        lines += [f"  {line}" for line in self.diagnostics]
        lines += [f"  KTAP: {error}" for error in self.errors]
        for part in self.parts:
            # What passed is no explanation, unless its own output is wrong.
            if part.outcome is not Outcome.OK or part.errors:
                lines += [f"  {line}" for line in part.describe().split("\n")]
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Report:
    """All suites in a log, in order; ``errors`` are those outside of any suite."""

    suites: tuple[Result, ...]
    errors: tuple[str, ...]

    def cases(self) -> Iterator[tuple[str, Result]]:
        """Return each case with its suite's name."""
        for suite in self.suites:
            for case in suite.parts:
                yield suite.name, case

    def all_errors(self) -> list[str]:
        """Return the errors of every level, each with where it is."""
        found = list(self.errors)
        for suite in self.suites:
            found += _named_errors(suite, suite.name)
        return found


def _named_errors(result: Result, where: str) -> list[str]:
    found = [f"{where}: {error}" for error in result.errors]
    for part in result.parts:
        found += _named_errors(part, f"{where}::{part.name}")
    return found


@dataclass(slots=True)
class _Group:
    """The tests between a version line and the result line of what contains them."""

    indent: int
    name: str = ""
    plan: int | None = None
    results: list[Result] = field(default_factory=list)
    header: list[str] = field(default_factory=list)
    pending: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def finish(self) -> list[str]:
        """Return what is wrong with the group now that no further result comes."""
        count = len(self.results)
        if self.plan is None or self.plan == count:
            return self.errors
        missing = self.plan - count
        tail = f": {missing} missing" if missing > 0 else ""
        return [*self.errors, f"the plan says {self.plan}, seen are {count}{tail}"]

    def interrupted(self) -> Result:
        """Return the test that this group belongs to, which has no result line."""
        return Result(
            self.name or "(no name)",
            Outcome.MISSING,
            diagnostics=(*self.header, *self.pending),
            parts=tuple(self.results),
            errors=(*self.finish(), "it has no result line"),
        )


def _unescape(text: str) -> str:
    """Undo the escapes, which stand for bytes: a UTF-8 character has several."""
    raw = _ESCAPE.sub(
        lambda escape: bytes((int(escape[1], 16),)), text.encode(errors="surrogatepass")
    )
    return raw.decode(errors="replace")


def _messages(log: str) -> Iterator[str]:
    """Return the lines of a log as the kernel's code gave them to printk()."""
    raw = False
    for line in log.split("\n"):
        if record := _RECORD.match(line):
            raw = True
            # A failed expectation is one record of several lines.
            yield from (part.rstrip() for part in _unescape(record[1]).split("\n"))
        elif not (raw and _DICTIONARY.match(line)):
            raw = False
            yield line[match.end() if (match := _PREFIX.match(line)) else 0 :].rstrip()


class _Parser:
    """Keeps the groups that are open; the outermost holds the suites."""

    def __init__(self) -> None:
        self.suites: list[Result] = []
        self.errors: list[str] = []
        self.open: list[_Group] = []

    def feed(self, line: str) -> None:
        if match := _VERSION.match(line):
            taken = self._begin(len(match[1]))
        elif match := _SUBTEST.match(line):
            taken = self._name(len(match[1]), match[2])
        elif match := _PLAN.match(line):
            taken = self._plan(len(match[1]), int(match[2]))
        elif match := _RESULT.match(line):
            good = match[2] == "ok"
            taken = self._result(len(match[1]), good, int(match[3]), match[4] or "", line)
        else:
            taken = False
        if not taken and self.open and line.strip():
            self.open[-1].pending.append(line)

    def finish(self) -> Report:
        self._close(0)
        return Report(tuple(self.suites), tuple(self.errors))

    def _begin(self, indent: int) -> bool:
        if len(self.open) == _MOST_LEVELS:
            return False
        self._interrupt(indent)
        if not self.open and indent:
            # The log begins in the middle, or the suites stand alone.
            self.open.append(_Group(0))
        self.open.append(_Group(indent))
        return True

    def _name(self, indent: int, name: str) -> bool:
        group = self.open[-1] if self.open else None
        if not group or group.indent != indent or group.name or group.results:
            return False
        group.name = name
        return True

    def _plan(self, indent: int, count: int) -> bool:
        group = self.open[-1] if self.open else None
        if not group or group.indent != indent or group.plan is not None or group.results:
            return False
        group.plan = count
        # KUnit prints a suite's attributes before its plan: no case has begun.
        group.header, group.pending = group.pending, []
        return True

    def _result(self, indent: int, good: bool, number: int, text: str, line: str) -> bool:
        level = next((i for i, group in enumerate(self.open) if group.indent == indent), None)
        if level is None:
            if not self.open:
                self.errors.append(f"a result before any version line: {line.strip()}")
            return False
        name, reason, outcome = _read_description(text, good)
        self._close(level + 2)
        group = self.open[level]
        parts: list[Result] = []
        inner: list[str] = []
        errors: list[str] = []
        if len(self.open) > level + 1:
            child = self.open.pop()
            if child.name in ("", name):
                parts, errors = child.results, child.finish()
                inner = [*child.header, *child.pending]
            else:
                group.results.append(child.interrupted())
        if number != len(group.results) + 1:
            group.errors.append(f"result {number} ({name}) is at place {len(group.results) + 1}")
        diagnostics = (*group.pending, *inner)
        group.pending = []
        result = Result(name, outcome, reason, diagnostics, tuple(parts), tuple(errors))
        group.results.append(result)
        return True

    def _interrupt(self, indent: int) -> None:
        """End the groups that a version line of this indentation cannot be inside of."""
        level = sum(group.indent < indent for group in self.open)
        self._close(level)

    def _close(self, level: int) -> None:
        """End the groups from ``level`` inwards, none of which got its result line."""
        while len(self.open) > level:
            group = self.open.pop()
            if self.open:
                self.open[-1].results.append(group.interrupted())
            else:
                self.suites += group.results
                self.errors += group.finish()


def _read_description(text: str, good: bool) -> tuple[str, str, Outcome]:
    """Return name, reason and outcome of a result line, from what follows its number."""
    outcome = Outcome.OK if good else Outcome.NOT_OK
    reason = ""
    if match := _DIRECTIVE.search(text):
        text, reason = text[: match.start()], match[1].strip()
        if skip := _SKIP.match(reason):
            reason, outcome = skip[1], Outcome.SKIPPED
    return text.removeprefix("- ").strip() or "(no name)", reason, outcome


def parse_ktap(log: str) -> Report:
    """Return the test results in a kernel log; never fails, whatever the log holds.

    Tests that ran but whose result is missing have :attr:`Outcome.MISSING`
    where their name was printed, and are counted in an error where not.
    """
    parser = _Parser()
    for line in _messages(log):
        parser.feed(line)
    return parser.finish()
