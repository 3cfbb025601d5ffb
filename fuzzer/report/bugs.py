# SPDX-License-Identifier: Apache-2.0
"""The planted bugs of a driver as a table, for a terminal and for its README."""

from __future__ import annotations

from collections.abc import Sequence

from fuzzer.driver.driver import PlantedBug
from fuzzer.wording import table

_COLUMNS = ("bug", "class", "CWE", "level", "needs", "seen as")


def _rows(bugs: Sequence[PlantedBug]) -> list[tuple[str, ...]]:
    return [
        (bug.name, bug.kind, bug.cwe, bug.level.value, ", ".join(bug.needs), bug.expect)
        for bug in bugs
    ]


def text_table(bugs: Sequence[PlantedBug]) -> str:
    """Return a table with aligned columns, a line for each bug."""
    rows = [_COLUMNS, *_rows(bugs)]
    return "".join(f"{line}\n" for line in table(rows))


def markdown_table(bugs: Sequence[PlantedBug]) -> str:
    """Return a Markdown table, a line for each bug."""
    rows = [_COLUMNS, ("---",) * len(_COLUMNS)]
    rows += [(f"`{row[0]}`", *row[1:]) for row in _rows(bugs)]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)
