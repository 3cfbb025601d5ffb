# SPDX-License-Identifier: Apache-2.0
"""Search for the first revision of a driver in which a crash shows."""

from __future__ import annotations

import enum
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from fuzzer.bisect.git import Bisection, BisectStep
from fuzzer.bisect.revisions import Commit, Revisions
from fuzzer.campaign.subject import Subject
from fuzzer.crash.dedup import Wanted, same_bug
from fuzzer.crash.exact import LIMIT, find_schedule
from fuzzer.crash.oracles.scheduled import unscheduled
from fuzzer.crash.outcome import Outcome
from fuzzer.crash.rate import runs_to_rule_out
from fuzzer.crash.reproducer import Reproducer
from fuzzer.crash.testbeds import Testbeds
from fuzzer.errors import BadInputError
from fuzzer.kernel.kernel import Kernel
from fuzzer.machine.machine import LostMachineError
from fuzzer.program.schedule import is_scheduled
from fuzzer.program.wire import split
from fuzzer.progress import Progress
from fuzzer.splat.splat import Splat
from fuzzer.target.target import with_params

ERROR = 0.01
"""The probability at most with which a revision that has the bug counts as good."""

MOST_RUNS = 500
"""Runs of one revision, however seldom a crash happens."""

# Runs, and hits among them, that measure the rate of a crash at the bad revision.
_RATE_RUNS, _RATE_HITS = 10, 3
_LOST_TRIES = 3
_SEED = 1


class RevisionVerdict(enum.StrEnum):
    """Verdicts on a revision; the words are git's."""

    GOOD = "good"
    BAD = "bad"
    SKIP = "skip"


@dataclass(frozen=True, slots=True)
class Suspect:
    """The bug to look for: ``bug`` is None when any splat will do, ``kind`` is the crash's.

    ``reproduced`` of ``runs`` machines showed it when it was stored.
    """

    reproducer: Reproducer
    kind: str = ""
    bug: Splat | None = None
    reproduced: int = 1
    runs: int = 1

    def is_shown_by(self, splat: Splat) -> bool:
        """Tell whether a splat is the bug."""
        return self.bug is None or same_bug(self.bug, splat)


@dataclass(frozen=True, slots=True)
class RevisionTrial:
    """The outcome of a revision: ``hits`` of ``runs`` machines showed the bug.

    ``shown`` is the title; ``others`` are the titles of different bugs. ``reason``
    says why it was skipped, ``like`` is an earlier revision with the same sources.
    """

    commit: Commit
    verdict: RevisionVerdict
    runs: int = 0
    hits: int = 0
    shown: str = ""
    others: tuple[str, ...] = ()
    reason: str = ""
    like: Commit | None = None


@dataclass(slots=True)
class _Tally:
    """Runs of one revision."""

    runs: int = 0
    hits: int = 0
    shown: str = ""
    others: list[str] = field(default_factory=list)


class Trier:
    """Tries revisions: builds the driver of each, and runs the reproducer on fresh machines.

    ``subject`` is that of today, of which only the driver's source becomes
    another. ``params`` are the module parameters, None for those of each revision's
    description. ``runs`` is how many runs a revision must be silent in to be good;
    ``exact`` tells that the program has a schedule.
    """

    def __init__(
        self,
        subject: Subject,
        kernel: Kernel,
        suspect: Suspect,
        revisions: Revisions,
        params: str | None = None,
    ) -> None:
        self._subject = subject
        self._kernel = kernel
        self._suspect = suspect
        self._revisions = revisions
        self._params = params
        self._known: dict[str, RevisionTrial] = {}
        self.runs = 1
        # The same schedules do the same each time: once is enough.
        self.exact = is_scheduled(split(suspect.reproducer.program))

    def measure(self, commit: Commit, times: int | None) -> RevisionTrial:
        """Try the revision that is said to be bad, and set ``runs`` by the rate it shows.

        With ``times``, each revision is run so often and no more; one with a
        schedule, once.
        """
        if self.exact:
            return self.test(commit)
        suspect = self._suspect
        limit = times
        if limit is None:
            needed = runs_to_rule_out(suspect.reproduced, suspect.runs, ERROR)
            limit = min(max(needed, 3 * _RATE_RUNS), MOST_RUNS)

        def enough(tally: _Tally) -> bool:
            return times is None and tally.runs >= _RATE_RUNS and tally.hits >= _RATE_HITS

        trial = self._try(commit, limit, enough)
        if trial.hits:
            needed = runs_to_rule_out(trial.hits, trial.runs, ERROR)
            self.runs = times or min(needed, MOST_RUNS)
        return trial

    def test(self, commit: Commit) -> RevisionTrial:
        """Try a revision until the bug shows, or ``runs`` times."""
        return self._try(commit, self.runs, lambda tally: tally.hits > 0)

    def _try(self, commit: Commit, limit: int, enough: Callable[[_Tally], bool]) -> RevisionTrial:
        tally = _Tally()
        progress = Progress(f"{commit.hash[:10]}: trying", limit)
        try:
            target, key = self._revisions.target_at(commit)
            if known := self._known.get(key):
                return replace(known, commit=commit, like=known.commit)
            if self._params is not None:
                target = with_params(target, self._params)
            setups = replace(self._subject, target=target).setups(self._kernel)
            while tally.runs < limit and not enough(tally):
                self._run(setups, tally)
                if tally.runs < limit:
                    progress.update(tally.runs, f"{tally.hits} of {tally.runs} runs showed it")
        except BadInputError as error:
            return RevisionTrial(
                commit, RevisionVerdict.SKIP, reason=self._revisions.plain(str(error))
            )
        finally:
            progress.clear()
        verdict = RevisionVerdict.BAD if tally.hits else RevisionVerdict.GOOD
        others = tuple(dict.fromkeys(tally.others))
        trial = RevisionTrial(commit, verdict, tally.runs, tally.hits, tally.shown, others)
        self._known[key] = trial
        return trial

    def _run(self, setups: Testbeds, tally: _Tally) -> None:
        splat = self._observed(setups).splat
        tally.runs += 1
        if splat is None:
            return
        if self._suspect.is_shown_by(splat):
            tally.hits += 1
            tally.shown = splat.title
        else:
            tally.others.append(splat.title)

    def _observed(self, setups: Testbeds) -> Outcome:
        reproducer = self._suspect.reproducer
        bug = self._suspect.bug
        observe = setups.observe(self._suspect.kind, Wanted(bug) if bug else None)
        for _ in range(_LOST_TRIES - 1):
            try:
                outcome, _number = observe(reproducer.history, reproducer.program)
                break
            except LostMachineError:
                # A QEMU may be killed from outside at any moment.
                continue
        else:
            outcome, _number = observe(reproducer.history, reproducer.program)
        if outcome.splat is None and self.exact:
            return self._rescheduled(setups) or outcome
        return outcome

    def _rescheduled(self, setups: Testbeds) -> Outcome | None:
        """Look for another schedule: one holds for one build of the driver."""
        plain = unscheduled(self._suspect.reproducer)
        found = find_schedule(
            setups.exact,
            plain.program,
            random.Random(_SEED),
            LIMIT,
            history=plain.history,
            title=self._suspect.bug.title if self._suspect.bug else None,
        )
        return found.outcome if found else None


def first_bad(
    trier: Trier,
    bisection: Bisection,
    first: BisectStep,
    told: Callable[[BisectStep, RevisionTrial], None],
    ahead: Callable[[BisectStep], None],
) -> BisectStep:
    """Try what git asks for until it knows; return its last step.

    ``ahead`` is called before each revision, ``told`` with its trial.

    Raises:
        BadInputError: the answers have no meaning: a merge base is bad.
    """
    step = first
    while step.next is not None:
        ahead(step)
        trial = trier.test(step.next)
        told(step, trial)
        step = bisection.mark(step.next, trial.verdict.value)
    return step
