# SPDX-License-Identifier: Apache-2.0
"""Judging: a sighting is run again on fresh machines, and what they say counts.

First the program alone, then with more and more of the history that led up to
it. One that does not show the bug that was sighted keeps the report it was
sighted with, and is stored as not reproduced.

Another bug may come first, each time that the device is opened even. Where its
report leaves the kernel usable, the run goes on, and the bug that was sighted is
waited for (:class:`Wanted`). What is seen then counts: nothing that leaves a kernel
usable makes one of its checkers, or a fault, tell of a bug that is not there. The
reverse is possible: KASAN and lockdep are silent after a report of their own, so a bug
of theirs that comes after another one of theirs is not seen in such a run.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import TypeAlias

from fuzzer.crash.dedup import Wanted, akin, same_bug
from fuzzer.crash.sighting import ASIDE, Sighting
from fuzzer.machine.channel import Command, Status
from fuzzer.machine.machine import LostMachineError, Machine, Run
from fuzzer.machine.provision import Guest
from fuzzer.program.settlement import shared_settlement
from fuzzer.program.stress import is_parallel
from fuzzer.program.waiting import note_waits
from fuzzer.program.wire import split
from fuzzer.splat.aftermath import keeps_looking, leaves_usable
from fuzzer.splat.find import bare_splat, find_splat, splats_in
from fuzzer.splat.kmsg import console_lines
from fuzzer.splat.silence import Silence, silent_splat
from fuzzer.splat.splat import Splat

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
# What is said of a run that ended in such a way, if the kernel does not.
_SILENCE = {
    Status.STUCK: Silence.NO_RETURN,
    Status.DIED: Silence.DIED,
    Status.HELD: Silence.HELD,
}
# Programs on one machine after which there was a report of another bug. Each takes as long
# to print as several programs do to run.
_MOST_PASSED = 300
# Sightings whose reports are kept parsed: one is asked about several times while it is judged.
_FEW = 4

Observer: TypeAlias = "Callable[[Sequence[bytes], bytes], tuple[Outcome, int]]"
"""Runs programs, and one more, on a fresh machine; returns what run_history() does."""


@dataclass(frozen=True, slots=True)
class Passed:
    """A report of another bug than the wanted one, after which a machine was used further.

    It came in the program with that ``number``; ``log`` is what was logged until then.
    """

    splat: Splat
    number: int
    log: bytes


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one program did to one machine, or several did.

    ``splat`` is of the wanted bug if that was shown, else the first. ``log`` is raw kmsg
    text; ``lost`` tells that the guest fell silent. ``passed`` are reports of other bugs,
    one for each title. A ``usable`` machine has shown other bugs only, and can go on.
    ``waited`` are the indices of the calls that waited while the next ones were made.
    """

    splat: Splat | None
    log: bytes
    lost: bool = False
    waited: tuple[int, ...] = ()
    passed: tuple[Passed, ...] = ()
    usable: bool = False

    @property
    def is_harmless(self) -> bool:
        """Whether the machine is as good as one that has shown nothing."""
        splats = [self.splat, *(each.splat for each in self.passed)]
        shown = [splat for splat in splats if splat]
        return not shown or (self.usable and all(map(keeps_looking, shown)))

    @property
    def others(self) -> tuple[str, ...]:
        """The titles of other bugs that were reported."""
        own = self.splat.title if self.splat else None
        return tuple(
            dict.fromkeys(each.splat.title for each in self.passed if each.splat.title != own)
        )


def _hang(silence: Silence, log: bytes) -> Outcome:
    return Outcome(silent_splat(silence, log_lines(log)), log, lost=True)


def log_lines(log: bytes) -> list[str]:
    """Return the lines of a sighting's log: kmsg records, or console text."""
    return console_lines(log) or log.decode(errors="replace").splitlines()


@dataclass(frozen=True, slots=True)
class _Heard:
    """What was heard of a log: the wanted splat, else the first, and the other ones."""

    splat: Splat | None = None
    is_wanted: bool = False
    others: tuple[Splat, ...] = ()
    is_usable: bool = True
    is_whole: bool = True

    @property
    def says_all(self) -> bool:
        """Whether nothing is left to wait for."""
        return self.is_wanted or not self.is_usable


def _hear(lines: Sequence[str], wanted: Wanted | None) -> _Heard:
    """Look for the wanted bug among the splats in a log's lines; without one, any will do.

    What comes after a report that leaves the kernel unusable is not looked at.
    """
    seen: list[Splat] = []
    for splat in splats_in(lines):
        if wanted is None or wanted(splat):
            return _Heard(splat, True, tuple(seen), False, splat.complete)
        seen.append(splat)
        if not leaves_usable(splat):
            break
    if not seen:
        return _Heard()
    usable = leaves_usable(seen[-1])
    return _Heard(seen[0], False, tuple(seen[1:]), usable, seen[-1].complete)


def _outcome(heard: _Heard, log: bytes, *, lost: bool = False, usable: bool = False) -> Outcome:
    passed = tuple(Passed(splat, 0, log) for splat in heard.others)
    return Outcome(heard.splat, log, lost, passed=passed, usable=usable)


def _silent(heard: _Heard, silence: Silence, log: bytes, wanted: Wanted | None) -> Outcome | None:
    """Return the outcome of a guest that has ended, if no report tells of that."""
    hang = _hang(silence, log)
    assert hang.splat is not None
    if heard.splat is None:
        return hang
    if heard.is_wanted or wanted is None or not wanted(hang.splat):
        return None
    passed = tuple(Passed(splat, 0, log) for splat in (heard.splat, *heard.others))
    return replace(hang, passed=passed)


def is_killed(machine: Machine) -> bool:
    """Tell whether a machine is gone for no reason of its own."""
    return not machine.qemu.is_running() and not machine.qemu.was_left()


def silent_guest(machine: Machine, wanted: Wanted | None = None) -> Outcome:
    """Return what is known of a guest that no longer answers, or ended its machine.

    A kernel that panics says so on its console and nowhere else.
    """
    left = machine.qemu.was_left()
    log = machine.console_text().encode()
    heard = _hear(log_lines(log), wanted)
    silence = Silence.REBOOT if left else Silence.NO_ANSWER
    return _silent(heard, silence, log, wanted) or _outcome(heard, log, lost=True)


def _follow(
    machine: Machine, log: bytes, patience: float, is_enough: Callable[[bytes], bool]
) -> bytes:
    """Collect the log until it is enough, or patience ends."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline and not is_enough(log):
        time.sleep(min(0.1, patience))
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
) -> Outcome:
    """Run a program and return what the kernel said, waiting for a late report.

    A machine that showed a splat or fell silent must not be used again, unless the
    outcome says that it is usable. When ``hurried``, a program is not waited for once
    there is a report on the console.
    """
    hears = listener(machine, hurried=hurried, wanted=wanted)
    run = partial(machine.run, program, PROGRAM_TIMEOUT, hears)
    return outcome_of(machine, run, late=late, wanted=wanted)


def run_started(machine: Machine, *, late: bool = True, wanted: Wanted | None = None) -> Outcome:
    """Return what came of the programs that a machine was started with."""
    run = partial(machine.finish, PROGRAM_TIMEOUT, listener(machine))
    return outcome_of(machine, run, late=late, wanted=wanted)


def listener(
    machine: Machine, *, hurried: bool = False, wanted: Wanted | None = None
) -> Callable[[], bool]:
    """Return a function that tells, when asked now and then, whether a silent guest hangs.

    It does if a whole report of that is on its console, and nothing was added
    the last few times. When ``hurried``, any report will do after which the guest
    is not used further.
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
            # Else it may be slow, as everything is then.
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
    """Return what the kernel said of a program, waiting for a late report.

    With ``wanted``, that bug is looked for among all that it said, and waited for.
    """
    try:
        run = await_run()
    except LostMachineError:
        if is_killed(machine):
            raise
        return replace(silent_guest(machine, wanted), waited=machine.channel.waited())
    return replace(_said(machine, run, wanted, late=late), waited=run.waited)


def _said(machine: Machine, run: Run, wanted: Wanted | None, *, late: bool) -> Outcome:
    def hear(log: bytes) -> _Heard:
        return _hear(console_lines(log), wanted)

    log = run.log
    heard = hear(log)
    try:
        patience = _patience(run.status, heard, wanted, late=late)
        if patience and not heard.says_all:
            log = _follow(machine, log, patience, lambda log: hear(log).says_all)
            heard = hear(log)
        if not heard.is_whole:
            log = _follow(machine, log, _REST_OF_REPORT, lambda log: hear(log).is_whole)
            heard = hear(log)
    except LostMachineError:
        heard = hear(log)
    if heard.splat and is_of_the_host(heard.splat, run.status, machine):
        return _outcome(_Heard(), log)
    silence = _SILENCE.get(run.status)
    if silence and (silent := _silent(heard, silence, log, wanted)):
        return silent
    usable = silence is None and heard.is_usable and heard.splat is not None
    return _outcome(heard, log, usable=usable)


def _patience(status: Status, heard: _Heard, wanted: Wanted | None, *, late: bool) -> float:
    """Return how long to wait for a report that may come after a program."""
    if status is Status.DIED:
        return 1.0
    if status is Status.STUCK:
        # Of a task that is stuck after another bug's report, the kernel will say that it hangs.
        hangs = heard.splat is None or (wanted is not None and wanted.bug.kind == HANG)
        return _HANG_REPORT if hangs else 0.0
    return _LATE_REPORT if late else 0.0


def is_of_the_host(splat: Splat, status: Status, machine: Machine) -> bool:
    """Tell whether the kernel reports a stall in a program that has ended, on a starved machine.

    It goes by its clock, and the host had no time for it.
    """
    ended = status in {Status.OK, Status.TIMEOUT}
    return splat.kind == HANG and ended and machine.is_starved()


class Series:
    """Programs that run one after the other on a machine, and what the kernel said of them.

    Reports of other bugs than the ``wanted`` one end it only where they leave the
    machine unusable, or there are many.
    """

    def __init__(self, wanted: Wanted | None) -> None:
        self._wanted = wanted
        self._before = b""
        self._passed: dict[str, Passed] = {}
        self._times = 0
        self._last = (Outcome(None, b""), 0)

    def note(self, outcome: Outcome, number: int) -> bool:
        """Take note of what a program did; tell whether it was the last of them."""
        # What was read from the console is all of it already.
        if not outcome.lost:
            outcome = replace(outcome, log=self._before + outcome.log)
        self._before = outcome.log[-_LONGEST_LOG:]
        self._last = (outcome, number)
        if outcome.splat is None:
            return False
        others = [each.splat for each in outcome.passed]
        if self._wanted is None or self._wanted(outcome.splat):
            self._keep(others, number, outcome.log)
            return True
        self._keep([outcome.splat, *others], number, outcome.log)
        self._times += 1
        return not outcome.usable or self._times >= _MOST_PASSED

    def _keep(self, splats: Sequence[Splat], number: int, log: bytes) -> None:
        for splat in splats:
            self._passed.setdefault(splat.title, Passed(splat, number, log))

    @property
    def passed(self) -> tuple[Passed, ...]:
        """Reports of other bugs, one for each title."""
        return tuple(self._passed.values())

    def result(self) -> tuple[Outcome, int]:
        """Return the outcome and the number of its program, see :func:`run_history`."""
        outcome, number = self._last
        passed = self.passed
        if outcome.splat and (self._wanted is None or self._wanted(outcome.splat)):
            return replace(outcome, passed=passed), number
        if passed:
            first = passed[0]
            return Outcome(first.splat, first.log, passed=passed[1:]), first.number
        return outcome, number


def run_history(
    guest: Guest,
    history: Sequence[bytes],
    program: bytes,
    tries: int = 1,
    wanted: Wanted | None = None,
) -> tuple[Outcome, int]:
    """Run programs one after the other on a fresh machine until one splats.

    The last is run up to ``tries`` times. Returns the outcome and the index
    of what splatted, ``len(history)`` for ``program`` itself. If all begin by
    loading the module in the same way, the machine is settled first, as the
    one was that they come from: they load it once and not each time. With
    ``wanted``, that bug is waited for, and if it does not come the first one counts.
    """
    series = Series(wanted)
    with guest.restore() as machine:
        if (history or tries > 1) and (calls := shared_settlement([*history, program])):
            outcome = outcome_of(machine, lambda: machine.settle(calls), late=False, wanted=wanted)
            if series.note(outcome, 0):
                return series.result()
        for number, earlier in enumerate([*history, *[program] * (tries - 1)]):
            outcome = run_program(machine, earlier, late=False, wanted=wanted)
            if series.note(outcome, min(number, len(history))):
                return series.result()
        series.note(run_program(machine, program, wanted=wanted), len(history))
    return series.result()


def finish_batch(
    machine: Machine, programs: Sequence[bytes], *, wanted: Wanted | None = None
) -> tuple[Outcome, int]:
    """Return what came of programs with which a machine was started, and the number of whose it is.

    The guest stops where the kernel says something. If that is not the ``wanted`` bug,
    it is told to go on with the rest, at an instant that the host decides.
    """
    series, left = Series(wanted), list(programs)
    while True:
        outcome = run_started(machine, wanted=wanted)
        # The guest wrote it: a driver's bug may have, too.
        at = min(machine.channel.header.batch_at, len(left) - 1) if len(left) > 1 else 0
        number = len(programs) - len(left) + at
        left = left[at + 1 :]
        if series.note(outcome, number) or not left or wanted is None:
            return series.result()
        if len(left) > 1:
            machine.channel.post_batch(left)
        else:
            machine.channel.post_program(left[0])


@dataclass(frozen=True, slots=True)
class Judgement:
    """What judging a sighting came to.

    ``program`` and ``history`` are those that were seen to cause ``splat``.
    ``runs`` fresh machines were tried, ``reproduced`` of them showed it.
    ``others`` are different crashes that were met meanwhile, to be judged
    themselves; ``after`` are the titles of those that came before it in the same run.
    """

    splat: Splat
    log: bytes
    program: bytes
    history: tuple[bytes, ...]
    reproduced: int
    runs: int
    others: tuple[Sighting, ...] = ()
    after: tuple[str, ...] = ()


@lru_cache(maxsize=_FEW)
def first_impression(sighting: Sighting) -> Splat:
    """Return the splat that a worker saw, from its log."""
    lines = log_lines(sighting.log)
    found = find_splat(lines)
    text = "\n".join(lines) + "\n"
    return found or bare_splat(sighting.title, sighting.kind, text=f"{sighting.title}\n{text}")


def _sighting_of(passed: Passed, programs: Sequence[bytes]) -> Sighting:
    """Return the sighting of a bug that was met in one of some programs."""
    splat, number = passed.splat, passed.number
    history = tuple(programs[:number])
    return Sighting(splat.title, splat.kind, programs[number], history, passed.log, ASIDE)


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
    watch: Callable[[Wanted], Observer],
    sighting: Sighting,
    verify_runs: int = VERIFY_RUNS,
    *,
    patience: float = math.inf,
) -> Judgement:
    """Run a sighting again, each time on a fresh machine.

    ``watch(wanted)`` returns how to run programs to see that bug, if it can be.
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
    observe = watch(Wanted(seen, akin))
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
        splat = outcome.splat
        if splat is None:
            silent = True
            continue
        programs = (*before, sighting.program)
        shown = akin(seen, splat)
        met = outcome.passed if shown else (Passed(splat, number, outcome.log), *outcome.passed)
        for each in met:
            others.setdefault(each.splat.title, _sighting_of(each, programs))
        if shown:
            program, history = programs[number], programs[:number]
            # Whatever flavour's words it has now, they are the same each time.
            verify = watch(Wanted(splat))
            reproduced = 1
            for _ in range(verify_runs - 1):
                again, at = verify(history, program)
                same = again.splat is not None and same_bug(splat, again.splat)
                reproduced += same and at == len(history)
            found = tuple(others.values())
            runs = max(1, verify_runs)
            noted = note_waits(program, outcome.waited)
            return Judgement(
                splat, outcome.log, noted, history, reproduced, runs, found, outcome.others
            )
        strayed += 1
    return Judgement(
        seen,
        sighting.log,
        sighting.program,
        tuple(sighting.history),
        0,
        tried,
        tuple(others.values()),
    )
