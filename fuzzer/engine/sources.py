# SPDX-License-Identifier: Apache-2.0
"""Sources of candidates; each is asked for its next one, in the order of an engine.

The order is in :mod:`fuzzer.engine.engines`.
"""

from __future__ import annotations

from collections import deque
from typing import Protocol

from fuzzer.engine.aside import Aside
from fuzzer.engine.candidate import Candidate
from fuzzer.engine.hint_stage import HintStage
from fuzzer.engine.import_queue import ImportQueue
from fuzzer.engine.seed_scheduler import SeedScheduler
from fuzzer.engine.triage import Triage
from fuzzer.machine.channel_layout import PROGRAM_SIZE
from fuzzer.machine.executor import Executor
from fuzzer.program.cost import cost_of
from fuzzer.program.mutate import Mutator
from fuzzer.program.wire import split

LONGEST = PROGRAM_SIZE // 8
"""The most bytes that a candidate may have."""

# Further tries to make a program where screening leaves no call of one.
_MORE_TRIES = 3


class Source(Protocol):
    """A source of candidates."""

    def next(self, asked: bytes) -> Candidate | None:
        """Return the next candidate, if there is one.

        ``asked`` is the program of the corpus that libFuzzer asks to have mutated.
        """


class WaitingSource(Source, Protocol):
    """A source whose programs exist already, and were made for the machine at hand."""

    @property
    def is_waiting(self) -> bool:
        """True if a candidate waits."""


class CandidateMaker:
    """Makes candidates for the machine at hand: they begin with its preloaded calls.

    Calls that lead to bugs in ``aside`` are left out; ``scheduler`` learns the costs.
    """

    def __init__(self, executor: Executor, aside: Aside, scheduler: SeedScheduler) -> None:
        self.executor = executor
        """The executor whose ``preloaded`` calls the machine skips."""
        self._aside = aside
        self._scheduler = scheduler

    def own(self, program: bytes) -> bytes:
        """Return a program without the preloaded calls."""
        return program.removeprefix(self.executor.preloaded)

    def screen(self, chunks: list[bytes]) -> list[bytes]:
        """Return calls without those that lead to bugs set aside; the same list if all stay."""
        return self._aside.screen(chunks, self._scheduler.total)

    def make(self, program: bytes, chunks: list[bytes]) -> Candidate:
        """Return the candidate of a program without preloaded calls, given its calls as well."""
        return Candidate(self.executor.preloaded + program, self._scheduler.spend_on(chunks))

    def screened(self, program: bytes) -> Candidate | None:
        """Return the screened candidate of a whole program; None if it is too long or empty."""
        if len(program) > LONGEST - len(self.executor.preloaded):
            return None
        chunks = self.screen(split(self.own(program)))
        return self.make(b"".join(chunks), chunks) if chunks else None

    def whole(self, program: bytes) -> Candidate:
        """Return the candidate of a whole program, which is to run as it is."""
        return Candidate(program, self._scheduler.spend_on(split(self.own(program))))


class NewsSource:
    """Programs that covered something new in the middle of a batch, for libFuzzer to see."""

    def __init__(self, maker: CandidateMaker) -> None:
        self._maker = maker
        self._queue: deque[bytes] = deque()

    def enqueue(self, program: bytes) -> None:
        """Enqueue a program to run once more."""
        self._queue.append(program)

    @property
    def is_waiting(self) -> bool:
        """True if a candidate waits."""
        return bool(self._queue)

    def next(self, asked: bytes) -> Candidate | None:
        """Return the one that has waited longest."""
        return self._maker.whole(self._queue.popleft()) if self._queue else None


class TriagedSource:
    """Shorter forms of programs that covered something new, and then the whole ones."""

    def __init__(self, triage: Triage, maker: CandidateMaker) -> None:
        self._triage = triage
        self._maker = maker

    @property
    def is_waiting(self) -> bool:
        """True if a candidate waits."""
        return self._triage.waiting

    def next(self, asked: bytes) -> Candidate | None:
        """Return the one that has waited longest."""
        program = self._triage.take()
        return self._maker.whole(program) if program else None


class ImportSource:
    """Programs of a large corpus that fuzzing did not wait for."""

    def __init__(self, queue: ImportQueue, scheduler: SeedScheduler, maker: CandidateMaker) -> None:
        self._queue = queue
        self._scheduler = scheduler
        self._maker = maker

    def next(self, asked: bytes) -> Candidate | None:
        """Return the next one, None on a preloaded machine."""
        if self._maker.executor.preloaded:
            return None
        program = self._queue.take(self._scheduler.total)
        return None if program is None else self._maker.screened(program)


class HintSource:
    """Programs that compare hints suggest."""

    def __init__(self, stage: HintStage, scheduler: SeedScheduler, maker: CandidateMaker) -> None:
        self._stage = stage
        self._scheduler = scheduler
        self._maker = maker

    def next(self, asked: bytes) -> Candidate | None:
        """Return the next one, every other time that there is one."""
        program = self._stage.take(self._scheduler)
        return None if program is None else self._maker.screened(program)


class MutationSource:
    """Mutants of corpus programs, mostly of the one that libFuzzer asks for."""

    def __init__(self, mutator: Mutator, scheduler: SeedScheduler, maker: CandidateMaker) -> None:
        self._mutator = mutator
        self._scheduler = scheduler
        self._maker = maker

    def next(self, asked: bytes) -> Candidate:
        """Return a mutant; another one if screening leaves no call of it."""
        parent = self._scheduler.choose(asked)
        preloaded = self._maker.executor.preloaded
        return self._mutant(parent.program.removeprefix(preloaded), preloaded, slow=parent.slow)

    def _mutant(self, program: bytes, preloaded: bytes, *, slow: bool) -> Candidate:
        mutator, maker, room = self._mutator, self._maker, LONGEST - len(preloaded)
        made = mutator.mutate(program, room, slow=slow)
        chunks = mutator.chunks
        for _ in range(_MORE_TRIES):
            screened = maker.screen(chunks)
            if screened is chunks:
                break
            if screened:
                chunks, made = screened, b"".join(screened)
                break
            made = mutator.mutate(b"", room)
            chunks = mutator.chunks
        return maker.make(made, chunks)


class GenerationSource(MutationSource):
    """Programs made anew from the description."""

    def next(self, asked: bytes) -> Candidate:
        """Return a new program; ``asked`` is ignored."""
        program, slow = self._mutator.fresh(), self._scheduler.may_be_slow
        return self._mutant(program, self._maker.executor.preloaded, slow=slow)


class RaceSource:
    """Programs with a part that runs on several threads, made of any corpus programs."""

    def __init__(self, mutator: Mutator, scheduler: SeedScheduler, maker: CandidateMaker) -> None:
        self._mutator = mutator
        self._scheduler = scheduler
        self._maker = maker

    def next(self, asked: bytes) -> Candidate:
        """Return a program that races; the scheduler does not count its cost."""
        maker, preloaded = self._maker, self._maker.executor.preloaded
        program = maker.own(self._scheduler.any())
        made = self._mutator.race(program, LONGEST - len(preloaded), preloaded)
        chunks = split(made)
        screened = maker.screen(chunks)
        if screened and screened is not chunks:
            chunks, made = screened, b"".join(screened)
        return Candidate(preloaded + made, cost_of(chunks))
