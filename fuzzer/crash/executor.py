# SPDX-License-Identifier: Apache-2.0
"""Executor that returns the outcomes of programs, and ends machines that a report spoiled."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from fuzzer.crash.dedup import Wanted
from fuzzer.crash.observe import outcome_of, run_program
from fuzzer.crash.outcome import Outcome
from fuzzer.crash.sighting import Sighting
from fuzzer.machine.executor import Executor
from fuzzer.machine.machine import Machine
from fuzzer.splat.find import find_splat
from fuzzer.splat.kmsg import console_lines


def is_as_good(outcome: Outcome) -> bool:
    """Tell whether a machine is as good as before a program that had this outcome."""
    return outcome.is_harmless


class ObservingExecutor(Executor):
    """Runs programs one after the other and returns their outcomes.

    A machine on which a program did not end well is replaced unless ``goes_on`` holds for the
    outcome, and so is one that has run ``most`` programs. A fresh machine is preloaded by the
    calls that ``preload`` returns, unless these do not load the module. With ``wanted``, that
    bug is looked for in everything that the kernel says.
    """

    def __init__(
        self,
        restore: Callable[[], Machine],
        *,
        most: int | None = None,
        preload: Callable[[], bytes] = bytes,
        wanted: Wanted | None = None,
        goes_on: Callable[[Outcome], bool] = is_as_good,
    ) -> None:
        super().__init__(restore)
        self._most = most
        self._preload = preload
        self._wanted = wanted
        self._goes_on = goes_on

    def prepare(self) -> Machine:
        """Return the machine of the next program: a fresh one if this one has run enough."""
        if self._machine is None or (self._most and len(self.history) >= self._most):
            return self.renew()
        return self._machine

    def renew(self) -> Machine:
        """Replace the machine by a fresh one, and preload it."""
        self.preloaded = b""
        machine = super().renew()
        if not (calls := self._preload()):
            return machine
        run = machine.preload(calls)
        # Bugs of loading are found elsewhere: here the preload only has to work.
        if find_splat(console_lines(run.log)) or not machine.channel.header.preloaded:
            return super().renew()
        self.preloaded = calls
        return machine

    def load(self, calls: bytes) -> Outcome:
        """Preload the machine by calls that all further programs begin with; return the outcome."""
        machine = self.machine
        preload = partial(machine.preload, calls)
        return outcome_of(machine, preload, late=False, wanted=self._wanted)

    def run(self, program: bytes, *, late: bool = False, hurried: bool = False) -> Outcome:
        """Run a program behind the preloaded calls; see :func:`run_program`.

        Raises:
            LostMachineError: QEMU was killed from outside; try again.
        """
        machine = self.prepare()
        program = self.preloaded + program
        try:
            outcome = run_program(machine, program, late=late, hurried=hurried, wanted=self._wanted)
        except BaseException:
            self.close()
            raise
        self.history.append(program)
        if not self._goes_on(outcome):
            self.close()
        return outcome

    def sighting(self, outcome: Outcome, origin: str) -> Sighting | None:
        """Return the sighting of the last program's outcome, if the kernel complained."""
        if (splat := outcome.splat) is None:
            return None
        *history, program = self.history
        return Sighting(splat.title, splat.kind, program, tuple(history), outcome.log, origin)
