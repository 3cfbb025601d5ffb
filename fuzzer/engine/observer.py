# SPDX-License-Identifier: Apache-2.0
"""Observer of a worker's loop: is told what the loop does, to measure it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext


class Observer:
    """Ignores everything; an observer that measures a loop overrides some of the methods."""

    def ran(self, programs: Sequence[bytes]) -> None:
        """Take note of programs that ran because libFuzzer asked for them."""

    def ran_again(self, program: bytes) -> None:
        """Take note of a program that ran again, which does not count."""

    def ahead(self) -> AbstractContextManager[None]:
        """Return the context in which candidates are made while the guest works."""
        return nullcontext()
