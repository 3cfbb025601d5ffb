# SPDX-License-Identifier: Apache-2.0
"""Vargha and Delaney's A12, and the test of Mann and Whitney."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuzzer.report.ranks import a12, mann_whitney

GROUPS = st.lists(st.integers(0, 9).map(float), min_size=1, max_size=6)


def test_a12_is_the_share_of_pairs_that_are_won() -> None:
    assert a12([3, 4], [1, 2]) == 1.0
    assert a12([1, 2], [3, 4]) == 0.0
    assert a12([1, 2, 3], [2]) == 0.5
    assert a12([2, 2], [2, math.inf]) == 0.25


def test_p_of_few_runs_is_exact() -> None:
    # 2 of the 20 ways to split six runs are as far apart, 2 of 252 of ten.
    assert mann_whitney([1, 2, 3], [4, 5, 6]) == pytest.approx(0.1)
    assert mann_whitney([1, 2, 3, 4, 5], [6, 7, 8, 9, 10]) == pytest.approx(2 / 252)
    assert mann_whitney([5, 5, 5], [5, 5, 5]) == 1.0


def test_p_of_many_runs_is_near_what_others_compute() -> None:
    # scipy.stats.mannwhitneyu(range(20), range(5, 25)): U = 112.5, p = 0.01858 with ties.
    first, second = [float(n) for n in range(20)], [float(n) for n in range(5, 25)]
    assert mann_whitney(first, second) == pytest.approx(0.01858, abs=2e-4)
    assert mann_whitney([1.0] * 20, [1.0] * 20) == 1.0


@given(GROUPS, GROUPS)
def test_the_two_sides_are_treated_alike(first: list[float], second: list[float]) -> None:
    assert a12(first, second) + a12(second, first) == pytest.approx(1.0)
    p = mann_whitney(first, second)
    assert 0.0 < p <= 1.0
    assert p == pytest.approx(mann_whitney(second, first))


def test_a_group_without_runs_is_refused() -> None:
    with pytest.raises(ValueError, match="both groups"):
        a12([], [1.0])
