# SPDX-License-Identifier: Apache-2.0
"""The rule of one kind of report."""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass, field


class Family(enum.StrEnum):
    """The kind of bug that a report is about, whichever checker saw it.

    A freed object that is read is a KASAN report on one kernel and a page
    fault on the next: the same family, hence the same bug if it is in the same
    place.
    """

    MEMORY = "memory"
    FREE = "free"
    UNINIT = "uninit"
    NUMBER = "number"
    LEAK = "leak"
    RACE = "race"
    LOCK = "lock"
    CONTEXT = "context"
    HANG = "hang"
    ASSERT = "assert"
    STACK = "stack"
    PANIC = "panic"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Rule:
    """One kind of report: how its first line looks, and what it is called.

    ``{0}`` and so on in ``title`` are the pattern's groups, ``{access}`` is
    ``Read`` or ``Write``, ``{function}`` the guilty function. For a report that
    has no stack but says where it happened, ``site`` finds the function in one
    of its lines.

    ``hint`` is a part of every first line that the pattern matches: a cheap
    search for hints decides which lines are looked at. ``absorbs`` are the
    kinds whose first lines belong to this report when they follow before its stack does.
    ``score`` is how bad it is before anything else is known, of 100.
    ``example`` is such a line, for the tests and for the reader.
    """

    pattern: re.Pattern[str]
    title: str
    kind: str
    family: Family
    hint: str
    score: int
    example: str
    absorbs: frozenset[str] = field(default=frozenset())
    site: re.Pattern[str] | None = None
    crash: bool = True
    """False for a notice, which is worth a line of its own and is no crash."""
    ruled: bool = False
    """The report ends with a line of ``=``."""
    interrupted: bool = False
    """The interrupted code is guilty, not the interrupt that noticed."""
    opener: bool = True
    """False when the line does not start a report if one of the same caller is near."""
    plain: bool = False
    """The line does not say what is wrong, while one that follows may."""
    advice: str = ""
    """Advice on it, where there is any."""
    single: bool = False
    """The line is all there is."""
    of_page: bool = False
    """The allocator of the page is guilty, if it is told, and not the function that noticed."""
    doubtful: bool = False
    """Others print such a line too: it counts where a line of a report follows."""
    followed: bool = False
    """A line with another rule's hint is right before or after: logs are not searched for this."""


def rule(
    pattern: str,
    title: str,
    kind: str,
    *,
    family: Family,
    hint: str,
    score: int,
    example: str,
    absorbs: str = "",
    site: str | None = None,
    crash: bool = True,
    ruled: bool = False,
    interrupted: bool = False,
    opener: bool = True,
    plain: bool = False,
    advice: str = "",
    single: bool = False,
    of_page: bool = False,
    doubtful: bool = False,
    followed: bool = False,
) -> Rule:
    """Return a rule; ``absorbs`` are kinds, with spaces between."""
    return Rule(
        re.compile(pattern),
        title,
        kind,
        family,
        hint,
        score,
        example,
        frozenset(absorbs.split()),
        re.compile(site) if site else None,
        crash,
        ruled,
        interrupted,
        opener,
        plain,
        advice,
        single,
        of_page,
        doubtful,
        followed,
    )
