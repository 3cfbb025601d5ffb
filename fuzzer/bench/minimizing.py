# SPDX-License-Identifier: Apache-2.0
"""The time from a crash among forty calls to its minimal program."""

from __future__ import annotations

import random
from dataclasses import dataclass

from fuzzer.crash.minimizer.minimize import Minimizer
from fuzzer.crash.reproducer import Reproducer
from fuzzer.crash.testbeds import Testbeds
from fuzzer.driver.driver import PlantedBug, build_driver, list_bugs
from fuzzer.driver.provision import Guest, ensure_guest
from fuzzer.kernel.kernel import Kernel
from fuzzer.machine.accel import Accel
from fuzzer.machine.qemu import Hardware
from fuzzer.program.mutate import Mutator
from fuzzer.program.ops import File, ops_with
from fuzzer.program.program import MAX_PROGRAM_SIZE
from fuzzer.program.text import load_program
from fuzzer.program.wire import encode, split
from fuzzer.target.target import Target

CALLS = 40
# Other calls may keep the crash from happening: then others are taken.
_TRIES = 10


@dataclass(frozen=True, slots=True)
class MinimizeResult:
    """The work of minimizing a program of ``CALLS`` calls to ``calls``.

    ``seconds`` is the time from start to end, verification included; ``runs``
    are those of programs, on ``restores`` machines.
    """

    bug: str
    calls: int
    seconds: float
    runs: int
    restores: int


def measure_minimizing(target: Target, kernel: Kernel, accel: Accel) -> MinimizeResult | None:
    """Minimise the program of a planted bug among other calls; None if there is none.

    The bug is one that takes a sequence of calls and nothing else.
    """
    bugs = [bug for bug in list_bugs(target) if bug.needs == ("sequence",) and not bug.oracle]
    programs = {bug.name: _program(target, bug) for bug in bugs}
    # The one that takes most calls.
    for bug in sorted(bugs, key=lambda bug: (-len(programs[bug.name]), bug.name)):
        driver = build_driver(target, kernel, bug)
        plain = ensure_guest(target, kernel, driver, accel)
        found = _minimize(target, plain, bug.name, programs[bug.name])
        if found:
            return found
    return None


def _program(target: Target, bug: PlantedBug) -> list[bytes]:
    path = bug.path.with_suffix(".prog")
    return split(encode(load_program(path, target))) if path.exists() else []


def _minimize(target: Target, plain: Guest, bug: str, needed: list[bytes]) -> MinimizeResult | None:
    def make(hardware: Hardware, arguments: str) -> Guest:
        raise AssertionError("a serial program takes a plain machine")

    setups = Testbeds(plain, make)
    observe = setups.observe("")
    for seed in range(_TRIES if needed else 0):
        program = _among_others(target, needed, random.Random(seed))
        outcome, _ = observe((), program)
        if outcome.splat is None:
            continue
        minimizer = Minimizer(setups, target, Reproducer(program), outcome.splat)
        found = minimizer.run()
        if found:
            calls = len(split(found.reproducer.program))
            effort = found.effort
            return MinimizeResult(bug, calls, found.seconds, effort.runs, effort.restores)
    return None


def _among_others(target: Target, needed: list[bytes], rng: random.Random) -> bytes:
    """Return a program of CALLS calls with the needed ones among generated ones."""
    mutator = Mutator(target, rng, lambda data, size: data[:size], max_calls=CALLS)
    chunks = list(needed)
    # Closing the device or loading it anew would end what the needed calls began.
    usual = ops_with(lambda each: each.file is File.USED)
    while len(chunks) < CALLS:
        for chunk in split(mutator.fresh()):
            if chunk[0] in usual and len(chunks) < CALLS:
                chunks.insert(rng.randrange(len(chunks) + 1), chunk)
    program = b"".join(chunks)
    return program if len(program) <= MAX_PROGRAM_SIZE else b"".join(needed)
