# SPDX-License-Identifier: Apache-2.0
"""A report as lines of a log."""

from __future__ import annotations

import re
from dataclasses import dataclass

from fuzzer.splat.forms import current_forms
from fuzzer.splat.line import Line
from fuzzer.splat.rules import Rule

LEAD = re.compile(r"^(?:=+|-+\[ cut here \]-+|8<--- cut here ---)$")
"""A line that stands before a report's first one and says nothing."""


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
        """The kernel's text from the report's first line on, in the form of today's kernels."""
        return current_forms([line.text for line in self.lines[self.lead :]])

    @property
    def message(self) -> str | None:
        """The message of WARN() between "cut here" and the first line."""
        said = [line.text.strip() for line in self.lines[: self.lead] if not LEAD.match(line.text)]
        return " ".join(filter(None, said)) or None

    @property
    def raw(self) -> str:
        """The report as the log had it."""
        return "\n".join(line.raw for line in self.lines) + "\n"
