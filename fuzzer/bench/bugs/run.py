# SPDX-License-Identifier: Apache-2.0
"""One run against a planted bug: a campaign that ends when its bug is found.

Started as ``python -m fuzzer.bench.bugs.run`` with a pickled :class:`RunTask`
on standard input, because a campaign takes over its process's signals. It
keeps its state in a file meanwhile, and leaves its result in another.
"""

from __future__ import annotations

import json
import logging
import pickle
import time
from collections.abc import Callable, Container
from dataclasses import asdict, dataclass
from pathlib import Path

from fuzzer.atomic import write_whole
from fuzzer.bench.bugs.result import (
    FoundTitle,
    Moment,
    RunOutcome,
    RunResult,
    Spent,
    outcome_of,
)
from fuzzer.campaign.campaign import Campaign, CampaignOptions
from fuzzer.campaign.seeds import load_seeds, plant_seeds
from fuzzer.campaign.snapshot import Snapshot
from fuzzer.campaign.stages.minimizing import with_minimal
from fuzzer.campaign.subject import Subject
from fuzzer.campaign.workdir import Workdir
from fuzzer.child import receive_task
from fuzzer.crash.crash import Crash
from fuzzer.crash.minimizer.minimize import Minimizer
from fuzzer.crash.poison import POISONS
from fuzzer.crash.reproducer import Reproducer
from fuzzer.crash.sighting import Spool
from fuzzer.crash.store import CrashStore
from fuzzer.crash.testbeds import Testbeds
from fuzzer.errors import InfrastructureError, PkvfuzzError
from fuzzer.kernel.kernel import ensure_kernel
from fuzzer.program.mechanisms import Mechanisms
from fuzzer.program.wire import split

_LOG = logging.getLogger(__name__)

_STATE, _RESULT = "state.json", "result"
# Seconds between two states left for the parent.
_STATE_EVERY = 0.5
# Longest time for judging after the fuzzing. A hang takes half a minute on each machine.
_JUDGING_LIMIT = 300.0


@dataclass(frozen=True, slots=True)
class RunTask:
    """The task of a run: ``seconds`` of fuzzing at most, in ``directory``.

    The program found is made minimal afterwards, in at most ``minimize_seconds``;
    it is left as it is if that is 0.
    """

    subject: Subject
    directory: Path
    vms: int
    seed: int
    seconds: float
    minimize_seconds: float
    mechanisms: Mechanisms
    parent: int


@dataclass(frozen=True, slots=True)
class RunState:
    """The progress of a run. ``phase`` is ``preparing``, ``fuzzing`` or ``judging``."""

    phase: str = "preparing"
    seconds: float = 0.0
    programs: int = 0
    covered: int = 0
    blocks: int = 0
    crashes: int = 0


def read_state(directory: Path) -> RunState:
    """Return how far the run in a directory is."""
    try:
        return RunState(**json.loads((directory / _STATE).read_text()))
    except (OSError, ValueError):
        return RunState()


def read_result(directory: Path) -> RunResult | None:
    """Return the result of the run in a directory, or None if it left none."""
    try:
        result = pickle.loads((directory / _RESULT).read_bytes())  # noqa: S301 - our own child's
    except (OSError, EOFError, pickle.UnpicklingError):
        return None
    return result if isinstance(result, RunResult) else None


class Recorder:
    """Watches a campaign: when each crash was seen and verified, and whether it is enough."""

    def __init__(self, spool: Spool, expect: Container[str]) -> None:
        self._spool = spool
        self._expect = expect
        self._zero: float | None = None
        self._finishing: float | None = None
        self._sighted: dict[str, Moment] = {}
        self._verified: dict[str, Moment] = {}

    def enough(self, snapshot: Snapshot) -> bool:
        """Take note of a snapshot; tell whether the campaign may end.

        It may when the expected crash is verified, or when judging what the
        fuzzing left behind takes too long.
        """
        now = time.monotonic()
        if self._zero is None and snapshot.started:
            self._zero = now - snapshot.elapsed
        if self._finishing is None and snapshot.finishing:
            self._finishing = now
        # Judging may come after the fuzzing, when a snapshot's own time stands still.
        moment = Moment(now - self._zero if self._zero else 0.0, snapshot.counts.programs)
        for title in self._spool.counts():
            self._sighted.setdefault(title, moment)
        for crash in snapshot.crashes:
            if crash.reproduced:
                self._verified.setdefault(self._name(crash), moment)
        if any(title in self._expect for title in self._verified):
            return True
        return self._finishing is not None and now - self._finishing > _JUDGING_LIMIT

    def titles(self, crashes: tuple[Crash, ...]) -> tuple[FoundTitle, ...]:
        """Return the stored crashes with their times, in the order they were seen."""
        found = [self._found(crash) for crash in crashes]
        return tuple(sorted(found, key=lambda each: each.sighted.seconds if each.sighted else 0.0))

    def is_expected(self, crash: Crash) -> bool:
        """Tell whether a crash is the expected one, and reproduces."""
        return crash.reproduced > 0 and self._name(crash) in self._expect

    def _name(self, crash: Crash) -> str:
        """Return the crash's title; the one that is waited for, when it has had that as well."""
        titles = (crash.report_title, *crash.also_titles)
        return next((title for title in titles if title in self._expect), crash.title)

    def _found(self, crash: Crash) -> FoundTitle:
        names = {crash.report_title, *crash.sighted_as}
        seen = [self._sighted[name] for name in names if name in self._sighted]
        return FoundTitle(
            title=self._name(crash),
            judged_on=crash.judged_on,
            reproduced=crash.reproduced,
            machines=crash.runs,
            calls=len(split(crash.program)),
            before=len(crash.history),
            sightings=crash.sightings,
            sighted=min(seen, key=lambda moment: moment.seconds, default=None),
            verified=self._verified.get(self._name(crash)),
            original=len(split(crash.original or crash.program)),
            minimized=crash.minimized,
            minimize_seconds=crash.minimize_seconds,
        )


def spent_on(snapshot: Snapshot) -> Spent:
    """Return the work of a campaign."""
    counts = snapshot.counts
    return Spent(
        seconds=snapshot.elapsed,
        programs=counts.programs,
        calls=counts.calls,
        covered=snapshot.covered,
        blocks=snapshot.blocks,
        corpus=snapshot.corpus,
        restores=counts.restores,
        lost=counts.lost,
        replaced=snapshot.replaced,
    )


class _StateFile:
    """Leaves snapshots for the parent to show."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / _STATE
        self._written = 0.0

    def show(self, snapshot: Snapshot) -> None:
        now = time.monotonic()
        if now - self._written < _STATE_EVERY:
            return
        self._written = now
        fuzzing = "fuzzing" if snapshot.counts.fuzzing else "preparing"
        state = RunState(
            "judging" if snapshot.finishing else fuzzing,
            snapshot.elapsed,
            snapshot.counts.programs,
            snapshot.covered,
            snapshot.blocks,
            len(snapshot.crashes),
        )
        write_whole(self._path, json.dumps(asdict(state)).encode())


def _prepare_judging(task: RunTask) -> Testbeds:
    """Make the judge's guests beforehand, so that a bug's first run is no slower than others."""
    setups = task.subject.setups(ensure_kernel(task.subject.judged_on, task.subject.kernels))
    if task.mechanisms.races:
        _ = setups.racing
    if task.mechanisms.leaks:
        _ = setups.leaking
    if task.mechanisms.info_leaks:
        for poison in POISONS:
            setups.poisoned(poison)
    return setups


def _minimize(crash: Crash, setups: Testbeds, task: RunTask, store: CrashStore) -> Crash:
    """Store and return a crash with its minimal program; as it is when that does not work."""
    target = task.subject.target
    start = Reproducer(crash.program, crash.history)
    try:
        minimizer = Minimizer(
            setups, target, start, crash.splat, seed=task.seed, limit=task.minimize_seconds
        )
        found = minimizer.run()
        if found:
            crash = with_minimal(crash, found)
            store.put(crash, target)
    except InfrastructureError as error:
        # The bug counts as found all the same.
        _LOG.warning("minimizing %s: %s", crash.title, error)
    return crash


def run(task: RunTask, keep: Callable[[RunResult], None]) -> None:
    """Fuzz until the bug is found or the time is over, and ``keep`` the result.

    What is found is kept before its program is made minimal, and then again.

    Raises:
        PkvfuzzError: the driver does not build, or the campaign failed.
    """
    subject, bug = task.subject, task.subject.bug
    assert bug is not None
    workdir = Workdir(task.directory / "work")
    with workdir.opened(subject.target.name, bug.name):
        setups = _prepare_judging(task)
        guest = subject.guest(ensure_kernel(subject.fuzzed_on, subject.kernels))
        plant_seeds(workdir, load_seeds(subject.target, None, task.seed))
        recorder = Recorder(workdir.spool, bug.titles)
        options = CampaignOptions(
            workdir, task.vms, task.seed, task.seconds, mechanisms=task.mechanisms
        )
        campaign = Campaign(
            subject, guest, options, _StateFile(task.directory).show, recorder.enough
        )
        final = campaign.run()
        recorder.enough(final)

        def keep_all(crashes: tuple[Crash, ...]) -> None:
            titles = recorder.titles(crashes)
            outcome = outcome_of(titles, bug.titles, interrupted=campaign.interrupted)
            keep(RunResult(task.seed, outcome, titles, spent_on(final)))

        keep_all(final.crashes)
        if task.minimize_seconds and not campaign.interrupted:
            keep_all(
                tuple(
                    _minimize(crash, setups, task, workdir.crashes)
                    if recorder.is_expected(crash) and not crash.minimized
                    else crash
                    for crash in final.crashes
                )
            )


def main() -> None:
    """Read the task, run it, and leave the result."""
    # The parent says when to end, by SIGTERM.
    task: RunTask = receive_task()

    def keep(result: RunResult) -> None:
        write_whole(task.directory / _RESULT, pickle.dumps(result))

    try:
        run(task, keep)
    except (PkvfuzzError, OSError) as error:
        text = str(error)
        code = error.exit_code if isinstance(error, PkvfuzzError) else PkvfuzzError.exit_code
        keep(RunResult(task.seed, RunOutcome.FAILED, message=text, exit_code=int(code)))


if __name__ == "__main__":
    main()
