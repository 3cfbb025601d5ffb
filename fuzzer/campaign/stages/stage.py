# SPDX-License-Identifier: Apache-2.0
"""A stage, and what divides turns among several of them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Protocol

ALL = 1.0
"""The share of stages that work in every turn."""

HALF = 0.5
EQUAL = 0.0
"""The share of stages that divide equally what those with a share of their own leave."""


class Stage(Protocol):
    """A kind of work, done in small pieces."""

    @property
    def name(self) -> str:
        """Its name in one or two words."""

    @property
    def share(self) -> float:
        """Its part of the turns while others have work as well."""

    def step(self) -> bool:
        """Do a piece of work; tell whether there was any."""


class Turns:
    """Stages of which one works at a time.

    One with a share of its own has that part of the turns which those before it leave, and
    those in which no other has any work. The others have the rest of the turns, one after
    the other in this order.
    """

    def __init__(self, stages: Sequence[Stage]) -> None:
        self.stages = tuple(stages)
        """All of them."""
        self._preferred = [each for each in stages if each.share]
        self._equal = [each for each in stages if not each.share]
        self._cycle = itertools.cycle(self._equal)
        self._credit = {each.name: 1 - each.share for each in self._preferred}

    def step(self) -> bool:
        """Have the next stage that has some do a piece of work; tell whether there was any."""
        early = []
        for stage in self._preferred:
            self._credit[stage.name] += stage.share
            if self._credit[stage.name] < 1:
                early.append(stage)
                continue
            self._credit[stage.name] -= 1
            if stage.step():
                return True
        if any(next(self._cycle).step() for _ in self._equal):
            return True
        return any(stage.step() for stage in early)
