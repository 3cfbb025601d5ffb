# SPDX-License-Identifier: Apache-2.0
"""A reproducer: the program that shows a crash, and the programs that must run before it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Reproducer:
    """A program in wire form, and the programs that run before it on the same machine."""

    program: bytes
    history: tuple[bytes, ...] = ()

    @property
    def size(self) -> int:
        """The number of bytes of all programs."""
        return len(self.program) + sum(map(len, self.history))
