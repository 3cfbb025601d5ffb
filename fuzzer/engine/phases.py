# SPDX-License-Identifier: Apache-2.0
"""Phases of fuzzing: the kind of machine that runs the next programs, and how many of them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence

from fuzzer.engine.candidate import ALONE, Candidate
from fuzzer.engine.race_slots import RaceSlots

# Programs of a phase on several vCPUs, in which calls run at the same time. There
# is one before each replacement of the machine.
_RACES = 2000
# Where no race slot is free, a worker asks again after that part of a phase.
_AGAIN = 4
# So many of the machines for serial programs and for races have the module loaded with other
# parameters of the description from the start; a program that did it alone would be a slow one.
_PRELOADED, _PRELOADED_RACES = 0.3, 0.6
# A phase lasts for as many programs as it should, and longer if they cost less than this on
# average: to replace the machine takes as long as a thousand or two of the smallest. Up to so
# many times as long, for the sake of a crash's history.
_COST, _LONGEST = 30.0, 4


class Phases:
    """Serial phases of ``length`` programs, with short ones of races between them.

    One lasts longer if all of its programs are small.

    ``random`` returns numbers from 0 to below 1. ``slots`` tell when it may race.
    """

    def __init__(self, length: int, random: Callable[[], float], slots: RaceSlots) -> None:
        self._length = length
        self._random = random
        self._slots = slots
        # For serial programs, and for races.
        self._used: tuple[Counter[bytes], Counter[bytes]] = (Counter(), Counter())
        self._begin(length)
        self.racing = False
        """Whether the programs of this phase make calls on several threads."""

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
        """Whether it is time for the next one."""
        return self.ends_after(())

    def spend(self, candidates: Sequence[Candidate]) -> None:
        """Take note that programs ran."""
        self._programs -= len(candidates)
        self._cost -= _cost_of(candidates)
        self._most -= len(candidates)

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
        """Let others race, once this phase is another one and its last machine gone."""
        if not self.racing:
            self._slots.release()

    def choose_preload(self, choose: Callable[[Counter[bytes]], bytes]) -> bytes:
        """Return the calls that preload the machine of this phase; empty: it is as it is.

        ``choose`` returns some, told which were used in phases of this kind.
        """
        share = _PRELOADED_RACES if self.racing else _PRELOADED
        return choose(self._used[self.racing]) if self._random() < share else b""


def _cost_of(candidates: Sequence[Candidate]) -> float:
    return sum(each.cost if each.cost != ALONE else _COST for each in candidates)
