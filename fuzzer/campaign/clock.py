# SPDX-License-Identifier: Apache-2.0
"""Virtual clock: machines on which waiting takes no time, for drivers whose calls mostly wait.

A driver that sleeps for a second in each call leaves a machine idle nearly all the time.
On a machine whose clock counts instructions a wait takes no time, while calls keep their
usual order, and their limits by that clock. Such a machine runs instructions more slowly,
and its first boot takes a while. So a process of its own prepares it while fuzzing goes
on, once the first programs show that there is much to gain.

Started by the campaign with a pickled :class:`ClockTask` on standard input.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from enum import Enum, auto

from fuzzer.campaign.outlook import Remark
from fuzzer.campaign.subject import Subject
from fuzzer.campaign.workdir import Workdir
from fuzzer.child import Child, receive_task
from fuzzer.engine.statistics import WorkerCounts
from fuzzer.engine.worker import give_up
from fuzzer.errors import PkvfuzzError
from fuzzer.kernel.kernel import Kernel
from fuzzer.machine.accel import Accel

NAME = "clock"
# The clock is changed for calls that take longer than so many microseconds, and wait for at
# least so many percent of that.
_LONG_CALL, _MOSTLY_IDLE = 20_000, 90
_NICENESS = 5


@dataclass(frozen=True, slots=True)
class ClockTask:
    """Task of preparing machines with a virtual clock: the subject, and the kernel."""

    subject: Subject
    kernel: Kernel
    workdir: Workdir
    parent: int


class _ClockState(Enum):
    REAL = auto()
    PREPARING = auto()
    READY = auto()
    REFUSED = auto()


class Clock:
    """Notices that a campaign mostly waits, and prepares the virtual clock for it.

    A campaign whose number of programs is ``counted`` keeps its clock: the moment of a change
    would depend on time, and the campaign could not be repeated.
    """

    def __init__(
        self, subject: Subject, kernel: Kernel, workdir: Workdir, *, counted: bool
    ) -> None:
        self._task = ClockTask(virtual(subject), kernel, workdir, os.getpid())
        self._able = subject.accel is Accel.TCG
        self._state = _ClockState.REFUSED if counted or subject.virtual else _ClockState.REAL
        self._counts = WorkerCounts()
        self._child: Child | None = None

    def watch(self, counts: WorkerCounts) -> Subject | None:
        """Check the workers' counts; return the subject with its new clock once, when it is ready.

        The times in ``counts`` are those of the worker that waits most.
        """
        if self._state is _ClockState.REAL:
            if counts.call_us > _LONG_CALL and counts.idle >= _MOSTLY_IDLE:
                self._counts = counts
                self._state = _ClockState.REFUSED
                if self._able:
                    self._state = _ClockState.PREPARING
                    log = self._task.workdir.logs / f"{NAME}.log"
                    self._child = Child("fuzzer.campaign.clock", self._task, log)
        elif self._child is not None and not self._child.is_running():
            done = self._child.process.returncode == 0
            self.close()
            self._state = _ClockState.READY if done else _ClockState.REFUSED
            return self._task.subject if done else None
        return None

    def remarks(self) -> tuple[Remark, ...]:
        """Return the remarks on the clock."""
        if not self._counts.call_us:
            return ()
        seconds = f"{self._counts.call_us / 1e6:.2g} s"
        text = f"a call takes {seconds}, and for {self._counts.idle} % of that only waits: "
        if not self._able:
            text += "with --accel tcg the machines' clock could be put forward instead"
        elif self._state is _ClockState.READY:
            text += (
                "from now on the machines' clock is put forward where all of the guest waits, "
                "so that sleeping takes no time; limits of calls are by that clock"
            )
        else:
            return ()
        return (Remark("clock", text),)

    def close(self) -> None:
        """End the process that prepares the clock."""
        if self._child is not None:
            self._child.kill()
            self._child = None


def virtual(subject: Subject) -> Subject:
    """Return the subject with machines on which waiting takes no time."""
    return replace(subject, virtual=True)


def main() -> None:
    """Make the templates that a worker needs."""
    task: ClockTask = receive_task()
    os.nice(_NICENESS)
    try:
        task.subject.guest(task.kernel)
    except (PkvfuzzError, OSError) as error:
        give_up(task.workdir.root, NAME, error)


if __name__ == "__main__":
    main()
