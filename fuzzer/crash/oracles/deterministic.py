# SPDX-License-Identifier: Apache-2.0
"""Oracle for crashes that show always or never: finds a reproducer that shows its crash.

Restoring a machine costs as much as a hundred programs. So programs run on one machine as
long as none splats; between them the target's reset restores its state.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeAlias

from fuzzer.crash.dedup import Wanted, same_report
from fuzzer.crash.executor import ObservingExecutor
from fuzzer.crash.leak_report import leaked_ranges
from fuzzer.crash.outcome import Outcome
from fuzzer.crash.poison import POISONS
from fuzzer.crash.reproducer import Reproducer
from fuzzer.crash.series import HistoryRunner, finish_batch, post_programs
from fuzzer.crash.testbeds import Testbeds
from fuzzer.machine.channel import Channel
from fuzzer.machine.executor import Testbed
from fuzzer.machine.machine import Machine
from fuzzer.splat.splat import Splat

# Machines waiting to be used; each has a guest's memory.
_MOST_SPARES = 4


@dataclass(frozen=True, slots=True)
class Shown:
    """The reproducer at ``index`` showed the crash, in the form that ``reproducer`` has."""

    index: int
    reproducer: Reproducer
    splat: Splat


@dataclass(slots=True)
class Effort:
    """The effort spent: runs of reproducers, and machines restored for them."""

    runs: int = 0
    restores: int = 0


Search: TypeAlias = Generator[None, None, Shown | None]
"""A search for a reproducer that shows the crash; it yields between slices of work."""


class Trials(Protocol):
    """Tries reproducers."""

    effort: Effort

    def first(self, batch: Sequence[Reproducer]) -> Search:
        """Return the first of a batch that shows the crash, None if none does.

        Yields between slices of work.

        Raises:
            LostMachineError: QEMU was killed from outside; try again.
        """

    def close(self) -> None:
        """End the machines. More may be tried afterwards."""


Matcher: TypeAlias = Wanted
"""A function that tells whether a splat is the crash that is looked for."""


def matches(bug: Splat) -> Matcher:
    """Return a function that recognises a bug, reported in the same function."""
    return Wanted(bug, same_report)


class Spares:
    """Fresh machines that are restored ahead, on idle cores."""

    def __init__(self, guest: Testbed, count: int) -> None:
        self._guest = guest
        self._count = count
        self._ready: deque[Machine] = deque()

    def take(self) -> Machine:
        """Return a machine; the caller closes it."""
        while len(self._ready) <= self._count:
            # The first program on a machine takes as long as a hundred later ones.
            self._ready.append(self._guest.start(lambda channel: channel.post_program(b"")))
        machine = self._ready.popleft()
        try:
            machine.finish()
        except BaseException:
            machine.close()
            raise
        return machine

    def close(self) -> None:
        """End the machines that were not taken."""
        while self._ready:
            self._ready.popleft().close()


class ReusingTrials:
    """Tries serial programs without a history, many on one machine.

    When ``careful``, a program that shows the crash on a used machine has to show it on a
    fresh one as well; otherwise only the last step is verified, by the caller. With ``late``
    reports that come after a program are awaited.
    """

    def __init__(
        self, guest: Testbed, match: Matcher, *, late: bool, careful: bool, cores: int
    ) -> None:
        self._match = match
        self._late = late
        self._careful = careful
        self._spares = Spares(guest, max(1, min(cores - 1, _MOST_SPARES)))
        self._executor = ObservingExecutor(self._restore, wanted=match, goes_on=self._goes_on)
        # Runs in a slice of work.
        self._slice = 4 if late else 64
        self.effort = Effort()

    def first(self, batch: Sequence[Reproducer]) -> Search:
        """Return the first of a batch that shows the crash."""
        for index, reproducer in enumerate(batch):
            if index and index % self._slice == 0:
                yield
            splat, was_fresh = self._run(reproducer.program)
            if splat and self._careful and not was_fresh:
                splat, _ = self._run(reproducer.program)
            if splat and self._match(splat):
                return Shown(index, reproducer, splat)
        return None

    def _run(self, program: bytes) -> tuple[Splat | None, bool]:
        """Run a program; return its splat, and whether the machine was fresh."""
        self.effort.runs += 1
        outcome = self._executor.run(program, late=self._late, hurried=True)
        return outcome.splat, len(self._executor.history) == 1

    def _restore(self) -> Machine:
        machine = self._spares.take()
        self.effort.restores += 1
        return machine

    def _goes_on(self, outcome: Outcome) -> bool:
        """Tell whether a machine that showed other bugs is used further to look for the crash."""
        if outcome.splat is None or not outcome.usable:
            return outcome.splat is None
        bug = self._match.bug
        shown = [outcome.splat, *(each.splat for each in outcome.passed)]
        return not any(splat.kind == bug.kind or splat.family is bug.family for splat in shown)

    def close(self) -> None:
        """End the machines."""
        self._executor.close()
        self._spares.close()


class FreshTrials:
    """Tries each reproducer on a machine of its own.

    With ``guest``, for serial programs, several machines of it run side by side, and a
    reproducer that shows the crash there runs once more by ``observe``.
    """

    def __init__(
        self,
        observe: HistoryRunner,
        match: Matcher,
        *,
        guest: Testbed | None = None,
        cores: int = 1,
    ) -> None:
        self._observe = observe
        self._match = match
        self._guest = guest
        self._cores = cores
        self.effort = Effort()

    def first(self, batch: Sequence[Reproducer]) -> Search:
        """Return the first of a batch that shows the crash."""
        for start in range(0, len(batch), self._cores):
            if start:
                yield
            part = batch[start : start + self._cores]
            chosen = self._likely(self._guest, part) if self._guest else range(len(part))
            for index in chosen:
                self._count(1)
                splat = observed(self._observe, part[index]).splat
                if splat and self._match(splat):
                    return Shown(start + index, part[index], splat)
        return None

    def _likely(self, guest: Testbed, part: Sequence[Reproducer]) -> list[int]:
        """Run reproducers side by side; return the indices of those that show the crash."""
        self._count(len(part))
        with contextlib.ExitStack() as stack:
            machines = [stack.enter_context(guest.start(_posting(each))) for each in part]
            splats = [
                finish_batch(machine, [*each.history, each.program], wanted=self._match)[0].splat
                for machine, each in zip(machines, part, strict=True)
            ]
        return [index for index, splat in enumerate(splats) if splat and self._match(splat)]

    def _count(self, runs: int) -> None:
        self.effort.runs += runs
        self.effort.restores += runs

    def close(self) -> None:
        """End no machines: each ends with its run."""


class LeakTrials:
    """Tries programs without a history that lose memory, all of a batch on one machine.

    A scan for lost memory takes seconds, however many programs ran. It tells the program
    that allocated an object; but a later program may have lost it, so when ``careful`` the
    program has to show the leak on a machine of its own as well.
    """

    def __init__(self, setups: Testbeds, match: Matcher, *, careful: bool) -> None:
        self._setups = setups
        self._match = match
        self._careful = careful
        self.effort = Effort()

    def first(self, batch: Sequence[Reproducer]) -> Search:
        """Return the first of a batch that shows the crash."""
        begin = 0
        while begin < len(batch):
            splat, at = self._look(batch[begin:])
            yield
            if splat is None:
                return None
            if at is None:
                # The allocating program is not known, as for a kworker's object: try one at a time.
                return (yield from self._first_alone(batch, begin))
            begin += at
            if self._careful and self._match(splat):
                splat, at = self._look(batch[begin : begin + 1])
            if splat and at is not None and self._match(splat):
                return Shown(begin, batch[begin], splat)
            begin += 1
        return None

    def _first_alone(self, batch: Sequence[Reproducer], begin: int) -> Search:
        for index in range(begin, len(batch)):
            splat, _ = self._look(batch[index : index + 1])
            yield
            if splat and self._match(splat):
                return Shown(index, batch[index], splat)
        return None

    def _look(self, batch: Sequence[Reproducer]) -> tuple[Splat | None, int | None]:
        self.effort.runs += len(batch)
        self.effort.restores += 1
        with self._setups.leaking.restore() as machine:
            programs = [each.program for each in batch]
            outcome, at = self._setups.leak_of(machine, programs, self._match)
        return outcome.splat, at

    def close(self) -> None:
        """End no machines: each ends with its batch."""


class InfoLeakTrials:
    """Tries programs that are alone and are handed memory that was never set.

    All of a batch run on one machine of each poison. As many bytes have to leak as in the
    crash: a buffer that ends early shows less of it. When ``careful``, one that shows
    the crash has to show it again on machines of its own.
    """

    def __init__(self, setups: Testbeds, match: Matcher, *, careful: bool) -> None:
        self._leaks = setups.leaks
        self._least = sum(map(len, leaked_ranges(match.bug.text)))
        self._match = match
        self._careful = careful
        self.effort = Effort()

    def first(self, batch: Sequence[Reproducer]) -> Search:
        """Return the first of a batch that shows the crash."""
        programs = [each.program for each in batch]
        self._count(len(batch))
        found = self._leaks.leaks_of(programs)
        for index, program in enumerate(programs):
            for leak in found[index]:
                if leak.total < self._least:
                    continue
                yield
                splat: Splat | None = self._leaks.report(leak, (), program, self._match)
                if splat and self._match(splat) and self._careful:
                    self._count(1)
                    splat = self._leaks.look((), program, self._match).splat
                if splat and self._match(splat):
                    return Shown(index, batch[index], splat)
        return None

    def _count(self, runs: int) -> None:
        self.effort.runs += runs * len(POISONS)
        self.effort.restores += len(POISONS)

    def close(self) -> None:
        """Do nothing: machines end with their batches."""


def _posting(reproducer: Reproducer) -> Callable[[Channel], None]:
    """Return a function that posts a reproducer to a machine, its history first."""
    return partial(post_programs, history=reproducer.history, program=reproducer.program)


def observed(observe: HistoryRunner, reproducer: Reproducer) -> Outcome:
    """Run a reproducer on a fresh machine and return what its own program did.

    A splat in its history is not its own, and is dropped.
    """
    outcome, number = observe(reproducer.history, reproducer.program)
    if number < len(reproducer.history):
        return Outcome(None, outcome.log)
    return outcome
