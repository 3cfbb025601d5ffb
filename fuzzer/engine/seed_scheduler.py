# SPDX-License-Identifier: Apache-2.0
"""Seed scheduler: mutates libFuzzer's choice next, unless that costs too much or too little.

What a driver does when it is full, or some time after it was loaded, takes programs that
cost a lot. There are few of them, and libFuzzer would seldom choose one.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from fuzzer.machine.accel import Accel
from fuzzer.program.cost import cost_of, is_slow
from fuzzer.program.wire import split

# Programs of more than so many small calls' cost are long ones.
LONG = 24.0
# Shares of all cost that long and slow programs may take. libFuzzer chooses without
# regard to cost, and a few that fill the driver's tables could take most of the time.
_LONG_SHARE, _SLOW_SHARE = 0.3, 0.15
# Where their share is not used up, so many programs are made of long and of slow ones.
_FROM_LONG, _FROM_SLOW = 0.1, 0.3
# On a machine that is preloaded, so many are made of what was found on such a machine before.
_FROM_PRELOADED = 0.3
# Where no share is kept account of, a long or a slow program that comes up is taken so often.
_ANY_LONG, _ANY_SLOW = 0.1, 0.005
# A wait takes as long on any machine, and calls do not: what waits and loads cost, in calls of
# that machine, over the estimate. With KVM calls take a few microseconds, without up to 60.
SLOW_WEIGHT = {Accel.KVM: 8.0, Accel.TCG: 0.6}
# Seconds that the estimate is about, of a module that is unloaded, loaded and put back.
_USUAL_LOAD = 0.02
# A load that takes longer than this is more than the estimate knows.
_LONG_LOAD = 0.5
# A call that waits takes some 20 ms (vm/executor/watch.c); in calls of 20 µs.
BLOCKED = 1000.0
_CACHED = 50_000


@dataclass(frozen=True, slots=True)
class Parent:
    """A program to mutate; ``slow``: what comes of it may take as long as many others."""

    program: bytes
    slow: bool


class SeedScheduler:
    """Keeps account of what programs cost, and chooses among those of the corpus.

    What slow programs cost counts ``slow_weight`` times.
    """

    def __init__(self, rng: random.Random, slow_weight: float = 1.0) -> None:
        self._random = rng
        self._slow_weight = slow_weight
        self._weights: dict[bytes, tuple[float, bool]] = {}
        self._cheap: list[bytes] = []
        self._long_ones: list[bytes] = []
        self._slow_ones: list[bytes] = []
        self._all: list[bytes] = []
        self._preloaded = b""
        self._preloaded_ones: list[bytes] = []
        self._crashed: bytes | None = None
        self._total = self._long = self._slow = 1.0

    def note(self, program: bytes) -> None:
        """Take note of a program of the corpus."""
        self._all.append(program)
        # Not as on this machine: machines come and go.
        cost, slow = _weight(program)
        kept = self._slow_ones if slow else self._cheap if cost <= LONG else self._long_ones
        kept.append(program)
        if self._preloaded and program.startswith(self._preloaded):
            self._preloaded_ones.append(program)

    def note_preload(self, calls: bytes) -> None:
        """Take note that programs which begin with ``calls`` skip them from now on."""
        if calls == self._preloaded:
            return
        self._preloaded = calls
        self._weights.clear()
        self._preloaded_ones = [each for each in self._all if calls and each.startswith(calls)]

    def avoid(self, program: bytes) -> None:
        """Do not go on from this one, which crashed."""
        # libFuzzer goes on from what it ran last, whatever that did. Each child
        # of a crashing program would likely crash as well, and cost a restore.
        self._crashed = program

    def blocked(self, program: bytes, cost: float = BLOCKED) -> None:
        """Take note that a program took so much longer than its calls tell.

        Usually a call waited until it was interrupted.
        """
        self._weights[program] = (self._weigh(program)[0], True)
        self._total += cost * self._slow_weight
        self._slow += cost * self._slow_weight

    def choose(self, asked: bytes) -> Parent:
        """Return ``asked``, or in its stead another program of the corpus."""
        chosen = asked
        preloaded = None
        if self._preloaded_ones and self._random.random() < _FROM_PRELOADED:
            preloaded = self._random.choice(self._preloaded_ones)
        if preloaded is not None and self._allows(*self._weigh(preloaded)):
            chosen = preloaded
        elif self._slow_ones and self.may_be_slow and self._random.random() < _FROM_SLOW:
            chosen = self._random.choice(self._slow_ones)
        elif self._long_ones and self.may_be_long and self._random.random() < _FROM_LONG:
            chosen = self._random.choice(self._long_ones)
        elif self._cheap and (asked == self._crashed or not self._allows(*self._weigh(asked))):
            chosen = self._random.choice(self._cheap)
        return Parent(chosen, self.may_be_slow)

    @property
    def total(self) -> float:
        """The cost of all that ran."""
        return self._total

    @property
    def may_be_slow(self) -> bool:
        """Whether slow programs have not had their share yet."""
        return self._slow < _SLOW_SHARE * self._total

    @property
    def may_be_long(self) -> bool:
        """Whether long programs have not had their share yet."""
        return self._long < _LONG_SHARE * self._total

    def any(self) -> bytes:
        """Return any program of the corpus, seldom one that costs a lot; b"" if there is none."""
        for _ in range(8):
            if not self._all:
                break
            some = self._all
            if self._preloaded_ones and self._random.random() < _FROM_PRELOADED:
                some = self._preloaded_ones
            program = self._random.choice(some)
            cost, slow = self._weigh(program)
            if self._random.random() < (_ANY_SLOW if slow else _ANY_LONG if cost > LONG else 1):
                return program
        return self._random.choice(self._cheap) if self._cheap else b""

    def spend_on(self, chunks: list[bytes]) -> float:
        """Take note that a program of these calls runs, and return its cost."""
        cost, slow = cost_of(chunks), is_slow(chunks)
        self.spend(cost, slow=slow)
        return cost

    def spend(self, cost: float, *, slow: bool) -> None:
        """Take note that a program of such a cost runs."""
        if slow:
            cost *= self._slow_weight
        self._total += cost
        if slow:
            self._slow += cost
        elif cost > LONG:
            self._long += cost

    def _allows(self, cost: float, slow: bool) -> bool:
        if slow:
            return self.may_be_slow
        return cost <= LONG or self.may_be_long

    def _weigh(self, program: bytes) -> tuple[float, bool]:
        """Return what a program costs, and whether it is a slow one."""
        weight = self._weights.get(program)
        if weight is None:
            if len(self._weights) >= _CACHED:
                self._weights.clear()
            weight = self._weights[program] = _weight(program.removeprefix(self._preloaded))
        return weight


def slow_weight(accel: Accel, load_seconds: float) -> float:
    """Return what slow programs cost over the estimate, with a module that takes so long to load.

    Loads that take no longer than usual change nothing, so that campaigns are the same each time.
    """
    weight = SLOW_WEIGHT[accel]
    return weight * load_seconds / _USUAL_LOAD if load_seconds > _LONG_LOAD else weight


def _weight(program: bytes) -> tuple[float, bool]:
    chunks = split(program)
    return cost_of(chunks), is_slow(chunks)
