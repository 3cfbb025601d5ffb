# SPDX-License-Identifier: Apache-2.0
"""The fuzzing loop of one worker: batches that a machine runs, and a look at what came of them."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from fuzzer.engine.aside import Aside
from fuzzer.engine.batcher import Batcher
from fuzzer.engine.candidate import ALONE, Candidate
from fuzzer.engine.counters import Counters
from fuzzer.engine.crashes import CrashObserver
from fuzzer.engine.engines import Engine
from fuzzer.engine.executor import WorkerExecutor
from fuzzer.engine.hint_stage import ComparisonRuns
from fuzzer.engine.import_queue import ImportQueue
from fuzzer.engine.observer import Observer
from fuzzer.engine.phases import Phases
from fuzzer.engine.pipeline import Pipeline
from fuzzer.engine.reporter import Reporter
from fuzzer.engine.rerun import Rerun
from fuzzer.engine.rotation import Rotation
from fuzzer.engine.statistics import WorkerCounts
from fuzzer.engine.tally import OPEN_FIRST, TallyFile
from fuzzer.program.mechanisms import ALL, Mechanisms
from fuzzer.target.target import ResetKind

# How many programs run on a machine before it is replaced by a fresh one, more if they
# are small. It bounds the history of a crash, and says how often there are races.
RESTORE_EVERY = 10_000


@dataclass(frozen=True, slots=True)
class LoopOptions:
    """What a worker's loop needs to know. ``runs`` of None: until ended.

    It is the one of this ``number`` among so many ``workers``. With ``preloads``
    some machines have the module loaded with other parameters.
    """

    workdir: Path
    name: str
    seed: int
    runs: int | None = None
    min_calls: int = 1
    max_calls: int = 40
    restore_every: int = RESTORE_EVERY
    mechanisms: Mechanisms = ALL
    number: int = 0
    workers: int = 1
    preloads: bool = True


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of a loop, which :mod:`fuzzer.engine.assembly` puts together.

    ``serial`` and ``racing`` have candidates for the two kinds of phases.
    """

    engine: Engine
    executor: WorkerExecutor
    counters: Counters
    counts: WorkerCounts
    serial: Batcher
    racing: Batcher
    phases: Phases
    rotation: Rotation
    crashes: CrashObserver
    aside: Aside
    tally: TallyFile
    comparisons: ComparisonRuns
    imports: ImportQueue
    rerun: Rerun
    reporter: Reporter
    observer: Observer


class Loop:
    """Has an executor run batches, and looks at what came of them.

    Programs are handed to the guest in batches, and the next batch is made
    while one runs, of what libFuzzer asked to have mutated last, and left
    where the guest finds it when it is done: it does not wait for the host.
    The guest runs programs one after the other until one covers something new
    or the kernel speaks: the host looks at what matters and at nothing else.
    libFuzzer is told of a batch's last program. One that covers something new
    before that is what libFuzzer gets to run next, alone.

    Serial phases alternate with short ones in which parts of programs run on
    several threads, on machines which have the vCPUs for it.
    What is covered then is left to chance and does not count.

    A machine may have its module preloaded: it has run the calls that load it with
    other parameters of the description, and stays with that. Programs that run
    there begin with these calls, which the guest then skips: they show the
    same, at the cost of a plain one.
    """

    def __init__(self, parts: Parts, options: LoopOptions) -> None:
        self.executor = parts.executor
        self.counts = parts.counts
        """What the worker counts."""
        self.counters = parts.counters
        self.feedback = parts.engine.feedback
        self.rotation = parts.rotation
        self._parts = parts
        self._engine = parts.engine
        self._phases = parts.phases
        self._crashes = parts.crashes
        self._aside = parts.aside
        self._tally = parts.tally
        self._comparisons = parts.comparisons
        self._observer = parts.observer
        self._channel = parts.executor.channel
        self._pipeline = Pipeline(self._channel)
        # Whether the guest has begun by itself with the batch that is next.
        self._begun = False
        self._runs = sys.maxsize if options.runs is None else options.runs
        self._rest_at = sys.maxsize
        self._preloads = options.preloads and options.mechanisms.lifecycle
        self._restore_each = parts.executor.guest.target.reset.kind is ResetKind.RESTORE

    def next_batch(self, asked: bytes) -> list[Candidate]:
        """Return what is to run next, made of the program that libFuzzer asks to have mutated."""
        if not self.counts.fuzzing:
            self._begin()
        if self._pipeline.next:
            self._begun = True
            return self._pipeline.advance()
        if not self._phases.racing:
            for source in self._engine.alone:
                if (candidate := source.next(asked)) is not None:
                    return [Candidate(candidate.program)]
        return self._batcher.take(asked, max(1, self._room()))

    def _begin(self) -> None:
        """All programs to start from have run, or were put off."""
        self.counts.fuzzing = 1
        self._parts.reporter.publish()
        for batcher in (self._parts.serial, self._parts.racing):
            batcher.slow_down(self.executor.start.call_seconds)

    @property
    def _batcher(self) -> Batcher:
        return self._parts.racing if self._phases.racing else self._parts.serial

    def _room(self) -> int:
        """Return how many programs may run before there is something else to do."""
        if self._restore_each:
            return 1
        return min(self._runs, self._rest_at) - self.counts.programs

    def rest_after(self, programs: int) -> None:
        """Have the guest at rest once so many more programs ran, to look at it then."""
        self._rest_at = self.counts.programs + programs

    def run(self, batch: list[Candidate], asked: bytes | None) -> None:
        """Run a batch, and make the next one of ``asked`` meanwhile.

        With None, it is a program of the corpus.
        """
        if self.counts.programs >= self._runs:
            self.finish()
        if not self.counts.fuzzing:
            self.executor.look()
            if self.executor.start.is_too_long and self.feedback.seen:
                # libFuzzer forgets what covers nothing.
                self._parts.imports.put_off(batch[-1].program)
                return
        begun, self._begun = self._begun, False
        if not begun:
            self._drain()
            self._crashes.find_causes()
            if not self._phases.racing:
                self._comparisons.run()
            self.counters.clear()
            self._pipeline.begin(batch, until_new=not self._phases.racing)
        if asked is not None:
            self._go_on(batch, asked)
        self._finish_batch(batch, known=True, mutant=asked is not None)
        self._parts.reporter.publish_if_due()

    def _go_on(self, batch: list[Candidate], asked: bytes) -> None:
        """Leave the guest what to do when it is done with a batch, and make more."""
        self._prepare(asked)
        room = self._room() - len(batch)
        more = room > 0 and not self._phases.ends_after(batch)
        rests = self._comparisons.wants_rest or self._tally.is_due()
        if batch[0].cost == ALONE:
            return
        if more and not rests:
            self._pipeline.follow(self._batcher.take(asked, room))
        self._comparisons.learn()
        self._prepare(asked)

    def _prepare(self, asked: bytes) -> None:
        """Make candidates while others run, to have them ready."""
        with self._observer.ahead():
            self._batcher.fill(asked)

    def _drain(self) -> None:
        """Let the guest end what it was given, if libFuzzer wants something else to run."""
        while self._pipeline.next:
            self._finish_batch(self._pipeline.advance(), known=False, mutant=True)

    def _finish_batch(self, batch: list[Candidate], *, known: bool, mutant: bool) -> None:
        """Await the programs that run, and look at what there is to look at.

        ``known``: libFuzzer knows of the last one, which may be a ``mutant``.
        """
        counts, header = self.counts, self._channel.header
        answered = self.executor.await_answer(self._pipeline.number)
        quiet = self._pipeline.is_over()
        at = len(batch) - 1 if quiet else min(header.batch_at, len(batch) - 1)
        self._comparisons.end_batch()
        programs = [each.program for each in batch[: at + 1]]
        last = programs[-1]
        racing = self._phases.racing
        self.executor.history.extend(programs[:-1])
        # Also of one that crashes, on whatever machine: a driver that does so again and again is
        # raced as well, and races end.
        self._phases.spend(batch[: at + 1])
        if not quiet:
            left = [*batch[at + 1 :], *self._pipeline.take_back()]
            if not racing:
                self._parts.serial.put_back(left)
        if not answered and not quiet:
            self._crashes.lose(last)
            return
        slowest, ticks = self._channel.slowest(self._pipeline.number)
        if ticks > self._crashes.slow_ticks and slowest <= at:
            self._crashes.note_ticks(programs[slowest], ticks)
        counts.programs += at + 1
        counts.calls += self._pipeline.calls(len(batch) + len(self._pipeline.next))
        self._observer.ran(programs)
        if quiet:
            self._aside.passed(programs, self.executor.history)
            self.executor.history.append(last)
            if known and not racing:
                # All of it is known. The guest has not been given the batch after the next yet,
                # so its counters are still there.
                self.feedback.pass_over()
            return
        self._aside.passed(programs[:-1], self.executor.history)
        if (header.log_length or header.status or header.waited) and self._crashes.examine(last):
            return
        self.executor.history.append(last)
        self._tally.note(last, self._channel.errors(), self.executor.preloaded)
        if not racing and known and at == len(batch) - 1:
            self.feedback.judge(last, mutant=mutant)
        elif not racing:
            self.feedback.judge_earlier(last, is_new=bool(header.batch_new))
        if self._tally.asks_why_closed():
            self._parts.rerun.run(OPEN_FIRST)
            self._tally.note(OPEN_FIRST, self._channel.errors())
        if self._phases.is_over or self._restore_each:
            self._begin_phase()

    def _begin_phase(self) -> None:
        """Go on with a fresh machine, for another kind of programs if it is time for that."""
        varies = bool(self.counts.fuzzing) and not self._restore_each
        self._parts.racing.drop()
        self.rotation.begin_phase(
            may_race=varies,
            may_preload=varies and self._preloads,
            # What waits to be run was not made for another machine.
            waiting=any(source.is_waiting for source in self._engine.alone),
        )

    def finish(self) -> None:
        """End the worker after the programs asked for."""
        self._parts.reporter.finish()
        self._parts.imports.write()
        self.executor.close()
        os._exit(0)
