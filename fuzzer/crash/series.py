# SPDX-License-Identifier: Apache-2.0
"""Series of programs on one machine, which ends where the kernel says what is waited for."""

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

# Bytes that are kept of what a driver printed before its crash.
_LONGEST_LOG = 1 << 20
# Programs on one machine after which there was a report of another bug. Each takes as long
# to print as several programs do to run.
_MOST_PASSED = 300

Observer: TypeAlias = "Callable[[Sequence[bytes], bytes], tuple[Outcome, int]]"
"""Runs programs, and one more, on a fresh machine; returns what run_history() does."""


class Series:
    """Programs that run one after the other on a machine, and what the kernel said of them.

    Reports of other bugs than the ``wanted`` one end it only where they leave the
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
        """Take note of what a program did; tell whether it was the last of them."""
        # What was read from the console is all of it already.
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
        """Reports of other bugs, one for each title."""
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

    ``series`` is what the kernel said. Once it has ended, nothing more is to run.
    """

    def __init__(self, restore: Callable[[], Machine], wanted: Wanted | None) -> None:
        super().__init__(restore, wanted=wanted, goes_on=lambda outcome: True)
        self.series = Series(wanted)

    def renew(self) -> Machine:
        """Replace the machine by a fresh one, for a series of its own."""
        self.series = Series(self._wanted)
        return super().renew()

    def load_for(self, programs: Sequence[bytes]) -> bool:
        """Have the module loaded, if all programs begin with that, as by the first of them.

        Tells whether that ends the series.
        """
        if not (calls := shared_preload(programs)):
            return False
        # With the first machine the series begins.
        outcome = self.load(calls)
        return self.series.note(outcome, 0)

    def run_next(self, program: bytes, number: int, *, late: bool = False) -> bool:
        """Run the program of a number; tell whether it ends the series."""
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

    The last is run up to ``tries`` times. Returns the outcome and the index
    of what splatted, ``len(history)`` for ``program`` itself. If all begin by
    loading the module in the same way, the machine is preloaded first, as the
    one was that they come from: they load it once and not each time. With
    ``wanted``, that bug is waited for, and if it does not come the first one counts.
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
    """Post programs to a machine that has not begun to run; the first splat ends them."""
    if history:
        channel.post_batch([*history, program])
    else:
        channel.post_program(program)


def finish_batch(
    machine: Machine, programs: Sequence[bytes], *, wanted: Wanted | None = None
) -> tuple[Outcome, int]:
    """Return what came of programs with which a machine was started, and the number of whose it is.

    The guest stops where the kernel says something. If that is not the ``wanted`` bug,
    it is told to go on with the rest, at an instant that the host decides.
    """
    series, left = Series(wanted), list(programs)
    while True:
        outcome = run_started(machine, wanted=wanted)
        # The guest wrote it: a driver's bug may have, too.
        at = min(machine.channel.header.batch_at, len(left) - 1) if len(left) > 1 else 0
        number = len(programs) - len(left) + at
        left = left[at + 1 :]
        if series.note(outcome, number) or not left or wanted is None:
            return series.result()
        if len(left) > 1:
            machine.channel.post_batch(left)
        else:
            machine.channel.post_program(left[0])
