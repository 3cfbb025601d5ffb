# SPDX-License-Identifier: Apache-2.0
"""A campaign: workers that fuzz, a judge, and the supervisor of both."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from fuzzer.campaign.clock import Clock
from fuzzer.campaign.corpus_start import CorpusCount
from fuzzer.campaign.driver_record import record_of, write_driver_record
from fuzzer.campaign.housekeeping import Housekeeping, Limits
from fuzzer.campaign.judging import NAME as JUDGE
from fuzzer.campaign.judging import JudgeTask
from fuzzer.campaign.loading import load_sighting
from fuzzer.campaign.looked import read_looked
from fuzzer.campaign.outlook import Outlook
from fuzzer.campaign.recorded_state import FuzzedDriver
from fuzzer.campaign.recording import CampaignRecorder, run_record
from fuzzer.campaign.slots import WorkerSlot, sum_of
from fuzzer.campaign.snapshot import Snapshot
from fuzzer.campaign.subject import Subject
from fuzzer.campaign.unjudged import keep_unjudged
from fuzzer.campaign.workdir import Workdir
from fuzzer.child import Child
from fuzzer.crash.crash import Crash
from fuzzer.crash.dedup import KnownCrashes
from fuzzer.crash.store import read_crash
from fuzzer.crash.testbeds import RACING
from fuzzer.driver.provision import Guest
from fuzzer.engine.aside import PutBack, aside_file, put_back_file, read_aside, write_put_back
from fuzzer.engine.leaning import Lean
from fuzzer.engine.loop import RESTORE_EVERY, LoopOptions
from fuzzer.engine.statistics import WorkerCounts
from fuzzer.engine.worker import WorkerTask, error_file
from fuzzer.errors import BadInputError, InfrastructureError, PkvfuzzError
from fuzzer.program.mechanisms import ALL, Mechanisms
from fuzzer.progress import say
from fuzzer.untrusted import read_text

# Seconds between two looks at the child processes.
_TICK = 0.2
# Seconds between two looks for crashes that nobody has judged yet.
_KEEP_EVERY = 2.0
# A worker that ends within so many seconds, so many times in a row, is not started again.
_SHORT_LIFE = 5.0
_MAX_SHORT_LIVES = 5
# Seconds for running the corpus at the start; what it takes beyond that counts as fuzzing.
_SLOW_START = 5.0
# Free space below which a campaign ends, as storing a crash takes some room.
_MIN_FREE_MIB = 32


@dataclass(frozen=True, slots=True)
class CampaignOptions:
    """Settings that the user gave; ``seconds`` or ``programs`` of None set no limit.

    ``command`` is how it was started, ``known`` the crashes that were stored before. With
    ``sets_aside`` bugs that most programs would meet are.
    """

    workdir: Workdir
    vms: int
    seed: int
    seconds: float | None = None
    programs: int | None = None
    mechanisms: Mechanisms = ALL
    exact: bool = False
    lean: Lean = field(default_factory=Lean)
    command: str = ""
    known: KnownCrashes = field(default_factory=KnownCrashes)
    limits: Limits = field(default_factory=Limits)
    sets_aside: bool = True


class Campaign:
    """Runs workers and judge over a working directory until its time is over or the user ends it.

    ``until`` is asked about each snapshot, also while judging goes on after
    the fuzzing; once it answers yes, the campaign ends without judging more.
    Once ``ending`` gives a reason, only fuzzing ends.
    """

    def __init__(
        self,
        subject: Subject,
        guest: Guest,
        options: CampaignOptions,
        show: Callable[[Snapshot], None],
        until: Callable[[Snapshot], bool] | None = None,
        *,
        ending: Callable[[Snapshot], str] | None = None,
        recorder: type[CampaignRecorder] = CampaignRecorder,
    ) -> None:
        self._subject = subject
        self._guest = guest
        self._racing = None
        if options.mechanisms.races:
            self._racing = subject.guest(guest.kernel, hardware=RACING)
        self._restore_every = guest.kernel.flavour.spec.serial_programs or RESTORE_EVERY
        self._options = options
        self._show = show
        self._until = until
        self._enough = False
        self._ending = ending
        self._recorder_type = recorder
        self._end_reason = ""
        self._workdir = options.workdir
        self._corpus_count = CorpusCount(self._workdir.corpus)
        self._seeds = self._corpus_count.count() * options.vms
        self._outlook = Outlook(guest, self._workdir.root, self._workdir.logs)
        self._clock = Clock(
            subject, guest.kernel, self._workdir, counted=options.programs is not None
        )
        self._workers = [WorkerSlot(f"worker-{i}", self._workdir.root) for i in range(options.vms)]
        self._covered: set[int] = set(guest.load_blocks)
        self._judge: Child | None = None
        self._replaced = 0
        self._judge_deaths = 0
        self._first_ran: float | None = None
        self._started: float | None = None
        self._ended: float | None = None
        self._known: dict[Path, tuple[int, Crash]] = {}
        self._stored: tuple[Crash, ...] = ()
        self._kept = 0.0
        self.interrupted = False

    def run(self) -> Snapshot:
        """Fuzz, then judge the sightings that wait; return the final state.

        Raises:
            InfrastructureError: workers cannot run, or the disk is full. What
                was found is kept.
        """
        # nohup has SIGHUP ignored, and a shell the SIGINT of what runs in its background.
        heard = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        previous = {
            number: signal.signal(number, self._interrupt)
            for number in heard
            if signal.getsignal(number) is not signal.SIG_IGN
        }
        reason = "it failed"
        recorder = self._recorder()
        housekeeping = Housekeeping(
            self._workdir,
            self._options.limits,
            self._workers,
            note=recorder.note,
            retire=self._retire,
        )
        try:
            self._begin_aside()
            write_driver_record(self._workdir.root, record_of(self._guest))
            self._sight_load()
            self._workdir.judge_looked.unlink(missing_ok=True)
            for worker in self._workers:
                self._start(worker)
            self._start_judge()
            while not self._is_over():
                time.sleep(_TICK)
                self._watch()
                snapshot = self.snapshot()
                recorder.record(snapshot)
                self._end_reason = self._end_reason or housekeeping.look(recorder.figures)
                self._look(snapshot)
                subject = self._clock.watch(snapshot.counts)
                if subject is not None:
                    self._change_clock(subject)
            self._ended = time.monotonic()
            self._end_workers()
            self._finish_judging(recorder)
            reason = self._reason()
        except PkvfuzzError as error:
            reason = str(error)
            raise
        finally:
            self._end_workers()
            self._clock.close()
            if self._judge:
                self._judge.kill()
            # A second Ctrl-C changes nothing of this.
            try:
                keep_unjudged(self._workdir, self._subject, self._guest)
                final = self.snapshot()
                recorder.end(final, reason)
            finally:
                for number, handler in previous.items():
                    signal.signal(number, handler)
        return final

    def _recorder(self) -> CampaignRecorder:
        options, guest = self._options, self._guest
        run = run_record(
            self._subject,
            guest,
            vms=options.vms,
            seed=options.seed,
            seconds=options.seconds,
            programs=options.programs,
            command=options.command,
        )
        driver = FuzzedDriver(guest.target, guest.blocks, guest.load_blocks, options.known)
        return self._recorder_type(self._workdir.root, run, driver)

    def _reason(self) -> str:
        """Return the reason for which the campaign ends, in words."""
        if self.interrupted:
            return "the user ended it"
        if self._enough:
            return "what it was to find is known"
        if self._end_reason:
            return self._end_reason
        programs = self._options.programs
        return "the time is over" if programs is None else f"{programs:,} programs ran"

    @property
    def covered(self) -> frozenset[int]:
        """The numbers of the blocks that are covered so far."""
        return frozenset(self._covered)

    def _change_clock(self, subject: Subject) -> None:
        """Restart workers and judge on machines with another clock."""
        self._end_workers()
        if self._judge:
            self._judge.kill()
        self._subject = subject
        self._guest = subject.guest(self._guest.kernel)
        if self._racing is not None:
            self._racing = self._guest
        for worker in self._workers:
            # Times of calls by the old clock say nothing about the new one.
            worker.before.call_us = worker.before.idle = 0
            if not worker.is_retired:
                self._start(worker)
        self._start_judge()

    def _begin_aside(self) -> None:
        """Let bugs be set aside, or none."""
        if self._options.sets_aside:
            put_back_file(self._workdir.root).unlink(missing_ok=True)
        else:
            write_put_back(self._workdir.root, PutBack(everything=True))

    def _retire(self, worker: WorkerSlot) -> None:
        """End a worker for good."""
        worker.close(self._covered)
        worker.is_retired = True

    def _sight_load(self) -> None:
        """Queue a sighting for the judge if the kernel complained while the driver was loaded."""
        sighting = load_sighting(self._guest)
        if sighting is None:
            return
        say(f"the kernel complained while {self._guest.driver.name} was loaded: {sighting.title}")
        spool, crashes = self._workdir.spool, self._workdir.crashes
        if not any(sighting.title in crash.sighted_as for crash in crashes.all()):
            spool.count(sighting.title)
            spool.add(sighting)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        self.interrupted = True

    def _look(self, snapshot: Snapshot) -> None:
        self._show(snapshot)
        if self._until is not None and self._until(snapshot):
            self._enough = True
        if self._ended is None and self._ending is not None and not self._end_reason:
            self._end_reason = self._ending(snapshot)

    def _is_cut_short(self) -> bool:
        return self.interrupted or self._enough

    def _is_over(self) -> bool:
        if self._is_cut_short() or self._end_reason:
            return True
        options = self._options
        if options.programs is not None:
            return all(worker.child is None for worker in self._workers)
        if options.seconds is None or self._started is None:
            return False
        return time.monotonic() - self._started >= options.seconds

    def _start(self, worker: WorkerSlot) -> None:
        number = self._workers.index(worker)
        options = self._options
        alone = options.vms == 1
        runs = None
        if options.programs is not None:
            share = options.programs // options.vms
            runs = max(0, share - worker.before.programs)
        task = WorkerTask(
            guest=self._guest,
            corpus=self._workdir.corpus,
            loop=LoopOptions(
                workdir=self._workdir.root,
                name=worker.name,
                # A replaced worker must not repeat what killed the one before it.
                seed=(options.seed + 1000003 * number + 7919 * self._replaced) & 0x7FFFFFFF or 1,
                runs=runs,
                restore_every=self._restore_every,
                mechanisms=options.mechanisms,
                number=number,
                workers=options.vms,
                lean=options.lean,
            ),
            # A single worker knows the whole corpus; reading it again would depend on time.
            reload=not alone,
            parent=os.getpid(),
            racing=self._racing,
        )
        error_file(self._workdir.root, worker.name).unlink(missing_ok=True)
        aside_file(self._workdir.root, worker.name).unlink(missing_ok=True)
        worker.child = Child(
            "fuzzer.engine.worker", task, self._workdir.logs / f"{worker.name}.log"
        )

    def _start_judge(self) -> None:
        options = self._options
        task = JudgeTask(
            self._subject,
            self._workdir,
            os.getpid(),
            options.seed,
            options.mechanisms,
            options.exact,
        )
        error_file(self._workdir.root, JUDGE).unlink(missing_ok=True)
        self._workdir.judge_status.unlink(missing_ok=True)
        self._judge = Child("fuzzer.campaign.judging", task, self._workdir.logs / f"{JUDGE}.log")

    def _watch(self) -> None:
        """Replace child processes that ended, and check the free space."""
        # This comes first, as on a full disk a child cannot write why it ended.
        self._check_disk()
        for worker in self._workers:
            if worker.child and not worker.child.is_running():
                self._bury(worker)
        if self._judge and not self._judge.is_running():
            self._replace_judge()
        if time.monotonic() - self._kept > _KEEP_EVERY:
            # The judge may build a kernel first; a crash is shown before that is done.
            self._kept = time.monotonic()
            keep_unjudged(self._workdir, self._subject, self._guest)

    def _check_disk(self) -> None:
        free = shutil.disk_usage(self._workdir.root).free >> 20
        if free < _MIN_FREE_MIB:
            raise InfrastructureError(
                f"the disk with {self._workdir.root} has {free} MiB left; stopping while what was "
                "found is intact. Free some space and run the same command to go on"
            )

    def _bury(self, worker: WorkerSlot) -> None:
        child = worker.child
        assert child is not None
        code = child.process.returncode
        self._raise_error(worker.name)
        lived = time.monotonic() - child.started
        worker.close(self._covered)
        if code == 0 and self._options.programs is not None:
            return
        worker.short_lives = worker.short_lives + 1 if lived < _SHORT_LIFE else 0
        if worker.short_lives >= _MAX_SHORT_LIVES:
            raise InfrastructureError(
                f"{worker.name} ended {worker.short_lives} times in a row right after its start "
                f"(last with status {code}): {child.last_words()}. See {child.log}"
            )
        self._replaced += 1
        worker.replaced += 1
        self._start(worker)

    def _replace_judge(self) -> None:
        self._raise_error(JUDGE)
        assert self._judge is not None
        self._judge.kill()
        self._judge_deaths += 1
        if self._judge_deaths > _MAX_SHORT_LIVES:
            raise InfrastructureError(
                f"the judge ended {self._judge_deaths} times: {self._judge.last_words()}. "
                f"See {self._judge.log}"
            )
        self._replaced += 1
        self._start_judge()

    def _raise_error(self, name: str) -> None:
        """Raise the error that a child process wrote when it gave up, if it did."""
        try:
            text = read_text(error_file(self._workdir.root, name), errors="replace")
        except OSError:
            return
        raise InfrastructureError(f"{name}: {text or 'ended, and could not write why'}")

    def _end_workers(self) -> None:
        for worker in self._workers:
            worker.close(self._covered)

    def _finish_judging(self, recorder: CampaignRecorder) -> None:
        """Wait until the judge has judged every sighting; Ctrl-C cuts that short."""
        if self._is_cut_short() or self._judge is None:
            return
        self._judge.finish()
        while not self._is_cut_short():
            self._check_disk()
            if not self._judge.is_running():
                self._raise_error(JUDGE)
                if not self._workdir.spool.waiting() or self._judge.process.returncode == 0:
                    break
                self._replace_judge()
                self._judge.finish()
            snapshot = self.snapshot()
            snapshot.finishing = True
            recorder.record(snapshot)
            self._look(snapshot)
            time.sleep(_TICK)

    def snapshot(self) -> Snapshot:
        """Return the campaign's present state."""
        total = WorkerCounts()
        states = []
        for worker in self._workers:
            counts = worker.look(self._covered)
            states.append(worker.state(counts))
            total = sum_of(total, counts)
        self._note_start(total)
        spool = self._workdir.spool
        return Snapshot(
            elapsed=(self._ended or time.monotonic()) - self._started if self._started else 0.0,
            counts=total,
            covered=len(self._covered),
            blocks=len(self._guest.blocks),
            corpus=self._corpus_count.count(),
            crashes=self._crashes(),
            waiting=len(spool.waiting()),
            replaced=self._replaced,
            judge=self._judge_line(),
            looked=read_looked(self._workdir.judge_looked),
            judged_on=self._subject.judged_on,
            only_there=self._subject.judged_on is not self._subject.fuzzed_on,
            started=self._started is not None,
            seeds=self._seeds,
            remarks=(
                *self._clock.remarks(),
                *self._outlook.remarks(
                    total, covered=len(self._covered), last=self._ended is not None
                ),
            ),
            aside=read_aside(self._workdir.root),
            workers=tuple(states),
            judge_replaced=self._judge_deaths,
            reached=self._covered,
            tally=self._outlook.tally,
        )

    def _note_start(self, total: WorkerCounts) -> None:
        """Start the campaign's time once it fuzzes, or running the corpus first takes long."""
        now = time.monotonic()
        if total.programs and self._first_ran is None:
            self._first_ran = now
        if self._started is not None:
            return
        if total.fuzzing:
            self._started = now
        elif self._first_ran is not None and now - self._first_ran > _SLOW_START:
            # The corpus keeps the workers busy for a while, which counts as fuzzing.
            self._started = self._first_ran

    def _crashes(self) -> tuple[Crash, ...]:
        """Return the stored crashes, reading only those again that have changed."""
        found: dict[Path, tuple[int, Crash]] = {}
        for path in self._workdir.crashes.records():
            try:
                changed = path.stat().st_mtime_ns
                known = self._known.get(path)
                fresh = known and known[0] == changed
                found[path] = known if known and fresh else (changed, read_crash(path.parent))
            except (OSError, BadInputError):
                continue  # being replaced at this very moment
        if found != self._known:
            self._known = found
            self._stored = tuple(crash for _, crash in found.values())
        return self._stored

    def _judge_line(self) -> str:
        try:
            return read_text(self._workdir.judge_status, errors="replace")
        except OSError:
            return "starting"


def default_vms() -> int:
    """Return the number of VMs used when none is asked for: cores minus one, at least 1."""
    return max(1, len(os.sched_getaffinity(0)) - 1)


def default_workdir(target: str, bug: str | None) -> Path:
    """Return the working directory of a campaign for which the user gave none."""
    return Path("work") / (f"{target}-{bug}" if bug else target)
