# SPDX-License-Identifier: Apache-2.0
"""Judging: a sighting is run again on fresh machines, and what they say counts.

First the program alone, then with more and more of the history that led up to
it. One that does not show the bug that was sighted keeps the report it was
sighted with, and is stored as not reproduced.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeAlias

from fuzzer.crash.same import akin, same_bug
from fuzzer.crash.sighting import ASIDE, Sighting
from fuzzer.machine.channel import Command, Status
from fuzzer.machine.machine import LostMachineError, Machine, Run
from fuzzer.machine.provision import Guest
from fuzzer.program.settlement import shared_settlement
from fuzzer.program.stress import is_parallel
from fuzzer.program.waiting import note_waits
from fuzzer.program.wire import split
from fuzzer.splat.find import Splat, find_splat
from fuzzer.splat.kmsg import console_lines
from fuzzer.splat.silence import Silence, silent_splat

# Fresh machines a crash is shown on before it is called reproduced.
VERIFY_RUNS = 3
# Longest time from a call that hangs to the kernel's report of it: the hung task
# timeout of 5 s, its check interval of as much, and some for a slow host.
_HANG_REPORT = 15.0
# Work that a program leaves behind (RCU callbacks, work items) may splat later.
_LATE_REPORT = 0.05
# Another CPU, or a kworker that has to wait for one, may be amid a report when a program ends.
_REST_OF_REPORT = 3.0
# The kernel takes up to 9 s to call a lockup one.
PROGRAM_TIMEOUT = 12.0
"""Seconds that a guest may be silent in a program."""
HANG = "hang"
"""The kind of crashes that do not go on."""
# A report is over when nothing was added to it so many times.
_QUIET_LOOKS = 2
# Bytes that are kept of what a driver printed before its crash.
_LONGEST_LOG = 1 << 20


# Of a history, so many of the last programs are run first, and so many times more each time.
_RECENT, _GROWTH = 16, 4
# Machines on which a program that races may show something else, each time until it does.
_CHANCES = 3
# Other crashes that come first, after which what ran before them is not tried as well. Each may
# be a guest that dies amid its report, and then takes a while to be given up.
_OTHERS = 3

Observer: TypeAlias = "Callable[[Sequence[bytes], bytes], tuple[Outcome, int]]"
"""Runs programs, and one more, on a fresh machine; returns what run_history() does."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one program did to one machine.

    ``log`` is raw kmsg text; ``lost`` tells that the guest fell silent. ``waited`` are
    the indices of the calls that waited while the next ones were made.
    """

    splat: Splat | None
    log: bytes
    lost: bool = False
    waited: tuple[int, ...] = ()


def _hang(silence: Silence, log: bytes) -> Outcome:
    return Outcome(silent_splat(silence, log_lines(log)), log, lost=True)


def log_lines(log: bytes) -> list[str]:
    """Return the lines of a sighting's log: kmsg records, or console text."""
    return console_lines(log) or log.decode(errors="replace").splitlines()


def silent_guest(machine: Machine) -> Outcome:
    """Return what is known of a guest that no longer answers.

    A kernel that panics says so on its console and nowhere else.
    """
    log = machine.console_text().encode()
    splat = find_splat(log_lines(log))
    if splat:
        return Outcome(splat, log, lost=True)
    return _hang(Silence.NO_ANSWER, log)


def _follow(machine: Machine, log: bytes, patience: float, *, whole: bool = False) -> bytes:
    """Collect the log until a report begins in it, or with ``whole`` ends, or patience does."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        splat = find_splat(console_lines(log))
        if splat and (splat.complete or not whole):
            break
        time.sleep(min(0.1, patience))
        machine.command(Command.PING, timeout=5.0)
        log += machine.channel.log()
    return log


def run_program(
    machine: Machine, program: bytes, *, late: bool = True, hurried: bool = False
) -> Outcome:
    """Run a program and return what the kernel said, waiting for a late report.

    A machine that showed a splat or fell silent must not be used again. When
    ``hurried``, a program is not waited for once there is a report on the console.
    """
    run = partial(machine.run, program, PROGRAM_TIMEOUT, listener(machine, hurried=hurried))
    return outcome_of(machine, run, late=late)


def run_started(machine: Machine, *, late: bool = True) -> Outcome:
    """Return what came of the programs that a machine was started with."""
    run = partial(machine.finish, PROGRAM_TIMEOUT, listener(machine))
    return outcome_of(machine, run, late=late)


def listener(machine: Machine, *, hurried: bool = False) -> Callable[[], bool]:
    """Return a function that tells, when asked now and then, whether a silent guest hangs.

    It does if a whole report of that is on its console, and nothing was added
    the last few times. When ``hurried``, any report will do.
    """
    heard = quiet = 0

    def has_hung() -> bool:
        nonlocal heard, quiet
        text = machine.console_text()
        quiet = quiet + 1 if len(text) == heard else 0
        heard = len(text)
        if quiet < _QUIET_LOOKS or not text:
            return False
        splat = find_splat(text.splitlines())
        return splat is not None and splat.complete and (hurried or splat.kind == HANG)

    return has_hung


def outcome_of(machine: Machine, await_run: Callable[[], Run], *, late: bool) -> Outcome:
    """Return what the kernel said of a program, waiting for a late report."""
    try:
        run = await_run()
    except LostMachineError:
        if not machine.qemu.is_running():
            raise
        return replace(silent_guest(machine), waited=machine.channel.waited())
    return replace(_said(machine, run, late=late), waited=run.waited)


def _said(machine: Machine, run: Run, *, late: bool) -> Outcome:
    log = run.log
    splat = find_splat(console_lines(log))
    try:
        if splat is None and run.status in {Status.STUCK, Status.DIED}:
            patience = _HANG_REPORT if run.status is Status.STUCK else 1.0
            log = _follow(machine, log, patience)
        elif splat is None and late:
            log = _follow(machine, log, _LATE_REPORT)
        splat = find_splat(console_lines(log))
        if splat and not splat.complete:
            log = _follow(machine, log, _REST_OF_REPORT, whole=True)
            splat = find_splat(console_lines(log))
    except LostMachineError:
        pass
    if splat is None and run.status is Status.STUCK:
        return _hang(Silence.NO_RETURN, log)
    if splat is None and run.status is Status.DIED:
        return _hang(Silence.DIED, log)
    if splat is None and run.status is Status.HELD:
        return _hang(Silence.HELD, log)
    return Outcome(splat, log)


def run_history(
    guest: Guest, history: Sequence[bytes], program: bytes, tries: int = 1
) -> tuple[Outcome, int]:
    """Run programs one after the other on a fresh machine until one splats.

    The last is run up to ``tries`` times. Returns the outcome and the index
    of what splatted, ``len(history)`` for ``program`` itself. If all begin by
    loading the module in the same way, the machine is settled first, as the
    one was that they come from: they load it once and not each time.
    """
    before = b""
    with guest.restore() as machine:
        if (history or tries > 1) and (calls := shared_settlement([*history, program])):
            outcome = outcome_of(machine, lambda: machine.settle(calls), late=False)
            if outcome.splat:
                return outcome, 0
        for number, earlier in enumerate([*history, *[program] * (tries - 1)]):
            outcome = run_program(machine, earlier, late=False)
            if outcome.splat:
                return _after(before, outcome), min(number, len(history))
            before = (before + outcome.log)[-_LONGEST_LOG:]
        return _after(before, run_program(machine, program)), len(history)


def _after(before: bytes, outcome: Outcome) -> Outcome:
    """Return an outcome with all that was logged on its machine."""
    # What was read from the console is all of it already.
    return outcome if outcome.lost else replace(outcome, log=before + outcome.log)


@dataclass(frozen=True, slots=True)
class Judgement:
    """What judging a sighting came to.

    ``program`` and ``history`` are those that were seen to cause ``splat``.
    ``runs`` fresh machines were tried, ``reproduced`` of them showed it.
    ``others`` are different crashes that were met meanwhile, to be judged
    themselves.
    """

    splat: Splat
    log: bytes
    program: bytes
    history: tuple[bytes, ...]
    reproduced: int
    runs: int
    others: tuple[Sighting, ...] = ()


def first_impression(sighting: Sighting) -> Splat:
    """Return the splat that a worker saw, from its log."""
    lines = log_lines(sighting.log)
    found = find_splat(lines)
    text = "\n".join(lines) + "\n"
    return found or Splat(sighting.title, sighting.kind, None, False, f"{sighting.title}\n{text}")


def _histories(sighting: Sighting) -> Iterator[tuple[bytes, ...]]:
    """Return more and more of the last programs of a history, from none to all."""
    history = sighting.history
    yield ()
    length = _RECENT
    if is_parallel(split(sighting.program)):
        # Unsynchronised code shows in several ways, and another one may come first.
        yield from [()] * (_CHANCES - 1)
        # It takes many runs each time, so that with all of them is the last.
        length = len(history)
    while length < len(history):
        yield tuple(history[-length:])
        length *= _GROWTH
    if history:
        yield tuple(history)


def judge(
    observe: Observer,
    sighting: Sighting,
    verify_runs: int = VERIFY_RUNS,
    *,
    patience: float = math.inf,
) -> Judgement:
    """Run a sighting again; each call of ``observe`` is on a fresh machine.

    First the program alone, then with what ran before it, the latest first; a
    history that would take longer than ``patience`` seconds to run is not, and none
    are once other crashes came first several times: those will be judged themselves.
    Only the bug that was sighted counts, in the words of whichever kernel flavour.

    Raises:
        LostMachineError: QEMU was killed from outside; try again.
    """
    seen = first_impression(sighting)
    others: dict[str, Sighting] = {}
    tried, strayed, took = 0, 0, 0.0
    silent = False
    for before in _histories(sighting):
        if silent and not before:
            continue
        if took * len(before) > patience or strayed >= _OTHERS:
            break
        tried += 1
        begun = time.monotonic()
        outcome, number = observe(before, sighting.program)
        if before and outcome.splat is None:
            took = (time.monotonic() - begun) / len(before)
        program = before[number] if number < len(before) else sighting.program
        history = tuple(before[:number])
        splat = outcome.splat
        if splat is None:
            silent = True
            continue
        if akin(seen, splat):
            reproduced = 1
            for _ in range(verify_runs - 1):
                again, at = observe(history, program)
                same = again.splat is not None and same_bug(splat, again.splat)
                reproduced += same and at == len(history)
            found = tuple(others.values())
            runs = max(1, verify_runs)
            noted = note_waits(program, outcome.waited)
            return Judgement(splat, outcome.log, noted, history, reproduced, runs, found)
        strayed += 1
        others.setdefault(
            splat.title,
            Sighting(splat.title, splat.kind, program, history, outcome.log, ASIDE),
        )
    return Judgement(
        seen,
        sighting.log,
        sighting.program,
        tuple(sighting.history),
        0,
        tried,
        tuple(others.values()),
    )
