# SPDX-License-Identifier: Apache-2.0
"""A smoke run: stored reproducers, the corpus and fuzzing, in a given time, with a verdict.

Each part stops when its time is over; whatever hangs is cut off at the end, and the verdict
is made of what there is then.
"""

from __future__ import annotations

import contextlib
import datetime
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from fuzzer.campaign.campaign import Campaign, CampaignOptions
from fuzzer.campaign.snapshot import Snapshot
from fuzzer.campaign.subject import Subject
from fuzzer.campaign.workdir import Workdir
from fuzzer.crash.crash import Crash
from fuzzer.crash.dedup import Wanted, is_same, same_bug
from fuzzer.driver.driver import Driver
from fuzzer.driver.provision import Guest
from fuzzer.engine.leaning import Lean
from fuzzer.errors import InfrastructureError, PkvfuzzError
from fuzzer.flavour import NAMES
from fuzzer.kernel.kernel import Flavour, Kernel
from fuzzer.progress import say
from fuzzer.report.status import StatusView
from fuzzer.smoke.base import Base
from fuzzer.smoke.changed import Changes, OwnFiles
from fuzzer.smoke.known import Accepted, accepted_as
from fuzzer.smoke.verdict import (
    CrashFound,
    CrashPlace,
    Fuzzed,
    Replayed,
    SmokeVerdict,
    Standing,
)
from fuzzer.splat.splat import Splat
from fuzzer.splat.symbols import Symbols

# Shares of the time that stored reproducers may take, and that fuzzing leaves to the judge and
# to trying the base.
_REPLAYS, _JUDGING, _BASE = 0.35, 0.25, 0.12
# Seconds between two attempts to end what does not end by itself.
_AGAIN = 2.0
_MOST_MISSED = 10


class _TimeIsOverError(BaseException):
    """Raised wherever the run is when its time is over."""


@dataclass(frozen=True, slots=True)
class SmokeTask:
    """The task of a smoke run: the driver of a commit on both kernels, and its base.

    ``stored`` are reproducers with their directories, in the order to run them. ``changes`` are
    the changed blocks, toward which fuzzing leans, ``own`` the driver's files. With ``first`` it
    ends once
    a crash counts.
    """

    subject: Subject
    guest: Guest
    judging: Kernel
    workdir: Workdir
    seconds: float
    vms: int
    seed: int
    commit: str = ""
    base: Base | None = None
    stored: Sequence[tuple[Path, Crash]] = ()
    known: tuple[Accepted, ...] = ()
    changes: Changes = field(default_factory=Changes)
    own: OwnFiles = field(default_factory=lambda: OwnFiles(()))
    first: bool = False
    today: datetime.date = field(default_factory=datetime.date.today)


class SmokeRun:
    """A smoke run; what it has found out so far is its verdict at any moment."""

    def __init__(self, task: SmokeTask) -> None:
        self._task = task
        self._begun = time.monotonic()
        self._replayed = [Replayed(crash.title, path) for path, crash in task.stored]
        self._found: list[CrashFound] = []
        self._fuzzed = Fuzzed()
        self._judged = False
        self._interrupted = False
        self._problems: list[str] = []
        self.failure: InfrastructureError | None = None

    def run(self) -> SmokeVerdict:
        """Run all that there is time for, and return the verdict.

        If machines cannot be run, or the disk is full, ``failure`` has the error, and the
        verdict is of what was done before.
        """
        try:
            with _ended_after(self._task.seconds):
                self._replay()
                if not (self._task.first and self.verdict().counted):
                    self._fuzz()
        except InfrastructureError as error:
            self.failure = error
        except _TimeIsOverError:
            self._problems.append("what was running when the time was over was cut off")
        return self.verdict()

    def verdict(self) -> SmokeVerdict:
        """Return the verdict so far."""
        task = self._task
        return SmokeVerdict(
            task.subject.target.name,
            task.commit,
            str(task.base.commit) if task.base else "",
            time.monotonic() - self._begun,
            tuple(self._replayed),
            tuple(self._found),
            self._fuzzed,
            self._judged,
            self._interrupted or self.failure is not None,
            tuple(self._problems),
        )

    @property
    def _left(self) -> float:
        return self._task.seconds - (time.monotonic() - self._begun)

    def _replay(self) -> None:
        """Run the stored reproducers, each until it shows its bug, as often as its rate says."""
        for number, (path, crash) in enumerate(self._task.stored):
            if self._left < (1 - _REPLAYS) * self._task.seconds:
                self._problems.append("stored reproducers were left out for lack of time")
                return
            began = time.monotonic()
            try:
                shown = self._shown(crash)
            except PkvfuzzError as error:
                self._problems.append(f"{path.name}: could not be run: {error}")
                continue
            found = None
            if shown is not None and same_bug(crash.splat, shown):
                found = self._weighed(crash, path, shown)
            seconds = time.monotonic() - began
            title = shown.title if shown else None
            self._replayed[number] = Replayed(crash.title, path, True, title, seconds, found)
            say(f"{crash.title}: {'still crashes' if found else 'does not show'}")

    def _shown(self, crash: Crash) -> Splat | None:
        """Return what a reproducer shows, the crash's own bug if it shows that."""
        setups = self._task.subject.setups(self._kernel_of(crash))
        outcome, _ = setups.observe(crash.kind, Wanted(crash.splat))(crash.history, crash.program)
        return outcome.splat

    def _kernel_of(self, crash: Crash) -> Kernel:
        fuzzed = self._task.guest.kernel
        judged_on = Flavour(crash.judged_on) if crash.judged_on in NAMES else Flavour.FULL
        return fuzzed if judged_on is fuzzed.flavour else self._task.judging

    def _weighed(self, crash: Crash, path: Path, shown: Splat) -> CrashFound:
        """Return a crash that reproduces with what it means for the commit.

        It was ``shown`` by the commit's driver.
        """
        kernel, stack = self._kernel_of(crash), self._stack(crash, shown)
        entry = accepted_as(crash, self._task.known)
        if entry is not None and not entry.has_ended(self._task.today):
            return CrashFound(crash, path, Standing.ACCEPTED, entry.reason, stack)
        ended = f"accepted until {entry.until} only: {entry.reason}" if entry else ""
        if self._task.base is None:
            return CrashFound(crash, path, Standing.NEW, ended, stack)
        standing, reason = self._task.base.standing(crash, kernel)
        reasons = "; ".join(each for each in (ended, reason) if each)
        return CrashFound(crash, path, standing, reasons, stack)

    def _stack(self, crash: Crash, shown: Splat) -> tuple[CrashPlace, ...]:
        driver = self._task.subject.guest(self._kernel_of(crash)).driver
        return _places(shown, driver, self._task.own)

    def _fuzz(self) -> None:
        task = self._task
        reserve = (_JUDGING + (_BASE if task.base else 0.0)) * task.seconds
        over = time.monotonic() + self._left - (_BASE * task.seconds if task.base else 1.0)
        before = {path: path.stat().st_mtime_ns for path in task.workdir.crashes.records()}
        old = {crash.title for crash in task.workdir.crashes.all() if crash.reproduced}

        def is_enough(snapshot: Snapshot) -> bool:
            new = (each for each in snapshot.crashes if each.reproduced and each.title not in old)
            return time.monotonic() > over or (task.first and any(new))

        view = StatusView(task.workdir.crashes)
        campaign = Campaign(
            task.subject,
            task.guest,
            CampaignOptions(
                task.workdir,
                task.vms,
                task.seed,
                max(self._left - reserve, 1.0),
                lean=Lean(frozenset(task.changes.blocks), task.changes.near),
            ),
            view.show,
            until=is_enough,
        )
        try:
            campaign.run()
        finally:
            view.close()
            self._note(campaign, campaign.snapshot())
        self._judge_found(before)

    def _note(self, campaign: Campaign, final: Snapshot) -> None:
        reached = self._task.changes.blocks.keys() & campaign.covered
        missed = [place for block, place in sorted(self._task.changes.blocks.items())
                  if block not in reached]  # fmt: skip
        self._judged = final.looked.ready
        self._interrupted = campaign.interrupted
        self._fuzzed = Fuzzed(
            final.elapsed,
            final.counts.programs,
            final.covered,
            final.blocks,
            len(self._task.changes.blocks),
            len(reached),
            tuple(dict.fromkeys(missed))[:_MOST_MISSED],
        )
        self._problems += [remark.text for remark in final.remarks]

    def _judge_found(self, before: dict[Path, int]) -> None:
        """Weigh the crashes that were stored since, unless a reproducer showed the same."""
        old = [each.found.crash for each in self._replayed if each.found]
        for path, crash in self._task.workdir.crashes.entries():
            record = next((each for each in before if each.parent == path), None)
            if record is not None and record.stat().st_mtime_ns == before[record]:
                continue
            if any(is_same(crash, other) for other in old):
                continue
            if not crash.reproduced:
                standing = Standing.UNREPRODUCED if crash.runs else Standing.UNJUDGED
                self._found.append(CrashFound(crash, path, standing))
                continue
            # Should the time be over meanwhile, it counts.
            stack = self._stack(crash, crash.splat)
            untried = "there was no time to try the base" if self._task.base else ""
            self._found.append(CrashFound(crash, path, Standing.NEW, untried, stack))
            self._found[-1] = self._weighed(crash, path, crash.splat)


@contextlib.contextmanager
def _ended_after(seconds: float) -> Iterator[None]:
    """Raise an error in the block once it has run for so long, again if that is swallowed."""

    def leave(number: int, frame: FrameType | None) -> None:
        raise _TimeIsOverError

    before = signal.signal(signal.SIGALRM, leave)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.1), _AGAIN)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _places(shown: Splat, driver: Driver, own: OwnFiles) -> tuple[CrashPlace, ...]:
    """Return the places in the driver's source on the way to a crash, the innermost first."""
    try:
        module = [] if driver.parts else [driver.object]
        symbols = Symbols(driver.object if driver.parts else None, module)
        splat = symbols.symbolise(shown)
    except PkvfuzzError:
        return ()
    found = (
        own.place(frame.file, frame.function)
        for stack in splat.stacks[:1]
        for frame in stack.frames
        if frame.file is not None and frame.reliable
    )
    return tuple(place for place in found if place is not None)
