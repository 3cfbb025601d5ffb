# SPDX-License-Identifier: Apache-2.0
"""Judging process: runs sightings and corpus programs again on ``full``.

Started by the campaign with a pickled :class:`JudgeTask` on standard input.
It builds the ``full`` kernel first if need be, at low priority. When standard
input ends, it judges the sightings that wait, and ends.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import select
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fuzzer.atomic import set_aside, write_whole
from fuzzer.campaign.kernels import JudgingKernels, Verdict
from fuzzer.campaign.looked import Looked, write_looked
from fuzzer.campaign.stages.spare_time import Exploring, SpareTime
from fuzzer.campaign.stages.workbench import NAME as EXPLORER
from fuzzer.campaign.subject import Subject, identify
from fuzzer.campaign.workdir import Workdir
from fuzzer.child import receive_task
from fuzzer.crash.crash import Crash
from fuzzer.crash.dedup import absorb, is_known, sighted, unknown_to
from fuzzer.crash.executor import ObservingExecutor
from fuzzer.crash.judge import VERIFY_RUNS, first_impression
from fuzzer.crash.sighting import ASIDE, Sighting, read_sighting
from fuzzer.crash.testbeds import Testbeds
from fuzzer.engine.worker import give_up
from fuzzer.errors import PkvfuzzError
from fuzzer.kernel.kernel import Kernel, ensure_kernel
from fuzzer.machine.machine import LostMachineError
from fuzzer.program.mechanisms import ALL, Mechanisms
from fuzzer.target.target import Target
from fuzzer.untrusted import read_bytes, regular_names

_LOG = logging.getLogger(__name__)

NAME = "judge"
# Status line of a judge that has nothing left to do.
READY = "ready"
# Status line of a judge that minimizes crashes at a campaign's end.
MINIMIZING = "minimizing"
_BUILD_NICENESS = 19
_NICENESS = 5
# Machines that a judge may lose before it gives up.
_MAX_LOST = 20
# Time for other work between two sightings, as a share of the time that the first took.
_OTHER_WORK = 0.5
# Seconds for the programs before a sighted one. Many that load the module can take minutes, in
# which nothing else is judged: longer ones are left to the stage of retries.
_PATIENCE = 20.0
# Corpus programs, and seconds for them, between two looks at the spool: sightings go first.
_SLICE, _SLICE_SECONDS = 20, 3.0
# Seconds at a campaign's end for each of three things: corpus programs that the judge's kernel
# has not run, then minimizing crashes, then verifying the one begun.
_FINISH = 30.0


@dataclass(frozen=True, slots=True)
class JudgeTask:
    """Task of the judging process: subject, working directory and settings."""

    subject: Subject
    workdir: Workdir
    parent: int
    seed: int = 1
    mechanisms: Mechanisms = ALL
    exact: bool = False


class StatusLine:
    """A text stream that keeps its last line in a file, for the campaign to show."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def write(self, text: str) -> int:
        """Replace the line."""
        line = text.replace("\r\x1b[K", "").strip()
        if line:
            with contextlib.suppress(OSError):
                write_whole(self._path, line, sync=False)
        return len(text)

    def flush(self) -> None:
        """Return at once, as each line is written when it comes."""

    def isatty(self) -> bool:
        """Return True, so that progress is reported often."""
        return True


class JudgeProcess:
    """The judge: judges sightings, runs corpus programs and uses spare time for its stages."""

    def __init__(
        self,
        task: JudgeTask,
        kernels: JudgingKernels,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        setups = kernels.own
        self._clock = clock
        self._task = task
        self._workdir = task.workdir
        self._kernels = kernels
        self._target: Target = task.subject.target
        self._unknown = unknown_to(task.workdir.crashes)
        self._exploring = Exploring(
            setups,
            self._target,
            task.mechanisms,
            task.seed,
            self._report,
            exact=task.exact,
            unknown=self._unknown,
        )
        self._spare_time = SpareTime(
            kernels,
            task.workdir.crashes,
            self._target,
            task.seed,
            self._exploring,
            is_busy=lambda: bool(self._workdir.spool.waiting()),
            guard=self._guarded,
        )
        self._seen: set[str] = set()
        self._executor = ObservingExecutor(setups.plain.restore, wanted=self._unknown)
        self._lost = 0
        self._owed = 0.0
        self._explores = True
        self._corpus_end = math.inf

    def step(self) -> bool:
        """Judge a sighting or run programs of the corpus; tell whether there were any.

        A sighting that does not reproduce can take a minute, and there may be many.
        So other work has half as much time after each.
        """
        if self._owed > 0 and self._explores:
            start = self._clock()
            worked = self._guarded(self._run_corpus) or self.explore()
            self._owed = self._owed - (self._clock() - start) if worked else 0.0
            if worked:
                return True
        start = self._clock()
        judged = self._guarded(self._judge_one)
        if judged:
            self._owed += _OTHER_WORK * (self._clock() - start)
        return judged or self._guarded(self._run_corpus)

    def explore(self) -> bool:
        """Use spare time for the stages; tell whether there was anything to do."""
        return self._spare_time.step()

    def reduce(self, *, hurry: bool) -> bool:
        """Minimize stored crashes, in a hurry only the one begun; tell whether there was one."""
        return self._spare_time.finish(hurry=hurry)

    def finish_exploring(self) -> None:
        """Stop exploring and end its machines; sightings that it has made are still judged."""
        self._explores = False
        self._corpus_end = self._clock() + _FINISH
        self._exploring.close()

    def _guarded(self, work: Callable[[], bool]) -> bool:
        try:
            return work()
        except LostMachineError:
            # QEMU was killed from outside. The sighting that it judged is still in the spool.
            self._executor.close()
            self._exploring.drop_machines()
            self._lost += 1
            if self._lost > _MAX_LOST:
                raise
            return True

    def _judge_one(self) -> bool:
        waiting = self._workdir.spool.waiting()
        if not waiting:
            return False
        path = waiting[0]
        try:
            sighting = read_sighting(path)
        except (OSError, ValueError, KeyError) as error:
            _LOG.warning("%s: damaged: %s. Set aside as %s", path, error, set_aside(path))
            return True
        crashes = self._workdir.crashes.all()
        known = sighted(crashes, sighting.title, first_impression(sighting))
        runs = 1 if known and known.reproduced else VERIFY_RUNS
        # These ran on the judge's own kernel, so there is no other one to try.
        own = sighting.origin in {EXPLORER, NAME, ASIDE}
        verdict = self._kernels.judge(sighting, runs, patience=_PATIENCE, elsewhere=not own)
        judgement = verdict.judgement
        self.store(sighting, verdict)
        shown = judgement.reproduced and not verdict.unseen_on
        if not shown and sighting.origin != EXPLORER:
            self._exploring.retune(sighting.program, sighting.history)
        # Sightings made beside another one add no more: two bugs that show by turns would be judged
        # for ever.
        for other in judgement.others if sighting.origin != ASIDE else ():
            self._report(other)
        shutil.rmtree(path)
        return True

    def store(self, sighting: Sighting, verdict: Verdict) -> None:
        """Store a judged sighting as a crash, or with the stored crash of the same bug."""
        judgement = verdict.judgement
        guest = self._kernels.on(verdict.judged_on).plain
        seen = first_impression(sighting)
        crash = Crash(
            title=judgement.splat.title,
            kind=judgement.splat.kind,
            function=judgement.splat.function,
            judged_on=verdict.judged_on.value,
            reproduced=judgement.reproduced,
            runs=judgement.runs,
            sightings=1,
            sighted_as=(sighting.title,),
            identity=identify(self._task.subject, guest),
            report=judgement.splat.text,
            first_log=seen.text,
            program=judgement.program,
            history=judgement.history,
            first_run=(*sighting.history, sighting.program),
            log=judgement.log,
            unseen_on=verdict.unseen_on,
            instead=verdict.instead,
            after=judgement.after,
        )
        new = absorb(self._workdir.crashes, crash, self._target, seen_as=seen.title)
        if new:
            self._spare_time.note(new)

    def looked(self) -> Looked:
        """Return the record of what has run so far."""
        names = set(regular_names(self._workdir.corpus))
        return Looked(True, self._exploring.missing, len(names - self._seen))

    def _run_corpus(self) -> bool:
        """Run some corpus programs that ``full`` has not run; tell whether there were any."""
        names = set(regular_names(self._workdir.corpus))
        fresh = sorted(names - self._seen)[:_SLICE]
        end = min(self._clock() + _SLICE_SECONDS, self._corpus_end)
        for name in fresh:
            if self._clock() > end:
                break
            self._seen.add(name)
            with contextlib.suppress(OSError):  # libFuzzer replaced it by a shorter one
                self._run_one(read_bytes(self._workdir.corpus / name, within=self._workdir.corpus))
        return bool(fresh) and self._clock() < self._corpus_end

    def _run_one(self, program: bytes) -> None:
        outcome = self._executor.run(program)
        if sighting := self._executor.sighting(outcome, NAME):
            self._report(sighting)
        if outcome.splat is None or outcome.usable:
            # Some known bugs show in every program, and leave the machine usable.
            self._exploring.note(program)

    def _report(self, sighting: Sighting) -> None:
        """Queue a sighting for the judge, unless its bug is known to reproduce."""
        self._workdir.spool.count(sighting.title)
        if not is_known(self._workdir.crashes, first_impression(sighting)):
            self._workdir.spool.add(sighting)

    def close(self) -> None:
        """End the judge's machines."""
        self._executor.close()
        self._spare_time.close()


def kernels_of(subject: Subject, kernel: Kernel) -> JudgingKernels:
    """Return the guests to judge a subject on; ``kernel`` is the one that judges."""

    def fuzzed() -> Testbeds:
        return subject.setups(ensure_kernel(subject.fuzzed_on, subject.kernels))

    return JudgingKernels(subject.setups(kernel), subject.judged_on, subject.fuzzed_on, fuzzed)


def _asked_to_end(timeout: float) -> bool:
    ready, _, _ = select.select([sys.stdin], [], [], timeout)
    return bool(ready) and not sys.stdin.buffer.read(1)


def main() -> None:
    """Build what is missing, then judge until standard input ends and nothing waits."""
    task: JudgeTask = receive_task()
    status = StatusLine(task.workdir.judge_status)
    try:
        kernel = ensure_kernel(
            task.subject.judged_on,
            task.subject.kernels,
            nice=_BUILD_NICENESS,
            stream=status,  # type: ignore[arg-type]
        )
        os.nice(_NICENESS)
        status.write("making the full template")
        judging = JudgeProcess(task, kernels_of(task.subject, kernel))
        status.write(READY)
        write_looked(task.workdir.judge_looked, judging.looked())
        ending = False
        deadline = 0.0
        while True:
            worked = judging.step()
            write_looked(task.workdir.judge_looked, judging.looked())
            waiting = len(task.workdir.spool.waiting())
            status.write(f"{waiting} to judge" if waiting else MINIMIZING if deadline else READY)
            explored = not worked and not ending and judging.explore()
            if not ending and _asked_to_end(0.0 if worked or explored else 0.3):
                ending = True
                judging.finish_exploring()
            if ending and not worked and not task.workdir.spool.waiting():
                deadline = deadline or time.monotonic() + _FINISH
                status.write(MINIMIZING)
                over = time.monotonic() - deadline
                if over > _FINISH or not judging.reduce(hurry=over > 0):
                    break
        judging.close()
    except (PkvfuzzError, OSError) as error:
        give_up(task.workdir.root, NAME, error)


if __name__ == "__main__":
    main()
