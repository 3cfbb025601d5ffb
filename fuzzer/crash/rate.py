# SPDX-License-Identifier: Apache-2.0
"""The rate of a crash: estimates from a number of runs, and a test for a worse rate.

Runs are taken to be independent and alike.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

_CONFIDENCE = 0.95
_HALVINGS = 50
# A program that crashes at this share of the known rate is rejected.
_WORSE = 1 / 3
# The highest rate that is reckoned with: no number of runs shows that a crash happens always.
_SURE = 0.97
# The most runs of any answer.
_ENDLESS = 1_000_000


def interval(hits: int, runs: int, confidence: float = _CONFIDENCE) -> tuple[float, float]:
    """Return the exact (Clopper-Pearson) confidence interval of a rate; ``runs`` is above 0."""
    tail = (1 - confidence) / 2
    low = 0.0 if hits == 0 else _solve(lambda rate: 1 - _at_most(hits - 1, runs, rate) < tail)
    high = 1.0 if hits == runs else _solve(lambda rate: _at_most(hits, runs, rate) > tail)
    return low, high


def show_interval(hits: int, runs: int) -> str:
    """Return the 95 % confidence interval of a rate in per cent: ``44 to 97 %``."""
    low, high = interval(hits, runs)
    digits = 1 if hits > 0 and high < 0.02 else 0
    return f"{100 * low:.{digits}f} to {100 * high:.{digits}f} %"


def _at_most(hits: int, runs: int, rate: float) -> float:
    """Return the probability of ``hits`` or fewer in so many runs; ``rate`` is between 0 and 1."""
    yes, no = math.log(rate), math.log1p(-rate)
    return math.fsum(
        math.exp(
            math.lgamma(runs + 1)
            - math.lgamma(count + 1)
            - math.lgamma(runs - count + 1)
            + count * yes
            + (runs - count) * no
        )
        for count in range(hits + 1)
    )


def _solve(is_below: Callable[[float], bool]) -> float:
    """Return the rate up to which ``is_below`` is true."""
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if is_below(middle):
            low = middle
        else:
            high = middle
    return (low + high) / 2


def runs_to_rule_out(hits: int, runs: int, error: float) -> int:
    """Return the number of runs without a crash after which the crash is taken to be gone.

    If it still happened at the rate of ``hits`` in ``runs``, that many runs would all be
    without it with a probability of at most ``error``. The uncertainty of the rate is taken
    into account (Jeffreys' prior): the fewer runs it comes from, the more are needed.
    """
    yes, no = hits + 0.5, runs - hits + 0.5
    missed, needed = 1.0, 0
    while missed > error and needed < _ENDLESS:
        missed *= (no + needed) / (yes + no + needed)
        needed += 1
    return needed


@dataclass(frozen=True, slots=True)
class Rate:
    """The rate of a crash that was seen in ``hits`` of ``runs`` runs."""

    hits: int
    runs: int

    @property
    def estimate(self) -> float:
        """The rate to reckon with: above 0 and below 1."""
        return min((self.hits + 0.5) / (self.runs + 1), _SURE)


class SequentialTest:
    """Wald's sequential test of a program's rate against a known one.

    Runs are noted until ``decision`` is not None. It is true for a program that crashes at
    the known rate, false for one that crashes at a third of it or less, and wrong with a
    probability of at most ``error``. The number of runs follows from the rate. A program
    that never crashes is never accepted.
    """

    def __init__(self, known: float, error: float) -> None:
        worse = known * _WORSE
        self._hit = math.log(known / worse)
        self._miss = math.log((1 - known) / (1 - worse))
        self._bound = math.log((1 - error) / error)
        self._sum = 0.0

    def note(self, hits: int, runs: int) -> None:
        """Note ``hits`` in ``runs`` further runs."""
        self._sum += hits * self._hit + (runs - hits) * self._miss

    @property
    def decision(self) -> bool | None:
        """True if the program crashes as often, False if not; None while that is open."""
        if abs(self._sum) < self._bound:
            return None
        return self._sum > 0
