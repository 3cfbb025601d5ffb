# SPDX-License-Identifier: Apache-2.0
"""Feedback on the host: decides how much of a program's coverage libFuzzer sees.

The guest decides whether a program covers something new (``vm/executor/coverage.c``), and
ends the batch there. The feedback then decides which of it counts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from fuzzer.engine.buckets import features_of
from fuzzer.engine.counters import Counters
from fuzzer.engine.executor import WorkerExecutor
from fuzzer.engine.import_queue import ImportQueue
from fuzzer.engine.statistics import WorkerCounts
from fuzzer.engine.triage import Triage
from fuzzer.program.cost import is_slow
from fuzzer.program.wire import split
from fuzzer.target.target import ResetKind


class Feedback(Protocol):
    """Judges the coverage of programs, in serial phases."""

    @property
    def seen(self) -> int:
        """The features that are no longer interesting."""

    @property
    def covered(self) -> int:
        """The features of the blocks that are covered."""

    def pass_over(self) -> None:
        """Deal with a program that libFuzzer ran, and that covers nothing new."""

    def judge(self, program: bytes, *, mutant: bool) -> None:
        """Decide which counters of a program that it ran libFuzzer sees."""

    def judge_earlier(self, program: bytes, *, is_new: bool) -> None:
        """Judge a program that ended its batch, and that libFuzzer did not ask to run."""


class CoverageFeedback:
    """Lets libFuzzer keep programs that cover something new each time they run.

    ``keep`` are told of programs that enter the corpus, ``note_reached`` of these with the
    counters of their blocks; ``enqueue`` takes a program that libFuzzer did not ask to run, to
    be run again for it.
    """

    def __init__(
        self,
        executor: WorkerExecutor,
        counters: Counters,
        counts: WorkerCounts,
        triage: Triage,
        imports: ImportQueue,
        *,
        keep: Sequence[Callable[[bytes], None]],
        enqueue: Callable[[bytes], None],
        note_reached: Callable[[bytes, bytes], None] = lambda program, counters: None,
    ) -> None:
        self._executor = executor
        self._counters = counters
        self._counts = counts
        self._triage = triage
        self._imports = imports
        self._keep = keep
        self._enqueue = enqueue
        self._note_reached = note_reached
        # With a reset by calls, another run costs little.
        kind = executor.guest.target.reset.kind
        self._shortens = kind not in {ResetKind.RELOAD, ResetKind.RESTORE}

    @property
    def seen(self) -> int:
        """The features seen so far, all of which repeated."""
        return self._triage.seen

    @property
    def covered(self) -> int:
        """The features of the blocks that are covered."""
        return self._triage.covered

    def pass_over(self) -> None:
        """Show libFuzzer the counters of the last batch: the guest has begun the next one."""
        self._counters.show_last()

    def judge(self, program: bytes, *, mutant: bool) -> None:
        """Show libFuzzer the new coverage that repeats, unless a shorter program has it too."""
        if self._triage.is_new(self._counters.guest):
            self._consider(program, mutant=mutant)
        else:
            self._counters.show(self._counters.guest)

    def judge_earlier(self, program: bytes, *, is_new: bool) -> None:
        """Enqueue the program for libFuzzer to run next if it covers something new."""
        seen = self._triage.seen
        if is_new and not self._triage.is_late(program, bytes(self._counters.guest)):
            self._enqueue(program)
        self._tell_seen(seen)

    def _tell_seen(self, before: int) -> None:
        if self._triage.seen != before:
            self._counters.write_seen(self._triage.seen)

    def _consider(self, program: bytes, *, mutant: bool) -> None:
        self._imports.note(program)
        preloaded, start = self._executor.preloaded, self._executor.start
        seen = self._triage.seen
        # Programs that others or an earlier campaign stored were shortened then.
        shortened = mutant and self._shortens and not start.is_slow
        verdict = self._triage.consider(
            program,
            bytes(self._counters.guest),
            shortened=shortened and not is_slow(split(program.removeprefix(preloaded))),
            preloaded=preloaded,
            repeated_already=start.is_slow,
        )
        self._counters.show(verdict.counters)
        self._counts.flaky += verdict.flaky
        self._tell_seen(seen)
        if verdict.kept:
            self._note_reached(program, verdict.counters[: self._counters.n_blocks])
            for keep in self._keep:
                keep(program)


class CoverageRecord:
    """Records coverage, and shows libFuzzer none of it."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._recorded = 0
        self.covered = 0
        """The features of the blocks that are covered."""

    @property
    def seen(self) -> int:
        """No features: none are interesting."""
        return 0

    def pass_over(self) -> None:
        """Skip the program: its coverage is recorded already."""

    def judge(self, program: bytes, *, mutant: bool) -> None:
        """Record the program's coverage, and tell the guest that it is no longer new."""
        n_blocks = self._counters.n_blocks
        self.covered |= int.from_bytes(self._counters.guest[:n_blocks], "little")
        self._recorded |= features_of(self._counters.guest, n_blocks)
        self._counters.write_seen(self._recorded)

    def judge_earlier(self, program: bytes, *, is_new: bool) -> None:
        """Record the program's coverage."""
        self.judge(program, mutant=True)
