# SPDX-License-Identifier: Apache-2.0
"""Whether two splats are the same bug, however differently the kernel put it.

What a stray access runs into is a matter of what lies there: KASAN's report, a
page fault or a general protection fault at the same place is one bug.
"""

from __future__ import annotations

import re

from fuzzer.splat.find import Splat

_FAMILIES = {
    "kasan": "memory",
    "kfence": "memory",
    "fault": "memory",
    "atomic": "sleep",
    "atomic-sleep": "sleep",
}
_SILENT = "hang"
_RACE = "kcsan"


def family(kind: str) -> str:
    """Return the family of a splat's kind: kinds that one bug may show as."""
    return _FAMILIES.get(kind, kind)


def same_bug(a: Splat, b: Splat) -> bool:
    """Whether two splats have one family and one guilty function.

    Where neither names a function, their titles must be the same. A data race
    has two functions, either of which may be named.
    """
    if a.kind == b.kind == _RACE:
        named = _is_in(a.function, b.text) or _is_in(b.function, a.text)
        return named or a.title == b.title
    if family(a.kind) != family(b.kind):
        return False
    if a.function is None and b.function is None:
        return a.title == b.title
    return a.function == b.function


def akin(seen: Splat, shown: Splat) -> bool:
    """Whether ``shown`` may be how another kernel flavour reports what was ``seen``.

    Flavours inline differently, so the guilty function of one need only be in
    the other's stack. A report that was cut short names none, and a guest that
    fell silent may have met anything.
    """
    if seen.function is None:
        return seen.kind == _SILENT or family(seen.kind) == family(shown.kind)
    if family(seen.kind) != family(shown.kind):
        return False
    return (
        same_bug(seen, shown)
        or _is_in(seen.function, shown.text)
        or _is_in(shown.function, seen.text)
    )


def _is_in(function: str | None, report: str) -> bool:
    return function is not None and bool(
        re.search(rf"\b{re.escape(function)}(?:\.[\w.]+)?\+0x", report)
    )
