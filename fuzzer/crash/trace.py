# SPDX-License-Identifier: Apache-2.0
"""Tracing: the result of each call of a program, and the call in which the kernel complained.

Results are in memory that the host shares with the guest, so they survive the guest. Marks
that the executor writes to the kernel log before each call tell in which call a report was
printed. On an exact machine there are no marks, as they would shift its schedule.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fuzzer.atomic import write_whole
from fuzzer.crash.dedup import Wanted
from fuzzer.crash.leak_report import leaking_call
from fuzzer.crash.leaks import LEAK, find_leak, forget_leaks
from fuzzer.crash.observe import PROGRAM_TIMEOUT, listener, outcome_of
from fuzzer.crash.outcome import Outcome
from fuzzer.crash.poison import INFO_LEAK, POISONS
from fuzzer.crash.series import SeriesExecutor, post_programs
from fuzzer.crash.testbeds import UNLOGGED, Place, Testbeds
from fuzzer.machine.channel import CallResult, Channel
from fuzzer.machine.channel_layout import FLAG_TRACE, MARK, POISON, Status
from fuzzer.machine.machine import Machine, Run
from fuzzer.program.program import MAX_CALLS, Program
from fuzzer.program.wire import decode
from fuzzer.splat.kmsg import console_lines
from fuzzer.splat.splat import Splat
from fuzzer.untrusted import read_text

# A record of user space: its facility, above the three bits of the level, is LOG_USER.
_MARK = re.compile(
    rf"15,\d+,\d+,[^;,]*(?:,caller=(?P<caller>T\d+))?[^;]*;{re.escape(MARK)}(?P<what>\w+)$"
)

_FILE = "trace.txt"


@dataclass(frozen=True, slots=True)
class Mark:
    """A mark in the kernel log: the beginning of ``what`` in a task of the kernel (``T27``).

    ``what`` is a call's index, ``reset`` or ``close``; ``line`` is the number of lines of
    the log before it.
    """

    what: str
    caller: str | None
    line: int


@dataclass(frozen=True, slots=True)
class TracedCall:
    """A call that was begun: its index and its result, None if it did not return."""

    index: int
    result: CallResult | None


@dataclass(frozen=True, slots=True)
class Trace:
    """The trace of a program's calls.

    ``calls`` are those that began before the kernel complained, in that order if it is
    known; ``later`` is the number of those that began afterwards. The kernel complained in
    the call with index ``at``, or ``during`` the ``reset`` or ``close`` that follows the
    calls. If both are None, that is not known. ``before`` programs ran before this one,
    which ran ``runs`` times.
    """

    program: Program
    splat: Splat | None
    calls: tuple[TracedCall, ...]
    later: int = 0
    at: int | None = None
    during: str | None = None
    before: int = 0
    runs: int = 1


def take_marks(log: bytes) -> tuple[bytes, tuple[Mark, ...]]:
    """Return a log of raw kmsg records without the executor's marks, and the marks."""
    kept: list[bytes] = []
    marks = []
    lines = 0
    for record in log.split(b"\n"):
        match = _MARK.match(record.decode(errors="replace"))
        if match:
            marks.append(Mark(match["what"], match["caller"], lines))
        else:
            kept.append(record)
            lines += len(console_lines(record))
    return b"\n".join(kept), tuple(marks)


@dataclass(frozen=True, slots=True)
class _Seen:
    """The observations of a program's run. ``run`` is None if the guest fell silent in it."""

    outcome: Outcome
    run: Run | None
    marks: tuple[Mark, ...]
    results: list[CallResult | None]
    current_call: int

    @property
    def stopped(self) -> int | None:
        """The call, or ``reset`` or ``close``, that is known not to have returned."""
        if self.run is None:
            return self.current_call
        return self.run.stopped_call if self.run.status in {Status.STUCK, Status.DIED} else None


def _watch(machine: Machine, wanted: Wanted | None, *, late: bool) -> _Seen:
    """Wait for a program that was posted after ``forget_results()``."""
    run: Run | None = None
    marks: tuple[Mark, ...] = ()

    def await_run() -> Run:
        nonlocal run, marks
        run = machine.finish(PROGRAM_TIMEOUT, listener(machine))
        log, marks = take_marks(run.log)
        return replace(run, log=log)

    outcome = outcome_of(machine, await_run, late=late, wanted=wanted)
    channel = machine.channel
    return _Seen(outcome, run, marks, channel.results_so_far(), channel.header.current_call)


def _begun(program: Program, seen: _Seen) -> list[int]:
    """Return the calls that began, for a program without marks in the log.

    The threads of a parallel part start together, and each is in the first of its calls
    that has not returned.
    """
    current = min(seen.current_call, len(program))
    begun = list(range(current))
    waiting: set[int] = set()
    for index in range(current, len(program)):
        thread = program[index].thread
        if thread not in waiting:
            begun.append(index)
        if not thread:
            break
        if seen.results[index] is None:
            waiting.add(thread)
    return begun


def _culprit(seen: _Seen, line: int, caller: str | None) -> str | None:
    """Return the mark that a report at a line belongs to, by the task that printed it."""
    before = [mark for mark in seen.marks if mark.line < line]
    own = [mark for mark in before if mark.caller == caller]
    if own:
        return own[-1].what
    if seen.stopped is not None and str(seen.stopped) in {mark.what for mark in before}:
        return str(seen.stopped)
    return before[-1].what if before else None


def _is_parallel(program: Program, index: int | None) -> bool:
    return index is not None and index < len(program) and bool(program[index].thread)


def trace_of(program: Program, seen: _Seen) -> Trace:
    """Return the trace of a program, made of the observations of its run."""
    splat = seen.outcome.splat
    # Not in the log is what was found afterwards.
    is_placed = splat and splat.is_reported and splat.kind not in UNLOGGED
    reported = splat if seen.marks and is_placed else None
    line = reported.line if reported else len(seen.outcome.log) + 1
    stopped = seen.stopped
    if seen.marks:
        begun = [int(mark.what) for mark in seen.marks if mark.what.isdigit() and mark.line < line]
    else:
        begun = _begun(program, seen)
    # The result may still be that of an earlier program of a batch.
    lost = stopped if seen.run or not _is_parallel(program, stopped) else None
    calls = tuple(
        TracedCall(index, None if index == lost else seen.results[index])
        for index in begun
        if index < len(program)
    )
    later = sum(mark.what.isdigit() and mark.line >= line for mark in seen.marks)
    at = during = None
    if reported:
        what = _culprit(seen, line, reported.caller)
        if what and what.isdigit():
            at = int(what)
        else:
            during = what
    elif splat and splat.kind == INFO_LEAK:
        at = leaking_call(splat.text)
    elif splat:
        at = next((call.index for call in calls if call.result is None), None)
    return Trace(program, splat, calls, later, at, during)


class Tracer:
    """Runs programs as :meth:`Testbeds.observe` does, and keeps the trace of the last one."""

    def __init__(self, setups: Testbeds, kind: str, wanted: Wanted | None = None) -> None:
        self._setups = setups
        self._wanted = wanted
        self._kind = kind
        self.trace: Trace | None = None
        """The trace of the last program; None if a splat of an earlier program ended the run."""

    def observe(self, history: Sequence[bytes], program: bytes) -> tuple[Outcome, int]:
        """Run programs on a fresh machine; return the outcome and the index of its program."""
        self.trace = None
        looked = None
        if self._kind == INFO_LEAK:
            looked, _ = self._setups.observe(self._kind, self._wanted)(history, program)
        place = self._setups.place(self._kind, history, program)
        if place.exact:
            return self._run_exact(place, history, program)
        with SeriesExecutor(place.guest.restore, self._wanted) as executor:
            machine = executor.machine
            if self._kind == LEAK:
                forget_leaks(machine)
            if looked:
                machine.channel.header.poison = POISON | POISONS[-1].stack
            if executor.run_all(history):
                return executor.series.result()
            machine.channel.header.flags |= FLAG_TRACE
            for run in range(1, place.tries + 1):
                machine.channel.forget_results()
                machine.channel.post_program(program)
                late = run == place.tries and self._kind not in UNLOGGED
                seen = _watch(machine, self._wanted, late=late)
                if ended := executor.series.note(seen.outcome, len(history)):
                    break
            if self._kind == LEAK and not ended:
                leak = find_leak(machine, place.guest.driver.frame_marks())
                if leak or seen.outcome.splat is None:
                    seen = replace(seen, outcome=Outcome(leak, b""))
                executor.series.note(seen.outcome, len(history))
            if looked and not ended:
                seen = replace(seen, outcome=looked)
                executor.series.note(seen.outcome, len(history))
        self._keep(history, program, seen, run)
        return executor.series.result()

    def _run_exact(
        self, place: Place, history: Sequence[bytes], program: bytes
    ) -> tuple[Outcome, int]:
        begun = 0

        def post(channel: Channel) -> None:
            nonlocal begun
            begun = channel.header.programs
            channel.forget_results()
            post_programs(channel, history, program)

        with place.guest.start(post) as machine:
            seen = _watch(machine, self._wanted, late=True)
            begun = machine.channel.header.programs - begun
        if begun <= len(history):
            return seen.outcome, max(0, begun - 1)
        self._keep(history, program, seen, 1)
        return seen.outcome, len(history)

    def _keep(self, history: Sequence[bytes], program: bytes, seen: _Seen, runs: int) -> None:
        calls = decode(program)[:MAX_CALLS]
        self.trace = replace(trace_of(calls, seen), before=len(history), runs=runs)


def keep_trace(directory: Path, text: str) -> None:
    """Keep a trace beside a campaign's crash, for reports; elsewhere, or on a full disk, do not.

    When the crash gets another program, its directory is written anew, without the trace.
    """
    crash = directory.resolve()
    if (crash / "crash.json").is_file() and (crash.parents[1] / "campaign.json").is_file():
        with contextlib.suppress(OSError):
            write_whole(crash / _FILE, text)


def kept_trace(directory: Path) -> str:
    """Return the trace that was kept beside a crash, empty if none was."""
    try:
        return read_text(directory / _FILE, within=directory, errors="replace")
    except OSError:
        return ""
