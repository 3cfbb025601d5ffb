# SPDX-License-Identifier: Apache-2.0
"""Traces: what each call returned, and in which one the kernel complained."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fuzzer.crash.testbeds import RACE_CALLS, RACING, Testbeds
from fuzzer.crash.trace import Tracer
from fuzzer.driver.provision import Guest, ensure_guest
from fuzzer.kernel.kernel import Flavour
from fuzzer.machine.accel import Accel
from fuzzer.machine.qemu import Hardware
from fuzzer.report.trace import format_trace
from tests.vm.guests import GuestFactory, wire

Traced = Callable[..., str]


def _setups(plain: Guest) -> Testbeds:
    def make(hardware: Hardware, arguments: str) -> Guest:
        accel = Accel.TCG if hardware.icount else plain.template.accel
        return ensure_guest(
            plain.target, plain.kernel, plain.driver, accel, hardware, arguments=arguments
        )

    return Testbeds(plain, make)


def traced(guest: Guest, text: str, *history: str) -> str:
    """Return the trace of a program on a fresh machine, as text."""
    tracer = Tracer(_setups(guest), "")
    before = [wire(earlier, guest.target) for earlier in history]
    tracer.observe(before, wire(text, guest.target))
    assert tracer.trace
    return format_trace(tracer.trace, guest.target)


def test_each_call_of_the_shipped_driver_is_shown_with_its_result(guest: GuestFactory) -> None:
    program = r"""
write(f0, "a=1\nb=22\n")
read(f0, 64)
ioctl(f0, PKV_IOC_DELETE, {key_len: 1, key: "c"})
ioctl(f0, PKV_IOC_LIST, {buf: &[96], room: 2})
ioctl(f0, 0x1)
lseek(f0, 0, SEEK_END)
poll(f0, 0x1)
write(f3, "x")
lseek(f0, 0, SEEK_SET)
read(f0, 64) null
"""
    calls = [line for line in program.splitlines() if line]
    lines = traced(guest(Flavour.FAST), program).splitlines()
    assert [line.split(" = ")[0] for line in lines] == calls
    results = [line.split(" = ")[-1] for line in lines]
    assert results[:3] == [
        "9",
        '2 "22"',
        "-1 ENOENT (No such file or directory)",
    ]
    assert results[3].startswith(r'0 {buf: &"\x01\x00\x00\x00\x02\x00\x00\x00')
    assert results[3].endswith('"..., count: 2}')
    assert results[4] == "-1 ENOTTY (Inappropriate ioctl for device)"
    # The value has been read.
    assert results[6] == "0x0"
    assert results[7] == "-1 EBADF (Bad file descriptor)"
    assert results[9] == "-1 EFAULT (Bad address)"


def test_a_failed_allocation_and_an_interrupted_call_are_told(full_misbehaving: Guest) -> None:
    text = traced(full_misbehaving, "ioctl(f0, TD_ALLOC, 1) fail=1\nioctl(f0, TD_SLEEP)\n")
    assert text == (
        "ioctl(f0, TD_ALLOC, 1) fail=1 = -1 ENOMEM (Cannot allocate memory) (fault injected)\n"
        "ioctl(f0, TD_SLEEP) = -1 EINTR (Interrupted system call)\n"
    )


def test_the_call_that_splatted_is_the_last_and_marked(guest: GuestFactory) -> None:
    text = traced(
        guest(Flavour.FULL, "stale-last"),
        'write(f0, "a=\\n")\nioctl(f0, PKV_IOC_DELETE, {key_len: 1, key: "a"})\n'
        "read(f0, 0)\nread(f0, 8)\npoll(f0, 0x1)\n",
        'write(f0, "b=\\n")\n',
        'write(f0, "b=\\n")\n',
    )
    assert text == (
        "(2 programs before it)\n"
        'write(f0, "a=\\n") = 3\n'
        'ioctl(f0, PKV_IOC_DELETE, {key_len: 1, key: "a"}) = 0\n'
        "read(f0, 0) = 0  <-- here\n"
        "KASAN: slab-use-after-free Read in pkv_store_last\n"
        "(2 more calls after that)\n"
    )


@pytest.mark.parametrize(
    ("call", "title"),
    [
        ("TD_BUG", "kernel BUG in td_bug"),
        ("TD_STUCK", "INFO: task hung in td_stuck"),
        ("TD_PANIC", "kernel panic: testdrv asked for it"),
        ("TD_REBOOT", "unexpected kernel reboot"),
    ],
)
def test_a_call_that_does_not_return_is_told_however_the_guest_ends(
    full_misbehaving: Guest, call: str, title: str
) -> None:
    text = traced(full_misbehaving, f"ioctl(f0, TD_GET)\nioctl(f0, {call})\nread(f0, 1)\n")
    assert text.splitlines() == [
        "ioctl(f0, TD_GET) = 0",
        f"ioctl(f0, {call}) = ? (did not return)  <-- here",
        title,
    ]


def test_a_call_of_a_parallel_part_is_found_by_its_thread(guest: GuestFactory) -> None:
    full = guest(Flavour.FULL, "stale-last", cpus=RACING.cpus)
    text = traced(
        full,
        # LIST does not look at the last key, whichever thread is first.
        'write(f0, "a=\\n")\n[1] ioctl(f0, PKV_IOC_LIST, {})\n'
        '[2] ioctl(f0, PKV_IOC_DELETE, {key_len: 1, key: "a"})\n[2] read(f0, 0)\n',
    )
    lines = text.splitlines()
    assert "[2] read(f0, 0) = 0  <-- here" in lines
    # A thread whose vCPU has no turn meanwhile begins its call after the report.
    if "(1 more call after that)" not in lines:
        assert any(line.startswith("[1] ioctl(f0, PKV_IOC_LIST, {}) = ") for line in lines)


def test_a_program_with_a_schedule_runs_as_it_does_without_a_trace(guest: GuestFactory) -> None:
    text = traced(
        guest(Flavour.FAST),
        'write(f0, "a=1\\n")\n[1] read(f0, 64)\n[2] wait(900)\n[2] read(f0, 64)\n',
    )
    assert text.splitlines() == [
        'write(f0, "a=1\\n") = 4',
        '[1] read(f0, 64) = 1 "1"',
        "[2] wait(900) = 0",
        '[2] read(f0, 64) = 1 "1"',
    ]


def test_no_mark_is_lost_in_a_long_program_that_runs_often(guest: GuestFactory) -> None:
    text = traced(
        guest(Flavour.FAST),
        "poll(f0, 0x1)\n" * 60 + "[1] poll(f0, 0x1)\n[2] poll(f0, 0x1)\n[2] poll(f0, 0x4)\n",
    )
    lines = text.splitlines()
    runs = RACE_CALLS // 63 - 1
    assert runs > 99
    assert lines[0] == f"({runs} runs of it on this machine before)"
    assert (
        lines[1:61] == ["poll(f0, 0x1) = 0x1"] * 60 or lines[1:61] == ["poll(f0, 0x1) = 0x0"] * 60
    )
    assert sorted(line.split(" = ")[0] for line in lines[61:]) == [
        "[1] poll(f0, 0x1)",
        "[2] poll(f0, 0x1)",
        "[2] poll(f0, 0x4)",
    ]
