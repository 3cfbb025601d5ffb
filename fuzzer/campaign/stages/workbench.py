# SPDX-License-Identifier: Apache-2.0
"""Workbench of the stages that run variants of corpus programs: corpus, mutator, machines."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from fuzzer.campaign.looked import FAULTS, INFO_LEAKS, LEAKS, LOADS, RACES
from fuzzer.crash.dedup import Wanted
from fuzzer.crash.executor import ObservingExecutor
from fuzzer.crash.outcome import Outcome
from fuzzer.crash.sighting import Sighting
from fuzzer.crash.testbeds import Testbeds
from fuzzer.machine.machine import Machine
from fuzzer.program.conditions import fault_of, is_racing
from fuzzer.program.cost import is_slow
from fuzzer.program.mechanisms import Mechanisms
from fuzzer.program.mutate import Mutator
from fuzzer.program.program import MAX_PROGRAM_SIZE
from fuzzer.program.wire import split
from fuzzer.target.target import Target

NAME = "explorer"
"""The origin of sightings made on a workbench."""

LONGEST = MAX_PROGRAM_SIZE // 8
"""Bytes of the longest program made on a workbench."""

# A machine is replaced after so many programs, which bounds a crash's history.
_RESTORE_EVERY = 2000


@dataclass(frozen=True, slots=True)
class Times:
    """The times of stages, in seconds.

    A stage works for ``slice_seconds`` between two looks at the spool. Between two looks for
    leaks there is ``leak_pause`` of other work, and thrice as much before the first one. They
    take ``leak_share`` of the judge's time, and ``leak_credit`` beyond that, which is for the
    start, when most is new.
    """

    slice_seconds: float = 0.5
    leak_pause: float = 10.0
    leak_share: float = 0.1
    leak_credit: float = 60.0


USUAL_TIMES = Times()


class Workbench:
    """Corpus, mutator and machines that stages share; ``sight`` is called with each sighting.

    ``missing`` are the kinds of runs that were not made once yet. Reports of bugs that
    are not ``unknown`` are ignored where the machine stays usable.
    """

    def __init__(
        self,
        setups: Testbeds,
        target: Target,
        mechanisms: Mechanisms,
        seed: int,
        sight: Callable[[Sighting], None],
        *,
        unknown: Wanted | None = None,
        times: Times = USUAL_TIMES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.setups = setups
        self.mechanisms = mechanisms
        self.sight = sight
        self.unknown = unknown
        self.times = times
        self.clock = clock
        self.random = random.Random(seed)
        self.mutator = Mutator(
            target,
            self.random,
            lambda data, size: data[:size],
            max_calls=40,
            mechanisms=mechanisms,
        )
        self.corpus: list[bytes] = []
        self.quick: list[bytes] = []
        self.slow: list[bytes] = []
        self.missing = _kinds_of_runs(mechanisms)
        self._executors: list[ObservingExecutor] = []
        self.plain = self.executor(setups.plain.restore)
        """Runs programs on machines with the module as the description loads it."""

    def executor(
        self, restore: Callable[[], Machine], preload: Callable[[], bytes] = bytes
    ) -> ObservingExecutor:
        """Return an executor, whose machines :meth:`drop_machines` ends."""
        made = ObservingExecutor(restore, most=_RESTORE_EVERY, preload=preload, wanted=self.unknown)
        self._executors.append(made)
        return made

    def drop_machines(self) -> None:
        """End the machines; the next step takes fresh ones."""
        for executor in self._executors:
            executor.close()

    def note(self, program: bytes) -> None:
        """Take note of a program of the corpus."""
        self.mutator.note(program)
        self.corpus.append(program)
        (self.slow if is_slow(split(program)) else self.quick).append(program)

    def record_look(self, kind: str) -> None:
        """Take note that a kind of runs was made."""
        self.missing.pop(kind, None)

    def slice(self) -> Iterator[None]:
        """Yield until a piece of work has taken long enough."""
        end = self.clock() + self.times.slice_seconds
        while self.clock() < end:
            yield

    def run(self, executor: ObservingExecutor, program: bytes) -> Outcome:
        """Run a program, and report a splat to ``sight``."""
        outcome = executor.run(program)
        if outcome.splat and outcome.is_harmless:
            return Outcome(None, outcome.log)
        if sighting := executor.sighting(outcome, NAME):
            self.sight(sighting)
        return outcome

    def has_failed(self, index: int) -> bool:
        """Tell whether a call of the last plain program had the fault that it asked for."""
        results = self.plain.machine.channel.results()
        return index < len(results) and results[index].faulted

    def mutant(self, parents: list[bytes], *, slow: bool = False) -> bytes:
        """Return a mutant of one of the programs; without coverage, one of a generated program."""
        if self.mechanisms.coverage:
            parent = self.random.choice(parents) if parents else b""
        else:
            parent = self.mutator.fresh()
        return self.mutator.mutate(parent, LONGEST, slow=slow)


def is_as_it_was(chunks: list[bytes]) -> bool:
    """Tell whether a program has neither threads, flips nor faults, so that these can be added."""
    return not is_racing(chunks) and not any(map(fault_of, chunks))


def _kinds_of_runs(mechanisms: Mechanisms) -> dict[str, None]:
    """Return the kinds of runs that are to be made, in the order in which they are told."""
    asked = {
        FAULTS: mechanisms.faults,
        LOADS: mechanisms.lifecycle,
        RACES: mechanisms.races,
        LEAKS: mechanisms.leaks,
        INFO_LEAKS: mechanisms.info_leaks,
    }
    return {kind: None for kind, is_asked in asked.items() if is_asked}
