# SPDX-License-Identifier: Apache-2.0
"""The suite of planted bugs: fuzzes each, some times over, in processes of their own.

Every bug has its first run before any has its second, so that what else the
host does meanwhile, or Ctrl-C, hits all bugs alike.
"""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Protocol

from fuzzer.bench.bugs.result import (
    BugResult,
    RunOutcome,
    RunResult,
    SuiteResult,
    SuiteSettings,
    SuiteVersions,
)
from fuzzer.bench.bugs.run import RunState, RunTask, read_result, read_state
from fuzzer.campaign.subject import Subject
from fuzzer.child import Child
from fuzzer.driver.driver import PlantedBug
from fuzzer.errors import BadInputError, ExitCode, InfrastructureError
from fuzzer.untrusted import make_private

WRONG_ANSWER = "wrong answer"
"""The expectation of a bug that no kernel report tells: no run can find it."""

# Seconds between two looks at the runs.
_TICK = 0.2
# Seconds for a run to end its machines once it was told to.
_ENDING = 20.0


class Process(Protocol):
    """The part of a run's process that the suite needs."""

    def is_running(self) -> bool:
        """Tell whether it is alive."""

    def terminate(self) -> None:
        """Ask it to end soon and to leave its result."""

    def kill(self) -> None:
        """End it at once with all it has started."""

    def last_words(self) -> str:
        """Return what it printed last."""


class _RunChild(Child):
    """The process of one run."""

    def __init__(self, task: RunTask) -> None:
        super().__init__("fuzzer.bench.bugs.run", task, task.directory / "log")

    def terminate(self) -> None:
        """Ask it to end soon and to leave its result."""
        self.process.terminate()


@dataclass(frozen=True, slots=True)
class ActiveRun:
    """A run that goes on: its bug, its seed, and how far it is."""

    bug: str
    seed: int
    state: RunState


@dataclass(frozen=True, slots=True)
class SuiteState:
    """The progress of the suite; ``left`` is the longest that it can still fuzz, in seconds."""

    total: int
    done: int
    found: int
    active: tuple[ActiveRun, ...]
    left: float
    ending: bool


@dataclass(frozen=True, slots=True)
class _RunSlot:
    """A run in progress: number ``index`` of its bug."""

    subject: Subject
    index: int
    task: RunTask
    process: Process


def choose_bugs(
    bugs: Sequence[PlantedBug], names: Sequence[str], kernel: str = ""
) -> tuple[PlantedBug, ...]:
    """Return the bugs to run: those named, else all that a kernel report tells.

    Of bugs that one flavour of kernel alone reports, those of ``kernel``.

    Raises:
        BadInputError: a name is not known, or there is nothing to run.
    """
    known = {bug.name: bug for bug in bugs}
    for name in names:
        if name not in known:
            raise BadInputError(
                f"--bug {name}: no such bug; there are: {', '.join(known) or 'none'}"
            )
    chosen = tuple(
        bug
        for bug in bugs
        if (bug.name in names if names else bug.expect != WRONG_ANSWER and bug.kernel == kernel)
    )
    if not chosen:
        raise BadInputError(
            "the target has no planted bugs: bugs/NAME.patch beside its description"
        )
    return chosen


def run_directory(directory: Path, bug: str, seed: int) -> Path:
    """Return where a run works."""
    return directory / f"{bug}-{seed}"


class Suite:
    """Runs each subject's bug as often as the settings say.

    ``show`` gets the state five times a second; ``ended`` the result so far
    after each run. ``directory`` holds a directory for each run, which is
    removed after it unless ``keep``.
    """

    def __init__(
        self,
        subjects: Sequence[Subject],
        settings: SuiteSettings,
        versions: SuiteVersions,
        directory: Path,
        *,
        show: Callable[[SuiteState], None],
        ended: Callable[[SuiteResult, PlantedBug, RunResult], None],
        skipped: Sequence[PlantedBug] = (),
        keep: bool = False,
        launch: Callable[[RunTask], Process] = _RunChild,
        tick: float = _TICK,
    ) -> None:
        self._tick = tick
        self._settings = settings
        self._versions = versions
        self._directory = directory
        self._show = show
        self._ended = ended
        self._keep = keep
        self._launch = launch
        self._waiting = [(subject, i) for i in range(settings.runs) for subject in subjects]
        self._total = len(self._waiting)
        self._slots: list[_RunSlot] = []
        self._runs: dict[str, list[tuple[int, RunResult]]] = {}
        self._bugs = sorted(
            [(_bug_of(subject), False) for subject in subjects] + [(bug, True) for bug in skipped],
            key=lambda pair: pair[0].name,
        )
        self._interrupted = False

    def run(self) -> SuiteResult:
        """Run everything; Ctrl-C and SIGTERM end it early.

        Raises:
            InfrastructureError: a directory cannot be made or a process started.
        """
        previous = {
            number: signal.signal(number, self._interrupt)
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        }
        try:
            while (self._waiting or self._slots) and not self._interrupted:
                while self._waiting and len(self._slots) < self._settings.jobs:
                    self._start(*self._waiting.pop(0))
                time.sleep(self._tick)
                self._collect()
                self._show(self.state())
            if self._interrupted:
                self._end_early()
        finally:
            for slot in self._slots:
                slot.process.kill()
            for number, handler in previous.items():
                signal.signal(number, handler)
        return self.result()

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        self._interrupted = True

    def _start(self, subject: Subject, index: int) -> None:
        settings = self._settings
        seed = settings.seed + index
        task = RunTask(
            subject,
            run_directory(self._directory, _bug_of(subject).name, seed),
            settings.vms,
            seed,
            settings.seconds,
            settings.minimize_seconds,
            settings.mechanisms,
            os.getpid(),
        )
        try:
            make_private(task.directory)
        except OSError as error:
            raise InfrastructureError(f"making {task.directory}: {error.strerror}") from error
        self._slots.append(_RunSlot(subject, index, task, self._launch(task)))

    def _collect(self) -> None:
        for slot in [slot for slot in self._slots if not slot.process.is_running()]:
            slot.process.kill()  # reaps it
            self._slots.remove(slot)
            self._take(slot)

    def _take(self, slot: _RunSlot) -> None:
        seed = slot.task.seed
        result = read_result(slot.task.directory)
        if result is None and self._interrupted:
            result = RunResult(seed, RunOutcome.INTERRUPTED)
        if result is None:
            result = RunResult(
                seed,
                RunOutcome.FAILED,
                message=f"its process ended without a result: {slot.process.last_words()}",
                exit_code=int(ExitCode.INFRASTRUCTURE),
            )
        if not self._keep:
            if result.message:
                # It may name a file of the run.
                message = f"{result.message}. --workdir DIR keeps a run's files"
                result = replace(result, message=message)
            shutil.rmtree(slot.task.directory, ignore_errors=True)
        bug = _bug_of(slot.subject)
        self._runs.setdefault(bug.name, []).append((slot.index, result))
        self._ended(self.result(), bug, result)

    def _end_early(self) -> None:
        for slot in self._slots:
            slot.process.terminate()
        deadline = time.monotonic() + _ENDING
        while self._slots and time.monotonic() < deadline:
            time.sleep(self._tick)
            self._collect()
            self._show(self.state())
        for slot in self._slots:
            slot.process.kill()
        self._collect()

    def state(self) -> SuiteState:
        """Return how far the suite is."""
        settings = self._settings
        active = tuple(
            ActiveRun(_bug_of(slot.subject).name, slot.task.seed, read_state(slot.task.directory))
            for slot in self._slots
        )
        left = sum(max(0.0, settings.seconds - run.state.seconds) for run in active)
        left += len(self._waiting) * settings.seconds
        results = [result for runs in self._runs.values() for _, result in runs]
        return SuiteState(
            total=self._total,
            done=len(results),
            found=sum(result.outcome is RunOutcome.FOUND for result in results),
            active=active,
            left=left / max(1, min(settings.jobs, len(active) + len(self._waiting))),
            ending=self._interrupted,
        )

    def result(self) -> SuiteResult:
        """Return what there is so far; runs by seed, bugs by name."""
        bugs = tuple(
            BugResult(
                bug,
                tuple(result for _, result in sorted(self._runs.get(bug.name, []), key=_index)),
                skipped,
            )
            for bug, skipped in self._bugs
        )
        return SuiteResult(self._settings, self._versions, bugs, self._interrupted)


def _index(pair: tuple[int, RunResult]) -> int:
    return pair[0]


def _bug_of(subject: Subject) -> PlantedBug:
    assert subject.bug is not None
    return subject.bug
