# SPDX-License-Identifier: Apache-2.0
"""Judging: a sighting is run again on fresh machines, and their reports count.

The program runs alone first, then with more and more of its history. A sighting that does
not show its bug again keeps its own report, and is stored as not reproduced.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from fuzzer.crash.dedup import Wanted, akin, same_bug
from fuzzer.crash.outcome import Passed, log_lines
from fuzzer.crash.series import HistoryRunner
from fuzzer.crash.sighting import ASIDE, Sighting
from fuzzer.program.conditions import is_racing
from fuzzer.program.waiting import note_waits
from fuzzer.program.wire import split
from fuzzer.splat.find import bare_splat, find_splat
from fuzzer.splat.splat import Splat

# Fresh machines on which a crash is shown before it is called reproduced.
VERIFY_RUNS = 3
# The number of last programs of a history that run first, and the factor by which it grows.
_RECENT, _GROWTH = 16, 4
# Machines on which a program that races runs alone, as it may show another bug first.
_CHANCES = 3
# Runs that show another crash, after which no more of the history is tried. Each may be a guest
# that dies amid its report, and takes a while to be given up.
_OTHERS = 3
# Sightings whose reports are kept parsed, as each is used several times while it is judged.
_FEW = 4


@dataclass(frozen=True, slots=True)
class Judgement:
    """The result of judging a sighting.

    ``program`` and ``history`` were seen to cause ``splat``. ``reproduced`` of ``runs`` fresh
    machines showed it. ``others`` are other crashes that were met meanwhile, to be judged
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
    """Return the sighting of another bug that was met while ``programs`` ran."""
    splat, number = passed.splat, passed.number
    history = tuple(programs[:number])
    return Sighting(splat.title, splat.kind, programs[number], history, passed.log, ASIDE)


def _histories(sighting: Sighting) -> Iterator[tuple[bytes, ...]]:
    """Yield more and more of the last programs of a history, from none to all."""
    history = sighting.history
    yield ()
    length = _RECENT
    if is_racing(split(sighting.program)):
        # Unsynchronised code has several symptoms, and another one may come first.
        yield from [()] * (_CHANCES - 1)
        # Each attempt takes many runs, so the next one has all of the history.
        length = len(history)
    while length < len(history):
        yield tuple(history[-length:])
        length *= _GROWTH
    if history:
        yield tuple(history)


def judge(
    watch: Callable[[Wanted], HistoryRunner],
    sighting: Sighting,
    verify_runs: int = VERIFY_RUNS,
    *,
    patience: float = math.inf,
    clock: Callable[[], float] = time.monotonic,
) -> Judgement:
    """Run a sighting again, each time on a fresh machine.

    ``watch(wanted)`` returns a function that runs programs and waits for that bug. The
    program runs alone first, then with more and more of its history. A history that would
    take longer than ``patience`` seconds is not run, and none is once other crashes came
    first several times: those will be judged themselves. Only the bug that was sighted
    counts, in the report of any kernel flavour.

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
            # From now on reports are of one flavour, so they have to be of the same bug exactly.
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
