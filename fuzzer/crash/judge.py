# SPDX-License-Identifier: Apache-2.0
"""Judging: a sighting is run again on fresh machines, and what they say counts.

First the program alone, then with more and more of the history that led up to
it. One that does not show the bug that was sighted keeps the report it was
sighted with, and is stored as not reproduced.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from fuzzer.crash.dedup import Wanted, akin, same_bug
from fuzzer.crash.outcome import Passed, log_lines
from fuzzer.crash.series import Observer
from fuzzer.crash.sighting import ASIDE, Sighting
from fuzzer.program.conditions import is_parallel
from fuzzer.program.waiting import note_waits
from fuzzer.program.wire import split
from fuzzer.splat.find import bare_splat, find_splat
from fuzzer.splat.splat import Splat

# Of these, the first three are found here by the engine's crash observer.
# Fresh machines a crash is shown on before it is called reproduced.
VERIFY_RUNS = 3
# Of a history, so many of the last programs are run first, and so many times more each time.
_RECENT, _GROWTH = 16, 4
# Machines on which a program that races may show something else, each time until it does.
_CHANCES = 3
# Other crashes that come first, after which what ran before them is not tried as well. Each may
# be a guest that dies amid its report, and then takes a while to be given up.
_OTHERS = 3
# Sightings whose reports are kept parsed: one is asked about several times while it is judged.
_FEW = 4


@dataclass(frozen=True, slots=True)
class Judgement:
    """What judging a sighting came to.

    ``program`` and ``history`` are those that were seen to cause ``splat``.
    ``runs`` fresh machines were tried, ``reproduced`` of them showed it.
    ``others`` are different crashes that were met meanwhile, to be judged
    themselves; ``after`` are the titles of those that came before it in the same run.
    """

    splat: Splat
    log: bytes
    program: bytes
    history: tuple[bytes, ...]
    reproduced: int
    runs: int
    others: tuple[Sighting, ...] = ()
    after: tuple[str, ...] = ()


@lru_cache(maxsize=_FEW)
def first_impression(sighting: Sighting) -> Splat:
    """Return the splat that a worker saw, from its log."""
    lines = log_lines(sighting.log)
    found = find_splat(lines)
    text = "\n".join(lines) + "\n"
    return found or bare_splat(sighting.title, sighting.kind, text=f"{sighting.title}\n{text}")


def _sighting_of(passed: Passed, programs: Sequence[bytes]) -> Sighting:
    """Return the sighting of a bug that was met in one of some programs."""
    splat, number = passed.splat, passed.number
    history = tuple(programs[:number])
    return Sighting(splat.title, splat.kind, programs[number], history, passed.log, ASIDE)


def _histories(sighting: Sighting) -> Iterator[tuple[bytes, ...]]:
    """Return more and more of the last programs of a history, from none to all."""
    history = sighting.history
    yield ()
    length = _RECENT
    if is_parallel(split(sighting.program)):
        # Unsynchronised code shows in several ways, and another one may come first.
        yield from [()] * (_CHANCES - 1)
        # It takes many runs each time, so that with all of them is the last.
        length = len(history)
    while length < len(history):
        yield tuple(history[-length:])
        length *= _GROWTH
    if history:
        yield tuple(history)


def judge(
    watch: Callable[[Wanted], Observer],
    sighting: Sighting,
    verify_runs: int = VERIFY_RUNS,
    *,
    patience: float = math.inf,
    clock: Callable[[], float] = time.monotonic,
) -> Judgement:
    """Run a sighting again, each time on a fresh machine.

    ``watch(wanted)`` returns how to run programs to see that bug, if it can be.
    First the program alone, then with what ran before it, the latest first; a
    history that would take longer than ``patience`` seconds to run is not, and none
    are once other crashes came first several times: those will be judged themselves.
    Only the bug that was sighted counts, in the words of whichever kernel flavour.

    Raises:
        LostMachineError: QEMU was killed from outside; try again.
    """
    seen = first_impression(sighting)
    others: dict[str, Sighting] = {}
    tried, strayed, took = 0, 0, 0.0
    silent = False
    observe = watch(Wanted(seen, akin))
    for before in _histories(sighting):
        if silent and not before:
            continue
        if took * len(before) > patience or strayed >= _OTHERS:
            break
        tried += 1
        begun = clock()
        outcome, number = observe(before, sighting.program)
        if before and outcome.splat is None:
            took = (clock() - begun) / len(before)
        splat = outcome.splat
        if splat is None:
            silent = True
            continue
        programs = (*before, sighting.program)
        shown = akin(seen, splat)
        met = outcome.passed if shown else (Passed(splat, number, outcome.log), *outcome.passed)
        for each in met:
            others.setdefault(each.splat.title, _sighting_of(each, programs))
        if shown:
            program, history = programs[number], programs[:number]
            # Whatever flavour's words it has now, they are the same each time.
            verify = watch(Wanted(splat))
            reproduced = 1
            for _ in range(verify_runs - 1):
                again, at = verify(history, program)
                same = again.splat is not None and same_bug(splat, again.splat)
                reproduced += same and at == len(history)
            found = tuple(others.values())
            runs = max(1, verify_runs)
            noted = note_waits(program, outcome.waited)
            return Judgement(
                splat, outcome.log, noted, history, reproduced, runs, found, outcome.others
            )
        strayed += 1
    return Judgement(
        seen,
        sighting.log,
        sighting.program,
        tuple(sighting.history),
        0,
        tried,
        tuple(others.values()),
    )
