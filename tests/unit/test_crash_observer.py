# SPDX-License-Identifier: Apache-2.0
"""The crash observer of a worker, on machines that exist only here."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from fuzzer.crash.sighting import Sighting, Spool, read_sighting
from fuzzer.engine.aside import KNOWN, SLOW, Aside, PutBack, read_aside, write_put_back
from fuzzer.engine.crashes import CrashObserver
from fuzzer.engine.executor import WorkerExecutor
from fuzzer.engine.seed_scheduler import SeedScheduler
from fuzzer.engine.statistics import WorkerCounts
from fuzzer.errors import InfrastructureError
from fuzzer.machine.channel_layout import FLAG_WAITS, Status
from fuzzer.program.ops import Op
from fuzzer.program.program import Call
from fuzzer.program.wire import encode, split
from fuzzer.splat.silence import Silence
from fuzzer.target.target import load_target
from tests.fakes import Answer, Behaviour, FakeChannel, FakeGuest
from tests.unit.test_judge import FAULT, SPLAT, TITLE
from tests.unit.test_worker_executor import Clock, WatchedChannel

TARGET = load_target(Path(__file__).parent / "data" / "demo" / "demo.yaml")
READ, WRITE, BAD, WORSE = (
    encode((Call(op, data=data),))
    for op, data in ((Op.READ, b""), (Op.WRITE, b"a"), (Op.WRITE, b"bad"), (Op.WRITE, b"worse"))
)


class Worker:
    """A worker without libFuzzer: it runs what it is told to."""

    def __init__(self, behaviour: Behaviour, workdir: Path, clock: Clock | None = None) -> None:
        self.guest = FakeGuest(behaviour, TARGET)
        channel = WatchedChannel(clock) if clock else FakeChannel()
        if clock:
            self.guest.clock = clock
        self.executor = WorkerExecutor(self.guest, channel=channel, clock=clock or time.monotonic)
        self.aside, self.counts = Aside(), WorkerCounts()
        self.scheduler = SeedScheduler(random.Random(1))
        self.spool = Spool(workdir)
        self.spool.create()
        self.published = 0
        self.crashes = CrashObserver(
            self.executor,
            self.aside,
            self.scheduler,
            counts=self.counts,
            workdir=workdir,
            name="worker-0",
            renew=self.renew,
            publish=self.publish,
        )

    def renew(self) -> None:
        self.executor.renew()

    def publish(self) -> None:
        self.published += 1
        self.crashes.publish()

    def run(self, program: bytes) -> bool:
        self.executor.channel.post_program(program)
        return self.crashes.has_passed(program)

    def sightings(self) -> list[Sighting]:
        return [read_sighting(path) for path in self.spool.waiting()]


def kasan(ran: list[bytes]) -> bytes:
    return SPLAT if BAD in ran[-1] else b""


def test_a_report_of_a_new_bug_is_a_sighting_and_costs_the_machine(tmp_path: Path) -> None:
    worker = Worker(kasan, tmp_path)
    assert worker.run(READ)
    assert worker.run(WRITE)
    assert not worker.run(BAD)
    (found,) = worker.sightings()
    assert (found.title, found.program, found.history) == (TITLE, BAD, (READ, WRITE))
    assert found.origin == "worker-0"
    assert (worker.counts.splats, worker.published, len(worker.guest.made)) == (1, 1, 2)
    assert worker.executor.history == []


def test_a_report_that_is_being_printed_is_whole_in_its_sighting(tmp_path: Path) -> None:
    begun, rest = SPLAT[: SPLAT.index(b"4,3")], SPLAT[SPLAT.index(b"4,3") :]
    worker = Worker(lambda ran: begun, tmp_path)
    worker.guest.made[-1].late = [rest]
    assert not worker.run(READ)
    (found,) = worker.sightings()
    assert (found.title, found.log) == (TITLE, SPLAT)


def test_the_judge_gets_a_few_sightings_of_a_bug_that_costs_a_machine_each_time(
    tmp_path: Path,
) -> None:
    worker = Worker(lambda ran: FAULT, tmp_path)
    for _ in range(KNOWN + 2):
        assert not worker.run(READ)
    assert len(worker.sightings()) == KNOWN
    assert list(worker.spool.counts().values()) == [KNOWN + 2]


def test_the_machine_goes_on_after_a_known_bug_that_leaves_it_usable(tmp_path: Path) -> None:
    worker = Worker(kasan, tmp_path)
    for _ in range(KNOWN):
        assert not worker.run(BAD)
    machines = len(worker.guest.made)
    assert worker.run(BAD)
    assert worker.run(READ)
    assert (len(worker.guest.made), worker.executor.history) == (machines, [BAD, READ])
    assert worker.executor.shown == {TITLE: None}
    # The judge has enough of it; the campaign tells how often it was seen.
    assert len(worker.sightings()) == KNOWN
    assert worker.spool.counts() == {TITLE: KNOWN + 1}


def test_a_crash_after_a_known_bug_counts_if_a_fresh_machine_shows_it(tmp_path: Path) -> None:
    def behaviour(ran: list[bytes]) -> bytes:
        spoiled = BAD in ran
        return kasan(ran) or (FAULT if ran[-1] == WORSE or (spoiled and ran[-1] == WRITE) else b"")

    worker = Worker(behaviour, tmp_path)
    for _ in range(KNOWN + 1):
        worker.run(BAD)
    assert worker.executor.shown
    assert not worker.run(WORSE)
    others = [each for each in worker.sightings() if each.title != TITLE]
    assert [(each.program, each.history) for each in others] == [(WORSE, ())]


def test_a_crash_of_a_spoiled_machine_is_not_a_bug_of_its_own(tmp_path: Path) -> None:
    def behaviour(ran: list[bytes]) -> bytes:
        # So many reports do what no few do.
        spoiled = ran.count(BAD) > 20
        return kasan(ran) or (FAULT if spoiled and ran[-1] == WRITE else b"")

    worker = Worker(behaviour, tmp_path)
    for _ in range(KNOWN + 21):
        worker.run(BAD)
    machine = worker.guest.made[-1]
    assert not worker.run(WRITE)
    assert worker.guest.made[-1] is not machine
    assert {each.title for each in worker.sightings()} == {TITLE}


def test_a_program_that_takes_too_long_is_no_sighting(tmp_path: Path) -> None:
    worker = Worker(lambda ran: Answer(status=Status.TIMEOUT), tmp_path)
    assert not worker.executor.channel.header.flags & FLAG_WAITS
    assert worker.run(READ)
    assert (worker.counts.timeouts, worker.sightings()) == (1, [])
    assert worker.executor.channel.header.flags & FLAG_WAITS


@pytest.mark.parametrize(
    ("status", "title"), [(Status.STUCK, Silence.NO_RETURN), (Status.DIED, Silence.DIED)]
)
def test_a_bad_end_without_a_report_is_a_sighting(
    tmp_path: Path, status: Status, title: Silence
) -> None:
    worker = Worker(lambda ran: Answer(status=status), tmp_path)
    assert not worker.run(READ)
    assert [each.title for each in worker.sightings()] == [title]


def test_a_guest_that_reboots_is_a_sighting(tmp_path: Path) -> None:
    worker = Worker(lambda ran: Answer(silent=True, left=True), tmp_path)
    assert not worker.run(READ)
    assert [each.title for each in worker.sightings()] == [Silence.REBOOT]
    assert worker.counts.lost == 0


def test_a_machine_that_was_killed_is_replaced_and_counted_as_lost(tmp_path: Path) -> None:
    def behaviour(ran: list[bytes]) -> Answer:
        worker.guest.made[-1].fake_qemu.running = False
        return Answer(silent=True)

    worker = Worker(behaviour, tmp_path)
    assert not worker.run(READ)
    assert (worker.sightings(), worker.counts.lost, len(worker.guest.made)) == ([], 1, 2)


def test_an_executor_that_fails_ends_the_worker(tmp_path: Path) -> None:
    worker = Worker(lambda ran: Answer(status=Status.ERROR), tmp_path)
    with pytest.raises(InfrastructureError, match="the executor failed"):
        worker.run(READ)


def test_the_cause_of_a_bug_that_costs_much_is_found_on_fresh_machines(tmp_path: Path) -> None:
    def behaviour(ran: list[bytes]) -> bytes:
        return FAULT if BAD in ran[-1] else b""

    worker = Worker(behaviour, tmp_path)
    rounds = 0
    while not worker.aside.sightings():
        rounds += 1
        assert rounds < 100
        worker.aside.passed([READ + WRITE], [])
        worker.run(READ + WRITE)
        worker.run(READ + BAD + WRITE)
        worker.crashes.find_causes()
    assert rounds > KNOWN
    (title,) = worker.aside.sightings()
    assert "drv_read" in title
    told = read_aside(tmp_path)
    assert (list(told.sightings), told.studied) == ([title], ())
    # It costs no trial while nothing is to be found out.
    machines = len(worker.guest.made)
    worker.crashes.find_causes()
    assert len(worker.guest.made) == machines
    # The user puts it back.
    write_put_back(tmp_path, PutBack((title,)))
    worker.publish()
    told = read_aside(tmp_path)
    assert (told.sightings, told.put_back) == ({}, (title,))
    assert worker.aside.screen(split(READ + BAD + WRITE), 0.0) == split(READ + BAD + WRITE)


def test_programs_that_took_long_are_told_apart_once_there_are_several(tmp_path: Path) -> None:
    worker = Worker(lambda ran: None, tmp_path)
    ticks = int(worker.crashes.slow_ticks)
    for _ in range(KNOWN):
        worker.crashes.note_ticks(WRITE, ticks)
    assert not worker.aside.is_known(SLOW)
    before = worker.executor.slow_seconds
    for _ in range(10):
        worker.crashes.note_ticks(WRITE, ticks)
    assert worker.aside.is_known(SLOW)
    assert worker.executor.slow_seconds < before


def hangs_on_bad(ran: list[bytes]) -> Answer:
    return Answer(silent=BAD in ran[-1])


def test_guests_that_fall_silent_cost_less_time_once_one_was_kept(tmp_path: Path) -> None:
    clock = Clock()
    worker = Worker(hangs_on_bad, tmp_path, clock)
    took = []
    for _ in range(3):
        began = clock.now
        assert not worker.run(BAD)
        took.append(clock.now - began)
    assert took[1] == took[2] < took[0] / 2
    # Not less than a call may take.
    assert took[1] > TARGET.call_timeout_ms / 1000
    assert {each.title for each in worker.sightings()} == {Silence.NO_ANSWER}


def test_what_makes_a_guest_silent_is_found_by_trials_that_are_given_up_soon(
    tmp_path: Path,
) -> None:
    clock = Clock()
    worker = Worker(hangs_on_bad, tmp_path, clock)
    trials = 0.0
    while not worker.aside.sightings():
        worker.aside.passed([READ + WRITE], [])
        worker.run(READ + BAD + WRITE)
        began, machines = clock.now, len(worker.guest.made)
        worker.crashes.find_causes()
        trials = (clock.now - began) / max(1, len(worker.guest.made) - machines)
    assert 0 < trials < 1
    assert worker.aside.screen(split(READ + BAD + WRITE), 0.0) == split(READ + WRITE)


def test_what_takes_long_is_found_by_trials_too(tmp_path: Path) -> None:
    clock = Clock()

    def takes_long(ran: list[bytes]) -> None:
        clock.now += 0.5 * (BAD in ran[-1])

    worker = Worker(takes_long, tmp_path, clock)
    ticks = int(worker.crashes.slow_ticks)
    while not worker.aside.sightings():
        worker.aside.passed([READ + WRITE], [])
        worker.crashes.note_ticks(READ + BAD + WRITE, ticks)
        worker.crashes.find_causes()
    assert worker.aside.screen(split(READ + BAD + WRITE), 0.0) == split(READ + WRITE)
