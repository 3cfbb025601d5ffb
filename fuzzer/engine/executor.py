# SPDX-License-Identifier: Apache-2.0
"""The executor of a worker: one channel, and the machine at its other end."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence

from fuzzer.driver.provision import Guest, equip_contexts
from fuzzer.engine.start import Start
from fuzzer.machine.channel import Channel
from fuzzer.machine.channel_layout import FLAG_WAITS, MAX_CONTEXTS, NO_BATCH
from fuzzer.machine.executor import Executor
from fuzzer.machine.machine import Machine
from fuzzer.splat.find import find_splat
from fuzzer.splat.kmsg import console_lines

# Programs after which a machine is no longer fresh, and seconds that a batch may take then.
_FRESH = 64
_SLOW_SECONDS = 4.0
# Longest silence, beside the executor's own time limits, before a guest is lost.
_SILENCE = 3.0
# Longest silence beside the time limits, and seconds of a batch, where guests were lost before.
_KNOWN_SILENCE, _KNOWN_SLOW = 0.5, 1.5
# Seconds to wait at first, and between two looks at a guest that has not answered by then.
_AT_ONCE, _LOOK = 0.25, 0.1


def _do_nothing() -> None:
    pass


class WorkerExecutor(Executor):
    """Runs the programs that are posted to ``channel``, which outlives the machines.

    Machines are restored from ``guest``, or from ``racing`` while ``races`` is set. Their
    module is loaded by the ``preloaded`` calls once :meth:`preload` ran these. With ``loads``,
    programs load the module, which may take long. ``while_waiting`` is called about once
    a second while a guest has not answered. With ``outcomes``, those of calls are coverage.
    """

    def __init__(
        self,
        guest: Guest,
        racing: Guest | None = None,
        *,
        loads: bool = True,
        outcomes: bool = True,
        channel: Channel | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(self._restore_awake)
        self.guest = guest
        self._racing = racing
        self.channel = channel or Channel()
        self.races = False
        self.while_waiting: Callable[[], None] = _do_nothing
        self.start = Start(clock)
        """Measures the time that calls take."""
        self.shown: dict[str, None] = {}
        """Titles of the known bugs that this machine has shown and survived."""
        self.was_slow = False
        """True if the guest that did not answer was working, and only took too long."""
        self._contexts = list(guest.contexts)
        self._outcomes = outcomes
        self._waits = False
        self.renew()
        self.load_seconds = self.channel.header.load_ms / 1000
        """Seconds that it takes to load the module."""
        # Once STUCK is ruled out by the executor's watchdog, silence means a dead guest.
        limit = max(guest.target.call_timeout_ms / 1000, 2 * self.load_seconds if loads else 0.0)
        self._limit = limit
        self.patience = 2 * limit + _SILENCE
        """Seconds without a further call after which a guest is lost."""
        self.slow_seconds = _SLOW_SECONDS
        """Seconds that a batch may take on a machine that has run more than some programs."""

    @property
    def can_race(self) -> bool:
        """True if there are machines for programs with threads."""
        return self._racing is not None

    def shorten_patience(self) -> None:
        """Wait less for guests from now on: the campaign has stored crashes of silent ones.

        To give up a guest by mistake costs a machine; to wait for a silent one costs this time.
        """
        if not self.start.is_slow:
            self.patience = self._limit + _KNOWN_SILENCE
            self.expect_slowness()

    def expect_slowness(self) -> None:
        """Replace machines that became slow sooner from now on, as there were several."""
        self.slow_seconds = _KNOWN_SLOW

    def _restore_awake(self) -> Machine:
        guest = self._racing if self._racing and self.races else self.guest
        return guest.restore_awake(self.channel)

    def renew(self) -> Machine:
        """Replace the machine by a fresh one, with the module as it is in the template."""
        self.start.pause()
        machine = super().renew()
        self.equip()
        self._set_waits()
        self.shown.clear()
        return machine

    def preload(self) -> bool:
        """Load the module of a fresh machine by the ``preloaded`` calls.

        Returns False when the guest is lost, as :meth:`await_answer` does.
        """
        self.channel.post_preload(self.preloaded)
        return self.await_answer()

    def has_loaded_well(self) -> bool:
        """Tell whether the module is loaded and its load left no report, after :meth:`preload`."""
        if not self.channel.header.preloaded:
            return False
        # Many drivers say something when they are loaded.
        return find_splat(console_lines(self.channel.log())) is None

    def await_answer(self, batch: int = NO_BATCH, patience: float | None = None) -> bool:
        """Wait for the program or the batch to end; False when the guest is lost, or too slow.

        It is lost when no call ends for ``patience`` seconds, by default ``self.patience``.
        """
        patience = self.patience if patience is None else patience
        channel = self.channel
        if channel.wait(_AT_ONCE, batch):
            return True
        self.was_slow = False
        qemu, header = self.machine.qemu, channel.header
        progress, last = -1, qemu.clock()
        slow_at = last + self.slow_seconds
        while not channel.wait(_LOOK, batch):
            if self.start.is_time():
                self.while_waiting()
            if not qemu.is_running():
                return False
            if header.progress != progress:
                progress, last = header.progress, qemu.clock()
                if last > slow_at and len(self.history) > _FRESH and not self.start.is_slow:
                    self.was_slow = True
                    return False
            elif qemu.clock() - last > patience:
                return False
        return True

    def look(self) -> None:
        """Measure the time of the calls that were made since the last look."""
        self.start.look(self.channel.header.progress, self.machine.qemu.cpu_seconds())

    def let_wait(self) -> None:
        """Let programs go on while a call waits, from now on, as this driver has such calls."""
        self._waits = True
        self._set_waits()

    def _set_waits(self) -> None:
        header = self.channel.header
        header.flags = header.flags & ~FLAG_WAITS | (FLAG_WAITS if self._waits else 0)

    def learn_contexts(self, numbers: Iterable[int]) -> bool:
        """Take ioctl numbers to count coverage for separately; tell whether one is new.

        They take effect with the next :meth:`equip`.
        """
        known = len(self._contexts)
        for number in numbers:
            if number not in self._contexts and len(self._contexts) < MAX_CONTEXTS:
                self._contexts.append(number)
        return len(self._contexts) > known

    @property
    def known_ioctls(self) -> Sequence[int]:
        """The numbers of the driver's ioctls that were learned so far."""
        return tuple(self._contexts)

    def equip(self) -> None:
        """Count coverage separately for each of the ioctl numbers learned so far."""
        equip_contexts(self.channel, self._contexts, outcomes=self._outcomes)
