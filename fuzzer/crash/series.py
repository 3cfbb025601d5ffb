# SPDX-License-Identifier: Apache-2.0
"""Series of programs on one machine, up to the report of the wanted bug."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeAlias

from fuzzer.crash.dedup import Wanted
from fuzzer.crash.executor import ObservingExecutor
from fuzzer.crash.observe import run_started
from fuzzer.crash.outcome import Outcome, Passed
from fuzzer.machine.channel import Channel
from fuzzer.machine.executor import Testbed
from fuzzer.machine.machine import Machine
from fuzzer.program.preload import shared_preload
from fuzzer.splat.splat import Splat

# The most bytes that are kept of the log before a crash.
_LONGEST_LOG = 1 << 20
# The most programs of a series that show another bug. Printing a report takes as long as running
# several programs.
_MOST_PASSED = 300

HistoryRunner: TypeAlias = "Callable[[Sequence[bytes], bytes], tuple[Outcome, int]]"
"""A function that runs a history and a program on a fresh machine, as run_history() does."""


class Series:
    """Programs that run one after the other on a machine, and the reports of the kernel.

    Reports of other bugs than the ``wanted`` one end the series only if they leave the
    machine unusable, or there are ``most`` of them.
    """

    def __init__(self, wanted: Wanted | None, *, most: int = _MOST_PASSED) -> None:
        self._wanted = wanted
        self._most = most
        self._before = b""
        self._passed: dict[str, Passed] = {}
        self._times = 0
        self._last = (Outcome(None, b""), 0)

    def note(self, outcome: Outcome, number: int) -> bool:
        """Take note of a program's outcome; tell whether the series ends with it."""
        # The log of a lost guest comes from its console and is complete already.
        if not outcome.lost:
            outcome = replace(outcome, log=self._before + outcome.log)
        self._before = outcome.log[-_LONGEST_LOG:]
        self._last = (outcome, number)
        if outcome.splat is None:
            return False
        others = [each.splat for each in outcome.passed]
        if self._wanted is None or self._wanted(outcome.splat):
            self._keep(others, number, outcome.log)
            return True
        self._keep([outcome.splat, *others], number, outcome.log)
        self._times += 1
        return not outcome.usable or self._times >= self._most

    def _keep(self, splats: Sequence[Splat], number: int, log: bytes) -> None:
        for splat in splats:
            self._passed.setdefault(splat.title, Passed(splat, number, log))

    @property
    def passed(self) -> tuple[Passed, ...]:
        """The reports of other bugs, one for each title."""
        return tuple(self._passed.values())

    def result(self) -> tuple[Outcome, int]:
        """Return the outcome and the number of its program, see :func:`run_history`."""
        outcome, number = self._last
        passed = self.passed
        if outcome.splat and (self._wanted is None or self._wanted(outcome.splat)):
            return replace(outcome, passed=passed), number
        if passed:
            first = passed[0]
            return Outcome(first.splat, first.log, passed=passed[1:]), first.number
        return outcome, number


class SeriesExecutor(ObservingExecutor):
    """Runs a series of programs on one machine, which is not replaced after a report.

    ``series`` has the reports. Once it has ended, no further program may run.
    """

    def __init__(self, restore: Callable[[], Machine], wanted: Wanted | None) -> None:
        super().__init__(restore, wanted=wanted, goes_on=lambda outcome: True)
        self.series = Series(wanted)

    def renew(self) -> Machine:
        """Replace the machine by a fresh one, and begin a new series."""
        self.series = Series(self._wanted)
        return super().renew()

    def load_for(self, programs: Sequence[bytes]) -> bool:
        """Preload the machine if all programs begin with the same calls that load the module.

        Returns whether that ends the series.
        """
        if not (calls := shared_preload(programs)):
            return False
        # The first machine begins the series.
        outcome = self.load(calls)
        return self.series.note(outcome, 0)

    def run_next(self, program: bytes, number: int, *, late: bool = False) -> bool:
        """Run the program with that number; tell whether it ends the series."""
        outcome = self.run(program, late=late)
        return self.series.note(outcome, number)

    def run_all(self, programs: Sequence[bytes]) -> bool:
        """Run programs, numbered from 0; tell whether one of them ends the series."""
        return any(self.run_next(program, number) for number, program in enumerate(programs))


def run_history(
    testbed: Testbed,
    history: Sequence[bytes],
    program: bytes,
    tries: int = 1,
    wanted: Wanted | None = None,
) -> tuple[Outcome, int]:
    """Run programs one after the other on a fresh machine until one splats.

    The last is run up to ``tries`` times. Returns the outcome and the index of the program
    that splatted, ``len(history)`` for ``program`` itself. If all begin with the same calls
    that load the module, the machine is preloaded with these, as the original one was. With
    ``wanted``, that bug is waited for; if it does not come, the first splat counts.
    """
    with SeriesExecutor(testbed.restore, wanted) as executor:
        if (history or tries > 1) and executor.load_for([*history, program]):
            return executor.series.result()
        for number, earlier in enumerate([*history, *[program] * (tries - 1)]):
            if executor.run_next(earlier, min(number, len(history))):
                return executor.series.result()
        executor.run_next(program, len(history), late=True)
    return executor.series.result()


def post_programs(channel: Channel, history: Sequence[bytes], program: bytes) -> None:
    """Post programs to a machine that has not begun to run; it stops after the first splat."""
    if history:
        channel.post_batch([*history, program])
    else:
        channel.post_program(program)


def finish_batch(
    machine: Machine, programs: Sequence[bytes], *, wanted: Wanted | None = None
) -> tuple[Outcome, int]:
    """Return the outcome of programs that a machine was started with, and its program's number.

    The guest stops where the kernel reports something. If that is not the ``wanted`` bug, the
    remaining programs are posted, at an instant that depends on the host.
    """
    series, left = Series(wanted), list(programs)
    while True:
        outcome = run_started(machine, wanted=wanted)
        # A driver's bug may have overwritten the number in the guest, so it is bounded.
        at = min(machine.channel.header.batch_at, len(left) - 1) if len(left) > 1 else 0
        number = len(programs) - len(left) + at
        left = left[at + 1 :]
        if series.note(outcome, number) or not left or wanted is None:
            return series.result()
        if len(left) > 1:
            machine.channel.post_batch(left)
        else:
            machine.channel.post_program(left[0])
