# SPDX-License-Identifier: Apache-2.0
"""A machine that runs programs and is replaced by fresh ones, with what it has run so far."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Protocol, Self

from fuzzer.machine.channel import Channel
from fuzzer.machine.machine import Machine


class Testbed(Protocol):
    """Fresh machines that have a driver loaded."""

    def restore(self) -> Machine:
        """Return a fresh machine, ready for programs."""

    def start(self, post: Callable[[Channel], None]) -> Machine:
        """Return a fresh machine that has its first command when it begins to run."""


class Executor:
    """The machine at hand, which ``restore`` returned.

    ``history`` are the programs that ran on it. It is kept when the machine has ended, for
    reports on that, until there is the next machine. ``preloaded`` are the calls by which
    its module was loaded: all of its programs begin with them.
    """

    def __init__(self, restore: Callable[[], Machine]) -> None:
        self._restore = restore
        self._machine: Machine | None = None
        self.history: list[bytes] = []
        self.preloaded = b""

    def __enter__(self) -> Self:
        """Return the executor."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End the machine."""
        self.close()

    @property
    def machine(self) -> Machine:
        """The present machine, a fresh one if there is none."""
        return self._machine or self.renew()

    def renew(self) -> Machine:
        """Replace the machine by a fresh one, which has run nothing."""
        self.close()
        self.history = []
        self._machine = self._restore()
        return self._machine

    def close(self) -> None:
        """End the machine. May be called again."""
        if self._machine:
            self._machine.close()
        self._machine = None
