# SPDX-License-Identifier: Apache-2.0
"""Stage of races on exact machines: the fuzzer says at which instructions threads take turns.

Parts of corpus programs are put on several threads, and each such program
runs under many schedules, a batch of them on each machine. A machine is given
its whole batch before it begins to run, so its behaviour follows from the batch
alone: a splat shows again each time, with the programs before it in the batch
as its history.
"""

from __future__ import annotations

from fuzzer.campaign.looked import RACES
from fuzzer.campaign.stages.corpus_stage import CorpusStage
from fuzzer.campaign.stages.stage import HALF
from fuzzer.campaign.stages.workbench import LONGEST
from fuzzer.crash.exact import measure_ticks, run_batch
from fuzzer.crash.sighting import Sighting
from fuzzer.program.cost import is_slow
from fuzzer.program.schedule import Schedules, with_waits, without_waits
from fuzzer.program.wire import split

NAME = "exact"
# Schedules of a program that are tried on one machine.
_BATCH = 32
# Programs that a step looks at to find one that can be scheduled.
_LOOKS = 20


class ExactRaces(CorpusStage):
    """Runs parts of corpus programs on several threads at once, under schedules."""

    name, share = "exact races", HALF

    def step(self) -> bool:
        """Try a program under a batch of schedules; tell whether there was one.

        Raises:
            InfrastructureError: there is no exact machine.
        """
        bench = self._bench
        bench.record_look(RACES)
        for _ in range(_LOOKS if bench.corpus else 0):
            parent = bench.random.choice(bench.corpus)
            if is_slow(split(parent)):
                continue
            program = bench.mutator.race(parent, LONGEST)
            chunks = without_waits(split(program))
            # It takes no measured ticks to tell whether there is anything to schedule.
            if Schedules(chunks, [0] * len(chunks), bench.random):
                self._try(chunks)
                return True
        return False

    def _try(self, chunks: list[bytes]) -> None:
        bench, guest = self._bench, self._bench.setups.exact
        ticks = measure_ticks(guest, chunks)
        schedules = Schedules(chunks, ticks, bench.random)
        batch = [with_waits(chunks, schedules.choose()) for _ in range(_BATCH)]
        outcome, number = run_batch(guest, batch)
        if outcome.splat:
            title, kind = outcome.splat.title, outcome.splat.kind
            history = tuple(batch[:number])
            bench.sight(Sighting(title, kind, batch[number], history, outcome.log, NAME))
