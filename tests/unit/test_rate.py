# SPDX-License-Identifier: Apache-2.0
"""Rates: confidence intervals, and telling whether one is worse."""

from __future__ import annotations

import random

import pytest

from fuzzer.crash.rate import Comparison, Rate, interval, show_interval


@pytest.mark.parametrize(
    ("hits", "runs", "low", "high"),
    [  # From tables of the Clopper-Pearson interval.
        (0, 10, 0.0, 0.3085),
        (3, 3, 0.2924, 1.0),
        (5, 10, 0.1871, 0.8129),
        (1, 100, 0.0003, 0.0545),
        (20, 20, 0.8316, 1.0),
    ],
)
def test_the_interval_is_the_exact_one(hits: int, runs: int, low: float, high: float) -> None:
    assert interval(hits, runs) == pytest.approx((low, high), abs=5e-4)


def test_a_small_rate_is_shown_with_a_digit_more() -> None:
    assert show_interval(3, 3) == "29 to 100 %"
    assert show_interval(2, 2000) == "0.0 to 0.4 %"


def decide(known: float, actual: float, rng: random.Random) -> bool:
    test = Comparison(known, 0.02)
    for _ in range(1_000_000):
        if test.decision is not None:
            return test.decision
        test.note(rng.random() < actual, 1)
    raise AssertionError("no decision")


@pytest.mark.parametrize("known", [0.02, 0.3, Rate(10, 10).estimate])
def test_the_comparison_errs_seldom(known: float) -> None:
    rng = random.Random(1)
    assert sum(decide(known, known, rng) for _ in range(200)) >= 190
    assert sum(decide(known, known / 3, rng) for _ in range(200)) <= 10
    assert not any(decide(known, 0.0, rng) for _ in range(5))
