# SPDX-License-Identifier: Apache-2.0
"""Rates: confidence intervals, and telling whether one is worse."""

from __future__ import annotations

import random

import pytest

from fuzzer.crash.rate import Rate, SequentialTest, interval, runs_to_rule_out, show_interval


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
    test = SequentialTest(known, 0.02)
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


@pytest.mark.parametrize(
    ("hits", "runs", "needed"),
    [(10, 10, 2), (3, 3, 4), (1000, 1000, 1), (500, 1000, 7), (100, 1000, 45)],
)
def test_as_many_runs_rule_a_crash_out_as_its_rate_needs(hits: int, runs: int, needed: int) -> None:
    assert runs_to_rule_out(hits, runs, 0.01) == needed


def test_a_rate_that_few_runs_told_needs_more_to_rule_it_out() -> None:
    needed = [runs_to_rule_out(hits, 10 * hits, 0.01) for hits in (1, 3, 10, 100)]
    assert needed == sorted(needed, reverse=True)
    assert needed[0] > 3 * needed[-1]


def test_what_was_ruled_out_is_seldom_there() -> None:
    # The error holds for rates and what a few runs told of them, not for a known rate.
    rng = random.Random(1)
    missed = tried = 0
    while tried < 4000:
        rate = rng.random()
        hits = sum(rng.random() < rate for _ in range(10))
        if hits:
            tried += 1
            missed += all(rng.random() >= rate for _ in range(runs_to_rule_out(hits, 10, 0.01)))
    assert missed < 0.015 * tried
