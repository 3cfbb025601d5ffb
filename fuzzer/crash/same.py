# SPDX-License-Identifier: Apache-2.0
"""Whether two splats are the same bug, however differently the kernel put it.

What a stray access runs into is a matter of what lies there: KASAN's report, a
page fault or a general protection fault at the same place is one bug.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from fuzzer.splat.find import Splat
from fuzzer.splat.silence import Silence

_FAMILIES = {
    "kasan": "memory",
    "kfence": "memory",
    "fault": "memory",
    "atomic": "sleep",
    "atomic-sleep": "sleep",
}
_SILENT = frozenset({"hang", "reboot"})
# What makes no guest silent: a call that does not return has another reason.
_HARMLESS = frozenset({"warning", "ubsan", "atomic-sleep", "kcsan", "leak"})
# After these the kernel goes on without one of its threads, if it does, and anything may follow.
_FATAL = frozenset({"fault", "oops", "panic", "reboot", "lost", "cfi"})
# lockdep and WARN_ON_ONCE() have nothing more to say after their first report.
_ONCE = frozenset({"lockdep", "warning"})
# The number that the kernel counts its oopses by.
_OOPS = re.compile(r"\[#\d+\]")
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
    fell silent or started anew may have met anything.
    """
    if seen.title == Silence.HELD.value:
        return shown.title == seen.title
    if seen.function is None:
        silent = seen.kind in _SILENT and shown.kind not in _HARMLESS
        return silent or family(seen.kind) == family(shown.kind)
    if family(seen.kind) != family(shown.kind):
        return False
    return (
        same_bug(seen, shown)
        or _is_in(seen.function, shown.text)
        or _is_in(shown.function, seen.text)
    )


@dataclass(frozen=True, slots=True)
class Wanted:
    """The bug that is waited for: as it was seen, and how it is known again."""

    bug: Splat
    is_shown: Callable[[Splat, Splat], bool] = same_bug

    def __call__(self, shown: Splat) -> bool:
        """Whether a splat is of that bug."""
        return self.is_shown(self.bug, shown)


def titled(title: str) -> Wanted:
    """Return what is known again by its title."""
    return Wanted(Splat(title, "", None, False, ""), lambda a, b: a.title == b.title)


def leaves_usable(splat: Splat) -> bool:
    """Whether a kernel goes on after a report as if there was none.

    What it reports later is no consequence then. A kernel that killed one of its own
    threads does not: what that one had locked, or half done, stays so.
    """
    return splat.kind not in _FATAL and _OOPS.search(splat.text) is None


def keeps_looking(splat: Splat) -> bool:
    """Whether a kernel can report another bug of a kind after this one: many do so once only."""
    return leaves_usable(splat) and splat.kind not in _ONCE


def _is_in(function: str | None, report: str) -> bool:
    return function is not None and bool(
        re.search(rf"\b{re.escape(function)}(?:\.[\w.]+)?\+0x", report)
    )
