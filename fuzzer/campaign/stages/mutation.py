# SPDX-License-Identifier: Apache-2.0
"""Stages that run mutants: bugs that only ``full`` can see need not come with new coverage."""

from __future__ import annotations

from collections import Counter

from fuzzer.campaign.looked import LOADS
from fuzzer.campaign.stages.corpus_stage import CorpusStage
from fuzzer.campaign.stages.workbench import Workbench
from fuzzer.program.cost import is_slow
from fuzzer.program.wire import split

# So many mutants are of programs that are such already.
_OF_THEIR_KIND = 0.5
# Of the programs of preloaded machines, so many may wait or load it once more.
_PRELOADED_SLOW = 0.05


class Mutation(CorpusStage):
    """Mutants of corpus programs, or programs of their own without coverage."""

    name = "mutation"

    def step(self) -> bool:
        """Run some; tell whether there is a corpus."""
        bench = self._bench
        if not bench.corpus:
            return False
        for _ in bench.slice():
            bench.run(bench.plain, bench.mutant(bench.quick))
        return True


class SlowPrograms(CorpusStage):
    """Mutants that wait or load the module: there is more time for them than in a loop."""

    name = "slow programs"

    def step(self) -> bool:
        """Run some; tell whether there is a corpus."""
        bench = self._bench
        if not bench.corpus:
            return False
        for _ in bench.slice():
            parents = bench.corpus
            if bench.slow and bench.random.random() < _OF_THEIR_KIND:
                parents = bench.slow
            bench.run(bench.plain, bench.mutant(parents, slow=True))
            bench.record_look(LOADS)
        return True


class PreloadedPrograms(CorpusStage):
    """Mutants where the module was loaded with other parameters of the description."""

    name = "preloaded programs"

    def __init__(self, bench: Workbench) -> None:
        super().__init__(bench)
        used: Counter[bytes] = Counter()
        self._executor = bench.executor(
            bench.setups.plain.restore, lambda: bench.mutator.choose_preload(used)
        )

    def step(self) -> bool:
        """Run some; tell whether the module is loaded like that."""
        bench, executor = self._bench, self._executor
        if not bench.corpus:
            return False
        executor.prepare()
        if not executor.preloaded:
            # Parameters that the module does not load with; there may be others.
            executor.close()
            return False
        own = [each.removeprefix(executor.preloaded) for each in bench.slow]
        own = [each for each in own if not is_slow(split(each))]
        for _ in bench.slice():
            parents = own if own and bench.random.random() < _OF_THEIR_KIND else bench.quick
            # Now and then one that unloads it, with what was left to do then.
            slow = bench.random.random() < _PRELOADED_SLOW
            bench.run(executor, bench.mutant(parents, slow=slow))
        return True
