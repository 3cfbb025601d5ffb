# SPDX-License-Identifier: Apache-2.0
"""Keeping one crash for each bug, whatever titles it has."""

from __future__ import annotations

from dataclasses import replace

from fuzzer.crash.bug import merged
from fuzzer.crash.store import Crash, CrashStore
from fuzzer.target.target import Target


def keep(store: CrashStore, crash: Crash, target: Target, *, seen_as: str) -> Crash | None:
    """Store a judged crash, or put it with the one of its bug that was shown to reproduce.

    ``seen_as`` is the title under which it may have been stored before it was judged.
    Returns the crash whose program is new in the store, None if there is none.

    Raises:
        OSError: the disk is full; what was stored before is intact.
    """
    known = store.get(crash.title)
    if known and not known.reproduced:
        titles = tuple(sorted({*known.sighted_as, *crash.sighted_as}))
        crash = replace(crash, sightings=known.sightings, sighted_as=titles)
    bug = known if known and known.reproduced else store.reproduced_bug(crash.signature)
    kept = merged(bug, crash) if bug else crash
    gone = {bug.title, crash.title} if bug and crash.reproduced else set()
    for other in store.all() if kept.reproduced else ():
        # It did not reproduce, but has shown itself to be the same.
        if other.signature == kept.signature and other.runs and not other.reproduced:
            kept = merged(kept, other)
            gone.add(other.title)
    if kept != bug:
        store.put(kept, target)
    unjudged = store.get(seen_as)
    if unjudged and not unjudged.runs:
        gone.add(seen_as)
    for title in gone - {kept.title}:
        store.remove(title)
    return kept if bug is None or kept.title != bug.title else None
