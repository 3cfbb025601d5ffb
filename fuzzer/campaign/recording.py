# SPDX-License-Identifier: Apache-2.0
"""Record of a campaign: its snapshots, written to the state document as they come.

A document that cannot be written any more is begun anew, and a full disk is waited out: the
campaign goes on whatever happens here.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from fuzzer import __version__
from fuzzer.campaign.hostload import HostFigures, HostLoad
from fuzzer.campaign.recorded_state import FuzzedDriver, RecordedState
from fuzzer.campaign.snapshot import Snapshot
from fuzzer.campaign.subject import Subject
from fuzzer.campaign.timekeeper import TimeKeeper
from fuzzer.driver.provision import Guest
from fuzzer.machine.qemu import qemu_version
from fuzzer.progress import say
from fuzzer.state.document import EventKind, RunPhase, RunRecord
from fuzzer.state.writer import DamagedStateError, StateWriter

_EVERY = 1.0
# Seconds until a document that could not be made is tried again.
_PATIENCE = 60.0


class CampaignRecorder:
    """Writes a campaign's snapshots to the state document of its working directory."""

    def __init__(
        self,
        workdir: Path,
        run: RunRecord,
        driver: FuzzedDriver,
        *,
        host: HostLoad | None = None,
        keeper: TimeKeeper | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Open the document, and begin a run.

        Raises:
            BadInputError: a newer version of pkvfuzz wrote it.
        """
        self._workdir = workdir
        self._run = run
        self._driver = driver
        self._clock = clock
        self._host = host or HostLoad(workdir)
        self._keeper = keeper or TimeKeeper()
        self._next = self._retry_at = float("-inf")
        self.figures = HostFigures()
        """The host's load at the last look."""
        self._document: RecordedState | None = None
        self._open()

    def _open(self) -> None:
        self._retry_at = self._clock() + _PATIENCE
        writer = None
        try:
            writer = StateWriter(self._workdir)
            if writer.begun_anew:
                say(writer.begun_anew)
            self._document = RecordedState(writer, self._run, self._driver)
        except (DamagedStateError, OSError) as error:
            if writer:
                writer.close()
            say(
                f"the campaign's state cannot be written ({error}): there is no history until it is"
            )

    def record(self, snapshot: Snapshot, *, now: bool = False) -> None:
        """Write a snapshot if the last one is a second ago, or ``now``."""
        time_now = self._clock()
        if time_now < self._next and not now:
            return
        self._next = time_now + _EVERY
        jump = self._keeper.look()
        self.figures = self._host.look()
        if jump:
            say(jump)
        if self._document is None and time_now >= self._retry_at:
            self._open()
        self._guarded(lambda document: document.write(snapshot, self.figures, jump))

    def note(self, kind: EventKind, subject: str, text: str) -> None:
        """Add an event."""
        self._guarded(lambda document: document.note(kind, subject, text))

    def end(self, snapshot: Snapshot, reason: str) -> None:
        """Write the last snapshot, and the reason for which the run ended."""
        self.record(snapshot, now=True)
        self._guarded(lambda document: document.end(reason))
        if self._document:
            self._document.writer.close()
            self._document = None
            self._retry_at = float("inf")

    def _guarded(self, change: Callable[[RecordedState], None]) -> None:
        """Make a change; begin the document anew if it is damaged."""
        if self._document is None:
            return
        try:
            change(self._document)
        except DamagedStateError:
            self._document.writer.close()
            self._document = None
            self._open()
        except OSError as error:
            # A full disk. The rows of this moment are lost, unless there is room again soon.
            self._document.complain(error)


def run_record(
    subject: Subject,
    guest: Guest,
    *,
    vms: int,
    seed: int,
    seconds: float | None,
    programs: int | None,
    command: str,
) -> RunRecord:
    """Return the record of a run that begins now, of a subject on a guest."""
    now = time.time()
    return RunRecord(
        id=0,
        began=now,
        alive=now,
        ended=None,
        ended_by="",
        phase=RunPhase.STARTING,
        starts_at=0.0,
        fuzzed=0.0,
        seconds=seconds,
        programs=programs,
        seeds=0,
        vms=vms,
        seed=seed,
        options=command,
        target=subject.target.name,
        bug=subject.bug.name if subject.bug else None,
        driver=guest.driver.key,
        kernel=guest.kernel.key,
        release=guest.kernel.release(),
        fuzzed_on=subject.fuzzed_on.value,
        judged_on=subject.judged_on.value,
        version=__version__,
        qemu=qemu_version(),
        accel=guest.template.accel.value,
        host=platform.node(),
        cpus=os.cpu_count() or 1,
        host_memory=psutil.virtual_memory().total,
    )
