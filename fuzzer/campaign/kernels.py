# SPDX-License-Identifier: Apache-2.0
"""The kernels that a sighting is judged on: the judge's own, then the one that showed it.

``full`` may not show what another kernel did: a report that only it makes may end the
thread first, allocations differ, a race is won less often. A sighting that it does not
show is judged on the kernel that is fuzzed as well, and the crash says so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from fuzzer.crash.crash import Crash
from fuzzer.crash.judge import VERIFY_RUNS, Judgement, judge
from fuzzer.crash.sighting import Sighting
from fuzzer.crash.testbeds import Testbeds
from fuzzer.kernel.kernel import Flavour


@dataclass(frozen=True, slots=True)
class Verdict:
    """The judgement of a sighting, and the flavour of the kernel that it was made on.

    ``unseen_on`` is the flavour of the judge's kernel if only the fuzzed one showed the
    splat, else empty; ``instead`` are the titles that the judge's kernel showed in its place.
    """

    judgement: Judgement
    judged_on: Flavour
    unseen_on: str = ""
    instead: tuple[str, ...] = ()


class JudgingKernels:
    """The guests on the kernel that judges, and on the one that is fuzzed if that is another.

    ``fuzzed`` makes the latter when they are first needed.
    """

    def __init__(
        self,
        own: Testbeds,
        judged_on: Flavour,
        fuzzed_on: Flavour,
        fuzzed: Callable[[], Testbeds],
    ) -> None:
        self.own = own
        self._judged_on = judged_on
        self._fuzzed_on = fuzzed_on
        self._make = fuzzed
        self._fuzzed: Testbeds | None = None

    def setups_of(self, crash: Crash) -> Testbeds:
        """Return the guests on the kernel that showed a crash."""
        is_fuzzed = crash.reproduced and crash.judged_on == self._fuzzed_on.value
        return self.on(self._fuzzed_on) if is_fuzzed else self.own

    def on(self, flavour: Flavour) -> Testbeds:
        """Return the guests on the kernel of a flavour."""
        if flavour is self._judged_on:
            return self.own
        if self._fuzzed is None:
            self._fuzzed = self._make()
        return self._fuzzed

    def judge(
        self,
        sighting: Sighting,
        runs: int = VERIFY_RUNS,
        *,
        patience: float,
        elsewhere: bool = True,
    ) -> Verdict:
        """Judge a sighting; with ``elsewhere``, also on the kernel that is fuzzed, if need be.

        Raises:
            LostMachineError: QEMU was killed from outside; try again.
        """
        watch = partial(self.own.observe, sighting.kind)
        judgement = judge(watch, sighting, runs, patience=patience)
        instead = tuple(other.title for other in judgement.others)
        own = Verdict(judgement, self._judged_on, "", () if judgement.reproduced else instead)
        only_here = sighting.kind in self._judged_on.spec.only_here
        no_other = self._fuzzed_on is self._judged_on or only_here
        if judgement.reproduced or no_other or not elsewhere:
            return own
        watch = partial(self.on(self._fuzzed_on).observe, sighting.kind)
        shown = judge(watch, sighting, runs, patience=patience)
        if not shown.reproduced:
            return own
        return Verdict(shown, self._fuzzed_on, self._judged_on.value, instead)
