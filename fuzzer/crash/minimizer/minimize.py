# SPDX-License-Identifier: Apache-2.0
"""Minimizer: makes the reproducer of a crash smaller, for the same bug.

``passes`` proposes smaller reproducers, and an oracle tries them on machines. The result is
shown again on fresh machines; if it does not hold there, an earlier step is taken, at last
the original reproducer.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

from fuzzer.crash.judge import VERIFY_RUNS
from fuzzer.crash.leaks import LEAK
from fuzzer.crash.minimizer.passes import Reduction, minimal, shorter_history
from fuzzer.crash.oracles.deterministic import (
    Effort,
    FreshTrials,
    InfoLeakTrials,
    LeakTrials,
    Matcher,
    ReusingTrials,
    Search,
    Shown,
    Trials,
    matches,
    observed,
)
from fuzzer.crash.oracles.scheduled import ScheduledTrials, unscheduled
from fuzzer.crash.oracles.statistical import RateTrials, measure, racing_sample, single_sample
from fuzzer.crash.outcome import HANG
from fuzzer.crash.poison import INFO_LEAK
from fuzzer.crash.reproducer import Reproducer
from fuzzer.crash.testbeds import UNLOGGED, Testbeds
from fuzzer.machine.channel_layout import BULK_SIZE
from fuzzer.program.conditions import is_racing, one_by_one
from fuzzer.program.ops import Op
from fuzzer.program.program import MAX_CALLS, Call
from fuzzer.program.schedule import is_scheduled
from fuzzer.program.text import reset_program
from fuzzer.program.text_parser import struct_layouts
from fuzzer.program.waiting import note_waits
from fuzzer.program.wire import encode_call, split
from fuzzer.splat.splat import Splat
from fuzzer.target.calls import SleepSpec
from fuzzer.target.target import ResetKind, Target

LIMIT = 600.0
"""Seconds of work after which minimising ends."""

# A race, or another crash, that happens less often than once in so many runs is not minimised.
_RAREST_RACE, _RAREST = 3000, 30
# The share of time after which no wait is looked for that makes a crash certain, and the share
# after which a rate is no longer measured.
_WAITING, _MEASURING = 0.25, 0.5
# The error probability of the final test of a rate, which is stricter than those of the steps.
_FINAL_ERROR = 0.005


@dataclass(frozen=True, slots=True)
class Minimized:
    """The result of minimising.

    ``reproducer`` showed ``splat`` on ``hits`` of ``runs`` fresh machines; ``log`` is the
    kernel's log on the last of these, and ``after`` are the titles of other bugs that it
    reported before. ``complete`` tells that nothing was left to try.
    """

    reproducer: Reproducer
    splat: Splat
    hits: int
    runs: int
    seconds: float
    effort: Effort
    complete: bool
    log: bytes = b""
    after: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Step:
    reproducer: Reproducer
    splat: Splat
    log: bytes = b""
    after: tuple[str, ...] = ()


class Minimizer:
    """Makes a reproducer smaller, a slice at a time.

    ``bug`` is the splat to keep. ``result`` is None while there is work to do, and when the
    crash was not reproduced.
    """

    def __init__(
        self,
        setups: Testbeds,
        target: Target,
        start: Reproducer,
        bug: Splat,
        *,
        seed: int = 1,
        limit: float = LIMIT,
        cores: int | None = None,
    ) -> None:
        # Kernels that report hangs early save 10 s for each candidate; the last run is usual.
        self._setups = setups.hasty() if bug.kind == HANG else setups
        self._target = target
        self._layouts = struct_layouts(target)
        self._reset_calls = reset_program(target)
        self._start = start
        self._bug = bug
        self._match: Matcher = matches(bug)
        self._observe = self._setups.observe(bug.kind, self._match)
        self._observe_last = setups.observe(bug.kind, self._match)
        self._seed = seed
        self._limit = limit
        self._cores = cores or len(os.sched_getaffinity(0))
        self._trail: list[_Step] = []
        self._trials: Trials | None = None
        self._work = self._steps()
        self._is_complete = False
        self.seconds = 0.0
        self.effort = Effort()
        self.result: Minimized | None = None

    @property
    def best(self) -> Reproducer:
        """The smallest reproducer so far."""
        return self._trail[-1].reproducer if self._trail else self._start

    def step(self) -> bool:
        """Work for one slice; tell whether there is more to do.

        Raises:
            LostMachineError: QEMU was killed from outside; what was achieved counts.
        """
        begin = time.monotonic()
        try:
            return next(self._work, self) is not self
        finally:
            self.seconds += time.monotonic() - begin

    def run(self) -> Minimized | None:
        """Work until the end and return the result."""
        try:
            while self.step():
                pass
        finally:
            self.close()
        return self.result

    def hurry(self, seconds: float) -> None:
        """End the work after so many further seconds, plus the time to verify the result."""
        self._limit = min(self._limit, self.seconds + seconds)

    def close(self) -> None:
        """End the machines."""
        if self._trials:
            self._trials.close()

    def _steps(self) -> Iterator[None]:
        start = self._start
        chunks = split(start.program)
        races = is_racing(chunks) and not is_scheduled(chunks) and self._bug.kind not in UNLOGGED
        if races:
            # The crash may need neither threads nor flips.
            alone = one_by_one(chunks)
            serial = Reproducer(b"".join(alone), start.history)
            if splat := (yield from self._shows_each_time(serial)):
                yield from self._reduce_certain(serial, splat)
            else:
                yield from self._try_waiting(alone, each=False)
            if self.result:
                return
            sample = racing_sample(self._setups.racing, self._match)
            most, calls = _RAREST_RACE, len(chunks)
        else:
            if splat := (yield from self._shows_each_time(start)):
                yield from self._reduce_certain(start, splat)
                return
            yield from self._try_waiting(chunks, each=True)
            if self.result:
                return
            sample, most, calls = single_sample(self._observe), _RAREST, 0
        rate = yield from measure(
            sample, self._match, start, most, lambda: self.seconds < _MEASURING * self._limit
        )
        if rate.hits:
            yield from self._reduce_rare(
                start, partial(RateTrials, sample, self._match, rate, calls=calls or None)
            )

    def _try_waiting(self, chunks: Sequence[bytes], *, each: bool) -> Iterator[None]:
        """Find waits with which the calls show the crash each time, and minimise the result.

        Timers of a driver expire at other calls on a slower host. Waits between all calls are
        tried, and then with ``each`` a wait before each single call.
        """
        waits = [spec.milliseconds for spec in self._target.calls if isinstance(spec, SleepSpec)]
        if not waits or self._bug.kind in UNLOGGED or is_racing(chunks):
            return
        wait = encode_call(Call(Op.SLEEP, arg=max(map(max, waits))))
        made = [wait.join(chunks)] if 2 * len(chunks) < MAX_CALLS else []
        if each:
            places = reversed(range(1, len(chunks)))
            made += [b"".join((*chunks[:at], wait, *chunks[at:])) for at in places]
        for program in made:
            if self.seconds >= _WAITING * self._limit:
                return
            waiting = Reproducer(program)
            if splat := (yield from self._shows_each_time(waiting)):
                yield from self._reduce_certain(waiting, splat)
                return

    def _shows_each_time(self, found: Reproducer) -> Generator[None, None, Splat | None]:
        """Return the splat of a reproducer that shows the crash on each of some machines."""
        splat: Splat | None = None
        for _ in range(VERIFY_RUNS):
            splat = observed(self._observe, found).splat
            yield
            if splat is None or not self._match(splat):
                return None
        return splat

    def _reduce_certain(self, start: Reproducer, splat: Splat) -> Iterator[None]:
        """Minimise a reproducer that shows its crash each time."""
        self._trail = [_Step(start, splat)]
        if start.history:
            self._use(self._fresh(start))
            yield from self._drive(shorter_history(start, self._reset_calls))
        begin = self._trail[:]
        for careful in (False, True):
            self._trail = begin[:]
            yield from self._reduce_program(self.best, careful=careful)
            self._use(None)
            yield
            # Earlier programs on a machine may have had a part in a crash; then all is done again.
            if careful or (yield from self._verify(self._trail[-1])):
                break
        for step in reversed(self._trail):
            if self.result is None:
                yield from self._verify(step)

    def _reduce_program(self, found: Reproducer, *, careful: bool) -> Iterator[None]:
        """Minimise the program itself, with the rest of its history."""
        failed: set[Reproducer] | None = set()
        if is_scheduled(split(found.program)):
            # A program that fails with one schedule may show the crash with another.
            failed = None
            exact = self._setups.exact
            self._use(ScheduledTrials(exact, self._match, self._bug, found, self._seed))
            found = unscheduled(found)
        elif found.history or not self._resets():
            self._use(self._fresh(found))
        elif self._bug.kind == LEAK:
            self._use(LeakTrials(self._setups, self._match, careful=careful))
        elif self._bug.kind == INFO_LEAK:
            self._use(InfoLeakTrials(self._setups, self._match, careful=careful))
        else:
            self._use((yield from self._reusing(found, careful=careful)))
        yield
        yield from self._drive(minimal(found, self._layouts, self._reset_calls), failed)

    def _verify(self, step: _Step) -> Generator[None, None, bool]:
        """Show a crash on several fresh machines; if it shows on each, keep it as the result."""
        for observe in (*[self._observe] * (VERIFY_RUNS - 1), self._observe_last):
            outcome = observed(observe, step.reproducer)
            if outcome.splat is None or not self._match(outcome.splat):
                return False
            found = step.reproducer
            noted = replace(found, program=note_waits(found.program, outcome.waited))
            step = _Step(noted, outcome.splat, outcome.log, outcome.others)
            yield
        self._finish(step, VERIFY_RUNS, VERIFY_RUNS)
        return True

    def _reduce_rare(
        self, start: Reproducer, make_trials: Callable[..., RateTrials]
    ) -> Iterator[None]:
        """Minimise a reproducer that shows its crash at a rate."""
        self._trail = [_Step(start, self._bug)]
        self._use(make_trials())
        # What was worse is not tried again: that takes many runs each time.
        yield from self._drive(minimal(start, self._layouts, self._reset_calls), set())
        final = make_trials(error=_FINAL_ERROR)
        self._use(final)
        # If time is over, only the last step and the original are verified.
        steps = self._trail if self._is_complete else [self._trail[0], *self._trail[1:][-1:]]
        # Verifying may take as long again.
        end = self.seconds + self._limit
        for step in reversed(steps):
            yield
            test = final.first([step.reproducer])
            if step.reproducer == start or (yield from self._until(end, test)):
                hits, runs, shown = 0, 0, step
                # The usual kernel has to show it as well.
                while runs < VERIFY_RUNS or (not hits and runs < _RAREST and self.seconds < end):
                    outcome = observed(self._observe_last, step.reproducer)
                    if outcome.splat is not None and self._match(outcome.splat):
                        hits += 1
                        shown = _Step(step.reproducer, outcome.splat, outcome.log, outcome.others)
                    runs += 1
                    yield
                if hits:
                    self._finish(shown, hits, runs)
                    return

    def _drive(self, reduction: Reduction, failed: set[Reproducer] | None = None) -> Iterator[None]:
        """Try the candidates of a reduction until it ends, or time does.

        Candidates among ``failed`` are not tried; those that fail are added. So equal
        candidates, as a text of equal letters without any one of them, are tried once, and
        the last round repeats none of the round before it.
        """
        self._is_complete = False
        try:
            batch = next(reduction)
            while True:
                untried = list(dict.fromkeys(batch))
                if failed is not None:
                    untried = [each for each in untried if each not in failed]
                index = yield from self._first(untried)
                if self.seconds >= self._limit:
                    return
                if failed is not None:
                    failed.update(untried[:index])
                batch = reduction.send(None if index is None else batch.index(untried[index]))
        except StopIteration:
            self._is_complete = True

    def _until(self, end: float, search: Search) -> Search:
        """Search until a time; return None if nothing is found by then."""
        try:
            while True:
                next(search)
                yield
                if self.seconds >= end:
                    search.close()
                    return None
        except StopIteration as found:
            shown: Shown | None = found.value
            return shown

    def _first(self, batch: Sequence[Reproducer]) -> Generator[None, None, int | None]:
        """Return the index of the first of a batch that shows the crash, None if none does."""
        assert self._trials is not None
        shown = yield from self._until(self._limit, self._trials.first(batch))
        if shown:
            self._trail.append(_Step(shown.reproducer, shown.splat))
        yield
        return shown.index if shown else None

    def _fresh(self, found: Reproducer) -> FreshTrials:
        """Return trials on fresh machines, side by side where the programs are plain."""
        programs = (*found.history, found.program)
        is_plain = not any(is_racing(split(program)) for program in programs)
        if self._bug.kind in UNLOGGED or not is_plain or 2 * found.size > BULK_SIZE:
            return FreshTrials(self._observe, self._match)
        plain = self._setups.plain
        return FreshTrials(self._observe, self._match, guest=plain, cores=self._cores)

    def _resets(self) -> bool:
        return self._target.reset.kind in {ResetKind.CALLS, ResetKind.RELOAD}

    def _reusing(self, found: Reproducer, *, careful: bool) -> Generator[None, None, ReusingTrials]:
        """Return trials that wait for late reports only where the crash is one."""

        def trials(*, late: bool) -> ReusingTrials:
            return ReusingTrials(
                self._setups.plain, self._match, late=late, careful=careful, cores=self._cores
            )

        at_once = trials(late=False)
        if (yield from at_once.first([found])):
            return at_once
        at_once.close()
        return trials(late=True)

    def _use(self, trials: Trials | None) -> None:
        if self._trials:
            self._trials.close()
            self.effort.runs += self._trials.effort.runs
            self.effort.restores += self._trials.effort.restores
        self._trials = trials

    def _finish(self, step: _Step, hits: int, runs: int) -> None:
        self._use(None)
        self.result = Minimized(
            step.reproducer,
            step.splat,
            hits,
            runs,
            self.seconds,
            self.effort,
            self._is_complete,
            step.log,
            step.after,
        )
