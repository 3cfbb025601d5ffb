# SPDX-License-Identifier: Apache-2.0
"""Stages that run mutants: bugs that only ``full`` can see need not come with new coverage."""

from __future__ import annotations

from collections import Counter

from fuzzer.campaign.looked import LOADS
from fuzzer.campaign.stages.corpus_stage import CorpusStage
from fuzzer.campaign.stages.workbench import Workbench
from fuzzer.program.cost import is_slow
from fuzzer.program.wire import split

# Share of mutants made of programs that are of the stage's kind already.
_OF_THEIR_KIND = 0.5
# Share of programs on preloaded machines that may wait, or load the module once more.
_PRELOADED_SLOW = 0.05


class Mutation(CorpusStage):
    """Runs mutants of corpus programs, or of generated ones where coverage is not used."""

    name = "mutation"

    def step(self) -> bool:
        """Run some mutants; tell whether there is a corpus."""
        bench = self._bench
        if not bench.corpus:
            return False
        for _ in bench.slice():
            bench.run(bench.plain, bench.mutant(bench.quick))
        return True


class SlowPrograms(CorpusStage):
    """Runs mutants that wait or load the module, for which a worker's loop has little time."""

    name = "slow programs"

    def step(self) -> bool:
        """Run some mutants; tell whether there is a corpus."""
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
    """Runs mutants on machines whose module was loaded with other parameters."""

    name = "preloaded programs"

    def __init__(self, bench: Workbench) -> None:
        super().__init__(bench)
        used: Counter[bytes] = Counter()
        self._executor = bench.executor(
            bench.setups.plain.restore, lambda: bench.mutator.choose_preload(used)
        )

    def step(self) -> bool:
        """Run some mutants; tell whether there is a corpus, and the module could be loaded so."""
        bench, executor = self._bench, self._executor
        if not bench.corpus:
            return False
        executor.prepare()
        if not executor.preloaded:
            # The module does not load with these parameters; it may with others.
            executor.close()
            return False
        own = [each.removeprefix(executor.preloaded) for each in bench.slow]
        own = [each for each in own if not is_slow(split(each))]
        for _ in bench.slice():
            parents = own if own and bench.random.random() < _OF_THEIR_KIND else bench.quick
            # A few may unload the module, while it has work left to do.
            slow = bench.random.random() < _PRELOADED_SLOW
            bench.run(executor, bench.mutant(parents, slow=slow))
        return True
