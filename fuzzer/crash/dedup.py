# SPDX-License-Identifier: Apache-2.0
"""Deduplication: one relation tells which reports are of one bug; of each one crash is kept.

``fuzzer.splat.signature`` has the signatures that the relation compares.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

from fuzzer.crash.crash import Crash, numbered_title
from fuzzer.crash.store import CrashStore
from fuzzer.errors import BadInputError
from fuzzer.splat import signature
from fuzzer.splat.aftermath import damages_memory, is_aftermath
from fuzzer.splat.find import bare_splat, splat_titled
from fuzzer.splat.rules import Family
from fuzzer.splat.signature import Signature, first_of_each, signature_of
from fuzzer.splat.silence import Silence
from fuzzer.splat.splat import Splat
from fuzzer.target.target import Target

_SILENT = frozenset({"hang", "reboot"})
# Kinds of reports that never make a guest silent.
_HARMLESS = frozenset({"warning", "ubsan", "atomic-sleep", "kcsan", "leak", "infoleak"})
# Ranks of kinds of reports by how much they tell: the highest have checkers that catch the wrong
# access itself, the lowest have faults, which are only its consequence.
_TELLING = {"kasan": 2, "kfence": 2, "kmsan": 2, "fault": 0, "oops": 0}


def same_bug(a: Splat, b: Splat) -> bool:
    """Tell whether two splats are of one bug."""
    return signature.same_bug(signature_of(a), signature_of(b))


def same_report(a: Splat, b: Splat) -> bool:
    """Tell whether two splats are of one bug and name the same function.

    A freed object may be used in several functions; a smaller reproducer should still show
    the crash of the title.
    """
    return same_bug(a, b) and (a.function == b.function or a.family is Family.RACE)


def akin(seen: Splat, shown: Splat) -> bool:
    """Tell whether ``shown`` may be the report of another kernel flavour for what was ``seen``.

    Flavours inline differently, so the guilty function of one only has to be in the stack of
    the other. A report that was cut short names no function, and a guest that fell silent or
    restarted may have had any bug.
    """
    if seen.title == Silence.HELD.value:
        return shown.title == seen.title
    if same_bug(seen, shown):
        return True
    if signature_of(seen).call and signature_of(shown).call:
        return False
    if seen.function is None and seen.kind in _SILENT and shown.kind not in _HARMLESS:
        return True
    if seen.family is not shown.family:
        return False
    return (
        seen.function is None
        or seen.function == shown.function
        or _is_in(seen.function, shown.text)
        or _is_in(shown.function, seen.text)
    )


def _is_in(function: str | None, report: str) -> bool:
    return function is not None and bool(
        re.search(rf"\b{re.escape(function)}(?:\.[\w.]+)?\+0x", report)
    )


@dataclass(frozen=True, slots=True)
class Wanted:
    """The bug that is waited for: its splat, and the relation by which it is recognised."""

    bug: Splat
    is_shown: Callable[[Splat, Splat], bool] = same_bug

    def __call__(self, shown: Splat) -> bool:
        """Tell whether a splat is of the wanted bug."""
        return self.is_shown(self.bug, shown)


def titled(title: str) -> Wanted:
    """Return a wanted bug that is recognised by its title."""
    return Wanted(bare_splat(title, ""), lambda a, b: a.title == b.title)


def unknown_to(store: CrashStore) -> Wanted:
    """Return a wanted bug that stands for any not yet stored as one that reproduces."""
    return Wanted(bare_splat("", ""), lambda _, shown: not is_known(store, shown))


@dataclass(frozen=True, slots=True)
class _DistinctBug:
    """The bug of a crash: the signatures of its report and of its other titles.

    Reading a report takes milliseconds, and stores of hundreds are compared pair by pair.
    """

    crash: Crash
    signature: Signature
    others: tuple[Signature, ...]

    def has(self, known: Signature) -> bool:
        """Tell whether it is the bug with a signature; see :func:`is_of`."""
        if known.title in self.crash.linked:
            return True
        if signature.decided(self.signature, known) is False:
            return False
        return any(signature.same_bug(each, known) for each in (self.signature, *self.others))

    def is_same(self, other: _DistinctBug) -> bool:
        """Tell whether it is the other bug, of the same target."""
        if self.crash.identity.target != other.crash.identity.target:
            return False
        return self.has(other.signature) or other.has(self.signature)


def _bug_of(crash: Crash) -> _DistinctBug:
    others = (signature_of(splat_titled(title)) for title in crash.also_titles)
    return _DistinctBug(crash, crash.signature, tuple(others))


def is_of(crash: Crash, known: Signature) -> bool:
    """Tell whether a crash is of the bug with a signature.

    Other titles of the crash count unless its report shows that it is another bug; linked ones
    do in any case.
    """
    return _bug_of(crash).has(known)


def is_same(a: Crash, b: Crash) -> bool:
    """Tell whether two crashes are of one bug of one target."""
    return a.identity.target == b.identity.target and _bug_of(a).is_same(_bug_of(b))


def is_known(store: CrashStore, splat: Splat) -> bool:
    """Tell whether a splat is of a bug that is stored as one that reproduces."""
    known = signature_of(splat)
    return any(crash.reproduced and is_of(crash, known) for crash in store.all())


def sighted(crashes: Iterable[Crash], title: str, seen: Splat) -> Crash | None:
    """Return the crash sighted before under a title, unless ``seen`` is of another bug."""
    known = signature_of(seen)
    for crash in crashes:
        if title not in crash.sighted_as:
            continue
        is_other = signature.decided(crash.signature, known) is False
        if known.title in crash.linked or not is_other:
            return crash
    return None


def same_bugs(crashes: Sequence[Crash]) -> list[int | None]:
    """Return for each crash the index of the first one before it of the same bug and target."""
    return first_of_each(list(map(_bug_of, crashes)), _DistinctBug.is_same)


def likely_causes(crashes: Sequence[Crash]) -> list[int | None]:
    """Return for each crash the index of the one that it is likely a consequence of, or None.

    Such a crash is one in the kernel's own code after a driver has damaged memory.
    """
    splats = [crash.splat for crash in crashes]
    damaging = [index for index, splat in enumerate(splats) if damages_memory(splat)]

    def cause_of(crash: Crash, splat: Splat) -> int | None:
        own = (each for each in damaging if crashes[each].identity.target == crash.identity.target)
        return next(own, None) if is_aftermath(splat) else None

    return list(map(cause_of, crashes, splats))


def count_bugs(crashes: Iterable[Crash]) -> int:
    """Return the number of distinct bugs among crashes, without likely consequences of others."""
    found = list(crashes)
    pairs = zip(same_bugs(found), likely_causes(found), strict=True)
    return sum(same is None and cause is None for same, cause in pairs)


def _tells_more(new: Crash, known: Crash) -> bool:
    if _TELLING.get(new.kind, 1) <= _TELLING.get(known.kind, 1):
        return False
    # A more telling report is not worth a program that shows it less often, or was tried less.
    return new.runs >= known.runs and new.reproduced * known.runs >= known.reproduced * new.runs


def _merged(known: Crash, new: Crash) -> Crash:
    """Return the crash to keep of two of the same bug, with the titles of both.

    ``known`` was shown to reproduce. It is kept unless the other report tells more: one by
    KASAN is better than a page fault, and one of the judging kernel better than one of
    another kernel.
    """
    judged = known.unseen_on and not new.unseen_on and 0 < new.reproduced == new.runs
    kept = new if judged or _tells_more(new, known) else known
    titles = {known.report_title, new.report_title, *known.also_titles, *new.also_titles}
    linked = {*known.linked, *new.linked}
    return replace(
        kept,
        also_titles=tuple(sorted(titles - {kept.report_title})),
        linked=tuple(sorted(linked - {kept.report_title})),
        sighted_as=tuple(sorted({*known.sighted_as, *new.sighted_as})),
        sightings=max(known.sightings, new.sightings),
    )


def link(store: CrashStore, kept: Crash, other: Crash, target: Target) -> None:
    """Store two crashes as one, of which the same programs show another report on each kernel.

    Raises:
        OSError: the disk is full; what was stored before is intact.
    """
    titles = {other.report_title, *other.also_titles, *kept.also_titles} - {kept.report_title}
    merged = replace(
        kept,
        also_titles=tuple(sorted(titles)),
        linked=tuple(sorted({*kept.linked, *other.linked, other.report_title})),
        sighted_as=tuple(sorted({*kept.sighted_as, *other.sighted_as})),
        sightings=max(kept.sightings, other.sightings),
    )
    store.put(merged, target)
    store.remove(other.title)


def absorb(
    store: CrashStore, crash: Crash, target: Target, *, seen_as: str = "", tried: str = ""
) -> Crash | None:
    """Store a judged crash, or merge it with a stored one of its bug that reproduces.

    ``seen_as`` is the title under which it may have been stored before it was judged,
    ``tried`` the one under which it is stored as not reproduced. Returns the crash whose
    program is new in the store, None if there is none.

    Raises:
        OSError: the disk is full; what was stored before is intact.
    """
    stored = {each.title: each for each in store.all()}
    bug = next((each for each in stored.values() if each.reproduced and is_same(each, crash)), None)
    crash = replace(crash, title=_title_for(crash, bug, stored))
    known = stored.get(crash.title)
    if known and not known.reproduced:
        titles = tuple(sorted({*known.sighted_as, *crash.sighted_as}))
        sightings = max(known.sightings, crash.sightings)
        crash = replace(crash, sightings=sightings, sighted_as=titles)
    kept = _merged(bug, crash) if bug else crash
    gone = {tried} & stored.keys()
    if seen_as in stored and not stored[seen_as].runs:
        gone.add(seen_as)
    if bug and crash.reproduced:
        gone |= {bug.title, crash.title}
    for other in stored.values() if kept.reproduced else ():
        # A crash that did not reproduce is now known to be of the same bug.
        if other.runs and not other.reproduced and is_same(other, kept):
            kept = _merged(kept, other)
            gone.add(other.title)
    if kept != bug:
        store.put(kept, target)
    for title in gone - {kept.title}:
        store.remove(title)
    return kept if bug is None or kept.title != bug.title else None


def _title_for(crash: Crash, bug: Crash | None, stored: dict[str, Crash]) -> str:
    """Return the title for storing a crash, numbered if another bug has the title already."""

    def is_free(title: str) -> bool:
        known = stored.get(title)
        return known is None or known == bug or not known.runs or is_same(known, crash)

    titles = (numbered_title(crash.report_title, number) for number in count(1))
    return next(filter(is_free, titles))


class KnownCrashes:
    """Stored crashes of several stores, by which new crashes of their bugs are recognised."""

    def __init__(self) -> None:
        self._entries: list[tuple[Path, _DistinctBug]] = []

    def add(self, store: CrashStore) -> None:
        """Add the crashes that a store holds now.

        Raises:
            BadInputError: there is no such directory, or a crash in it is damaged.
        """
        if not store.directory.is_dir():
            raise BadInputError(
                f"{store.directory}: no such directory. Give one that holds crashes, such as "
                "crashes/ or WORKDIR/crashes"
            )
        self._entries += [(path, _bug_of(crash)) for path, crash in store.entries()]

    def find(self, crash: Crash) -> Path | None:
        """Return the directory of a stored crash of the same bug, None if the bug is new."""
        if not self._entries:
            return None
        bug = _bug_of(crash)
        return next((path for path, known in self._entries if known.is_same(bug)), None)

    def new_of(self, crashes: Iterable[Crash]) -> list[Crash]:
        """Return the crashes whose bugs are new."""
        return [crash for crash in crashes if self.find(crash) is None]
