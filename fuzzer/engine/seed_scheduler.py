# SPDX-License-Identifier: Apache-2.0
"""Seed scheduler: chooses the program to mutate, mostly the one that libFuzzer asks for.

Another one is chosen if libFuzzer's costs too much, and now and then one that costs a lot:
such programs reach what a driver does when it is full, or some time after it was loaded.
There are few of them, and libFuzzer would seldom choose one.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from fuzzer.machine.accel import Accel
from fuzzer.program.cost import cost_of, is_slow
from fuzzer.program.wire import split

# Programs that cost more than so many small calls are long.
LONG = 24.0
# Shares of all cost that long and slow programs may have. libFuzzer chooses without regard to
# cost, so a few programs that fill the driver's tables could take most of the time.
_LONG_SHARE, _SLOW_SHARE = 0.3, 0.15
# While that share is not used up, these shares of programs are made of long and of slow ones.
_FROM_LONG, _FROM_SLOW = 0.1, 0.3
# On a preloaded machine this share is made of programs found on machines preloaded alike.
_FROM_PRELOADED = 0.3
# This share of programs is made of those that are favoured.
_FROM_FAVOURED = 0.4
# Where costs are not counted, as for races, a long or a slow program is accepted this often.
_ANY_LONG, _ANY_SLOW = 0.1, 0.005
# Factors from the estimated cost of waits and loads to the calls that this time takes on a
# machine: a wait takes as long on any machine, a call takes a few microseconds with KVM and up to
# 60 without.
SLOW_WEIGHT = {Accel.KVM: 8.0, Accel.TCG: 0.6}
# Seconds that unloading, loading and restoring the module take by the estimate.
_USUAL_LOAD = 0.02
# Seconds of a load from which on the estimate is corrected by the measured time.
_LONG_LOAD = 0.5
# The cost of a call that waits, which takes some 20 ms (vm/executor/watch.c), in calls of 20 µs.
BLOCKED = 1000.0
_CACHED = 50_000


@dataclass(frozen=True, slots=True)
class Parent:
    """A program to mutate; with ``slow`` its mutants may take as long as many others."""

    program: bytes
    slow: bool


class SeedScheduler:
    """Sums up the cost of programs that run, and chooses among those of the corpus.

    The cost of slow programs counts ``slow_weight`` times.
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
        self._favoured: list[bytes] = []
        self._crashed: bytes | None = None
        self._total = self._long = self._slow = 1.0

    def note(self, program: bytes) -> None:
        """Take note of a program of the corpus."""
        self._all.append(program)
        # By its cost on a plain machine, as a preloaded one is soon replaced.
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

    def favour(self, program: bytes) -> None:
        """Have a program of the corpus chosen more often than others."""
        self._favoured.append(program)

    def favour_none(self) -> None:
        """Choose among all programs again."""
        self._favoured.clear()

    def avoid(self, program: bytes) -> None:
        """Avoid mutating a program that crashed."""
        # libFuzzer mutates the program that it ran last, whatever that did. Each mutant of a
        # crashing program would likely crash as well, and cost a restore.
        self._crashed = program

    def blocked(self, program: bytes, cost: float = BLOCKED) -> None:
        """Take note that a program cost so much more than its calls tell.

        Usually a call waited until it was interrupted.
        """
        self._weights[program] = (self._weigh(program)[0], True)
        self._total += cost * self._slow_weight
        self._slow += cost * self._slow_weight

    def choose(self, asked: bytes) -> Parent:
        """Return ``asked``, or another program of the corpus in its place."""
        chosen = asked
        preloaded = None
        if self._preloaded_ones and self._random.random() < _FROM_PRELOADED:
            preloaded = self._random.choice(self._preloaded_ones)
        favoured = None
        if self._favoured and self._random.random() < _FROM_FAVOURED:
            favoured = self._random.choice(self._favoured)
        if (
            favoured is not None
            and favoured != self._crashed
            and self._allows(*self._weigh(favoured))
        ):
            chosen = favoured
        elif preloaded is not None and self._allows(*self._weigh(preloaded)):
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
        """True if slow programs have not had their share yet."""
        return self._slow < _SLOW_SHARE * self._total

    @property
    def may_be_long(self) -> bool:
        """True if long programs have not had their share yet."""
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
        """Return the cost of a program, and whether it is a slow one."""
        weight = self._weights.get(program)
        if weight is None:
            if len(self._weights) >= _CACHED:
                self._weights.clear()
            weight = self._weights[program] = _weight(program.removeprefix(self._preloaded))
        return weight


def slow_weight(accel: Accel, load_seconds: float) -> float:
    """Return the factor for the cost of slow programs, given the time of loading the module.

    Usual times of a load do not change it, so that campaigns are the same each time.
    """
    weight = SLOW_WEIGHT[accel]
    return weight * load_seconds / _USUAL_LOAD if load_seconds > _LONG_LOAD else weight


def _weight(program: bytes) -> tuple[float, bool]:
    chunks = split(program)
    return cost_of(chunks), is_slow(chunks)
