# SPDX-License-Identifier: Apache-2.0
"""Observer of a worker's loop: told of what the loop does, to measure it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext


class Observer:
    """Takes note of nothing; what measures a loop overrides what it wants to know."""

    def ran(self, programs: Sequence[bytes]) -> None:
        """Take note of programs that ran because libFuzzer asked for them."""

    def ran_again(self, program: bytes) -> None:
        """Take note of one that ran to be sure of something, and does not count."""

    def ahead(self) -> AbstractContextManager[None]:
        """Return what surrounds the making of candidates while the guest works."""
        return nullcontext()
