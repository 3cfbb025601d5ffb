# SPDX-License-Identifier: Apache-2.0
"""The fuzzing loop of one worker: hands batches to a machine and evaluates their outcome."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
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
from fuzzer.engine.leaning import Lean
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

# Programs that run on a machine before it is replaced by a fresh one, more if they are small.
# This bounds the history of a crash, and sets how often there are phases of races.
RESTORE_EVERY = 10_000


@dataclass(frozen=True, slots=True)
class LoopOptions:
    """Options of a worker's loop. ``runs`` is the number of programs to run; None: until ended.

    The worker has this ``number`` among so many ``workers``. With ``preloads`` some
    machines are preloaded: their module was loaded with other parameters. ``lean`` is the
    part of the driver that counts most.
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
    lean: Lean = field(default_factory=Lean)


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of a loop, which :mod:`fuzzer.engine.assembly` puts together.

    ``serial`` and ``racing`` are the batchers for the two kinds of phases.
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
    """Hands batches of programs to an executor and evaluates their outcome.

    While the guest runs a batch, the next one is made, of the program that libFuzzer last
    asked to have mutated, and left where the guest finds it: the guest does not wait for
    the host. It runs programs one after the other until one covers something new or the
    kernel prints something; the host looks at these programs only. libFuzzer sees the last
    program of a batch. An earlier one that covers something new is run next, alone, for
    libFuzzer to see.

    Serial phases alternate with short phases of races, in which parts of programs run on
    several threads, on machines with several vCPUs. Coverage of races depends on luck and
    does not count.

    A machine may be preloaded: calls have loaded its module with other parameters of the
    description, and it stays loaded so. Programs that run there begin with these calls,
    which the guest skips. So they do the same as elsewhere, at the cost of a plain program.
    """

    def __init__(self, parts: Parts, options: LoopOptions) -> None:
        self.executor = parts.executor
        self.counts = parts.counts
        """The counts of the worker."""
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
        # True if the guest has begun the next batch by itself.
        self._begun = False
        self._runs = sys.maxsize if options.runs is None else options.runs
        self._rest_at = sys.maxsize
        self._preloads = options.preloads and options.mechanisms.lifecycle
        self._restore_each = parts.executor.guest.target.reset.kind is ResetKind.RESTORE

    def next_batch(self, asked: bytes) -> list[Candidate]:
        """Return the next batch; ``asked`` is the program that libFuzzer asks to have mutated."""
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
        """Begin to mutate: all programs to start from have run, or were put off."""
        self.counts.fuzzing = 1
        self._parts.reporter.publish()
        for batcher in (self._parts.serial, self._parts.racing):
            batcher.slow_down(self.executor.start.call_seconds)

    @property
    def _batcher(self) -> Batcher:
        return self._parts.racing if self._phases.racing else self._parts.serial

    def _room(self) -> int:
        """Return the number of programs that may run before there is something else to do."""
        if self._restore_each:
            return 1
        return min(self._runs, self._rest_at) - self.counts.programs

    def rest_after(self, programs: int) -> None:
        """Bring the guest to rest after so many more programs, to look at it then."""
        self._rest_at = self.counts.programs + programs

    def run(self, batch: list[Candidate], asked: bytes | None) -> None:
        """Run a batch, and make the next one meanwhile.

        ``asked`` is the program that libFuzzer asked to have mutated; None: the batch is a
        program of the corpus.
        """
        if self.counts.programs >= self._runs:
            self.finish()
        if not self.counts.fuzzing:
            self.executor.look()
            if self.executor.start.is_too_long and self.feedback.seen:
                # libFuzzer drops programs that cover nothing.
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
        """Post the batch that the guest runs after this one, and make more candidates."""
        self._prepare(asked)
        room = self._room() - len(batch)
        more = room > 0 and not self._phases.ends_after(batch)
        rests = self._tally.is_due()
        rests |= self._comparisons.asks_for_rest()
        if batch[0].cost == ALONE:
            return
        if more and not rests:
            self._pipeline.follow(self._batcher.take(asked, room))
        self._comparisons.learn()
        self._prepare(asked)

    def _prepare(self, asked: bytes) -> None:
        """Make candidates ahead, while others run."""
        with self._observer.ahead():
            self._batcher.fill(asked)

    def _drain(self) -> None:
        """Finish the batches that the guest has, as libFuzzer wants to run another program."""
        while self._pipeline.next:
            self._finish_batch(self._pipeline.advance(), known=False, mutant=True)

    def _finish_batch(self, batch: list[Candidate], *, known: bool, mutant: bool) -> None:
        """Await the programs of a batch, and evaluate their outcome.

        With ``known``, libFuzzer asked to run the last one; it is a program of the corpus
        unless it is a ``mutant``.
        """
        counts, header = self.counts, self._channel.header
        answered = self.executor.await_answer(self._pipeline.number)
        quiet = self._pipeline.is_over()
        at = len(batch) - 1 if quiet else min(header.batch_at, len(batch) - 1)
        self._comparisons.end_batch(at + 1)
        programs = [each.program for each in batch[: at + 1]]
        last = programs[-1]
        racing = self._phases.racing
        self.executor.history.extend(programs[:-1])
        # Programs that crash count as well, though their machine is replaced: else a driver that
        # crashes again and again would never be raced, or its races would never end.
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
                # No coverage is new. The guest has not been given the batch after the next yet,
                # so the counters of this batch are still there.
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
        """Begin the next phase on a fresh machine."""
        varies = bool(self.counts.fuzzing) and not self._restore_each
        self._parts.racing.drop()
        self.rotation.begin_phase(
            may_race=varies,
            may_preload=varies and self._preloads,
            # Programs that wait to be run were made for a machine like the present one.
            waiting=any(source.is_waiting for source in self._engine.alone),
        )

    def finish(self) -> None:
        """End the worker after the programs asked for."""
        self._parts.reporter.finish()
        self._parts.imports.write()
        self.executor.close()
        os._exit(0)
