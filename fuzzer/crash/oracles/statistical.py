# SPDX-License-Identifier: Apache-2.0
"""Oracle for races: accepts a reproducer whose crash rate is no worse than the original's.

A race is won or lost anew in each run. So a reproducer runs until a sequential test tells
its rate from a worse one; the number of runs follows from the rate. A program with fewer
calls may show the crash less often in a run, as it runs more often in the same time.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import TypeAlias

from fuzzer.crash.oracles.deterministic import Effort, Matcher, Search, Shown, observed
from fuzzer.crash.rate import Rate, SequentialTest
from fuzzer.crash.reproducer import Reproducer
from fuzzer.crash.series import HistoryRunner, Series, SeriesExecutor
from fuzzer.machine.executor import Testbed
from fuzzer.program.wire import split
from fuzzer.splat.splat import Splat

ERROR = 0.02
"""The probability with which a step is accepted, or rejected, by luck."""

# The most runs on one machine, seconds after which no further ones begin there, and runs after
# which a reproducer that never crashed is given up.
_RACE_RUNS, _RACE_SECONDS = 1000, 2.0
_MOST_RUNS = 20_000
# Crashes after which a rate is known well enough.
_BASELINE_HITS = 8

Sampler: TypeAlias = Callable[[Reproducer], tuple[Splat | None, int]]
"""Runs a reproducer on a fresh machine, perhaps repeatedly; returns the splat that ended
it and the number of runs."""


def racing_sample(guest: Testbed, match: Matcher) -> Sampler:
    """Return a function that runs a program with threads many times on a machine.

    If all programs begin with calls that load the module, the machine is preloaded by these.
    """

    def sample(reproducer: Reproducer) -> tuple[Splat | None, int]:
        with SeriesExecutor(guest.restore, match) as executor:
            before, program = reproducer.history, reproducer.program
            if executor.load_for([*before, program]) or executor.run_all(before):
                return None, 1
            series = Series(match)
            machine = executor.machine
            number, end = 1, machine.now() + _RACE_SECONDS
            while number < _RACE_RUNS and machine.now() < end:
                outcome = executor.run(program)
                if series.note(outcome, number):
                    return outcome.splat, number
                number += 1
            return executor.run(program, late=True).splat, number

    return sample


def single_sample(observe: HistoryRunner) -> Sampler:
    """Return a function that runs any reproducer once on a machine."""
    return lambda reproducer: (observed(observe, reproducer).splat, 1)


def measure(
    sample: Sampler,
    match: Matcher,
    reproducer: Reproducer,
    most_runs: int,
    has_time: Callable[[], bool] = lambda: True,
) -> Generator[None, None, Rate]:
    """Measure the rate at which a reproducer shows the crash; yields between machines."""
    hits = runs = 0
    while hits < _BASELINE_HITS and runs < most_runs and has_time():
        splat, count = sample(reproducer)
        hits += splat is not None and match(splat)
        runs += count
        yield
    return Rate(hits, runs)


class RateTrials:
    """Tries reproducers against a known rate.

    With ``calls``, the number of calls of the program that showed that rate, rates are
    compared for each call of a program, not for each run.
    """

    def __init__(
        self,
        sample: Sampler,
        match: Matcher,
        rate: Rate,
        *,
        error: float = ERROR,
        calls: int | None = None,
    ) -> None:
        self._sample = sample
        self._match = match
        self._rate = rate
        self._error = error
        self._calls = calls
        self.effort = Effort()

    def first(self, batch: Sequence[Reproducer]) -> Search:
        """Return the first of a batch whose rate is not worse."""
        for index, reproducer in enumerate(batch):
            splat = yield from self._as_often(reproducer)
            if splat:
                return Shown(index, reproducer, splat)
        return None

    def _as_often(self, reproducer: Reproducer) -> Generator[None, None, Splat | None]:
        known = self._rate.estimate
        if self._calls:
            # A program may have no calls if its history is enough for the crash.
            known *= min(1.0, max(1, len(split(reproducer.program))) / self._calls)
        test = SequentialTest(known, self._error)
        shown: Splat | None = None
        total = 0
        while test.decision is None and total < _MOST_RUNS:
            splat, runs = self._sample(reproducer)
            is_hit = splat is not None and self._match(splat)
            shown = splat if is_hit else shown
            test.note(int(is_hit), runs)
            total += runs
            self.effort.runs += runs
            self.effort.restores += 1
            yield
        return shown if test.decision else None

    def close(self) -> None:
        """End no machines: each ends with its run."""
