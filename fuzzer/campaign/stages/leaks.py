# SPDX-License-Identifier: Apache-2.0
"""Stage that looks for memory that programs lose."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator

from fuzzer.campaign.looked import LEAKS
from fuzzer.campaign.stages.corpus_stage import CorpusStage
from fuzzer.campaign.stages.workbench import NAME, Workbench, is_as_it_was
from fuzzer.crash.leaks import LEAK
from fuzzer.crash.outcome import Outcome
from fuzzer.crash.sighting import Sighting
from fuzzer.program.wire import split

# Programs that run before leaks are looked for: some of the corpus, the rest mutants, which
# may lose memory and cover nothing new.
_BATCH, _FROM_CORPUS = 400, 64


class Leaks(CorpusStage):
    """Runs batches on a guest that finds lost memory, for a share of the judge's time."""

    name = "leaks"

    def __init__(self, bench: Workbench) -> None:
        super().__init__(bench)
        self._waiting: deque[bytes] = deque()
        self._begun = bench.clock()
        self._at = self._begun + 3 * bench.times.leak_pause
        self._took = 0.0
        self._pinning: Generator[None, None, None] | None = None

    @property
    def is_pinning(self) -> bool:
        """True while the program of a batch that leaks is searched."""
        return self._pinning is not None

    def note(self, program: bytes) -> None:
        """Take note of a program of the corpus."""
        if is_as_it_was(split(program)):
            self._waiting.append(program)

    def step(self) -> bool:
        """Look once for memory that programs lose; tell whether it was time for that."""
        bench = self._bench
        if self._pinning is None:
            now, times = bench.clock(), bench.times
            allowed = times.leak_credit + times.leak_share * (now - self._begun)
            if not bench.corpus or now < self._at or self._took > allowed:
                return False
            n = min(_FROM_CORPUS, len(self._waiting))
            programs = [self._waiting.popleft() for _ in range(n)]
            programs += [bench.mutant(bench.quick) for _ in range(_BATCH - n)]
            bench.record_look(LEAKS)
            self._pinning = self._pin(programs)
        # A look takes seconds, so a step takes one only.
        if next(self._pinning, self) is self:
            self._pinning = None
            self._at = bench.clock() + bench.times.leak_pause
        return True

    def close(self) -> None:
        """Report a leak whose program is still searched."""
        if self._pinning:
            self._pinning.close()

    def _pin(self, programs: list[bytes]) -> Generator[None, None, None]:
        """Look for a leak, and search its program: the one that allocated, else by bisecting."""
        outcome, number = self._lost_by(programs)
        is_over = False
        try:
            if len(programs) > 1 and number is not None:
                yield
                again, _ = self._lost_by([programs[number]])
                if again.splat:
                    programs, outcome = [programs[number]], again
            while len(programs) > 1 and outcome.splat and outcome.splat.kind == LEAK:
                half = len(programs) // 2
                for part in (programs[:half], programs[half:]):
                    yield
                    again, at = self._lost_by(part)
                    if again.splat:
                        programs, outcome, number = part, again, at
                        break
                else:
                    break
            is_over = True
        finally:
            # The campaign may end during the search: then it is most likely what allocated.
            if not is_over and number is not None and number + 1 < len(programs):
                self._sight(programs[: number + 1], outcome)
            self._sight(programs, outcome)

    def _sight(self, programs: list[bytes], outcome: Outcome) -> None:
        if splat := outcome.splat:
            history = tuple(programs[:-1])
            self._bench.sight(
                Sighting(splat.title, splat.kind, programs[-1], history, outcome.log, NAME)
            )

    def _lost_by(self, programs: list[bytes]) -> tuple[Outcome, int | None]:
        bench, unknown = self._bench, self._bench.unknown
        start = bench.clock()
        try:
            with bench.setups.leaking.restore() as machine:
                outcome, number = bench.setups.leak_of(machine, programs, unknown)
                if outcome.splat and unknown and not unknown(outcome.splat):
                    return Outcome(None, b""), None
                return outcome, number
        finally:
            self._took += bench.clock() - start
