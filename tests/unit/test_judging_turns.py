# SPDX-License-Identifier: Apache-2.0
"""The judge's turns between judging and exploring, while sightings always wait."""

from __future__ import annotations

import pytest

from fuzzer.campaign.judging import JudgeProcess


class Clock:
    """Time that passes when somebody works."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


class Busy(JudgeProcess):
    """A judge without machines: judging takes 10 seconds, a slice of exploring one."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.judged = self.explored = 0
        self._owed, self._explores, self._lost = 0.0, True, 0
        self._clock = clock.monotonic

    def _judge_one(self) -> bool:
        self.clock.now += 10
        self.judged += 1
        return True

    def _run_corpus(self) -> bool:
        return False

    def explore(self) -> bool:
        self.clock.now += 1
        self.explored += 1
        return True


@pytest.fixture
def busy() -> Busy:
    """Return a judge whose work takes no time of ours."""
    return Busy(Clock())


def test_other_work_has_half_as_much_time_as_judging(busy: Busy) -> None:
    for _ in range(120):
        assert busy.step()
    assert busy.judged == 20
    assert busy.explored == 100


def test_a_sighting_does_not_wait_for_other_work_at_first(busy: Busy) -> None:
    assert busy.step()
    assert (busy.judged, busy.explored) == (1, 0)


def test_in_the_end_sightings_are_all_that_counts(busy: Busy) -> None:
    busy.step()
    busy._explores = False
    for _ in range(10):
        busy.step()
    assert (busy.judged, busy.explored) == (11, 0)
