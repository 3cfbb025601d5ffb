# SPDX-License-Identifier: Apache-2.0
"""The fuzzing loop of one worker: libFuzzer on one side, a machine on the other."""

from __future__ import annotations

import ctypes
import os
import random
import sys
from dataclasses import dataclass
from pathlib import Path

from fuzzer.engine.aside import Aside
from fuzzer.engine.batcher import Batcher
from fuzzer.engine.buckets import features_of
from fuzzer.engine.candidate import ALONE, Candidate
from fuzzer.engine.crashes import CrashObserver
from fuzzer.engine.executor import WorkerExecutor
from fuzzer.engine.hint_stage import HintStage
from fuzzer.engine.import_queue import ImportQueue
from fuzzer.engine.libfuzzer import LibFuzzer
from fuzzer.engine.phases import Phases
from fuzzer.engine.pipeline import Pipeline
from fuzzer.engine.race_slots import RaceSlots
from fuzzer.engine.seed_scheduler import SeedScheduler, slow_weight
from fuzzer.engine.sources import (
    CandidateMaker,
    Generation,
    Hints,
    Imports,
    Mutation,
    News,
    Races,
    Source,
    Triaged,
    WaitingSource,
    in_order,
)
from fuzzer.engine.statistics import WorkerStatistics
from fuzzer.engine.tally import OPEN_FIRST, TallyFile, tally_file
from fuzzer.engine.triage import Triage
from fuzzer.machine.channel import PATH_COUNTERS, PROGRAM_SIZE
from fuzzer.program.cost import is_slow
from fuzzer.program.mechanisms import ALL, Mechanisms
from fuzzer.program.mutate import Mutator
from fuzzer.program.wire import split
from fuzzer.target.target import ResetKind

# How many programs run on a machine before it is replaced by a fresh one, more if they
# are small. It bounds the history of a crash, and says how often there are races.
RESTORE_EVERY = 10_000
_PUBLISH_EVERY = 256


@dataclass(frozen=True, slots=True)
class LoopOptions:
    """What a worker's loop needs to know. ``runs`` of None: until ended.

    It is the one of this ``number`` among so many ``workers``. With ``settles``
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
    settles: bool = True


class Loop:
    """Has an executor run what libFuzzer asks for, and looks at what came of it.

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

    def __init__(
        self,
        executor: WorkerExecutor,
        fuzzer: LibFuzzer,
        options: LoopOptions,
    ) -> None:
        self.executor = executor
        guest = executor.guest
        executor.while_waiting = self._publish
        self._phases = Phases(
            options.restore_every,
            random.Random(options.seed + 2).random,
            RaceSlots(options.workdir),
        )
        mechanisms = options.mechanisms
        self.options = options
        self._channel = executor.channel
        self._n_blocks = len(guest.blocks)
        self.statistics = WorkerStatistics(
            options.workdir / f"{options.name}.stats", self._n_blocks
        )
        self._tally = TallyFile(tally_file(options.workdir, options.name))
        self._beginning = executor.start
        self._aside = Aside()
        self._covered = 0
        self._random_seen = 0
        self._triage = Triage(self._run_again, self._n_blocks)
        self._imports = ImportQueue(options.workdir, options.number, options.workers)
        self._n_counters = self._n_blocks + PATH_COUNTERS
        self._guest_counters = self._channel.counters(self._n_counters)
        # What libFuzzer sees: the guest may be counting for the next batch already.
        own = (ctypes.c_uint8 * self._n_counters)()
        self.counters = memoryview(own).cast("B")
        fuzzer.register_counters(ctypes.addressof(own), self._n_counters)
        self._mutator = Mutator(
            guest.target,
            random.Random(options.seed),
            fuzzer.mutate_bytes,
            min_calls=options.min_calls,
            max_calls=options.max_calls,
            mechanisms=mechanisms,
        )
        self._by_coverage = mechanisms.coverage
        self._hints = HintStage(fuzzer, options.max_calls) if mechanisms.hints else None
        waits = not guest.template.hardware.is_virtual
        weight = slow_weight(guest.template.accel, executor.load_seconds if waits else 0.0)
        self._scheduler = SeedScheduler(random.Random(options.seed + 1), weight)
        self._crashes = CrashObserver(
            executor,
            self._aside,
            self._scheduler,
            counts=self.statistics.counts,
            workdir=options.workdir,
            name=options.name,
            renew=self.restore,
            publish=self._publish,
        )
        self._asked: bytes | None = None
        maker = CandidateMaker(executor, self._aside, self._scheduler)
        self._found = News(maker)
        self._alone: tuple[WaitingSource, ...] = (self._found, Triaged(self._triage, maker))
        batched: list[Source] = []
        if self._by_coverage:
            batched.append(Imports(self._imports, self._scheduler, maker))
            if self._hints:
                batched.append(Hints(self._hints, self._scheduler, maker))
            batched.append(Mutation(self._mutator, self._scheduler, maker))
        else:
            batched.append(Generation(self._mutator, self._scheduler, maker))
        self._batcher = Batcher(in_order(*batched))
        self._race_batcher = Batcher(in_order(Races(self._mutator, self._scheduler, maker)))
        # What libFuzzer is about to run: the end of a batch, or a program of its own.
        self._batch: list[Candidate] = []
        # Whether the guest has begun with that batch by itself.
        self._begun = False
        # Batches until contexts that were found count.
        self._equip_after = 0
        self._pipeline = Pipeline(self._channel)
        self._published = 0
        self._fuzzing = False
        self._settles = options.settles and mechanisms.lifecycle
        # With a reset by calls, a program more costs little.
        self._shortens = guest.target.reset.kind not in {ResetKind.RELOAD, ResetKind.RESTORE}
        self._restore_each = guest.target.reset.kind is ResetKind.RESTORE

    def mutate(self, data: bytes, max_size: int, seed: int) -> bytes:
        """libFuzzer's custom mutator. ``seed`` is not used: the loop's own is."""
        if not self._fuzzing:
            self._begin()
        self._asked = data
        if self._pipeline.next:
            self._batch = self._pipeline.advance()
            self._begun = True
            return self._batch[-1].program[:max_size]
        if not self._phases.racing:
            for source in self._alone:
                if (candidate := source.next(data)) is not None:
                    return candidate.program[:max_size]
        self._batch = self._ready.take(data, max(1, self.room()))
        return self._batch[-1].program[:max_size]

    def _begin(self) -> None:
        """All programs to start from have run, or were put off."""
        self._fuzzing = True
        self.statistics.counts.fuzzing = 1
        self._publish()
        for batcher in (self._batcher, self._race_batcher):
            batcher.slow_down(self._beginning.call_seconds)
        self._shortens &= not self._beginning.is_slow

    def _publish(self) -> None:
        if not self._fuzzing:
            self.executor.look()
            self.statistics.counts.call_us = int(1e6 * self._beginning.call_seconds)
            self.statistics.counts.idle = int(100 * self._beginning.idle_share)
        self._published = self.statistics.counts.programs
        self.statistics.publish(self._covered)
        self._tally.write()
        self._crashes.publish()

    @property
    def _ready(self) -> Batcher:
        return self._race_batcher if self._phases.racing else self._batcher

    def room(self) -> int:
        """Return how many programs may run before there is something else to do."""
        if self._restore_each:
            return 1
        if self.options.runs is None:
            return sys.maxsize
        return self.options.runs - self.statistics.counts.programs

    def run_one(self, data: bytes) -> None:
        """libFuzzer's callback: run a program, or the batch that it is the last of."""
        counts = self.statistics.counts
        if self.options.runs is not None and counts.programs >= self.options.runs:
            self.finish()
        if not self._fuzzing:
            self.executor.look()
        if not self._fuzzing and self._beginning.is_too_long and self._triage.seen:
            # libFuzzer forgets what covers nothing.
            self._imports.put_off(data)
            return
        batch, self._batch = self._batch, []
        asked, self._asked = self._asked, None
        begun, self._begun = self._begun, False
        if not begun:
            self._drain()
            self._crashes.find_causes()
            if self._hints and not self._phases.racing:
                while (program := self._hints.wanted()) is not None:
                    self._compare(program)
            batch = batch or [Candidate(data[:PROGRAM_SIZE])]
            self._channel.clear_counters(self._n_counters)
            self._pipeline.begin(batch, until_new=not self._phases.racing)
        if asked is not None:
            self._go_on(batch, asked)
        self._finish_batch(batch, known=True, mutant=asked is not None)
        if counts.programs - self._published >= _PUBLISH_EVERY or self._beginning.is_time():
            self._publish()

    def _go_on(self, batch: list[Candidate], asked: bytes) -> None:
        """Leave the guest what to do when it is done with a batch, and make more."""
        self.prepare(asked)
        room = self.room() - len(batch)
        more = room > 0 and not self._phases.ends_after(batch)
        rests = self._equip_after == 1 or self._tally.is_due()
        if more and batch[0].cost != ALONE and not rests:
            self._pipeline.follow(self._ready.take(asked, room))
        if batch[0].cost != ALONE:
            self._learn()
            self.prepare(asked)

    def _drain(self) -> None:
        """Let the guest end what it was given, if libFuzzer wants something else to run."""
        while self._pipeline.next:
            self._finish_batch(self._pipeline.advance(), known=False, mutant=True)

    def _finish_batch(self, batch: list[Candidate], *, known: bool, mutant: bool) -> None:
        """Await the programs that run, and look at what there is to look at.

        ``known``: libFuzzer knows of the last one, which may be a ``mutant``.
        """
        counts, header = self.statistics.counts, self._channel.header
        answered = self.executor.await_answer(self._pipeline.number)
        quiet = self._pipeline.is_over()
        at = len(batch) - 1 if quiet else min(header.batch_at, len(batch) - 1)
        if self._equip_after:
            self._equip_after -= 1
            if not self._equip_after:
                self.executor.equip()
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
                self._batcher.put_back(left)
        if not answered and not quiet:
            self._crashes.lose(last)
            return
        slowest, ticks = self._channel.slowest(self._pipeline.number)
        if ticks > self._crashes.slow_ticks and slowest <= at:
            self._crashes.note_ticks(programs[slowest], ticks)
        counts.programs += at + 1
        counts.calls += self._pipeline.calls(len(batch) + len(self._pipeline.next))
        self.account(programs)
        if quiet:
            self._aside.passed(programs, self.executor.history)
            self.executor.history.append(last)
            if known and not racing and self._by_coverage:
                # All of it is known. The guest has not been given the batch after the next yet,
                # so these are still the counters of this one.
                self.counters[:] = self._channel.last_counters(self._n_counters)
            return
        self._aside.passed(programs[:-1], self.executor.history)
        if (header.log_length or header.status or header.waited) and self._crashes.examine(last):
            return
        self.executor.history.append(last)
        self._tally.note(last, self._channel.errors(), self.executor.preloaded)
        if not racing and known and at == len(batch) - 1:
            self._note_coverage(last, mutant)
        elif not racing:
            self._note_earlier(last, new=bool(header.batch_new))
        if self._tally.asks_why_closed():
            self._run_again(OPEN_FIRST)
            self._tally.note(OPEN_FIRST, self._channel.errors())
        if self._phases.is_over or self._restore_each:
            self._change_machine()

    def account(self, programs: list[bytes]) -> None:
        """Take note of programs that ran; what measures the loop overrides it."""

    def _note_earlier(self, program: bytes, *, new: bool) -> None:
        """Look at a program that ended its batch, and is not the one libFuzzer knows of."""
        if not self._by_coverage:
            self._note_coverage(program, mutant=True)
            return
        if new:
            self._found.enqueue(program)

    def _note_coverage(self, data: bytes, mutant: bool) -> None:
        if not self._by_coverage:
            n_blocks = self._n_blocks
            self._covered |= int.from_bytes(self._guest_counters[:n_blocks], "little")
            self._random_seen |= features_of(self._guest_counters, n_blocks)
            self._channel.write_seen(self._random_seen, self._n_counters)
        elif self._triage.is_new(self._guest_counters):
            self._consider(data, mutant)
        else:
            self.counters[:] = self._guest_counters

    def _consider(self, data: bytes, mutant: bool) -> None:
        """Let libFuzzer see of a program with new coverage what it should."""
        self._imports.note(data)
        # What others or an earlier campaign stored is as short as it was then.
        settled = self.executor.preloaded
        shortened = mutant and self._shortens and not is_slow(split(data.removeprefix(settled)))
        verdict = self._triage.consider(
            data,
            bytes(self._guest_counters),
            shortened=shortened,
            settled=settled,
            repeated_already=self._beginning.is_slow,
        )
        self.counters[:] = verdict.counters
        self.statistics.counts.flaky += verdict.flaky
        if verdict.kept:
            self._covered = self._triage.covered
            self._channel.write_seen(self._triage.seen, self._n_counters)
            self._mutator.note(data)
            self._scheduler.note(data)
            if self._hints:
                self._hints.want(data)

    def _run_again(self, program: bytes) -> bytes | None:
        """Run a program that does not count, for libFuzzer did not ask for it; None: it crashed."""
        if self._restore_each:
            self.restore()
        self._channel.clear_counters(self._n_counters)
        self._channel.post_program(program)
        passed = self._crashes.has_passed(program, even_waiting=True)
        return bytes(self._guest_counters) if passed else None

    def _change_machine(self) -> None:
        """Go on with a fresh machine, of several vCPUs if it is time for races."""
        may_race = self.executor.can_race and self._fuzzing and not self._restore_each
        self._phases.change(may_race=may_race)
        self._race_batcher.drop()
        if self._settles and self._fuzzing and not self._restore_each:
            # What waits to be run was not made for another one.
            free = not any(source.is_waiting for source in self._alone)
            self._preload_with(self._phases.settlement(self._mutator.settlement) if free else b"")
        self.restore()

    def _preload_with(self, calls: bytes) -> None:
        if calls != self.executor.preloaded:
            self._batcher.change_start(self.executor.preloaded, calls)
            self.executor.preloaded = calls
            self._race_batcher.drop()
            self._scheduler.settle(calls)

    def race_from_now_on(self) -> None:
        """Have all further programs make calls on several threads, to measure how fast that is."""
        self._phases.race_from_now_on()
        self.restore()

    def _compare(self, program: bytes) -> None:
        """Run a program again to see what the driver compares with what."""
        assert self._hints is not None
        self._channel.post_comparing(program)
        if self._crashes.has_passed(program):
            self._hints.note(program, self._channel.comparisons(), self._channel.results())

    def _learn(self) -> None:
        """Make hints of what the driver compared, while the guest works."""
        if self._hints is None:
            return
        if self.executor.learn_contexts(sorted(self._hints.learn())):
            # The next batch may have begun or not: what it covers must not depend on that.
            self._equip_after = 2

    def prepare(self, asked: bytes) -> None:
        """Make programs while others run, to have them ready."""
        self._ready.fill(asked)

    def restore(self) -> None:
        """Replace the machine by a fresh one."""
        # Others may race once the last machine that did is gone.
        self.executor.close()
        self._phases.release_slot()
        self.executor.races = self._phases.racing
        self.executor.renew()
        self.statistics.counts.restores += 1
        if self.executor.preloaded:
            self._preload()

    def _preload(self) -> None:
        """Load the module with other parameters for all programs that this machine will run."""
        calls, header = self.executor.preloaded, self._channel.header
        answered = self.executor.preload()
        if answered and self.executor.has_loaded_well():
            return
        self._preload_with(b"")
        if not answered:
            self._crashes.lose(calls)
        elif not (header.log_length or header.status) or not self._crashes.examine(calls):
            self.restore()

    def finish(self) -> None:
        """End the worker after the programs asked for."""
        self._publish()
        self._tally.write(now=True)
        self._imports.write()
        self.executor.close()
        os._exit(0)
