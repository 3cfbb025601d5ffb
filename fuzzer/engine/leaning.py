# SPDX-License-Identifier: Apache-2.0
"""Leaning toward a part of the driver: programs that come near it are mutated more often."""

from __future__ import annotations

from dataclasses import dataclass, field

from fuzzer.engine.counters import Counters
from fuzzer.engine.seed_scheduler import SeedScheduler


@dataclass(frozen=True, slots=True)
class Lean:
    """The blocks to reach, by number, and those from which they are ``near``: their functions'."""

    wanted: frozenset[int] = field(default_factory=frozenset)
    near: frozenset[int] = field(default_factory=frozenset)


class Leaning:
    """Favours programs of the corpus that come near blocks which none has reached yet."""

    def __init__(self, lean: Lean, counters: Counters, scheduler: SeedScheduler) -> None:
        self._wanted = set(lean.wanted)
        self._near = lean.near
        self._counters = counters
        self._scheduler = scheduler

    def note(self, program: bytes) -> None:
        """Take note of a program of the corpus, whose counters the guest has."""
        if not self._wanted:
            return
        counters = self._counters.guest
        self._wanted = {block for block in self._wanted if not counters[block]}
        if not self._wanted:
            self._scheduler.favour_none()
        elif any(counters[block] for block in self._near):
            self._scheduler.favour(program)
