# SPDX-License-Identifier: Apache-2.0
"""Series of programs on one machine, which ends where the kernel says what is waited for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeAlias

from fuzzer.crash.dedup import Wanted
from fuzzer.crash.observe import outcome_of, run_program, run_started
from fuzzer.crash.outcome import Outcome, Passed
from fuzzer.machine.machine import Machine
from fuzzer.machine.provision import Guest
from fuzzer.program.settlement import shared_settlement
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
    machine unusable, or there are many.
    """

    def __init__(self, wanted: Wanted | None) -> None:
        self._wanted = wanted
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
        return not outcome.usable or self._times >= _MOST_PASSED

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


def run_history(
    guest: Guest,
    history: Sequence[bytes],
    program: bytes,
    tries: int = 1,
    wanted: Wanted | None = None,
) -> tuple[Outcome, int]:
    """Run programs one after the other on a fresh machine until one splats.

    The last is run up to ``tries`` times. Returns the outcome and the index
    of what splatted, ``len(history)`` for ``program`` itself. If all begin by
    loading the module in the same way, the machine is settled first, as the
    one was that they come from: they load it once and not each time. With
    ``wanted``, that bug is waited for, and if it does not come the first one counts.
    """
    series = Series(wanted)
    with guest.restore() as machine:
        if (history or tries > 1) and (calls := shared_settlement([*history, program])):
            outcome = outcome_of(machine, lambda: machine.settle(calls), late=False, wanted=wanted)
            if series.note(outcome, 0):
                return series.result()
        for number, earlier in enumerate([*history, *[program] * (tries - 1)]):
            outcome = run_program(machine, earlier, late=False, wanted=wanted)
            if series.note(outcome, min(number, len(history))):
                return series.result()
        series.note(run_program(machine, program, wanted=wanted), len(history))
    return series.result()


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
