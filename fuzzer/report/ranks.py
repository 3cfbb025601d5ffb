# SPDX-License-Identifier: Apache-2.0
"""Differences of two groups of runs: Vargha and Delaney's A12, and the test of Mann and Whitney."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Sequence

# The most ways to split the runs for which each is looked at; with more the normal distribution
# is as good.
_MOST_SPLITS = 20_000


def a12(first: Sequence[float], second: Sequence[float]) -> float:
    """Return the probability that a run of the first group has a larger number than the second's.

    Equal ones count half: 0.5 is no difference. Infinity is a number as any other.

    Raises:
        ValueError: a group is empty.
    """
    if not first or not second:
        raise ValueError("both groups need a run at least")
    wins = sum((one > other) + 0.5 * (one == other) for one in first for other in second)
    return wins / (len(first) * len(second))


def mann_whitney(first: Sequence[float], second: Sequence[float]) -> float:
    """Return the two-sided p of the groups being of one distribution.

    Exact for few runs, ties or not: all ways to split them are counted. Else by the normal
    distribution, corrected for ties.

    Raises:
        ValueError: a group is empty.
    """
    n, m = len(first), len(second)
    mean = n * m / 2
    seen = abs(a12(first, second) * n * m - mean)
    ranks = _ranks([*first, *second])
    if math.comb(n + m, n) <= _MOST_SPLITS:
        least = n * (n + 1) / 2
        splits = itertools.combinations(ranks, n)
        as_far = sum(abs(sum(split) - least - mean) >= seen - 1e-9 for split in splits)
        return as_far / math.comb(n + m, n)
    total = n + m
    ties = sum(times**3 - times for times in Counter(ranks).values())
    variance = n * m / 12 * (total + 1 - ties / (total * (total - 1)))
    if not variance:
        return 1.0
    z = max(0.0, seen - 0.5) / math.sqrt(variance)
    return math.erfc(z / math.sqrt(2))


def _ranks(numbers: Sequence[float]) -> list[float]:
    """Return the rank of each number from 1, the mean one where several are equal."""
    ordered = sorted(numbers)
    first: dict[float, int] = {}
    for at, number in enumerate(ordered, 1):
        first.setdefault(number, at)
    times = Counter(ordered)
    return [first[number] + (times[number] - 1) / 2 for number in numbers]
