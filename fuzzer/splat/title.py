# SPDX-License-Identifier: Apache-2.0
"""Titles, in the form that the kernel community knows from syzbot."""

from __future__ import annotations

import re
from collections.abc import Sequence

from fuzzer.splat.rules import CUT_SHORT, Rule

_ACCESS = re.compile(r"^(Read|Write) (?:of size|at addr) ")
# What differs from run to run.
_ADDRESS = re.compile(r"\b(?:0x)?[0-9a-f]{8,}\b|\(____ptrval____\)")

# The function by which KASAN is made to check a page that a program has mapped, which no function
# of the driver does (vm/executor/freed.c).
_LOOKS = "write_mem"


def make_title(rule: Rule, match: re.Match[str], texts: Sequence[str], function: str | None) -> str:
    """Return the title of a report; ``function`` is None when it is not known."""
    access = "access"
    for text in texts[:6]:
        if found := _ACCESS.match(text):
            access = found[1]
    title = rule.title
    if function == _LOOKS and rule.kind == "kasan":
        title = "KASAN: {0} of a mapped page"
    if function is None:
        title = title.replace(" in {function}", CUT_SHORT)
    groups = [_ADDRESS.sub("ADDR", group or "unknown fault") for group in match.groups()]
    return " ".join(title.format(*groups, access=access, function=function).split())
