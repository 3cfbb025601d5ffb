# SPDX-License-Identifier: Apache-2.0
"""The severity of a report: a score of 100, a level, and the reasons.

The order counts, not the number: a write after free is above a read, a wild
pointer above NULL, and a crash that needs a race or a failed allocation is
below one that does not. A rule gives the starting score (``Rule.score``).
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from fuzzer.splat.memory import Access, SlabObject
from fuzzer.splat.rules import Family, Rule

_LEVELS = ((75, "critical"), (50, "high"), (25, "medium"), (0, "low"))


class Level(enum.StrEnum):
    """Severity in a word."""

    CRITICAL = "critical"
    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"


@dataclass(frozen=True, slots=True)
class Facts:
    """Facts on a crash that the caller knows and the log does not tell; None is unknown."""

    needs_race: bool | None = None
    needs_fault: bool | None = None
    """An allocation or user copy must be made to fail."""
    size_controlled: bool | None = None
    """The program chooses how many bytes are accessed."""
    caller: str = ""
    """The callers who can cause it: ``anyone``, ``opener`` of the file, ``root``."""


@dataclass(frozen=True, slots=True)
class Severity:
    """A severity. ``score`` is 0 to 100; ``reasons`` are the parts of it, in words.

    ``meaning`` says in a sentence what the kernel's users have to expect.
    """

    level: Level
    score: int
    reasons: tuple[str, ...]
    meaning: str = ""


_MEMORY = "memory bug: what is read or overwritten may belong to anybody"
_MEANINGS = {
    Family.MEMORY: _MEMORY,
    Family.FREE: _MEMORY,
    Family.UNINIT: "memory bug: what was in memory before decides, or reaches a program",
    Family.NUMBER: "wrong arithmetic: harmless unless the result is a size, an index or a time",
    Family.LEAK: "memory is lost: harmless unless a program can repeat it until none is left",
    Family.RACE: "data race: harmless unless the value must be whole, or the order matters",
    Family.LOCK: "locking bug: harmless unless two tasks meet so, which then never go on",
    Family.CONTEXT: "wrong context: harmless unless it sleeps just there, which may stop a CPU",
    Family.HANG: "a task or a CPU does not go on: it may take a reboot",
    Family.STACK: "the kernel's stack is used up or overwritten: what is beyond it is damaged",
    Family.PANIC: "the machine stops",
}


def meaning_of(rule: Rule, access: Access | None) -> str:
    """Return the meaning of a kind of report in a sentence, empty if it is not known."""
    if not rule.crash:
        return "not a kernel bug"
    if rule.family is Family.ASSERT:
        if rule.kind == "warning":
            return "a check failed: harmless unless panic_on_warn is set, or what it guards matters"
        return "a check failed, which ends the task: what it had locked stays so"
    near_null = access is not None and access.address_class in {"null", "error"}
    if rule.family is Family.MEMORY and near_null and rule.kind in {"fault", "oops"}:
        return "no memory is damaged: the task ends, and what it had locked stays so"
    return _MEANINGS.get(rule.family, "")


def rate(
    rule: Rule,
    title: str,
    access: Access | None,
    obj: SlabObject | None,
    facts: Facts,
    *,
    corrupted: bool,
) -> Severity:
    """Return the severity of a report."""
    score = rule.score
    reasons = [f"{rule.kind}, {rule.family} bug: {rule.score}"]

    def count(points: int, why: str) -> None:
        nonlocal score
        score += points
        reasons.append(f"{why}: {points:+}")

    if rule.family is Family.MEMORY and access:
        if access.direction == "write":
            count(20, "writes")
        elif access.direction == "execute":
            count(25, "jumps to a wrong address")
        if access.address_class == "null":
            count(-20, "through a NULL pointer")
        elif access.address_class == "error":
            # As bad as NULL, while rules for wild pointers begin higher.
            count(-35, "through an error pointer, or NULL less an offset")
        elif access.address_class in {"noncanonical", "poison"}:
            count(5, "through a pointer that is data")
        elif access.address_class == "user":
            count(5, "at a user address")
    if access is None and "null-ptr-deref" in title:
        count(-20, "through a NULL pointer")
    if "use-after-free" in title:
        count(5, "freed memory can be allocated anew")
    if "stack-out-of-bounds" in title and access and access.direction == "write":
        count(5, "return addresses are near")
    if obj and obj.where == "right" and obj.offset == 0 and access and access.size == 1:
        count(-5, "one byte past the end")
    if facts.size_controlled:
        count(10, "the program controls the size")
    elif facts.size_controlled is False:
        count(-5, "the size is fixed")
    if facts.needs_race:
        count(-15, "needs a race")
    if facts.needs_fault:
        count(-15, "needs an allocation or copy to fail")
    if facts.caller == "anyone":
        count(10, "any user can cause it")
    elif facts.caller == "root":
        count(-20, "takes root's privileges")
    if corrupted:
        count(-10, "the report is damaged")
    score = max(0, min(100, score))
    level = next(Level(name) for least, name in _LEVELS if score >= least)
    return Severity(level, score, tuple(reasons), meaning_of(rule, access))
