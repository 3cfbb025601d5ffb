# SPDX-License-Identifier: Apache-2.0
"""Judging, against a driver that exists only here: no VM is needed to test the logic."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TypeAlias

from fuzzer.crash.dedup import Wanted
from fuzzer.crash.judge import Judgement, judge
from fuzzer.crash.observe import listener, run_program, silent_guest
from fuzzer.crash.outcome import Outcome
from fuzzer.crash.series import HistoryRunner, Series, run_history
from fuzzer.crash.sighting import Sighting
from fuzzer.program.ops import Op
from fuzzer.program.program import Call
from fuzzer.program.wire import encode
from fuzzer.splat.find import find_splat
from fuzzer.splat.kmsg import console_lines
from tests.fakes import Answer, FakeGuest, FakeMachine

SPLAT = b"""\
3,1,1000,-;BUG: KASAN: slab-use-after-free in drv_read+0x1/0x2 [drv]
3,2,1000,-;Read of size 8 at addr ffff888000000000 by task init/1
4,3,1000,-;Call Trace:
4,4,1000,-; drv_read+0x1/0x2 [drv]
4,5,1000,-; vfs_read+0x1/0x2
"""
TITLE = "KASAN: slab-use-after-free Read in drv_read"
FAULT = b"""\
3,1,1000,-;BUG: unable to handle page fault for address: 0
4,3,1000,-;Call Trace:
4,4,1000,-; drv_read+0x1/0x2 [drv]
"""
OTHER = b"""\
4,1,1000,-;WARNING: CPU: 0 PID: 1 at drv.c:1
4,3,1000,-;Call Trace:
4,4,1000,-; drv_open+0x1/0x2 [drv]
"""


Shows: TypeAlias = Callable[[list[bytes], int], bool | bytes]
"""The report of a machine, given by number, after programs; True for the usual one."""


def guest_that(shows: Shows) -> FakeGuest:
    """Return a guest whose machines are counted from 1."""

    def behaviour(ran: list[bytes]) -> bytes:
        log = shows(ran, len(guest.made))
        return log if isinstance(log, bytes) else SPLAT if log else b""

    guest = FakeGuest(behaviour)
    return guest


def sighting(program: bytes, *history: bytes) -> Sighting:
    return Sighting(TITLE, "kasan", program, history, SPLAT, "worker-0")


def judged(shows: Shows, found: Sighting) -> tuple[Judgement, FakeGuest]:
    guest = guest_that(shows)

    def watch(wanted: Wanted) -> HistoryRunner:
        return functools.partial(run_history, guest, wanted=wanted)

    return judge(watch, found), guest


def test_a_program_that_splats_alone_is_verified_on_three_fresh_machines() -> None:
    judgement, guest = judged(lambda ran, _: ran[-1] == b"bad", sighting(b"bad", b"one", b"two"))
    assert judgement.splat.title == TITLE
    assert (judgement.reproduced, judgement.runs, judgement.history) == (3, 3, ())
    assert len(guest.made) == 3


def test_a_program_that_needs_what_ran_before_keeps_its_history() -> None:
    judgement, _ = judged(
        lambda ran, _: ran[-1] == b"bad" and b"one" in ran, sighting(b"bad", b"one", b"two")
    )
    assert (judgement.reproduced, judgement.history) == (3, (b"one", b"two"))


def test_the_latest_of_a_long_history_is_run_first() -> None:
    history = [b"%d" % number for number in range(1000)]
    judgement, _ = judged(
        lambda ran, _: ran[-1] == b"bad" and b"950" in ran, sighting(b"bad", *history)
    )
    assert judgement.reproduced == 3
    assert judgement.history == tuple(history[-64:])
    judgement, _ = judged(
        lambda ran, _: ran[-1] == b"bad" and b"0" in ran, sighting(b"bad", *history)
    )
    assert judgement.history == tuple(history)


def test_a_history_that_takes_too_long_is_not_run() -> None:
    now, lengths = 0.0, []

    def observe(before: Sequence[bytes], program: bytes) -> tuple[Outcome, int]:
        nonlocal now
        lengths.append(len(before))
        now += 0.1 * len(before)
        return Outcome(None, b""), len(before)

    found = sighting(b"bad", *[b"x"] * 1000)
    judgement = judge(lambda _: observe, found, patience=20.0, clock=lambda: now)
    assert lengths == [0, 16, 64]
    assert (judgement.reproduced, judgement.runs) == (0, 3)
    assert judgement.history == found.history


def test_more_of_a_history_is_not_run_if_other_crashes_come_first() -> None:
    lengths = []

    def observe(before: Sequence[bytes], program: bytes) -> tuple[Outcome, int]:
        lengths.append(len(before))
        splat = find_splat(console_lines(OTHER))
        return Outcome(splat, OTHER), len(before) // 2

    judgement = judge(lambda _: observe, sighting(b"bad", *[b"x"] * 10_000))
    assert lengths == [0, 16, 64]
    assert (judgement.reproduced, judgement.runs) == (0, 3)
    assert [len(other.history) for other in judgement.others] == [0]


def test_the_program_that_splats_is_the_one_blamed() -> None:
    judgement, _ = judged(
        lambda ran, _: ran[-1] == b"two" and b"one" in ran, sighting(b"late", b"one", b"two", b"x")
    )
    assert (judgement.program, judgement.history) == (b"two", (b"one",))


def test_what_fires_sometimes_is_stored_with_its_rate() -> None:
    judgement, _ = judged(lambda ran, number: number != 2, sighting(b"bad"))
    assert (judgement.reproduced, judgement.runs) == (2, 3)


def test_what_does_not_reproduce_keeps_the_report_it_was_sighted_with() -> None:
    judgement, _ = judged(lambda ran, _: False, sighting(b"bad", b"one"))
    assert (judgement.reproduced, judgement.runs) == (0, 2)
    assert judgement.splat.title == TITLE
    assert judgement.history == (b"one",)
    assert judgement.program == b"bad"


def test_the_same_bug_in_other_words_is_the_cause() -> None:
    judgement, _ = judged(lambda ran, number: FAULT if number == 2 else SPLAT, sighting(b"bad"))
    assert (judgement.reproduced, judgement.runs, judgement.splat.title) == (3, 3, TITLE)


def test_another_bug_is_not_the_cause_and_is_not_lost() -> None:
    judgement, _ = judged(lambda ran, _: OTHER, sighting(b"bad", b"one"))
    assert (judgement.reproduced, judgement.splat.title) == (0, TITLE)
    (other,) = judgement.others
    assert (other.title, other.program, other.history) == ("WARNING in drv_open", b"bad", ())


def test_a_history_that_shows_the_bug_counts_though_the_program_shows_another() -> None:
    def splats(ran: list[bytes], _: int) -> bytes:
        if ran[-1] != b"bad":
            return b""
        return SPLAT if b"one" in ran else OTHER

    judgement, _ = judged(splats, sighting(b"bad", b"one"))
    assert (judgement.reproduced, judgement.splat.title) == (3, TITLE)
    assert judgement.history == (b"one",)
    assert len(judgement.others) == 1


def test_a_race_that_shows_in_another_way_first_has_another_chance() -> None:
    race = encode((Call(Op.READ, arg=1, thread=1), Call(Op.READ, arg=1, thread=2)))
    judgement, guest = judged(lambda _, number: OTHER if number == 1 else SPLAT, sighting(race))
    assert (judgement.reproduced, judgement.splat.title) == (3, TITLE)
    assert len(judgement.others) == 1
    # What was silent has shown that it takes more.
    judgement, guest = judged(lambda _ran, _number: b"", sighting(race, b"one"))
    assert (judgement.reproduced, len(guest.made)) == (0, 2)


def test_in_verifying_only_the_same_bug_counts() -> None:
    judgement, _ = judged(lambda ran, number: OTHER if number == 2 else SPLAT, sighting(b"bad"))
    assert (judgement.reproduced, judgement.runs) == (2, 3)


def test_a_report_that_is_being_printed_is_waited_for() -> None:
    begun, rest = SPLAT[: SPLAT.index(b"4,3")], SPLAT[SPLAT.index(b"4,3") :]
    machine = FakeMachine(lambda ran: begun)
    # Another CPU is amid a report when the program ends.
    machine.late = [rest]
    outcome = run_program(machine, b"program", late=False)
    assert outcome.splat is not None
    assert outcome.splat.title == TITLE
    assert outcome.log == SPLAT


STALL = """[    9.0] watchdog: BUG: soft lockup - CPU#0 stuck for 6s! [init:27]
[    9.0] CPU: 0 UID: 0 PID: 27 Comm: init Not tainted 6.12.0 #1
[    9.0] RIP: 0010:drv_spin+0x10/0x20 [drv]
"""
STACK = """[    9.0] Call Trace:
[    9.0]  <TASK>
[    9.0]  drv_ioctl+0x31/0x50 [drv]
[    9.0]  __x64_sys_ioctl+0x12/0x20
[    9.0]  </TASK>
"""


def test_the_console_of_a_silent_guest_is_read_when_its_report_is_whole() -> None:
    machine = FakeMachine(lambda ran: Answer(silent=True))
    consoles = [STALL, STALL, STALL + STACK]
    machine.fake_qemu.console_text = lambda: consoles.pop(0) if len(consoles) > 1 else consoles[0]  # type: ignore[method-assign]
    splat = silent_guest(machine).splat
    assert splat
    assert splat.title == "BUG: soft lockup in drv_spin"
    assert splat.complete


def test_a_guest_hangs_when_its_console_says_so_and_has_no_more_to_say() -> None:
    machine = FakeMachine(lambda ran: None)
    has_hung = listener(machine)
    said = []
    for text in ("", STALL, STALL + STACK, STALL + STACK, STALL + STACK, STALL + STACK):
        machine.fake_qemu.console = text
        said.append(has_hung())
    assert said == [False, False, False, False, True, True]


def test_a_stall_on_a_starved_machine_is_the_hosts_unless_its_program_never_ends() -> None:
    machine = FakeMachine(lambda ran: None)
    machine.fake_qemu.console, machine.fake_qemu.starved = STALL + STACK, True
    has_hung = listener(machine)
    assert not any(has_hung() for _ in range(6))
    machine.fake_qemu.starved = False
    assert has_hung()
    records = "".join(f"4,{n},9000000,-;{line.partition('] ')[2]}\n"
                      for n, line in enumerate((STALL + STACK).splitlines()))  # fmt: skip
    for starved, title in ((True, None), (False, "BUG: soft lockup in drv_spin")):
        fake = FakeMachine(lambda ran: records.encode())
        fake.fake_qemu.starved = starved
        outcome = run_program(fake, b"slow", late=False)
        assert (outcome.splat and outcome.splat.title) == title


def test_other_reports_on_the_console_do_not_mean_that_the_guest_hangs() -> None:
    machine = FakeMachine(lambda ran: None)
    has_hung = listener(machine)
    report = "[ 1.0] BUG: KASAN: slab-use-after-free in drv_read+0x1/0x2 [drv]\n"
    machine.fake_qemu.console = report + STACK
    assert not any(has_hung() for _ in range(5))
    in_a_hurry = listener(machine, hurried=True)
    assert [in_a_hurry() for _ in range(4)] == [False, False, True, True]


def test_another_bug_before_it_in_the_same_program_does_not_end_the_run() -> None:
    judgement, guest = judged(lambda ran, _: OTHER + SPLAT, sighting(b"bad"))
    assert (judgement.reproduced, judgement.splat.title) == (3, TITLE)
    assert judgement.after == ("WARNING in drv_open",)
    assert [other.title for other in judgement.others] == ["WARNING in drv_open"]
    assert len(guest.made) == 3


def test_programs_run_on_after_another_bug_and_the_rest_of_the_history_counts() -> None:
    def splats(ran: list[bytes], _: int) -> bytes:
        return SPLAT if ran == [b"one", b"two", b"bad"] else OTHER

    judgement, _ = judged(splats, sighting(b"bad", b"one", b"two"))
    assert (judgement.reproduced, judgement.history) == (3, (b"one", b"two"))
    assert judgement.after == ("WARNING in drv_open",)


def test_after_an_oops_nothing_counts() -> None:
    oops = FAULT.replace(b"drv_read", b"drv_open").replace(b"address: 0", b"address: 0 [#1]")
    judgement, _ = judged(lambda ran, _: oops + SPLAT, sighting(b"bad"))
    assert judgement.reproduced == 0
    assert [other.title for other in judgement.others] == [
        "BUG: unable to handle page fault in drv_open"
    ]
    ran: list[bytes] = []

    def oopses(each: list[bytes], _: int) -> bytes:
        ran.append(each[-1])
        return oops

    judged(oopses, sighting(b"bad", b"one"))
    assert ran == [b"bad", b"one"]


def test_a_program_that_reports_each_time_is_given_up_in_the_end() -> None:
    bug = find_splat(console_lines(SPLAT))
    assert bug
    series = Series(Wanted(bug), most=5)
    machine = FakeMachine(lambda ran: OTHER)
    while not series.note(run_program(machine, b"x", wanted=Wanted(bug)), len(machine.ran) - 1):
        assert len(machine.ran) < 5
    assert len(machine.ran) == 5
    outcome, number = series.result()
    assert outcome.splat
    assert (outcome.splat.title, number) == ("WARNING in drv_open", 0)


def test_a_warning_does_not_pass_for_a_guest_that_fell_silent() -> None:
    silent = Sighting("INFO: call does not return", "hang", b"bad", (), b"", "worker-0")
    judgement, _ = judged(lambda ran, _: OTHER, silent)
    assert judgement.reproduced == 0
    judgement, _ = judged(lambda ran, _: SPLAT, silent)
    assert judgement.reproduced == 3
