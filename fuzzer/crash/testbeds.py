# SPDX-License-Identifier: Apache-2.0
"""Testbeds: the guests on which crashes show, plain, with several vCPUs, exact, or for leaks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from fuzzer.crash.dedup import Wanted
from fuzzer.crash.exact import EXACT, run_exact
from fuzzer.crash.info_leaks import LeakFinder
from fuzzer.crash.leaks import (
    ARGUMENTS,
    HARDWARE,
    LEAK,
    allocating_program,
    find_leak,
    forget_leaks,
)
from fuzzer.crash.outcome import Outcome
from fuzzer.crash.poison import INFO_LEAK, POISONS, Poison
from fuzzer.crash.series import HistoryRunner, SeriesExecutor, run_history
from fuzzer.driver.provision import Guest
from fuzzer.machine.machine import Machine
from fuzzer.machine.qemu import Hardware
from fuzzer.program.conditions import is_racing
from fuzzer.program.schedule import is_scheduled
from fuzzer.program.wire import split

RACING = Hardware(cpus=2)
"""The hardware for programs with threads."""

RACE_CALLS = 20_000
"""Calls of a program with threads on one machine, in many runs, before it counts as one that
shows nothing. KASAN sees a race only if it is won, KCSAN checks one access in some dozens."""

# The least number of runs, for the longest programs.
_FEWEST_TRIES = 50

UNLOGGED = frozenset({LEAK, INFO_LEAK})
"""Kinds of crashes that no log of a kernel tells of: they take a look afterwards."""

HASTY = "pkvfuzz_hasty=1"
"""Argument for the kernel's command line: hangs are reported after 1 to 3 s, not 5 to 10."""


@dataclass(frozen=True, slots=True)
class Place:
    """The guest for a program, whose machine runs it up to ``tries`` times.

    If ``exact``, the program is posted before the machine begins to run, and runs once.
    """

    guest: Guest
    tries: int = 1
    exact: bool = False


class Testbeds:
    """The guests of a driver under test, each made when it is first needed.

    ``make(hardware, arguments)`` returns the guest of the driver under test on
    such hardware, with ``arguments`` added to the kernel's command line. ``make_poisoned``
    returns one with arguments in which free stack can be filled.
    Programs with threads are run on a machine until they have made ``race_calls``.
    """

    def __init__(
        self,
        plain: Guest,
        make: Callable[[Hardware, str], Guest],
        race_calls: int = RACE_CALLS,
        *,
        make_poisoned: Callable[[str], Guest] | None = None,
    ) -> None:
        self.plain = plain
        self._race_calls = race_calls
        self._make = make
        self._racing: Guest | None = None
        self._leaking: Guest | None = None
        self._exact: Guest | None = None
        self._make_poisoned = make_poisoned or partial(make, plain.template.hardware)
        self._poisoned: dict[str, Guest] = {}
        self.leaks = LeakFinder(self.poisoned)
        """Looks for memory that was never set in what programs are handed."""

    def poisoned(self, poison: Poison) -> Guest:
        """Return the guest whose free memory holds a poison, but for its stack."""
        arguments = poison.arguments
        if arguments not in self._poisoned:
            self._poisoned[arguments] = self._make_poisoned(arguments)
        return self._poisoned[arguments]

    @property
    def racing(self) -> Guest:
        """A guest with several vCPUs."""
        if self._racing is None:
            self._racing = self._make(RACING, "")
        return self._racing

    @property
    def leaking(self) -> Guest:
        """A guest with kmemleak on."""
        if self._leaking is None:
            self._leaking = self._make(HARDWARE, ARGUMENTS)
        return self._leaking

    @property
    def exact(self) -> Guest:
        """A guest for exact machines."""
        if self._exact is None:
            self._exact = self._make(EXACT, "")
        return self._exact

    def hasty(self) -> Testbeds:
        """Return the same guests, with kernels that report a hang early.

        On a busy host they may report one where there is none. Exact machines stay as they
        are: there the time of a report is part of the schedule.
        """

        def make(hardware: Hardware, arguments: str) -> Guest:
            return self._make(hardware, arguments if hardware.icount else HASTY)

        plain = make(self.plain.template.hardware, "")
        return Testbeds(plain, make, self._race_calls, make_poisoned=self._make_poisoned)

    def observe(self, kind: str, wanted: Wanted | None = None) -> HistoryRunner:
        """Return a function that runs programs on a fresh machine to see a crash of that kind.

        The function takes the history and the program, and returns the first outcome with a
        splat and the index of its program, ``len(history)`` for the program itself. With
        ``wanted``, reports of other bugs are passed over if they leave the machine usable.
        """
        runs = {LEAK: self._run_for_leaks, INFO_LEAK: self._run_poisoned}
        return partial(runs.get(kind, self._run), wanted)

    def place(self, kind: str, history: Sequence[bytes], program: bytes) -> Place:
        """Return the guest on which programs show a crash of that kind, and the number of tries."""
        if kind == LEAK:
            return Place(self.leaking)
        if kind == INFO_LEAK:
            return Place(self.poisoned(POISONS[-1]))
        chunks = split(program)
        if is_scheduled(chunks):
            return Place(self.exact, exact=True)
        if is_racing(chunks):
            tries = max(_FEWEST_TRIES, self._race_calls // len(chunks))
            return Place(self.racing, tries)
        beside = any(is_racing(split(earlier)) for earlier in history)
        return Place(self.racing if beside else self.plain)

    def _run(
        self, wanted: Wanted | None, history: Sequence[bytes], program: bytes
    ) -> tuple[Outcome, int]:
        place = self.place("", history, program)
        if place.exact:
            return run_exact(place.guest, history, program, wanted), len(history)
        return run_history(place.guest, history, program, place.tries, wanted)

    def _run_for_leaks(
        self, wanted: Wanted | None, history: Sequence[bytes], program: bytes
    ) -> tuple[Outcome, int]:
        with self.leaking.restore() as machine:
            outcome, _ = self.leak_of(machine, [*history, program], wanted)
        return outcome, len(history)

    def _run_poisoned(
        self, wanted: Wanted | None, history: Sequence[bytes], program: bytes
    ) -> tuple[Outcome, int]:
        return self.leaks.look(history, program, wanted), len(history)

    def leak_of(
        self, machine: Machine, programs: Sequence[bytes], wanted: Wanted | None = None
    ) -> tuple[Outcome, int | None]:
        """Run programs on a fresh machine with kmemleak, and return a leak or a splat as outcome.

        The second result is the index of the program that splatted or allocated the lost
        memory, if that is known. With ``wanted``, other splats are passed over if they leave
        the machine usable.
        """
        first = forget_leaks(machine)
        executor = SeriesExecutor(lambda: machine, wanted)
        if executor.run_all(programs):
            return executor.series.result()
        leak = find_leak(machine, self.leaking.driver.frame_marks())
        if leak is None:
            outcome, number = executor.series.result()
            return (outcome, number) if outcome.splat else (Outcome(None, b""), None)
        at = (allocating_program(leak) or 0) - first
        outcome = Outcome(leak, leak.text.encode(), passed=executor.series.passed)
        return outcome, at if 0 <= at < len(programs) else None
