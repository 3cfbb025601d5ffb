# SPDX-License-Identifier: Apache-2.0
"""The user's command for each new bug, run beside the campaign, which never waits for it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from fuzzer.campaign.workdir import Workdir
from fuzzer.crash.crash import Crash
from fuzzer.crash.dedup import KnownCrashes, is_same, likely_causes
from fuzzer.lifetime import start
from fuzzer.progress import clock, say

NAME = "on-crash"
"""The name of the log with what the commands print."""
# Commands that run at the same time; the others wait.
_AT_ONCE = 4
# Seconds for a command, and for all that still run when the campaign is over.
_LIMIT, _LAST = 600.0, 30.0
_TICK = 0.05


@dataclass(slots=True)
class _Running:
    process: subprocess.Popen[bytes]
    title: str
    since: float


class CrashCommand:
    """Runs a shell command once for each bug that a campaign finds.

    A bug counts once it is judged, or when the campaign ends before that. ``known`` are the
    crashes that were stored before, for which nothing is run; nor is it for those that are likely
    consequences of another one. The command finds the crash in its environment, see
    :func:`environment_of`, and what it prints goes to a log of the working directory.
    """

    def __init__(
        self,
        command: str,
        workdir: Workdir,
        known: KnownCrashes,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._command = command
        self._workdir = workdir
        self._known = known
        self._clock = clock
        self._log = workdir.logs / f"{NAME}.log"
        self._seen: tuple[Crash, ...] | None = None
        self._told: list[Crash] = []
        self._waiting: deque[Crash] = deque()
        self._running: list[_Running] = []

    def look(self, crashes: tuple[Crash, ...]) -> None:
        """Start the command for bugs that are new among the stored crashes; this is quick.

        The same object is taken for crashes that are the same.
        """
        if crashes is not self._seen:
            self._seen = crashes
            self._queue(crashes, judged=True)
        self._turn()

    def finish(self, crashes: tuple[Crash, ...]) -> None:
        """Run it for those as well that nobody judged, and wait for the last ones, but not long."""
        self._queue(crashes, judged=False)
        deadline = self._clock() + _LAST
        while self._running or self._waiting:
            self._turn()
            if self._clock() >= deadline:
                left = len(self._running) + len(self._waiting)
                say(f"{left} of the commands for crashes were still to be done, and are ended")
                break
            time.sleep(_TICK)
        self.close()

    def close(self) -> None:
        """End what still runs."""
        for each in self._running:
            _end(each.process)
        self._running.clear()
        self._waiting.clear()

    def _queue(self, crashes: tuple[Crash, ...], *, judged: bool) -> None:
        causes = likely_causes(crashes)
        for crash, cause in zip(crashes, causes, strict=True):
            if cause is not None or (judged and not crash.runs) or self._is_told(crash):
                continue
            self._told.append(crash)
            self._waiting.append(crash)

    def _is_told(self, crash: Crash) -> bool:
        titles = {crash.title, *crash.also_titles}
        return self._known.find(crash) is not None or any(
            told.title in titles or is_same(told, crash) for told in self._told
        )

    def _turn(self) -> None:
        """Look after the commands that run, and start those that wait for a turn."""
        for each in tuple(self._running):
            code = each.process.poll()
            over = self._clock() - each.since > _LIMIT
            if code is None and not over:
                continue
            _end(each.process)
            self._running.remove(each)
            if code:
                self._complain(each.title, f"ended with status {code}")
            elif over and code is None:
                self._complain(each.title, f"took over {clock(_LIMIT)} and was ended")
        while self._waiting and len(self._running) < _AT_ONCE:
            self._start(self._waiting.popleft())

    def _start(self, crash: Crash) -> None:
        try:
            with self._log.open("ab") as log:
                process = start(
                    ["/bin/sh", "-c", self._command],
                    signal.SIGKILL,
                    own_group=True,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env={**os.environ, **environment_of(crash, self._workdir)},
                )
        except OSError as error:
            self._complain(crash.title, f"cannot be started ({error.strerror})")
            return
        self._running.append(_Running(process, crash.title, self._clock()))

    def _complain(self, title: str, what: str) -> None:
        say(f"the command of --on-crash {what} for {title}; what it printed is in {self._log}")


def environment_of(crash: Crash, workdir: Workdir) -> dict[str, str]:
    """Return the variables by which the command learns of a crash."""
    severity = crash.splat.severity
    found = {
        "TITLE": crash.title,
        "SEVERITY": severity.level.value,
        "SCORE": str(severity.score),
        "PATH": str(workdir.crashes.path(crash.title).resolve()),
        "VERDICT": crash.verdict(),
        "REPRODUCED": str(crash.reproduced),
        "RUNS": str(crash.runs),
        "WORKDIR": str(workdir.root.resolve()),
    }
    return {f"PKVFUZZ_CRASH_{name}": value.replace("\0", "") for name, value in found.items()}


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a command and what it has left running in its group."""
    with contextlib.suppress(OSError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
