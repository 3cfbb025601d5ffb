# SPDX-License-Identifier: Apache-2.0
"""A stage, and the turns of several stages."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Protocol

ALL = 1.0
"""The share of stages that work in every turn."""

HALF = 0.5
"""The share of stages that work in every other turn."""

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
        """Work for a slice of time; tell whether there was anything to do."""


class Turns:
    """Stages that take turns, one at a time.

    A stage with a share of its own has that part of the turns that stages before it leave, and
    turns in which no other stage has work. The other stages have the rest of the turns, one
    after the other in their order.
    """

    def __init__(self, stages: Sequence[Stage]) -> None:
        self.stages = tuple(stages)
        """The stages, in order."""
        self._preferred = [each for each in stages if each.share]
        self._equal = [each for each in stages if not each.share]
        self._cycle = itertools.cycle(self._equal)
        self._credit = {each.name: 1 - each.share for each in self._preferred}

    def step(self) -> bool:
        """Let the next stage that has work do some of it; tell whether there was any."""
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
