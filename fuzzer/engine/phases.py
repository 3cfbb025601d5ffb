# SPDX-License-Identifier: Apache-2.0
"""What kind of machine runs the next programs, and how many of them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence

from fuzzer.engine.supply import Made
from fuzzer.engine.turns import Turns

# Programs of a phase on several vCPUs, in which calls run at the same time. There
# is one before each replacement of the machine.
_RACES = 2000
# Where it is not a worker's turn to race, it asks again after that part of a phase.
_AGAIN = 4
# So many of the machines for serial programs and for races have the module loaded with other
# parameters of the description from the start; a program that did it alone would be a slow one.
_SETTLED, _SETTLED_RACES = 0.3, 0.6
# The cost of a program that counts as one; a smaller one counts as a part of it. To replace
# the machine takes as long as a thousand or two of the smallest, which run once in 50 us.
_COST = 30.0


class Phases:
    """Serial phases of ``length`` programs, with short ones of races between them.

    Small programs count as a part of one, so that the machine is not replaced all the time
    where all are small.

    ``random`` returns numbers from 0 to below 1. ``turns``: whose turn it is to race.
    """

    def __init__(self, length: int, random: Callable[[], float], turns: Turns) -> None:
        self._length = length
        self._random = random
        self._turns = turns
        # For serial programs, and for races.
        self._used: tuple[Counter[bytes], Counter[bytes]] = (Counter(), Counter())
        self.left: float = length
        """Programs until the phase is over."""
        self.racing = False
        """Whether the programs of this phase make calls on several threads."""

    def change(self, *, may_race: bool) -> None:
        """Begin the next phase."""
        raced, self.racing = self.racing, False
        self.left = self._length
        if may_race and not raced:
            if self._turns.take():
                self.racing, self.left = True, _RACES
            else:
                self.left = max(1, self._length // _AGAIN)

    def spend(self, programs: Sequence[Made]) -> None:
        """Take note that programs ran."""
        self.left -= self._count(programs)

    def ends_after(self, programs: Sequence[Made]) -> bool:
        """Tell whether the phase is over once these programs ran as well."""
        return self.left <= self._count(programs)

    @staticmethod
    def _count(programs: Sequence[Made]) -> float:
        return sum(min(1.0, cost / _COST) if cost >= 0 else 1.0 for _, cost in programs)

    def race_from_now_on(self) -> None:
        """Begin a phase of races that does not end."""
        self.racing, self.left = True, math.inf

    def give_back(self) -> None:
        """Let others race, once this phase is another one and its last machine gone."""
        if not self.racing:
            self._turns.give_back()

    def settlement(self, choose: Callable[[Counter[bytes]], bytes]) -> bytes:
        """Return the calls that settle the machine of this phase; empty: it is as it is.

        ``choose`` returns some, told which were used in phases of this kind.
        """
        share = _SETTLED_RACES if self.racing else _SETTLED
        return choose(self._used[self.racing]) if self._random() < share else b""
