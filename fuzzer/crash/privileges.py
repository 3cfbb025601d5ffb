# SPDX-License-Identifier: Apache-2.0
"""The privileges that a crash takes, found by running it as a user who has none.

Who may open a device file is for the administrator of a machine to say, so that is told
apart from what a driver asks of its callers, such as CAP_SYS_ADMIN for an ioctl.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fuzzer.crash.crash import Crash, Privileges
from fuzzer.crash.dedup import Wanted, same_bug
from fuzzer.crash.series import run_history
from fuzzer.crash.testbeds import UNLOGGED, Testbeds
from fuzzer.machine.channel import Channel
from fuzzer.machine.channel_layout import FLAG_NOBODY, FLAG_NOBODY_OPENS
from fuzzer.machine.executor import Testbed
from fuzzer.machine.machine import Machine
from fuzzer.program.ops import Op
from fuzzer.program.preload import preload_of
from fuzzer.program.wire import split

# Machines for a crash that shows each time, and the most for one that shows seldom.
_RUNS, _MOST_RUNS = 2, 6
_LOADING = frozenset({int(Op.LOAD), int(Op.UNLOAD)})


@dataclass(frozen=True, slots=True)
class _Unprivileged:
    """A testbed on which programs are run with these flags of the channel."""

    testbed: Testbed
    flags: int

    def restore(self) -> Machine:
        machine = self.testbed.restore()
        machine.channel.header.flags |= self.flags
        return machine

    def start(self, post: Callable[[Channel], None]) -> Machine:
        def prepare(channel: Channel) -> None:
            channel.header.flags |= self.flags
            post(channel)

        return self.testbed.start(prepare)


def privileges_of(crash: Crash, setups: Testbeds) -> Privileges | None:
    """Return the privileges that a crash which reproduced takes; None if that is not known.

    It is not known of a schedule, as changing the user takes instructions, and of memory
    leaks, which are found after the fact.

    Raises:
        LostMachineError: QEMU was killed from outside; try again.
    """
    place = setups.place(crash.kind, crash.history, crash.program)
    if crash.kind in UNLOGGED or place.exact or not crash.reproduced:
        return None
    programs = (*crash.history, crash.program)
    if any(chunk[0] in _LOADING for each in programs for chunk in split(_own(each))):
        return Privileges.ROOT
    bug = crash.splat
    wanted = Wanted(bug)
    runs = min(_MOST_RUNS, _RUNS * -(-crash.runs // crash.reproduced))

    def shows(flags: int) -> bool:
        testbed = _Unprivileged(place.guest, flags)
        for _ in range(runs):
            outcome, _ = run_history(testbed, crash.history, crash.program, place.tries, wanted)
            if outcome.splat and same_bug(bug, outcome.splat):
                return True
        return False

    if not shows(FLAG_NOBODY):
        return Privileges.ROOT
    return Privileges.ANYONE if shows(FLAG_NOBODY | FLAG_NOBODY_OPENS) else Privileges.OPENER


def _own(program: bytes) -> bytes:
    """Return a program without the calls at its beginning by which an administrator loads."""
    return program.removeprefix(preload_of(program))
