# SPDX-License-Identifier: Apache-2.0
"""Reruns of programs, which do not count as libFuzzer did not ask for them."""

from __future__ import annotations

from collections.abc import Callable

from fuzzer.engine.counters import Counters
from fuzzer.engine.crashes import CrashObserver
from fuzzer.engine.observer import Observer
from fuzzer.machine.channel import Channel


class Rerun:
    """Runs programs alone, under the conditions of the fuzzing loop.

    If ``renew`` is given, it replaces the machine before each.
    """

    def __init__(
        self,
        channel: Channel,
        counters: Counters,
        crashes: CrashObserver,
        observer: Observer,
        renew: Callable[[], None] | None,
    ) -> None:
        self._channel = channel
        self._counters = counters
        self._crashes = crashes
        self._observer = observer
        self._renew = renew

    def run(self, program: bytes, *, settles: bool = False) -> bytes | None:
        """Run a program and return its counters; None if it crashed, which was dealt with.

        If it ``settles``, the driver's deferred work is waited for.
        """
        self._observer.ran_again(program)
        if self._renew:
            self._renew()
        self._counters.clear()
        self._channel.set_settling(settles=settles)
        self._channel.post_program(program)
        passed = self._crashes.has_passed(program, even_waiting=True)
        self._channel.set_settling(settles=False)
        return bytes(self._counters.guest) if passed else None
