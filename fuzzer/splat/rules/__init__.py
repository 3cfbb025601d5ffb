# SPDX-License-Identifier: Apache-2.0
"""Every kind of report, as data. The first rule that matches a line is the one."""

from __future__ import annotations

import re
from dataclasses import dataclass

from fuzzer.splat.rules import ends, faults, hangs, locking, sanitizers, warnings
from fuzzer.splat.rules.harmless import HARMLESS, OWN_STACK
from fuzzer.splat.rules.rule import Family, Rule

REMNANTS = ends.REMNANTS

__all__ = [
    "CUT_SHORT",
    "HARMLESS",
    "HINTS",
    "NEEDLES",
    "OWN_STACK",
    "REMNANTS",
    "RULES",
    "Family",
    "Rule",
    "Titled",
    "anchored_match",
    "first_match",
    "has_hint",
    "is_frame",
    "read_title",
]

RULES: tuple[Rule, ...] = (
    *sanitizers.RULES,
    *locking.RULES,
    *warnings.HEADED,
    *faults.RULES,
    *hangs.RULES,
    *ends.NOTICES,
    *warnings.WARN,
    *ends.PANIC,
    *ends.REBOOT,
    *ends.LOST,
    *ends.REMNANTS,
    *warnings.DAMAGE,
)


def _shortest(hints: set[str]) -> tuple[str, ...]:
    """Leave out hints that contain another one."""
    return tuple(sorted(h for h in hints if not any(o != h and o in h for o in hints)))


HINTS = _shortest({rule.hint for rule in RULES})
"""A line without one of these starts no report."""

NEEDLES = _shortest({rule.hint for rule in RULES if not rule.followed})
"""A log without one of these has no report."""

_HINTED = re.compile("|".join(map(re.escape, HINTS)))


_FRAME = re.compile(r" +(?:\? )?(?:\[<[0-9a-f]+>\] )?(?:\? )?[A-Za-z_][\w.$]*\+0x")


def is_frame(text: str) -> bool:
    """Tell whether a line is a stack frame, as most lines of a report are: it starts none."""
    return text.startswith(" ") and _FRAME.match(text) is not None


def has_hint(text: str) -> bool:
    """Tell whether a line may start a report."""
    return _HINTED.search(text) is not None


def first_match(text: str) -> tuple[Rule, re.Match[str]] | None:
    """Return the rule whose report a line starts, and its match; None for most lines."""
    if is_frame(text):
        return None
    if _HINTED.search(text) is None or HARMLESS.search(text):
        return None
    for rule in RULES:
        if match := rule.pattern.search(text):
            return rule, match
    return None


_ANCHORED = tuple(rule for rule in RULES if rule.pattern.pattern.startswith("^"))


def anchored_match(text: str) -> tuple[Rule, re.Match[str]] | None:
    """Return the rule of those for the beginning of a text, and its match; None for most."""
    if _HINTED.search(text) is None:
        return None
    for rule in _ANCHORED:
        if match := rule.pattern.search(text):
            return rule, match
    return None


CUT_SHORT = " (report cut short)"
"""Stands in a title for the function that is not known."""


_PARENTHESIS = re.compile(r"\\.|\[\^?\]?[^]]*\]|(\()(?!\?)|\(|(\))")
_UNKNOWN_GROUP = "|unknown fault"


@dataclass(frozen=True, slots=True)
class Titled:
    """The parts of a title: the rule that gave it, and the guilty function if it names one."""

    rule: Rule
    function: str | None


def _groups(pattern: str) -> list[str]:
    """Return the groups of a rule's pattern, as patterns without groups."""
    groups: list[str] = []
    opened: list[int | None] = []
    plain = ""
    at = 0
    for match in _PARENTHESIS.finditer(pattern):
        plain += pattern[at : match.start()]
        at = match.end()
        if match[2]:
            start = opened.pop()
            if start is not None:
                groups[start] = plain[len(groups[start]) :]
            plain += ")"
        elif match[1]:
            plain += "(?:"
            opened.append(len(groups))
            groups.append(plain)
        else:
            plain += match[0]
            if match[0] == "(":
                opened.append(None)
    return groups


def _title_pattern(rule: Rule) -> re.Pattern[str]:
    groups = _groups(rule.pattern.pattern)
    pattern = re.escape(rule.title).replace(re.escape("{access}"), "(?:Read|Write|access)")
    for index, group in enumerate(groups):
        place = re.escape(f"{{{index}}}")
        pattern = pattern.replace(place, f"(?:{group}{_UNKNOWN_GROUP})")
    named = r"\ in\ (?P<function>[\w.$:]+(?: / [\w.$:]+)?)"
    where = re.escape(" in {function}")
    return re.compile(pattern.replace(where, f"(?:{named}|{re.escape(CUT_SHORT)})"))


# Of rules with the same titles the last one is the general one.
_TITLES = {_title_pattern(rule): rule for rule in RULES}


def read_title(title: str) -> Titled | None:
    """Return the parts of a title, by the first rule that may give it; None if no rule does."""
    for pattern, rule in _TITLES.items():
        if match := pattern.fullmatch(title):
            return Titled(rule, match.groupdict().get("function"))
    return None
