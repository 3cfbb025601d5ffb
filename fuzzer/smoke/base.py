# SPDX-License-Identifier: Apache-2.0
"""The revision that a commit is compared with: whether its driver shows a crash as well."""

from __future__ import annotations

from dataclasses import dataclass

from fuzzer.bisect.revisions import Commit, Revisions
from fuzzer.bisect.search import ERROR, RevisionVerdict, Suspect, Trier
from fuzzer.campaign.subject import Subject
from fuzzer.crash.crash import Crash
from fuzzer.crash.rate import runs_to_rule_out
from fuzzer.crash.reproducer import Reproducer
from fuzzer.errors import BadInputError, PkvfuzzError
from fuzzer.kernel.kernel import Kernel
from fuzzer.smoke.verdict import Standing

# A crash that shows in one of more runs than this takes longer to rule out than a commit waits.
_MOST_RUNS = 60


@dataclass(frozen=True, slots=True)
class Base:
    """A revision to compare with, and the means to build and try it."""

    subject: Subject
    revisions: Revisions
    commit: Commit

    def prepare(self, kernel: Kernel) -> str:
        """Build the base's driver and its machines; return why it cannot be, empty if it can."""
        try:
            target, _ = self.revisions.target_at(self.commit)
            Subject(
                target, None, self.subject.kernels, self.subject.accel, self.subject.fuzzed_on
            ).guest(kernel)
        except BadInputError as error:
            return self.revisions.plain(str(error))
        return ""

    def standing(self, crash: Crash, kernel: Kernel) -> tuple[Standing, str]:
        """Return what a crash means for the commit, and why.

        ``kernel`` is the one that showed it.
        """
        bug = crash.splat
        reproducer = Reproducer(crash.program, crash.history)
        suspect = Suspect(reproducer, crash.kind, bug, crash.reproduced, max(crash.runs, 1))
        trier = Trier(self.subject, kernel, suspect, self.revisions)
        if not trier.exact:
            needed = runs_to_rule_out(crash.reproduced, max(crash.runs, 1), ERROR)
            trier.runs = min(needed, _MOST_RUNS)
        name = self.commit.hash[:10]
        try:
            trial = trier.test(self.commit)
        except PkvfuzzError as error:
            return Standing.NEW, f"{name} could not be tried: {error}"
        if trial.verdict is RevisionVerdict.SKIP:
            return Standing.NEW, f"{name} could not be tried: {trial.reason}"
        if trial.verdict is RevisionVerdict.BAD:
            return Standing.IN_BASE, f"{name} shows it in {trial.hits} of {trial.runs} runs"
        return Standing.NEW, f"{name} does not show it in {trial.runs} runs"
