# SPDX-License-Identifier: Apache-2.0
"""An executor that tells what the kernel says of programs, and ends machines which that spoiled."""

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

    A machine on which a program did not end well is replaced, unless it ``goes_on``, and so
    is one that has run ``most`` programs. A fresh one has the module loaded by the calls
    that ``preload`` returns, or as it is where these do not load it. With ``wanted``, that
    bug is looked for among all that the kernel says.
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
        """Replace the machine by a fresh one, and have its module loaded."""
        self.preloaded = b""
        machine = super().renew()
        if not (calls := self._preload()):
            return machine
        run = machine.preload(calls)
        # What loads it badly is found by others: here it only has to work.
        if find_splat(console_lines(run.log)) or not machine.channel.header.preloaded:
            return super().renew()
        self.preloaded = calls
        return machine

    def load(self, calls: bytes) -> Outcome:
        """Have the module loaded by the calls that all the programs to come begin with."""
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
        """Return the sighting that the last program's outcome is, if the kernel complained."""
        if (splat := outcome.splat) is None:
            return None
        *history, program = self.history
        return Sighting(splat.title, splat.kind, program, tuple(history), outcome.log, origin)
