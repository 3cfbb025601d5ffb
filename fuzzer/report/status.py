# SPDX-License-Identifier: Apache-2.0
"""The terminal's view of a campaign: a line that lives, and a summary."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TextIO

from fuzzer.campaign.outlook import Remark
from fuzzer.campaign.snapshot import Snapshot
from fuzzer.crash.crash import Crash
from fuzzer.crash.dedup import KnownCrashes, count_bugs, likely_causes
from fuzzer.crash.meaning import meaning_of
from fuzzer.crash.store import CrashStore
from fuzzer.engine.aside import SLOW
from fuzzer.progress import LiveLine, clock
from fuzzer.wording import count

_AFTERMATH = (
    "it is in the kernel's own code, that bug damages memory, and nothing in it names the driver"
)
# Stands for the runs of a crash that none of them showed.
_UNSHOWN = -1
# A call that takes as long is said to.
_SLOW_CALL_US = 50_000


def _share(part: int, whole: int) -> str:
    return f"{part}/{whole} blocks ({part / whole:.0%})" if whole else "no blocks"


def _speed(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 10 or not rate else f"{rate:.1f}"


def status_line(snapshot: Snapshot, rate: float, calls: float) -> str:
    """Return one line on the state of a campaign; ``rate`` and ``calls`` per second."""
    counts = snapshot.counts
    parts = [
        clock(snapshot.elapsed),
        f"{_speed(rate)} programs/s ({_speed(calls)} calls/s)",
        _share(snapshot.covered, snapshot.blocks),
        f"corpus {snapshot.corpus}",
        f"crashes {len(snapshot.crashes)} ({counts.splats} seen)",
    ]
    if snapshot.replaced:
        parts.append(f"replaced {snapshot.replaced}")
    if counts.lost:
        parts.append(f"machines lost {counts.lost}")
    parts += [f"[finding out what leads to {title}]" for title in snapshot.aside.studied]
    if snapshot.judge not in {"", "ready"}:
        parts.append(f"[{snapshot.judge}]")
    return "  ".join(parts)


def start_line(snapshot: Snapshot) -> str:
    """Return one line on a campaign that has not run all programs to start from yet."""
    counts = snapshot.counts
    text = "starting"
    if snapshot.started:
        # libFuzzer begins with an empty one.
        ran = max(0, counts.programs - 1)
        text = f"{clock(snapshot.elapsed)}  starting: {ran} of {snapshot.seeds} seeds have run"
        if counts.call_us > _SLOW_CALL_US:
            text += f"; a call takes {counts.call_us / 1e6:.2g} s"
        text += f"  crashes {len(snapshot.crashes)} ({counts.splats} seen)"
    if snapshot.judge not in {"", "ready", "starting"}:
        text += f"  [{snapshot.judge}]"
    return text


class StatusView:
    """Shows snapshots as they come, and each crash once when it is stored.

    ``known`` are crashes that were stored before.
    """

    def __init__(
        self, store: CrashStore, stream: TextIO | None = None, known: KnownCrashes | None = None
    ) -> None:
        self._store = store
        self._known = known or KnownCrashes()
        self._line = LiveLine(stream, at_once=True)
        self._announced: dict[str, int] = {}
        self._remarked: set[str] = set()
        self._set_aside: set[str] = set()
        self._last: tuple[float, int, int] | None = None
        self._rates = (0.0, 0.0)

    def show(self, snapshot: Snapshot) -> None:
        """Update the line; at most twice a second."""
        for crash, cause in _with_causes(snapshot):
            self._announce(crash, cause)
        for remark in snapshot.remarks:
            self._remark(remark)
        for title, sightings in snapshot.aside.sightings.items():
            self._announce_aside(title, sightings)
        if not self._line.is_due():
            return
        now = time.monotonic()
        counts = snapshot.counts
        if self._last and now > self._last[0]:
            gone = now - self._last[0]
            self._rates = (
                (counts.programs - self._last[1]) / gone,
                (counts.calls - self._last[2]) / gone,
            )
        self._last = (now, counts.programs, counts.calls)
        if snapshot.finishing:
            text = f"fuzzing is over; verifying on the full kernel [{snapshot.judge}]"
            text += "  (Ctrl-C ends it and keeps what was found)"
        elif not counts.fuzzing:
            text = start_line(snapshot)
        else:
            text = status_line(snapshot, *self._rates)
        self._line.show(text)

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
        self._line.say(f"crash: {crash.title} ({crash.verdict()}) in {path}{known}")

    def _remark(self, remark: Remark) -> None:
        """Say what is wrong with the campaign, each thing once."""
        if remark.about in self._remarked:
            return
        self._remarked.add(remark.about)
        self._line.say(f"note: {remark.text}")

    def _announce_aside(self, title: str, sightings: int) -> None:
        if title in self._set_aside:
            return
        self._set_aside.add(title)
        self._line.say(
            f"set aside: {aside_text(title, sightings)}; what leads there is now tried rarely"
        )

    def clear(self) -> None:
        """Remove the line, so that something else can be printed."""
        self._line.clear()


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
            f"{_share(snapshot.covered, snapshot.blocks)} covered of all instrumented ones, "
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
