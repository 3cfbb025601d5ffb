# SPDX-License-Identifier: Apache-2.0
"""Stage that runs corpus programs with a part of them on several threads."""

from __future__ import annotations

from collections import Counter

from fuzzer.campaign.looked import RACES
from fuzzer.campaign.stages.corpus_stage import CorpusStage
from fuzzer.campaign.stages.workbench import LONGEST, Workbench
from fuzzer.engine.seed_scheduler import SeedScheduler
from fuzzer.machine.machine import Machine

# Times that each program runs.
_REPEATS = 5
# Share of machines whose module is loaded with other parameters from the start.
_PRELOADED = 0.5


class Races(CorpusStage):
    """Runs corpus programs with a part of their calls on several threads, a few times each."""

    name = "races"

    def __init__(self, bench: Workbench) -> None:
        super().__init__(bench)
        self._scheduler = SeedScheduler(bench.random)
        self._used: Counter[bytes] = Counter()
        self._executor = bench.executor(self._restore, self._choose_preload)

    def note(self, program: bytes) -> None:
        """Take note of a program of the corpus."""
        self._scheduler.note(program)

    def step(self) -> bool:
        """Run some programs; tell whether there is a corpus."""
        bench, executor = self._bench, self._executor
        if not bench.corpus:
            return False
        executor.prepare()
        bench.record_look(RACES)
        preloaded = executor.preloaded
        self._scheduler.note_preload(preloaded)
        for _ in bench.slice():
            parent = self._scheduler.any().removeprefix(preloaded)
            program = bench.mutator.race(parent, LONGEST, preloaded)
            for _ in range(_REPEATS):
                if bench.run(executor, program).splat:
                    break
        return True

    def _restore(self) -> Machine:
        # The racing guest is made here, when it is needed first.
        return self._bench.setups.racing.restore()

    def _choose_preload(self) -> bytes:
        bench = self._bench
        preloads = bench.random.random() < _PRELOADED
        return bench.mutator.choose_preload(self._used) if preloads else b""
