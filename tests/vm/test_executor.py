# SPDX-License-Identifier: Apache-2.0
"""The executor, with a driver that misbehaves on demand."""

from __future__ import annotations

import errno
import time

import pytest

from fuzzer.driver.provision import Guest
from fuzzer.machine.channel_layout import FLAG_WAITS, Command, Status
from fuzzer.machine.machine import LostMachineError, Machine
from fuzzer.paths import project_root
from fuzzer.splat.kmsg import console_lines
from fuzzer.target.header import read_headers
from tests.vm.guests import blocks_of_function, returned, run, splat

_COUNTER_MAX = "CH_COUNTER_MAX"


def _coverage(machine: Machine, guest: Guest, text: str) -> bytes:
    count = len(guest.blocks)
    machine.channel.clear_counters(count)
    assert run(machine, guest, text).status is Status.OK
    return bytes(machine.channel.counters(count))


def test_a_call_that_sleeps_is_interrupted_and_the_next_ones_run(misbehaving: Guest) -> None:
    with misbehaving.restore() as machine:
        program = "ioctl(f0, TD_SET, 5)\nioctl(f0, TD_SLEEP)\nioctl(f0, TD_GET)"
        done = run(machine, misbehaving, program)
        assert (done.status, done.waited) == (Status.OK, (1,))
        assert returned(done) == [(0, 0), (-1, errno.EINTR), (5, 0)]
        assert splat(done.log) is None
        again = run(machine, misbehaving, "ioctl(f0, TD_GET)")
        assert again.status is Status.OK
        assert returned(again) == [(0, 0)]


@pytest.mark.parametrize("nth", [1, 2, 3])
def test_a_fault_that_a_sleeping_call_did_not_come_to_spares_the_signal(
    misbehaving: Guest, nth: int
) -> None:
    with misbehaving.restore() as machine:
        program = f"ioctl(f0, TD_SLEEP) fail={nth}\nioctl(f0, TD_SET, 5)\nioctl(f0, TD_GET)"
        done = run(machine, misbehaving, program)
        assert (done.status, done.waited) == (Status.OK, (0,))
        assert returned(done) == [(-1, errno.EINTR), (0, 0), (5, 0)]
        assert not done.results[0].faulted


def test_the_call_that_was_interrupted_is_named(fast_misbehaving: Guest) -> None:
    with fast_misbehaving.restore() as machine:
        machine.channel.header.flags &= ~FLAG_WAITS
        program = "ioctl(f0, TD_SET, 5)\nioctl(f0, TD_SLEEP)\nioctl(f0, TD_GET)"
        assert run(machine, fast_misbehaving, program).stopped_call == 1


def test_a_call_that_cannot_be_interrupted_is_stuck_and_reported_later(
    full_misbehaving: Guest,
) -> None:
    with full_misbehaving.restore() as machine:
        done = run(machine, full_misbehaving, "ioctl(f0, TD_GET)\nioctl(f0, TD_STUCK)")
        assert done.status is Status.STUCK
        assert done.stopped_call == 1
        log = done.log
        deadline = time.monotonic() + 60.0
        while (found := splat(log)) is None and time.monotonic() < deadline:
            time.sleep(0.1)
            machine.command(Command.PING)
            log += machine.channel.log()
    assert found is not None
    assert found.title == "INFO: task hung in td_stuck"


def test_a_guest_that_spins_is_lost(misbehaving: Guest) -> None:
    with (
        misbehaving.restore() as machine,
        pytest.raises(LostMachineError, match="did not answer within 2"),
    ):
        run(machine, misbehaving, "ioctl(f0, TD_SPIN)", timeout=2.0)


@pytest.mark.parametrize(
    ("call", "title"),
    [
        ("TD_BUG", "kernel BUG in td_bug"),
        ("TD_NULL", "BUG: NULL pointer dereference in td_null"),
        ("TD_WILD", "general protection fault in td_wild"),
    ],
)
def test_a_call_that_kills_its_process_is_named_with_the_oops(
    misbehaving: Guest, call: str, title: str
) -> None:
    with misbehaving.restore() as machine:
        done = run(machine, misbehaving, f"ioctl(f0, TD_GET)\nioctl(f0, {call})\nread(f0, 1)")
        assert done.status is Status.DIED
        assert done.stopped_call == 1
        found = splat(done.log)
        assert machine.command(Command.PING) is Status.DIED
    assert found is not None
    assert found.title == title


@pytest.mark.parametrize(
    ("call", "title"),
    [
        ("TD_WARN", "WARNING in td_warn"),
        ("TD_UAF", "KASAN: slab-use-after-free Read in td_uaf"),
        ("TD_UAF_MEMCPY", "KASAN: slab-use-after-free Read in td_uaf_memcpy"),
        (
            "TD_UAF_USER, {buf: &[64], len: 64}",
            "KASAN: slab-use-after-free Read in td_uaf_user",
        ),
        ("TD_DOUBLE_FREE", "KASAN: double-free in td_double_free"),
        ("TD_STACK_OOB", "KASAN: stack-out-of-bounds Read in td_stack_oob"),
        ("TD_LIST", "list corruption in td_list"),
        ("TD_REFCOUNT", "WARNING: refcount bug in td_refcount"),
    ],
)
def test_both_flavours_report(misbehaving: Guest, call: str, title: str) -> None:
    with misbehaving.restore() as machine:
        done = run(machine, misbehaving, f"ioctl(f0, {call})\nioctl(f0, TD_GET)")
    assert done.status is Status.OK
    assert len(done.results) == 2
    found = splat(done.log)
    assert found is not None
    assert found.title == title


@pytest.mark.parametrize(
    ("call", "title"),
    [
        (
            "TD_ATOMIC_SLEEP",
            "BUG: sleeping function called from invalid context in td_atomic_sleep",
        ),
        ("TD_SHIFT", "UBSAN: shift-out-of-bounds in td_shift"),
        ("TD_DEADLOCK", "possible deadlock in td_deadlock"),
        ("TD_UNLOCK", "WARNING: bad unlock balance in td_unlock"),
        ("TD_KEEP_LOCK", "WARNING: lock held when returning to user space in td_keep_lock"),
    ],
)
def test_full_reports_more(full_misbehaving: Guest, call: str, title: str) -> None:
    with full_misbehaving.restore() as machine:
        done = run(machine, full_misbehaving, f"ioctl(f0, {call})")
    found = splat(done.log)
    assert found is not None
    assert found.title == title


def test_what_a_driver_says_is_handed_over_and_is_no_splat(misbehaving: Guest) -> None:
    with misbehaving.restore() as machine:
        done = run(machine, misbehaving, "ioctl(f0, TD_NOISE)")
    lines = [line.split("] ", 1)[1] for line in console_lines(done.log)]
    # A busy host makes the kernel complain of a late timer now and then.
    assert [line for line in lines if not line.startswith("hrtimer: ")] == [
        "testdrv: all is well",
        "testdrv: warning: the sky is blue",
        "testdrv: DEBUG: KASAN and BUG are words",
        "testdrv: two",
        "lines",
    ]
    assert splat(done.log) is None


def test_a_splat_belongs_to_the_program_that_caused_it(misbehaving: Guest) -> None:
    with misbehaving.restore() as machine:
        logs = [
            run(machine, misbehaving, f"ioctl(f0, {call})").log
            for call in ("TD_GET", "TD_WARN", "TD_GET", "TD_UAF", "TD_GET")
        ]
    assert [bool(splat(log)) for log in logs] == [False, True, False, True, False]


def test_calls_reset_between_programs(fast_misbehaving: Guest) -> None:
    with fast_misbehaving.restore() as machine:
        assert returned(run(machine, fast_misbehaving, "ioctl(f0, TD_SET, 9)")) == [(0, 0)]
        # The reset is made on a file of its own when the program closed its files.
        run(machine, fast_misbehaving, "ioctl(f0, TD_SET, 9)\nclose(f0)")
        assert returned(run(machine, fast_misbehaving, "ioctl(f0, TD_GET)")) == [(0, 0)]


def test_a_reload_resets_between_programs(reloading: Guest) -> None:
    branch = blocks_of_function(reloading, "td_branch")
    with reloading.restore() as machine:
        for _ in range(3):
            program = "ioctl(f0, TD_GET)\nioctl(f0, TD_SET, 9)\nioctl(f0, TD_GET)"
            assert returned(run(machine, reloading, program)) == [(0, 0), (0, 0), (9, 0)]
            counters = _coverage(machine, reloading, "ioctl(f0, TD_BRANCH, 1)")
            assert {counters[number] for number in branch} == {1}


def test_output_survives_a_reload(reloading: Guest) -> None:
    with reloading.restore() as machine:
        (call,) = run(machine, reloading, "read(f0, 64)").results
    assert call.output == b"r" * 64


def test_files_are_closed_between_programs(fast_misbehaving: Guest) -> None:
    with fast_misbehaving.restore() as machine:
        assert returned(run(machine, fast_misbehaving, "open(f1)\nread(f1, 1)")) == [
            (0, 0),
            (1, 0),
        ]
        assert returned(run(machine, fast_misbehaving, "read(f1, 1)\nread(f0, 1)")) == [
            (-1, errno.EBADF),
            (1, 0),
        ]


def test_a_counter_counts_its_block_alone(misbehaving: Guest) -> None:
    branch = blocks_of_function(misbehaving, "td_branch")
    reset = blocks_of_function(misbehaving, "td_reset")
    assert branch
    assert reset
    most = read_headers([project_root() / "vm" / "channel.h"], constants=[_COUNTER_MAX]).constants[
        _COUNTER_MAX
    ]
    with misbehaving.restore() as machine:
        without = _coverage(machine, misbehaving, "ioctl(f0, TD_BRANCH, 0)")
        once = _coverage(machine, misbehaving, "ioctl(f0, TD_BRANCH, 1)")
        often = _coverage(machine, misbehaving, "ioctl(f0, TD_BRANCH, 1)\n" * 100)
    assert any(without)
    assert {without[number] for number in branch | reset} == {0}
    assert {once[number] for number in branch} == {1}
    assert {often[number] for number in branch} == {most}
    assert {once[number] for number in reset} == {0}, "the reset is not the program's coverage"


@pytest.mark.parametrize("times", [1, 2])
def test_what_threads_cover_is_counted_once(misbehaving: Guest, times: int) -> None:
    branch = blocks_of_function(misbehaving, "td_branch")
    part = "[1] ioctl(f0, TD_BRANCH, 1)\n[2] ioctl(f0, TD_BRANCH, 1)\n"
    with misbehaving.restore() as machine:
        for _ in range(2):
            counters = _coverage(machine, misbehaving, f"{part}ioctl(f0, TD_GET)\n" * times)
            assert {counters[number] for number in branch} == {2 * times}
            without = _coverage(machine, misbehaving, "[1] ioctl(f0, TD_BRANCH, 0)")
            assert {without[number] for number in branch} == {0}


@pytest.mark.parametrize("thread", ["", "[1] "])
def test_coverage_goes_on_when_a_module_is_loaded_again(misbehaving: Guest, thread: str) -> None:
    branch = blocks_of_function(misbehaving, "td_branch")
    calls = (
        "ioctl(f0, TD_BRANCH, 1)",
        "close(f0)",
        "unload()",
        'load("start=1")',
        "open(f0)",
        "ioctl(f0, TD_BRANCH, 1)",
        "ioctl(f0, TD_BRANCH, 1)",
    )
    program = "".join(f"{thread}{call}\n" for call in calls)
    with misbehaving.restore() as machine:
        for _ in range(3):
            counters = _coverage(machine, misbehaving, program)
            assert {counters[number] for number in branch} == {3}
            counters = _coverage(machine, misbehaving, "ioctl(f0, TD_BRANCH, 1)")
            assert {counters[number] for number in branch} == {1}


def test_counters_of_what_did_not_run_are_left_alone(fast_misbehaving: Guest) -> None:
    branch = blocks_of_function(fast_misbehaving, "td_branch")
    count = len(fast_misbehaving.blocks)
    with fast_misbehaving.restore() as machine:
        _coverage(machine, fast_misbehaving, "ioctl(f0, TD_BRANCH, 1)")
        run(machine, fast_misbehaving, "read(f0, 1)")
        counters = bytes(machine.channel.counters(count))
    assert {counters[number] for number in branch} == {1}


def test_coverage_is_the_same_each_time(misbehaving: Guest) -> None:
    program = (
        "ioctl(f0, TD_BRANCH, 1)\nread(f0, 9)\nopen(f1)\npoll(f1, 0x1)\nmmap(f0, 4096, 0)\n"
        "ioctl(f0, TD_FILL, {buf: &[16], len: 16})\nclose(f0)\nclose(f1)"
    )
    seen = set()
    for _ in range(2):
        with misbehaving.restore() as machine:
            seen |= {_coverage(machine, misbehaving, program) for _ in range(5)}
    assert len(seen) == 1


def test_what_runs_while_loading_is_known(misbehaving: Guest) -> None:
    assert misbehaving.load_blocks
    assert not misbehaving.load_blocks & blocks_of_function(misbehaving, "td_branch")


def test_a_pointer_in_a_struct_is_the_address_of_its_buffer(misbehaving: Guest) -> None:
    with misbehaving.restore() as machine:
        (call,) = run(machine, misbehaving, "ioctl(f0, TD_FILL, {buf: &[16], len: 16})").results
    assert (call.ret, call.error) == (16, 0)
    assert call.output[-16:] == bytes(range(16))


def test_a_driver_that_writes_past_a_buffer_faults_at_the_first_byte(misbehaving: Guest) -> None:
    program = (
        "ioctl(f0, TD_FILL, {buf: &[16], len: 17})\n"
        "ioctl(f0, TD_READ_EXTRA, 1)\n"
        "read(f0, 16)\n"
        "read(f0, 0)\n"
    )
    with misbehaving.restore() as machine:
        done = run(machine, misbehaving, program)
    assert done.status is Status.OK
    assert returned(done) == [
        (-1, errno.EFAULT),
        (0, 0),
        (-1, errno.EFAULT),
        (-1, errno.EFAULT),
    ]


def test_huge_counts_are_passed_on(misbehaving: Guest) -> None:
    program = "read(f0, 0xffffffffffffffff)\nread(f0, 0x7ffff000)\nread(f0, 0x100000001)\n"
    with misbehaving.restore() as machine:
        done = run(machine, misbehaving, program)
    assert done.status is Status.OK
    assert returned(done)[0] in [(-1, errno.EINVAL), (-1, errno.EFAULT)]
    assert returned(done)[1:] == [(64, 0), (64, 0)]
    assert done.results[1].output == b"r" * 64


@pytest.mark.parametrize("claimed", [5, 4096, 0x7FFFFFFF])
def test_a_driver_that_claims_to_have_read_more_than_asked_is_survived(
    fast_misbehaving: Guest, claimed: int
) -> None:
    with fast_misbehaving.restore() as machine:
        program = f"ioctl(f0, TD_READ_LIE, {claimed})\nread(f0, 4)\nioctl(f0, TD_GET)"
        done = run(machine, fast_misbehaving, program)
    assert done.status is Status.OK
    assert done.results[1].ret == claimed
    assert len(done.results[1].output) <= 4


def test_no_fault_in_a_page_that_cannot_be_touched_ends_the_executor(misbehaving: Guest) -> None:
    faulted = 0
    with misbehaving.restore() as machine:
        # The second page is not there: touching it ends with a signal.
        for nth in range(1, 13):
            done = run(machine, misbehaving, f"mmap(f0, 8192, 0) fail={nth}")
            assert done.status is Status.OK
            faulted += done.results[0].faulted
    assert 0 < faulted < 12


def test_mmap_touches_each_page(misbehaving: Guest) -> None:
    with misbehaving.restore() as machine:
        done = run(machine, misbehaving, "mmap(f0, 4096, 0)\nmmap(f0, 4096, 2)\nmmap(f7, 1, 0)")
        assert done.status is Status.OK
        assert returned(done) == [(0, 0), (-1, errno.EINVAL), (-1, errno.EBADF)]


def test_a_page_that_is_not_there_is_no_splat(misbehaving: Guest) -> None:
    with misbehaving.restore() as machine:
        done = run(machine, misbehaving, "mmap(f0, 8192, 0)")
        assert splat(done.log) is None


def test_poll_returns_the_events(misbehaving: Guest) -> None:
    with misbehaving.restore() as machine:
        done = run(
            machine,
            misbehaving,
            "poll(f0, 0x1)\nioctl(f0, TD_SET, 1)\npoll(f0, 0x1)\npoll(f0, 0x4)",
        )
    assert returned(done) == [(0, 0), (0, 0), (1, 0), (0, 0)]
