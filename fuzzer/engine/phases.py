# SPDX-License-Identifier: Apache-2.0
"""Phases of fuzzing: the kind of machine that runs the next programs, and how many of them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence

from fuzzer.engine.aside import RESTORE_COST
from fuzzer.engine.candidate import ALONE, Candidate
from fuzzer.engine.race_slots import RaceSlots

# Programs of a phase of races, on several vCPUs. One follows each serial phase.
_RACES = 2000
# Where no race slot is free, a worker asks again after a serial phase that is so many times
# shorter.
_AGAIN = 4
# Shares of the machines for serial programs and for races that are preloaded, with other
# parameters of the description; a program that loads the module by itself is a slow one.
_PRELOADED, _PRELOADED_RACES = 0.3, 0.6
# A phase lasts longer than its number of programs if they cost less than this on average:
# replacing the machine takes as long as one or two thousand of the smallest. It lasts at most so
# many times as long, to bound the history of a crash.
_COST, _LONGEST = 30.0, 4


class Phases:
    """Serial phases of ``length`` programs, with short phases of races between them.

    A phase lasts longer if its programs are small. ``random`` returns numbers from 0 to
    below 1. ``slots`` limit the workers that race at a time.
    """

    def __init__(self, length: int, random: Callable[[], float], slots: RaceSlots) -> None:
        self._length = length
        self._random = random
        self._slots = slots
        # Preloads used, in serial phases and in phases of races.
        self._used: tuple[Counter[bytes], Counter[bytes]] = (Counter(), Counter())
        self._begin(length)
        self.racing = False
        """True if the programs of this phase make calls on several threads."""

    def change(self, *, may_race: bool) -> None:
        """Begin the next phase."""
        raced, self.racing = self.racing, False
        self._begin(self._length)
        if may_race and not raced:
            if self._slots.acquire():
                self.racing = True
                self._begin(_RACES)
            else:
                self._begin(max(1, self._length // _AGAIN))

    def _begin(self, length: float) -> None:
        self._programs = length
        self._cost = length * _COST
        self._most = length * _LONGEST

    @property
    def is_over(self) -> bool:
        """True if it is time for the next phase."""
        return self.ends_after(())

    def spend(self, candidates: Sequence[Candidate]) -> None:
        """Take note that programs ran."""
        self._programs -= len(candidates)
        self._cost -= _cost_of(candidates)
        self._most -= len(candidates)

    def spend_machine(self) -> None:
        """Take note that the machine was replaced, for which so many programs could have run.

        So what crashes after nearly every program does not go on as long as what does not.
        """
        self._programs -= RESTORE_COST / _COST
        self._cost -= RESTORE_COST
        self._most -= RESTORE_COST / _COST

    def ends_after(self, candidates: Sequence[Candidate]) -> bool:
        """Tell whether the phase is over once these programs ran as well."""
        n = len(candidates)
        if self._programs > n:
            return False
        return self._cost <= _cost_of(candidates) or self._most <= n

    def race_from_now_on(self) -> None:
        """Begin a phase of races that does not end."""
        self.racing = True
        self._begin(math.inf)

    def release_slot(self) -> None:
        """Release the race slot unless this phase races, once the last racing machine is gone."""
        if not self.racing:
            self._slots.release()

    def choose_preload(self, choose: Callable[[Counter[bytes]], bytes]) -> bytes:
        """Return the calls that preload the machine of this phase; empty: it is not preloaded.

        ``choose`` is given the calls used in phases of this kind, with the number of times.
        """
        share = _PRELOADED_RACES if self.racing else _PRELOADED
        return choose(self._used[self.racing]) if self._random() < share else b""


def _cost_of(candidates: Sequence[Candidate]) -> float:
    return sum(each.cost if each.cost != ALONE else _COST for each in candidates)
