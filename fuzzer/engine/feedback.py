# SPDX-License-Identifier: Apache-2.0
"""Feedback: what is interesting in a run, decided here on the host.

The guest decides whether a program covers something new (``vm/executor/coverage.c``), and
ends the batch there. Which of that counts is decided here, before libFuzzer sees it.
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
    """Looks at what programs covered, in serial phases."""

    @property
    def seen(self) -> int:
        """The features that are no longer interesting."""

    @property
    def covered(self) -> int:
        """The features of the blocks that are covered."""

    def pass_over(self) -> None:
        """Deal with a program that libFuzzer ran, and that covers nothing new."""

    def judge(self, program: bytes, *, mutant: bool) -> None:
        """Look at the counters of a program that libFuzzer ran, and decide what it sees."""

    def judge_earlier(self, program: bytes, *, is_new: bool) -> None:
        """Look at a program that ended its batch, and is not the one that libFuzzer knows of."""


class CoverageFeedback:
    """Lets libFuzzer keep what covers something new each time that it runs.

    ``keep`` are told of programs that enter the corpus, and ``enqueue`` has one run
    again that libFuzzer does not know of.
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
    ) -> None:
        self._executor = executor
        self._counters = counters
        self._counts = counts
        self._triage = triage
        self._imports = imports
        self._keep = keep
        self._enqueue = enqueue
        # With a reset by calls, a program more costs little.
        kind = executor.guest.target.reset.kind
        self._shortens = kind not in {ResetKind.RELOAD, ResetKind.RESTORE}

    @property
    def seen(self) -> int:
        """The features that repeated."""
        return self._triage.seen

    @property
    def covered(self) -> int:
        """The features of the blocks that are covered."""
        return self._triage.covered

    def pass_over(self) -> None:
        """Let libFuzzer see what it covered: the guest has gone on since."""
        self._counters.show_last()

    def judge(self, program: bytes, *, mutant: bool) -> None:
        """Let libFuzzer see what repeats, of a program that is as short as it can be."""
        if self._triage.is_new(self._counters.guest):
            self._consider(program, mutant=mutant)
        else:
            self._counters.show(self._counters.guest)

    def judge_earlier(self, program: bytes, *, is_new: bool) -> None:
        """Have libFuzzer run it next if it covers something new."""
        if is_new:
            self._enqueue(program)

    def _consider(self, program: bytes, *, mutant: bool) -> None:
        self._imports.note(program)
        preloaded, start = self._executor.preloaded, self._executor.start
        # What others or an earlier campaign stored is as short as it was then.
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
        if verdict.kept:
            self._counters.write_seen(self._triage.seen)
            for keep in self._keep:
                keep(program)


class CoverageRecord:
    """Records what is covered, and lets libFuzzer see none of it."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._recorded = 0
        self.covered = 0
        """The features of the blocks that are covered."""

    @property
    def seen(self) -> int:
        """None: nothing is interesting."""
        return 0

    def pass_over(self) -> None:
        """Do nothing: it is recorded already."""

    def judge(self, program: bytes, *, mutant: bool) -> None:
        """Record what the program covered, and spare the guest to look at it once more."""
        n_blocks = self._counters.n_blocks
        self.covered |= int.from_bytes(self._counters.guest[:n_blocks], "little")
        self._recorded |= features_of(self._counters.guest, n_blocks)
        self._counters.write_seen(self._recorded)

    def judge_earlier(self, program: bytes, *, is_new: bool) -> None:
        """Record what the program covered."""
        self.judge(program, mutant=True)
