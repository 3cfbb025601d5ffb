# SPDX-License-Identifier: Apache-2.0
"""Observation of a machine that runs a program: its outcome, late reports and hangs included."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from fuzzer.crash.dedup import Wanted
from fuzzer.crash.outcome import HANG, Heard, Outcome, hear, log_lines
from fuzzer.machine.channel_layout import Command, Status
from fuzzer.machine.machine import LostMachineError, Machine, Run
from fuzzer.splat.aftermath import leaves_usable
from fuzzer.splat.find import splats_in
from fuzzer.splat.kmsg import console_lines
from fuzzer.splat.silence import Silence
from fuzzer.splat.splat import Splat

# Longest time from a call that hangs to the kernel's report of it: the hung task
# timeout of 5 s, its check interval of as much, and some for a slow host.
_HANG_REPORT = 15.0
# Seconds in which work that a program leaves behind (RCU callbacks, work items) may splat.
_LATE_REPORT = 0.05
# Seconds to wait for the rest of a report that another CPU or a kworker prints at the end.
_REST_OF_REPORT = 3.0
# Seconds of that where programs wait to be run, and between two looks at a silent guest's console.
_REST_FOR_WORKERS, _CONSOLE_LOOK = 1.0, 0.1
# The kernel takes up to 9 s to report a lockup.
PROGRAM_TIMEOUT = 12.0
"""Seconds that a guest may be silent in a program."""
# A report is complete when so many looks found nothing more.
_QUIET_LOOKS = 2
# The crash of a run that ended in such a way without a report.
_SILENCE = {
    Status.STUCK: Silence.NO_RETURN,
    Status.DIED: Silence.DIED,
    Status.HELD: Silence.HELD,
}


def is_killed(machine: Machine) -> bool:
    """Tell whether QEMU was killed from outside."""
    return not machine.qemu.is_running() and not machine.qemu.was_left()


def silent_guest(machine: Machine, wanted: Wanted | None = None) -> Outcome:
    """Return the outcome of a guest that no longer answers, or ended its machine.

    A kernel that panics reports that on its console only.
    """
    left = machine.qemu.was_left()
    log = _whole_console(machine).encode()
    heard = hear(log_lines(log), wanted)
    silence = Silence.REBOOT if left else Silence.NO_ANSWER
    return heard.silence(silence, log, wanted) or heard.outcome(log, lost=True)


def _is_whole(lines: Sequence[str]) -> bool:
    """Tell whether the last report in a log is not cut short."""
    splats = list(splats_in(lines))
    return not splats or splats[-1].complete


def _whole_console(machine: Machine) -> str:
    """Return a silent guest's console, with the end of a report that it is printing."""
    text = machine.console_text()
    deadline = machine.now() + _REST_OF_REPORT
    while machine.qemu.is_running() and machine.now() < deadline:
        if _is_whole(text.splitlines()):
            break
        machine.rest(_CONSOLE_LOOK)
        text = machine.console_text()
    return text


def with_rest_of_report(machine: Machine, log: bytes) -> bytes:
    """Return the log of a machine, with the end of a report that it is printing."""
    if _is_whole(console_lines(log)):
        return log
    try:
        return _follow(machine, log, _REST_FOR_WORKERS, lambda log: _is_whole(console_lines(log)))
    except LostMachineError:
        return log


def _follow(
    machine: Machine, log: bytes, patience: float, is_enough: Callable[[bytes], bool]
) -> bytes:
    """Collect the log until it is complete, or patience ends."""
    deadline = machine.now() + patience
    while machine.now() < deadline and not is_enough(log):
        machine.rest(min(0.1, patience))
        machine.command(Command.PING, timeout=5.0)
        log += machine.channel.log()
    return log


def run_program(
    machine: Machine,
    program: bytes,
    *,
    late: bool = True,
    hurried: bool = False,
    wanted: Wanted | None = None,
    timeout: float = PROGRAM_TIMEOUT,
) -> Outcome:
    """Run a program and return its outcome, waiting for a late report.

    A machine that showed a splat or fell silent must not be used again unless the outcome
    is usable. When ``hurried``, the program's end is not awaited once there is a report on
    the console.
    """
    hears = listener(machine, hurried=hurried, wanted=wanted)
    run = partial(machine.run, program, timeout, hears)
    return outcome_of(machine, run, late=late, wanted=wanted)


def run_started(machine: Machine, *, late: bool = True, wanted: Wanted | None = None) -> Outcome:
    """Return the outcome of the programs that a machine was started with."""
    run = partial(machine.finish, PROGRAM_TIMEOUT, listener(machine))
    return outcome_of(machine, run, late=late, wanted=wanted)


def listener(
    machine: Machine, *, hurried: bool = False, wanted: Wanted | None = None
) -> Callable[[], bool]:
    """Return a function that tells, called now and then, whether a silent guest hangs.

    A guest hangs if a complete report of that is on its console. When ``hurried``, any
    report counts after which the guest is not used further.
    """
    heard = quiet = 0

    def has_hung() -> bool:
        nonlocal heard, quiet
        text = machine.console_text()
        quiet = quiet + 1 if len(text) == heard else 0
        heard = len(text)
        if quiet < _QUIET_LOOKS or not text:
            return False
        return any(splat.complete and ends(splat) for splat in splats_in(text.splitlines()))

    def ends(splat: Splat) -> bool:
        if splat.kind == HANG:
            # A guest without CPU time may only be slow.
            return not machine.is_starved()
        return hurried and (wanted is None or wanted(splat) or not leaves_usable(splat))

    return has_hung


def outcome_of(
    machine: Machine,
    await_run: Callable[[], Run],
    *,
    late: bool,
    wanted: Wanted | None = None,
) -> Outcome:
    """Return the outcome of a program that ``run`` runs, waiting for a late report.

    With ``wanted``, that bug is looked for in everything that the kernel says, and awaited.
    """
    try:
        run = await_run()
    except LostMachineError:
        if is_killed(machine):
            raise
        return replace(silent_guest(machine, wanted), waited=machine.channel.waited())
    return replace(_said(machine, run, wanted, late=late), waited=run.waited)


def _said(machine: Machine, run: Run, wanted: Wanted | None, *, late: bool) -> Outcome:
    def heard_in(log: bytes) -> Heard:
        return hear(console_lines(log), wanted)

    log = run.log
    heard = heard_in(log)
    try:
        patience = _patience(run.status, heard, wanted, late=late)
        if patience and not heard.says_all:
            log = _follow(machine, log, patience, lambda log: heard_in(log).says_all)
            heard = heard_in(log)
        if not heard.is_whole:
            log = _follow(machine, log, _REST_OF_REPORT, lambda log: heard_in(log).is_whole)
            heard = heard_in(log)
    except LostMachineError:
        heard = heard_in(log)
    if heard.splat and is_of_the_host(heard.splat, run.status, machine):
        return Outcome(None, log)
    silence = _SILENCE.get(run.status)
    if silence and (silent := heard.silence(silence, log, wanted)):
        return silent
    usable = silence is None and heard.is_usable and heard.splat is not None
    return heard.outcome(log, usable=usable)


def _patience(status: Status, heard: Heard, wanted: Wanted | None, *, late: bool) -> float:
    """Return how long to wait for a report that may come after a program."""
    if status is Status.DIED:
        return 1.0
    if status is Status.STUCK:
        # If a task is stuck after another bug's report, the kernel will report a hang as well.
        hangs = heard.splat is None or (wanted is not None and wanted.bug.kind == HANG)
        return _HANG_REPORT if hangs else 0.0
    return _LATE_REPORT if late else 0.0


def is_of_the_host(splat: Splat, status: Status, machine: Machine) -> bool:
    """Tell whether a stall was reported only because the host had no CPU time for the guest.

    The program has ended then; the kernel measured the stall by its clock.
    """
    ended = status in {Status.OK, Status.TIMEOUT}
    return splat.kind == HANG and ended and machine.is_starved()
