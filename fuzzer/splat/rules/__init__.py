# SPDX-License-Identifier: Apache-2.0
"""Every kind of report, as data. The first rule that matches a line is the one."""

from __future__ import annotations

from fuzzer.splat.rules import ends, faults, hangs, locking, sanitizers, warnings
from fuzzer.splat.rules.harmless import HARMLESS, OWN_STACK
from fuzzer.splat.rules.rule import Family, Rule

__all__ = ["HARMLESS", "HINTS", "OWN_STACK", "RULES", "Family", "Rule", "first_match"]

import re

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
    *warnings.DAMAGE,
)


def _shortest(hints: set[str]) -> tuple[str, ...]:
    """Leave out hints that contain another one."""
    return tuple(sorted(h for h in hints if not any(o != h and o in h for o in hints)))


HINTS = _shortest({rule.hint for rule in RULES})
"""A line without one of these starts no report."""

_HINTED = re.compile("|".join(map(re.escape, HINTS)))


def first_match(text: str) -> tuple[Rule, re.Match[str]] | None:
    """Return the rule whose report a line starts, and its match; None for most lines."""
    if text.startswith(" ") and "+0x" in text:
        # A stack frame: most lines of a report are.
        return None
    if _HINTED.search(text) is None or HARMLESS.search(text):
        return None
    for rule in RULES:
        if match := rule.pattern.search(text):
            return rule, match
    return None
