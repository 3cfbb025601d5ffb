# SPDX-License-Identifier: Apache-2.0
"""Races on exact machines: the fuzzer says at which instructions threads take turns.

Parts of corpus programs are put on several threads, and each such program
runs under many schedules, a batch of them on each machine. A machine has its
whole batch when it begins to run, so what it does follows from the batch
alone: a splat comes again each time, with what ran before it in the batch as
its history.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from fuzzer.crash.exact import measure_ticks, run_batch
from fuzzer.crash.setups import Setups
from fuzzer.crash.sighting import Sighting
from fuzzer.program.cost import is_slow
from fuzzer.program.mutate import Mutator
from fuzzer.program.program import MAX_PROGRAM_SIZE
from fuzzer.program.schedule import Schedules, with_waits, without_waits
from fuzzer.program.wire import split

NAME = "exact"
# Schedules of a program that are tried on one machine.
_BATCH = 32
# Programs looked at before a step gives up to find one that can be scheduled.
_LOOKS = 20


class ExactRaces:
    """Runs parts of corpus programs at the same time, as schedules say."""

    def __init__(
        self,
        setups: Setups,
        mutator: Mutator,
        rng: random.Random,
        sight: Callable[[Sighting], None],
    ) -> None:
        self._setups = setups
        self._mutator = mutator
        self._random = rng
        self._sight = sight

    def step(self, corpus: Sequence[bytes]) -> bool:
        """Try a program under a batch of schedules; tell whether there was one.

        Raises:
            InfrastructureError: there is no exact machine.
        """
        for _ in range(_LOOKS if corpus else 0):
            parent = self._random.choice(corpus)
            if is_slow(split(parent)):
                continue
            program = self._mutator.race(parent, MAX_PROGRAM_SIZE // 8)
            chunks = without_waits(split(program))
            # Whether there is anything to schedule does not hang on how long calls take.
            if Schedules(chunks, [0] * len(chunks), self._random):
                self._try(chunks)
                return True
        return False

    def _try(self, chunks: list[bytes]) -> None:
        guest = self._setups.exact
        ticks = measure_ticks(guest, chunks)
        schedules = Schedules(chunks, ticks, self._random)
        batch = [with_waits(chunks, schedules.choose()) for _ in range(_BATCH)]
        outcome, number = run_batch(guest, batch)
        if outcome.splat:
            title, kind = outcome.splat.title, outcome.splat.kind
            history = tuple(batch[:number])
            self._sight(Sighting(title, kind, batch[number], history, outcome.log, NAME))
