# SPDX-License-Identifier: Apache-2.0
"""Which crashes are one bug, and which of them is the one to keep."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from fuzzer.splat.analyse import find_records
from fuzzer.splat.signature import signature_of

if TYPE_CHECKING:
    from fuzzer.crash.store import Crash

# What says most of a bug: a checker that caught the access itself, then one that found
# the damage; a fault is what is left where nobody looked.
_TELLING = {"kasan": 2, "kfence": 2, "kmsan": 2, "fault": 0, "oops": 0}


def report_signature(title: str, report: str) -> str:
    """Return the signature of a crash by its report; of silence, and of fragments, the title's."""
    for record in find_records(report.splitlines()):
        if record.title == title:
            return signature_of(record)
    return f"title: {title}"


def same_bugs(crashes: Sequence[Crash]) -> list[int | None]:
    """Return for each crash the index of the first one before it of the same bug and target."""
    first: dict[tuple[str, str], int] = {}
    same: list[int | None] = []
    for index, crash in enumerate(crashes):
        known = first.setdefault((crash.identity.target, crash.signature), index)
        same.append(known if known != index else None)
    return same


def count_bugs(crashes: Iterable[Crash]) -> int:
    """Return of how many distinct bugs crashes are."""
    return same_bugs(list(crashes)).count(None)


def _tells_more(new: Crash, known: Crash) -> bool:
    if _TELLING.get(new.kind, 1) <= _TELLING.get(known.kind, 1):
        return False
    # But not at the price of a program that shows it less often, or was tried less.
    return new.runs >= known.runs and new.reproduced * known.runs >= known.reproduced * new.runs


def merged(known: Crash, new: Crash) -> Crash:
    """Return the crash to keep of two of the same bug, with the titles of both.

    ``known`` was shown to reproduce. It stays as it is, but for a report that
    tells more: KASAN's is better than a page fault, and one from the kernel that
    judges better than one from another.
    """
    judged = known.unseen_on and not new.unseen_on and 0 < new.reproduced == new.runs
    kept = new if judged or _tells_more(new, known) else known
    titles = {known.title, new.title, *known.also_titles, *new.also_titles} - {kept.title}
    return replace(
        kept,
        also_titles=tuple(sorted(titles)),
        sighted_as=tuple(sorted({*known.sighted_as, *new.sighted_as})),
        sightings=max(known.sightings, new.sightings),
        # The bug is the same, however the better report came about.
        signature=known.signature,
    )
