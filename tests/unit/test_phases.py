# SPDX-License-Identifier: Apache-2.0
"""Serial phases and races take turns, and each has preloaded machines of its own."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest

from fuzzer.engine.candidate import Candidate
from fuzzer.engine.phases import Phases
from fuzzer.engine.race_slots import RaceSlots


def phases(workdir: Path, length: int = 100) -> Phases:
    return Phases(length, random.Random(1).random, RaceSlots(workdir))


def length_of(ours: Phases, cost: float = 500.0) -> int:
    """Return after how many programs of that cost a phase is over."""
    n = 0
    while not ours.is_over:
        assert ours.ends_after([Candidate(b"", cost)]) or not ours.ends_after([Candidate(b"", 0.0)])
        ours.spend([Candidate(b"", cost)])
        n += 1
    return n


def test_races_come_between_serial_phases(tmp_path: Path) -> None:
    ours = phases(tmp_path)
    kinds = []
    for _ in range(5):
        kinds.append(ours.racing)
        assert ours.racing or length_of(ours) == 100
        ours.change(may_race=True)
        ours.release_slot()
    assert kinds == [False, True, False, True, False]


def test_who_may_not_race_goes_on_with_serial_programs(tmp_path: Path) -> None:
    ours = phases(tmp_path)
    ours.change(may_race=False)
    assert (ours.racing, length_of(ours)) == (False, 100)


def test_a_worker_without_a_slot_asks_again_soon(tmp_path: Path) -> None:
    slots = RaceSlots(tmp_path)
    held = [RaceSlots(tmp_path) for _ in range(64)]
    assert any(each.acquire() for each in held)
    for each in held:
        each.acquire()
    ours = Phases(100, random.Random(1).random, slots)
    ours.change(may_race=True)
    assert (ours.racing, length_of(ours)) == (False, 25)
    for each in held:
        each.release()
    ours.change(may_race=True)
    assert ours.racing


def test_a_slot_is_kept_until_the_phase_is_another_one(tmp_path: Path) -> None:
    ours = phases(tmp_path)
    ours.change(may_race=True)
    others = [RaceSlots(tmp_path) for _ in range(64)]
    taken = sum(each.acquire() for each in others)
    ours.release_slot()
    assert not RaceSlots(tmp_path).acquire()
    ours.change(may_race=True)
    ours.release_slot()
    assert RaceSlots(tmp_path).acquire()
    assert taken < len(others)


def test_races_may_go_on_without_end(tmp_path: Path) -> None:
    ours = phases(tmp_path)
    ours.race_from_now_on()
    ours.spend([Candidate(b"", 1e9)] * 10**6)
    assert ours.racing
    assert not ours.is_over


@pytest.mark.parametrize(
    ("cost", "programs"),
    # One that did not come with an estimate is like most others.
    [(500.0, 100), (30.0, 100), (15.0, 200), (12.0, 250), (1.0, 400), (-1.0, 100)],
)
def test_a_phase_of_small_programs_has_more_of_them(
    tmp_path: Path, cost: float, programs: int
) -> None:
    assert length_of(phases(tmp_path), cost) == programs


def test_a_few_large_programs_make_up_for_small_ones(tmp_path: Path) -> None:
    ours = phases(tmp_path)
    ours.spend([Candidate(b"", 1000.0)] * 3)
    assert length_of(ours, 1.0) == 97


def test_machines_of_each_kind_are_preloaded_by_what_that_kind_used_least(tmp_path: Path) -> None:
    ours = phases(tmp_path)
    preloaded: dict[bool, int] = {False: 0, True: 0}

    def choose(used: Counter[bytes]) -> bytes:
        used[b"load"] += 1
        preloaded[ours.racing] += 1
        assert used[b"load"] == preloaded[ours.racing]
        return b"load"

    n = 1000
    for _ in range(2 * n):
        assert ours.choose_preload(choose) in {b"load", b""}
        ours.change(may_race=True)
        ours.release_slot()
    # More of those that race.
    assert 0.2 * n < preloaded[False] < 0.4 * n
    assert 0.5 * n < preloaded[True] < 0.7 * n


def test_a_phase_whose_machines_are_replaced_often_is_shorter(tmp_path: Path) -> None:
    ours = phases(tmp_path, 10_000)
    machines = 0
    while not ours.is_over:
        ours.spend([Candidate(b"", 500.0)])
        ours.spend_machine()
        machines += 1
    assert machines == 30
