# SPDX-License-Identifier: Apache-2.0
"""Messages of a campaign while it runs, and its summary."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from fuzzer.campaign.outlook import Remark
from fuzzer.campaign.snapshot import Snapshot
from fuzzer.crash.crash import Crash
from fuzzer.crash.dedup import KnownCrashes, count_bugs, likely_causes
from fuzzer.crash.meaning import meaning_of
from fuzzer.crash.store import CrashStore
from fuzzer.engine.aside import SLOW, SetAside, read_put_back, write_put_back
from fuzzer.errors import BadInputError
from fuzzer.progress import clock
from fuzzer.report.display import Display, Said, choose_display
from fuzzer.report.figures import share_text
from fuzzer.report.keys import PUT_BACK_KEY
from fuzzer.state.document import Glance
from fuzzer.state.reader import StateReader
from fuzzer.wording import count

_AFTERMATH = (
    "it is in the kernel's own code, that bug damages memory, and nothing in it names the driver"
)
# Stands for the runs of a crash that none of them showed.
_UNSHOWN = -1


class StatusView:
    """Shows snapshots as they come, and each crash once when it is stored.

    The present is read from the state document beside the ``store``. ``known`` are crashes that
    were stored before.
    """

    def __init__(
        self, store: CrashStore, display: Display | None = None, known: KnownCrashes | None = None
    ) -> None:
        self._store = store
        self._known = known or KnownCrashes()
        self._display = display or choose_display()
        self._announced: dict[str, int] = {}
        self._remarked: set[str] = set()
        self._set_aside: set[str] = set()
        self._crashes: tuple[Crash, ...] | None = None
        self._reader: StateReader | None = None

    def show(self, snapshot: Snapshot) -> None:
        """Say what is new, and show the present if it is time to."""
        if snapshot.crashes is not self._crashes:
            self._crashes = snapshot.crashes
            for crash, cause in _with_causes(snapshot):
                self._announce(crash, cause)
        for remark in snapshot.remarks:
            self._remark(remark)
        for title, sightings in snapshot.aside.sightings.items():
            self._announce_aside(title, sightings)
        if PUT_BACK_KEY in self._display.pressed() and snapshot.aside.sightings:
            self._put_back(snapshot.aside)
        if self._display.is_due():
            glance = self._glance()
            if glance is not None:
                self._display.show(glance)

    def _glance(self) -> Glance | None:
        """Return the present; None while there is no document, as before the first second."""
        workdir = self._store.directory.parent
        try:
            self._reader = self._reader or StateReader(workdir)
            return self._reader.glance()
        except BadInputError:
            # It is begun anew, or its disk is full.
            self._close()
            return None

    def _close(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.close()

    def _announce(self, crash: Crash, cause: Crash | None) -> None:
        # One that does not reproduce is tried again and again, which is no news.
        runs = crash.runs if crash.reproduced or not crash.runs else _UNSHOWN
        if self._announced.get(crash.title) == runs:
            return
        self._announced[crash.title] = runs
        path = self._store.path(crash.title)
        known = known_text(self._known, crash)
        if cause:
            known += f", likely a consequence of {cause.title}"
        found = self._known.find(crash)
        facts = {
            "title": crash.title,
            "path": str(path),
            "verdict": crash.verdict(),
            "reproduced": crash.reproduced,
            "runs": crash.runs,
            "severity": crash.splat.severity.level.value,
            "known": str(found) if found else None,
            "cause": cause.title if cause else None,
        }
        self._display.say(Said.CRASH, f"{crash.title} ({crash.verdict()}) in {path}{known}", facts)

    def _remark(self, remark: Remark) -> None:
        """Say what is wrong with the campaign, each thing once."""
        if remark.about in self._remarked:
            return
        self._remarked.add(remark.about)
        self._display.say(Said.NOTE, remark.text, {"about": remark.about})

    def _announce_aside(self, title: str, sightings: int) -> None:
        if title in self._set_aside:
            return
        self._set_aside.add(title)
        self._display.say(
            Said.ASIDE,
            f"{aside_text(title, sightings)}; what leads there is now tried rarely",
            {"title": title, "sightings": sightings},
        )

    def _put_back(self, aside: SetAside) -> None:
        """Let workers put back all bugs that are set aside."""
        before = read_put_back(self._store.directory.parent)
        titles = tuple(dict.fromkeys([*before.titles, *aside.sightings]))
        try:
            write_put_back(self._store.directory.parent, replace(before, titles=titles))
        except OSError as error:
            self._display.say(Said.NOTE, f"nothing was put back: {error.strerror}", {})
            return
        for title in aside.sightings:
            if title not in before.titles:
                text = f"{title}; what leads there is tried as often as anything else"
                self._display.say(Said.BACK, text, {"title": title})

    def clear(self) -> None:
        """Take away what is live, so that something else can be printed."""
        self._display.clear()

    def close(self) -> None:
        """Take away what is live, and close the document."""
        self.clear()
        self._close()


def aside_text(title: str, sightings: int) -> str:
    """Return what is set aside, and how often it was seen."""
    return f"{title}, {count(sightings, 'program' if title == SLOW else 'sighting')}"


def known_text(known: KnownCrashes, crash: Crash) -> str:
    """Return where a crash was stored before this run, behind a comma; nothing for a new one."""
    path = known.find(crash)
    if path is None:
        return ""
    here = Path.cwd()
    absolute = path.resolve()
    return f", known: {absolute.relative_to(here) if absolute.is_relative_to(here) else path}"


def _with_causes(snapshot: Snapshot) -> list[tuple[Crash, Crash | None]]:
    """Return each crash with the one that it is likely a consequence of, None if it is not."""
    crashes = snapshot.crashes
    causes = likely_causes(crashes)
    return [
        (crash, None if cause is None else crashes[cause])
        for crash, cause in zip(crashes, causes, strict=True)
    ]


def remark_lines(snapshot: Snapshot) -> list[str]:
    """Return what the campaign could not do, a line each."""
    return [f"note: {remark.text}" for remark in snapshot.remarks]


def is_judged(snapshot: Snapshot) -> bool:
    """Tell whether the kernel that judges has run, and nothing waits for it."""
    return snapshot.looked.ready and not snapshot.waiting


def _not_done(snapshot: Snapshot) -> list[str]:
    """Return what a campaign that is over has not done, in a line each."""
    looked, flavour = snapshot.looked, snapshot.judged_on
    lines = []
    if snapshot.waiting:
        wait = "sighting waits" if snapshot.waiting == 1 else "sightings wait"
        lines.append(f"{snapshot.waiting} {wait} for the judge: run the same command again")
    if not looked.ready:
        lines.append(f"the {flavour} kernel was not ready before the end: nothing was run on it")
        if snapshot.only_there:
            only = snapshot.judged_on.spec.only_here.values()
            lines.append(f"    so these were not looked for: {', '.join(only)}")
        return lines
    if looked.unrun:
        programs = count(looked.unrun, "program")
        lines.append(f"{programs} of the corpus not run on the {flavour} kernel")
    if looked.missing:
        lines.append(f"not done on the {flavour} kernel: {', '.join(looked.missing)}")
    return lines


def summary(snapshot: Snapshot, store: Path, known: KnownCrashes) -> str:
    """Return what a campaign came to, in a few lines."""
    counts, elapsed = snapshot.counts, snapshot.elapsed
    rate = counts.programs / elapsed if elapsed else 0.0
    lines = [
        (
            f"{clock(elapsed)} of fuzzing: {counts.programs:,} programs, {counts.calls:,} calls, "
            f"{rate:,.0f} programs/s"
        ),
        (
            f"{share_text(snapshot.covered, snapshot.blocks)} covered of all instrumented ones, "
            f"{snapshot.corpus} programs in the corpus, {counts.flaky} kept out because what "
            "they covered did not repeat"
        ),
        (
            f"{count(counts.restores, 'restore')}, {count(counts.lost, 'machine')} lost, "
            f"{snapshot.replaced} processes replaced, {count(counts.timeouts, 'call')} timed out"
        ),
    ]
    lines += [f"set aside: {aside_text(*each)}" for each in snapshot.aside.sightings.items()]
    if not snapshot.crashes:
        lines.append("no crash" if is_judged(snapshot) else "nothing seen, and nothing judged")
    else:
        new = len(known.new_of(snapshot.crashes))
        bugs = count(count_bugs(snapshot.crashes), "bug")
        crashes = f"{len(snapshot.crashes)} crash{'es' * (len(snapshot.crashes) != 1)}"
        lines.append(f"{bugs} in {crashes}, {new} of them new")
    for crash, cause in _with_causes(snapshot):
        where = CrashStore(store).path(crash.title)
        seen = f"{count(crash.sightings, 'sighting')}{known_text(known, crash)}"
        lines.append(f"{crash.title}: {crash.verdict()}, {seen}")
        lines += [f"    also seen as {title}" for title in crash.also_titles]
        if cause:
            lines.append(f"    likely a consequence of {cause.title}: {_AFTERMATH}")
        if meaning := meaning_of(crash.report, (*crash.history, crash.program)):
            lines.append(f"    {meaning}")
        lines.append(f"    pkvfuzz replay {where}")
    lines += _not_done(snapshot)
    return "\n".join(lines)


def end_facts(
    snapshot: Snapshot, known: KnownCrashes, learned: Path | None = None
) -> dict[str, object]:
    """Return what a campaign came to as a JSON object; counts are of its last run.

    ``learned`` is the file with what was learned of the device, if there is one.
    """
    counts = snapshot.counts
    return {
        "seconds": round(snapshot.elapsed, 1),
        "programs": counts.programs,
        "calls": counts.calls,
        "covered": snapshot.covered,
        "blocks": snapshot.blocks,
        "corpus": snapshot.corpus,
        "judged": is_judged(snapshot),
        "waiting": snapshot.waiting,
        "bugs": count_bugs(snapshot.crashes),
        "crashes": [
            {
                "title": crash.title,
                "verdict": crash.verdict(),
                "severity": crash.splat.severity.level.value,
                "reproduced": crash.reproduced,
                "runs": crash.runs,
                "known": known.find(crash) is not None,
            }
            for crash in snapshot.crashes
        ],
        "notes": [remark.text for remark in snapshot.remarks],
        "learned": str(learned) if learned else None,
    }
