# SPDX-License-Identifier: Apache-2.0
"""The crash observer of a worker: deals with programs after which the kernel complains."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from fuzzer.crash.observe import (
    is_killed,
    is_of_the_host,
    silent_guest,
    with_rest_of_report,
)
from fuzzer.crash.sighting import Sighting, Spool
from fuzzer.engine.aside import (
    KNOWN,
    REPORT_COST,
    RESTORE_COST,
    SLOW,
    Aside,
    SetAside,
    put_back_file,
    read_put_back,
    sample_of,
    write_aside,
)
from fuzzer.engine.culprit import culprit_of
from fuzzer.engine.executor import WorkerExecutor
from fuzzer.engine.probing import CountedTrials, Programs, find_cause
from fuzzer.engine.seed_scheduler import SeedScheduler
from fuzzer.engine.siblings import siblings_of
from fuzzer.engine.statistics import WorkerCounts
from fuzzer.engine.traits import ioctl_kind
from fuzzer.errors import InfrastructureError
from fuzzer.machine.channel_layout import Status
from fuzzer.machine.hostclock import counter_khz
from fuzzer.program.cost import cost_of_wait, is_slow
from fuzzer.program.wire import split
from fuzzer.splat.find import splats_in
from fuzzer.splat.kmsg import console_lines
from fuzzer.splat.silence import Silence
from fuzzer.splat.splat import Splat
from fuzzer.target.target import ResetKind

# Seconds from which on a program counts as slow, and the number of slow programs that may be due
# to a busy host.
_TAKES_LONG, _BY_CHANCE = 0.4, 4
# The most machines to find the cause of a bug on, and of calls that do not end; and the earlier
# programs that may have prepared it.
_MOST_TRIALS, _MOST_LONG_TRIALS, _PREPARING = 120, 60, 256
# The most further machines, on which other ioctls are tried in the place of the one that does it.
_MOST_SIBLING_TRIALS = 48
# Seconds without an answer after which a trial is given up.
_TRIAL_PATIENCE = 1.0
# Titles of states in which a call does not end. A trial shows one as soon as a call takes long.
_ENDLESS = frozenset({Silence.NO_ANSWER, SLOW})
# Earlier programs that run again to see whether one crashes a machine that showed nothing before.
_BEFORE = 16
# Reports after which the kernel goes on, and so does the program. lockdep is not in it: it is
# silent after its first one, until there is a fresh machine.
_SURVIVED = frozenset({"kasan", "ubsan", "kcsan", "atomic-sleep", "atomic", "warning", "leak"})
_SILENCES = {
    Status.STUCK: Silence.NO_RETURN,
    Status.DIED: Silence.DIED,
    Status.HELD: Silence.HELD,
}
_KASAN = "kasan"


class CrashObserver:
    """Examines programs after which the kernel complained, and replaces the machine.

    Sightings go to the spool of ``workdir`` in the worker's ``name``; the causes of bugs
    that cost much are noted in ``aside``. ``renew`` replaces the executor's machine, and
    ``publish`` writes the worker's state for the campaign.
    """

    def __init__(
        self,
        executor: WorkerExecutor,
        aside: Aside,
        scheduler: SeedScheduler,
        *,
        counts: WorkerCounts,
        workdir: Path,
        name: str,
        renew: Callable[[], None],
        publish: Callable[[], None],
    ) -> None:
        self._executor = executor
        self._channel = executor.channel
        self._aside = aside
        self._scheduler = scheduler
        self._counts = counts
        self._workdir = workdir
        self._name = name
        self._renew = renew
        self._publish_all = publish
        self._spool = Spool(workdir)
        self._recorded: dict[str, int] = {}
        # Programs by the title of a bug whose cause is to be found out; the last one showed it.
        self._unexplained: dict[str, Programs] = {}
        self._confirming = False
        self._told_aside = False
        self._put_back_at = 0
        self.is_studying = False
        """True while the cause of a bug is being found out."""
        self._slow_ones = 0
        # Where instructions are counted, ticks do not tell how long a program takes.
        guest = executor.guest
        khz = None if guest.template.hardware.icount else counter_khz()
        self.slow_ticks = _TAKES_LONG * 1000 * (khz or 1 << 32)
        """Ticks from which on a program counts as slow."""
        self._restore_each = guest.target.reset.kind is ResetKind.RESTORE
        self._call_timeout_ms = guest.target.call_timeout_ms

    def has_passed(self, program: bytes, *, even_waiting: bool = False) -> bool:
        """Wait for a program that was posted; tell whether the machine goes on after it.

        It is then part of the history. With ``even_waiting``, one with a call that was left
        waiting is looked at as well.
        """
        if not self._executor.await_answer():
            self.lose(program)
            return False
        header = self._channel.header
        speaks = header.log_length or header.status or (even_waiting and header.waited)
        if speaks and self.examine(program):
            return False
        self._executor.history.append(program)
        return True

    def note_ticks(self, program: bytes, ticks: int) -> None:
        """Take note of a program that took ``slow_ticks`` or more."""
        self._note_slow(program, 1000 * _TAKES_LONG * ticks / self.slow_ticks)

    def _note_slow(self, program: bytes, milliseconds: float) -> None:
        """Take note that a program's calls took long, as a fast driver's do in some states."""
        own = program.removeprefix(self._executor.preloaded)
        if self._executor.start.is_slow or is_slow(split(own)):
            return
        self._slow_ones += 1
        if self._slow_ones <= _BY_CHANCE:
            return
        cost = cost_of_wait(milliseconds)
        self._scheduler.blocked(program, cost)
        self._count(program, SLOW, cost, None, [])
        if self._aside.is_known(SLOW):
            self._executor.expect_slowness()

    def examine(self, data: bytes) -> bool:
        """Examine a program that made the kernel print something, or did not end well.

        Returns whether that was a sighting, after which the machine is a new one. The
        machine is kept where it survived known bugs only.
        """
        status, log = self._channel.status, self._channel.log()
        if status is Status.ERROR:
            message = self._channel.header.message.decode(errors="replace")
            raise InfrastructureError(f"the executor failed: {message}")
        lines = console_lines(log)
        machine = self._executor.machine
        splats = [each for each in splats_in(lines) if not is_of_the_host(each, status, machine)]
        self._channel.note_heard(harmless=not splats)
        silence = _SILENCES.get(status)
        if not splats and silence is None:
            if status is Status.TIMEOUT:
                self._counts.timeouts += 1
                # Only from now on: a driver whose calls never wait is a bit faster without it.
                self._executor.let_wait()
            if status is Status.TIMEOUT or self._channel.header.waited:
                self._scheduler.blocked(data)
            return False
        if silence is None and all(map(self._is_survived, splats)):
            self._go_on_after(data, splats, lines)
            return False
        call = self._channel.header.stopped_call if silence is not None else None
        if splats and not self._aside.is_known(splats[-1].title):
            log = with_rest_of_report(machine, log)
            splats = list(splats_in(console_lines(log)))
        waited = 0.0
        if silence is Silence.NO_RETURN:
            waited = cost_of_wait(2 * self._call_timeout_ms)
        # Of several splats the one that is not known yet makes the sighting.
        new = [splat for splat in splats if not self._aside.is_known(splat.title)]
        if splats:
            splat = (new or splats)[0]
            self._sight(self._sighting(data, splat.title, splat.kind, log), call, waited)
        elif silence is not None:
            self._sight(self._sighting(data, silence, silence.kind, log), call, waited)
        return True

    def _sighting(self, data: bytes, title: str, kind: str, log: bytes) -> Sighting:
        return Sighting(title, kind, data, tuple(self._executor.history), log, self._name)

    def _is_survived(self, splat: Splat) -> bool:
        """Tell whether a report is of a known bug after which the machine may go on."""
        if self._restore_each or splat.kind not in _SURVIVED:
            return False
        return self._aside.is_known(splat.title) and self._aside.is_survived(splat.title)

    def _go_on_after(self, data: bytes, splats: list[Splat], lines: list[str]) -> None:
        """Count known bugs, and go on with the machine that has shown them."""
        total = self._scheduler.total
        for splat in splats:
            self._counts.splats += 1
            self._executor.shown[splat.title] = None
            self._spool.count(splat.title)
            self._count(data, splat.title, REPORT_COST, None, lines)
            if splat.kind == _KASAN and self._aside.is_unavoidable(splat.title, total):
                # As each program meets the bug, others on this machine run without a report of it.
                self._channel.header.kasan_flags = 0

    def lose(self, data: bytes) -> None:
        """Deal with a guest that fell silent in a program, or was too slow to end it.

        It was killed from outside, rebooted, or hangs so hard that nothing runs in it.
        """
        if self._executor.was_slow:
            self._note_slow(data, 1000 * self._executor.slow_seconds)
            self._clear()
            return
        machine = self._executor.machine
        self._counts.lost += not machine.qemu.was_left()
        if not is_killed(machine):
            outcome = silent_guest(machine)
            assert outcome.splat is not None
            splat, call = outcome.splat, self._channel.header.current_call
            waited = cost_of_wait(1000 * self._executor.patience)
            sighting = self._sighting(data, splat.title, splat.kind, outcome.log)
            self._sight(sighting, call, waited)
            if splat.title == Silence.NO_ANSWER:
                self._executor.shorten_patience()
        else:
            self._clear()

    def _sight(self, sighting: Sighting, call: int | None, waited: float) -> None:
        """Deal with a machine that a program crashed, in its ``call`` if that is known.

        ``waited`` is the cost of waiting for the crash to show.
        """
        shown = list(self._executor.shown)
        self._executor.shown.clear()
        # Memory damaged by an earlier bug may show as any crash. Confirming a hang takes too long.
        doubtful = shown and not self._confirming and not waited
        if doubtful and not self._aside.is_known(sighting.title):
            if not self._confirm(sighting.program):
                self._aside.end_badly(shown)
            return
        self._counts.splats += 1
        self._record(sighting, call, waited)
        self._scheduler.avoid(sighting.program)
        self._clear()

    def _confirm(self, data: bytes) -> bool:
        """Run a program on machines that have shown nothing yet; tell whether it crashes one.

        It runs alone first, then after the programs that ran before it.
        """
        self._confirming = True
        try:
            return any(
                self._crashes_again(before, data)
                for before in ((), tuple(self._executor.history[-_BEFORE:]))
            )
        finally:
            self._confirming = False
            self._clear()

    def _crashes_again(self, before: Sequence[bytes], data: bytes) -> bool:
        """Tell whether programs crash a fresh machine."""
        self._renew()
        for program in (*before, data):
            self._channel.post_program(program)
            if not self.has_passed(program):
                return True
        return False

    def _record(self, sighting: Sighting, call: int | None, waited: float) -> None:
        """Keep the first sightings of a title for the judge, and count all of them."""
        seen = self._recorded.get(sighting.title, 0)
        self._recorded[sighting.title] = seen + 1
        if seen < KNOWN:
            self._spool.add(sighting)
        self._spool.count(sighting.title)
        lines = console_lines(sighting.log)
        self._count(sighting.program, sighting.title, RESTORE_COST + waited, call, lines)

    def _count(
        self, data: bytes, title: str, cost: float, call: int | None, lines: list[str]
    ) -> None:
        """Take note that a program led to a bug, or to something else that costs much."""
        program = data.removeprefix(self._executor.preloaded)
        if call is not None:
            call -= len(split(data)) - len(split(program))
        sample = sample_of(program, self._executor.history, call, culprit_of(lines))
        if self._aside.sight(title, sample, cost, self._scheduler.total):
            # A bug that takes seconds or two threads to show is not tried on many machines.
            quick = (cost <= RESTORE_COST or title in _ENDLESS) and not self._executor.races
            before = self._executor.history[-_PREPARING:] if quick else []
            own = [each.removeprefix(self._executor.preloaded) for each in (*before, data)]
            self._unexplained[title] = tuple(tuple(split(each)) for each in own) if quick else ()

    def find_causes(self) -> None:
        """Find the causes of bugs that cost much, on fresh machines."""
        if not self._unexplained:
            return
        self.is_studying = True
        self._publish_all()
        for title, programs in self._unexplained.items():
            self._tell_aside(title)
            endless = title in _ENDLESS
            shows = self._takes_long if endless else partial(self._shows, title)
            trials = CountedTrials(shows, _MOST_LONG_TRIALS if endless else _MOST_TRIALS)
            cause = find_cause(programs, trials, self._aside.choose) if programs else None
            each = RESTORE_COST + (cost_of_wait(1000 * _TAKES_LONG) if endless else 0.0)
            rule = self._aside.learn(title, cause, trials.made * each)
            if cause is not None and rule is not None:
                more = CountedTrials(shows, _MOST_SIBLING_TRIALS)
                ioctls = (ioctl_kind(number) for number in self._executor.known_ioctls)
                left = [kind for kind in ioctls if kind not in self._aside.dropped_kinds(title)]
                pairs = siblings_of(cause, rule.dropped.kind, left, more.crashes)
                self._aside.learn_siblings(title, rule, pairs, more.made * each)
        self._unexplained.clear()
        self.is_studying = False
        self._tell_aside()
        self._clear()

    def publish(self) -> None:
        """Write down the bugs that are set aside, if any are, for the campaign to show.

        Those that the user has put back since the last time are not any more.
        """
        self._put_back()
        if self._aside.sightings() or self._told_aside:
            self._tell_aside()

    def _put_back(self) -> None:
        try:
            changed = put_back_file(self._workdir).stat().st_mtime_ns
        except OSError:
            return
        if changed != self._put_back_at:
            self._put_back_at = changed
            self._aside.put_back(read_put_back(self._workdir))

    def _tell_aside(self, *studied: str) -> None:
        self._told_aside = bool(self._aside.sightings() or studied)
        write_aside(self._workdir, self._name, SetAside(self._aside.sightings(), studied))

    def _takes_long(self, programs: Programs) -> bool:
        """Tell whether a call of programs takes long on a fresh machine, if it ends at all."""
        self._renew()
        for program in programs:
            qemu = self._executor.machine.qemu
            began = qemu.clock()
            self._channel.post_program(self._executor.preloaded + b"".join(program))
            if not self._executor.await_answer(patience=_TAKES_LONG):
                return qemu.is_running()
            if self._channel.status:
                return False
            if qemu.clock() - began > _TAKES_LONG:
                return True
        return False

    def _shows(self, title: str, programs: Programs) -> bool:
        """Tell whether programs show a bug on a fresh machine."""
        self._renew()
        for program in programs:
            self._channel.post_program(self._executor.preloaded + b"".join(program))
            if not self._executor.await_answer(patience=_TRIAL_PATIENCE):
                return False
            status = self._channel.status
            if self._channel.header.log_length or status:
                splats = list(splats_in(console_lines(self._channel.log())))
                seen = [splat.title for splat in splats] or [_SILENCES.get(status, "")]
                if title in seen:
                    return True
                if status in _SILENCES:
                    return False
        return False

    def _clear(self) -> None:
        self._renew()
        self._publish_all()
