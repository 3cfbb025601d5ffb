# SPDX-License-Identifier: Apache-2.0
"""Turns of stages: those with a share of their own, and the others one after the other."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from fuzzer.campaign.stages.stage import EQUAL, HALF, Turns


class Work:
    """A stage that has so many pieces of work, and tells of each."""

    def __init__(self, name: str, done: list[str], share: float = EQUAL, left: int = 99) -> None:
        self.name, self.share, self.left = name, share, left
        self._done = done

    def step(self) -> bool:
        if not self.left:
            return False
        self.left -= 1
        self._done.append(self.name)
        return True


def turns(stages: Iterable[Work], steps: int) -> int:
    """Return in how many of so many steps there was work."""
    work = Turns(list(stages))
    return sum(work.step() for _ in range(steps))


def test_stages_without_a_share_work_one_after_the_other() -> None:
    done: list[str] = []
    assert turns([Work(name, done) for name in "abc"], 7) == 7
    assert "".join(done) == "abcabca"


def test_a_stage_that_has_no_work_is_passed_over() -> None:
    done: list[str] = []
    assert turns([Work("a", done, left=1), Work("b", done), Work("c", done, left=0)], 4) == 4
    assert "".join(done) == "abbb"


@pytest.mark.parametrize(("preferred", "order"), [("r", "rarbrarb"), ("rx", "rxrarxrbrxra")])
def test_a_stage_with_half_of_the_turns_has_each_other_one_that_is_left(
    preferred: str, order: str
) -> None:
    done: list[str] = []
    stages = [Work(name, done, HALF) for name in preferred] + [Work(name, done) for name in "ab"]
    assert turns(stages, len(order)) == len(order)
    assert "".join(done) == order


def test_a_share_that_is_not_used_is_the_others() -> None:
    done: list[str] = []
    stages = [Work("r", done, HALF, left=1), Work("a", done), Work("b", done)]
    assert turns(stages, 5) == 5
    assert "".join(done) == "rabab"


def test_where_no_other_has_work_a_stage_with_a_share_works_in_each_turn() -> None:
    done: list[str] = []
    assert turns([Work("r", done, HALF, left=5), Work("a", done, left=1)], 8) == 6
    assert "".join(done) == "rarrrr"
