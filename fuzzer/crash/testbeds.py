# SPDX-License-Identifier: Apache-2.0
"""The guests that it takes to see a crash: with several vCPUs, looking for leaks, or plain."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from fuzzer.crash.dedup import Wanted
from fuzzer.crash.exact import EXACT, run_exact
from fuzzer.crash.leaks import (
    ARGUMENTS,
    HARDWARE,
    LEAK,
    allocating_program,
    find_leak,
    forget_leaks,
)
from fuzzer.crash.outcome import Outcome
from fuzzer.crash.series import Observer, SeriesExecutor, run_history
from fuzzer.driver.provision import Guest
from fuzzer.machine.machine import Machine
from fuzzer.machine.qemu import Hardware
from fuzzer.program.conditions import is_parallel
from fuzzer.program.schedule import is_scheduled
from fuzzer.program.wire import split

RACING = Hardware(cpus=2)
"""For programs with threads."""

RACE_CALLS = 20_000
"""Calls that a program with threads, run over and over on one machine, makes before it counts
as having shown nothing. KASAN sees a race that is won, KCSAN looks at one access in some dozens."""

# Runs of the longest program.
_FEWEST_TRIES = 50

HASTY = "pkvfuzz_hasty=1"
"""What the kernel's command line needs for hangs to be reported after 1 to 3 s, not 5 to 10."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a program is run: on a machine of ``guest``, up to ``tries`` times.

    If ``exact``, it is there when the machine begins to run, and is run once.
    """

    guest: Guest
    tries: int = 1
    exact: bool = False


class Testbeds:
    """Makes the guests when they are first needed.

    ``make(hardware, arguments)`` returns the guest of the driver under test on
    such hardware, with ``arguments`` added to the kernel's command line.
    Programs with threads are run on a machine until they have made ``race_calls``.
    """

    def __init__(
        self,
        plain: Guest,
        make: Callable[[Hardware, str], Guest],
        race_calls: int = RACE_CALLS,
    ) -> None:
        self.plain = plain
        self._race_calls = race_calls
        self._make = make
        self._racing: Guest | None = None
        self._leaking: Guest | None = None
        self._exact: Guest | None = None

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
        """A guest on which a program's schedule decides."""
        if self._exact is None:
            self._exact = self._make(EXACT, "")
        return self._exact

    def hasty(self) -> Testbeds:
        """Return the same guests, but quick to call a hang one.

        A busy host may make them see one where there is none. How soon an exact
        machine does is part of its schedule, and stays.
        """

        def make(hardware: Hardware, arguments: str) -> Guest:
            return self._make(hardware, arguments if hardware.icount else HASTY)

        return Testbeds(make(self.plain.template.hardware, ""), make, self._race_calls)

    def observe(self, kind: str, wanted: Wanted | None = None) -> Observer:
        """Return how to run programs on a fresh machine to see a crash of that kind.

        What is returned takes the programs before it and the program itself,
        and returns the first outcome with a splat and the number of its
        program, ``len(history)`` for the program itself. With ``wanted``, reports of
        other bugs are passed over, as far as they leave the machine usable.
        """
        return partial(self._run_for_leaks if kind == LEAK else self._run, wanted)

    def place(self, kind: str, history: Sequence[bytes], program: bytes) -> Place:
        """Return where to run programs to see a crash of that kind."""
        if kind == LEAK:
            return Place(self.leaking)
        chunks = split(program)
        if is_scheduled(chunks):
            return Place(self.exact, exact=True)
        if is_parallel(chunks):
            tries = max(_FEWEST_TRIES, self._race_calls // len(chunks))
            return Place(self.racing, tries)
        beside = any(is_parallel(split(earlier)) for earlier in history)
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

    def leak_of(
        self, machine: Machine, programs: Sequence[bytes], wanted: Wanted | None = None
    ) -> tuple[Outcome, int | None]:
        """Run programs on a fresh leaking machine and return what they lost, or a splat.

        And which of them splatted or allocated what is lost, if that is known. With
        ``wanted``, other splats are passed over if nothing else keeps it from being seen.
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
