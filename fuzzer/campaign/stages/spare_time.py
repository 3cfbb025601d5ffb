# SPDX-License-Identifier: Apache-2.0
"""Stages of the judge's spare time, in order, and their turns while nothing is judged."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence

from fuzzer.campaign.kernels import JudgingKernels
from fuzzer.campaign.stages.callers import Callers
from fuzzer.campaign.stages.corpus_stage import CorpusStage
from fuzzer.campaign.stages.exact_races import ExactRaces
from fuzzer.campaign.stages.faults import Faults, LoadFaults
from fuzzer.campaign.stages.info_leaks import InfoLeaks
from fuzzer.campaign.stages.leaks import Leaks
from fuzzer.campaign.stages.links import Links
from fuzzer.campaign.stages.minimizing import Minimizing
from fuzzer.campaign.stages.mutation import Mutation, PreloadedPrograms, SlowPrograms
from fuzzer.campaign.stages.races import Races
from fuzzer.campaign.stages.retries import Retries
from fuzzer.campaign.stages.retuning import Retuning
from fuzzer.campaign.stages.schedules import ScheduleSearches
from fuzzer.campaign.stages.stage import Turns
from fuzzer.campaign.stages.workbench import USUAL_TIMES, Times, Workbench
from fuzzer.crash.crash import Crash
from fuzzer.crash.dedup import Wanted
from fuzzer.crash.sighting import Sighting
from fuzzer.crash.store import CrashStore
from fuzzer.crash.testbeds import Testbeds
from fuzzer.program.mechanisms import Mechanisms
from fuzzer.target.target import Target


def exploring_stages(bench: Workbench, retuning: Retuning, *, exact: bool) -> list[CorpusStage]:
    """Return the stages that run programs, in order, as far as their mechanisms are on."""
    on = bench.mechanisms
    stages: list[CorpusStage] = [retuning]
    if on.races and exact:
        stages.append(ExactRaces(bench))
    stages.append(Mutation(bench))
    if on.lifecycle:
        stages.append(SlowPrograms(bench))
    if bench.mutator.choose_preload(Counter()):
        stages.append(PreloadedPrograms(bench))
    if on.faults:
        stages += [Faults(bench), LoadFaults(bench)]
    if on.info_leaks:
        stages.append(InfoLeaks(bench))
    if on.leaks:
        stages.append(Leaks(bench))
    if on.races and not exact:
        stages.append(Races(bench))
    return stages


class Exploring:
    """Runs variants of corpus programs in stages; ``sight`` is called with each sighting.

    With ``exact`` its races are on exact machines. Reports of bugs that are not
    ``unknown`` are ignored where the machine stays usable.
    """

    def __init__(
        self,
        setups: Testbeds,
        target: Target,
        mechanisms: Mechanisms,
        seed: int,
        sight: Callable[[Sighting], None],
        *,
        exact: bool = False,
        unknown: Wanted | None = None,
        times: Times = USUAL_TIMES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.bench = Workbench(
            setups, target, mechanisms, seed, sight, unknown=unknown, times=times, clock=clock
        )
        self._retuning = Retuning(self.bench)
        self.stages = exploring_stages(self.bench, self._retuning, exact=exact)
        """The stages, in order."""
        self._turns = Turns(self.stages)

    @property
    def missing(self) -> tuple[str, ...]:
        """The kinds of runs that were not made once yet."""
        return tuple(self.bench.missing)

    def note(self, program: bytes) -> None:
        """Take note of a program of the corpus."""
        self.bench.note(program)
        for stage in self.stages:
            stage.note(program)

    def retune(self, program: bytes, history: Sequence[bytes] = ()) -> None:
        """Queue variants of a program that did not reproduce, and of those before it."""
        self._retuning.retune(program, history)

    def step(self) -> bool:
        """Let a stage work for a slice of time; tell whether there was anything to do."""
        return self._turns.step()

    def close(self) -> None:
        """Report what the stages have not reported yet, and end the machines."""
        for stage in self.stages:
            stage.close()
        self.drop_machines()

    def drop_machines(self) -> None:
        """End the machines; the next step takes fresh ones."""
        self.bench.drop_machines()


class SpareTime:
    """Works on stored crashes, and explores.

    In each turn a crash is minimized for a while; if none is to be minimized, one is linked to
    another, run as another user, or tried again; schedules are searched; and one of the
    exploring stages works. ``guard`` calls a piece of such work, and deals with machines that get
    lost in it.
    """

    def __init__(
        self,
        kernels: JudgingKernels,
        store: CrashStore,
        target: Target,
        seed: int,
        exploring: Exploring,
        *,
        is_busy: Callable[[], bool],
        guard: Callable[[Callable[[], bool]], bool],
    ) -> None:
        self._guard = guard
        self.exploring = exploring
        self.schedules = ScheduleSearches(
            kernels.setups_of, store, target, seed, self._note_schedule
        )
        self.minimizing = Minimizing(kernels, store, target, seed, self.schedules.is_pending)
        self.callers = Callers(kernels, store, target)
        self.links = Links(kernels, store, target)
        self.retries = Retries(kernels, store, target, is_busy=is_busy, found=self.minimizing.note)

    def note(self, crash: Crash) -> None:
        """Take note of a crash that was just stored."""
        self.schedules.note(crash)
        self.minimizing.note(crash)
        self.callers.note(crash)
        self.links.note(crash)
        self.retries.note(crash)

    def _note_schedule(self, crash: Crash) -> None:
        self.minimizing.note(crash)

    def step(self) -> bool:
        """Take a turn; tell whether there was anything to do."""
        stages = (self._bring_further, self.schedules.step, self.exploring.step)
        worked = [self._guard(step) for step in stages]
        return any(worked)

    def finish(self, *, hurry: bool) -> bool:
        """Minimize stored crashes, and run them as another user; tell whether there was one.

        In a hurry only the one begun is minimized.
        """
        self.schedules.stop()
        if not hurry:
            return self._guard(self._bring_further)
        self.minimizing.hurry()
        if self.minimizing.has_begun:
            return self._guard(self.minimizing.step)
        return self._guard(self.callers.step)

    def _bring_further(self) -> bool:
        stages = (self.minimizing, self.links, self.callers, self.retries)
        return any(stage.step() for stage in stages)

    def close(self) -> None:
        """End the machines."""
        self.exploring.drop_machines()
        self.minimizing.close()
