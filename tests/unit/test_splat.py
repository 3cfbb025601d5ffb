# SPDX-License-Identifier: Apache-2.0
"""Splats and their titles, on logs of real kernels, and kmsg records."""

from __future__ import annotations

from pathlib import Path

import pytest

from fuzzer.splat.find import find_splat
from fuzzer.splat.guilty import guilty_function
from fuzzer.splat.kmsg import console_lines

LOGS = Path(__file__).parent / "data" / "splats"

EXPECTED = {
    "atomic-sleep": (
        "BUG: sleeping function called from invalid context in td_atomic_sleep",
        "atomic-sleep",
    ),
    "bug": ("kernel BUG in td_bug", "bug"),
    "deadlock": ("possible deadlock in td_deadlock", "lockdep"),
    "double-free": ("KASAN: double-free in td_double_free", "kasan"),
    "interrupt": ("KASAN: slab-use-after-free Read in td_timer", "kasan"),
    "keep-lock": ("WARNING: lock held when returning to user space in td_keep_lock", "lockdep"),
    "list": ("list corruption in td_list", "warning"),
    "null": ("BUG: NULL pointer dereference in td_null", "fault"),
    "panic": ("kernel panic: testdrv asked for it", "panic"),
    "pkv-key-overflow-fast": ("KASAN: slab-out-of-bounds Write in pkv_write", "kasan"),
    "pkv-key-overflow-full": ("KASAN: slab-out-of-bounds Write in pkv_write", "kasan"),
    "pkv-lock-order-full": ("possible deadlock in pkv_llseek", "lockdep"),
    "pkv-stale-last-fast": ("KASAN: slab-use-after-free Read in pkv_read", "kasan"),
    "pkv-stale-last-full": ("KASAN: slab-use-after-free Read in pkv_read", "kasan"),
    "rcu-other-cpu": ("INFO: rcu stall in prov_spin_irqs_off", "hang"),
    "refcount": ("WARNING: refcount bug in td_refcount", "warning"),
    "shift": ("UBSAN: shift-out-of-bounds in td_shift", "ubsan"),
    "stack-oob": ("KASAN: stack-out-of-bounds Read in td_stack_oob", "kasan"),
    "stuck": ("INFO: task hung in td_stuck", "hang"),
    "uaf-memcpy": ("KASAN: slab-use-after-free Read in td_uaf_memcpy", "kasan"),
    "uaf-user": ("KASAN: slab-use-after-free Read in td_uaf_user", "kasan"),
    "unlock": ("WARNING: bad unlock balance in td_unlock", "lockdep"),
    "warn": ("WARNING in td_warn", "warning"),
    "wild": ("general protection fault in td_wild", "fault"),
}

HARMLESS = ("dynamic-debug", "harmless", "module-load", "noise")


def _lines(name: str) -> list[str]:
    return (LOGS / f"{name}.log").read_text().splitlines()


def test_each_log_is_expected_to_be_something() -> None:
    assert {path.stem for path in LOGS.glob("*.log")} == EXPECTED.keys() | set(HARMLESS)


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_a_report_gets_its_title(name: str) -> None:
    found = find_splat(_lines(name))
    assert found is not None
    assert (found.title, found.kind) == EXPECTED[name]
    assert found.complete
    assert found.function is not None


@pytest.mark.parametrize("name", HARMLESS)
def test_harmless_lines_are_no_splat(name: str) -> None:
    assert find_splat(_lines(name)) is None


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_lines_around_a_report_do_not_change_its_title(name: str) -> None:
    found = find_splat([*_lines("harmless"), *_lines(name), *_lines("noise")])
    assert found is not None
    assert found.title == EXPECTED[name][0]
    assert "segfault" not in found.text


def test_the_first_report_is_the_splat() -> None:
    found = find_splat([*_lines("warn"), *_lines("bug")])
    assert found is not None
    assert found.title == "WARNING in td_warn"


def test_the_text_is_the_whole_report() -> None:
    lines = _lines("uaf-user")
    found = find_splat(lines)
    assert found is not None
    assert found.text == "\n".join(lines) + "\n"


@pytest.mark.parametrize("name", ["uaf-user", "pkv-lock-order-full", "stuck"])
def test_a_report_without_a_stack_gets_no_function(name: str) -> None:
    lines = _lines(name)
    found = find_splat(lines)
    assert found is not None
    first = lines.index(found.text.splitlines()[0])
    cut = find_splat(lines[: first + 2])
    assert cut is not None
    assert cut.function is None
    assert not cut.complete
    assert cut.title.endswith("(report cut short)")


STACK = """\
RIP: 0010:core_checks_it+0x10/0x20
Code: 00
Call Trace:
 <TASK>
 ? show_regs+0x1/0x2
 __kasan_check_read+0x1/0x2
 core_does_it.isra.0+0x1/0x2
 ? driver_guessed+0x1/0x2 [driver]
 driver_calls_core.constprop.1+0x1/0x2 [driver]
 driver_ioctl+0x1/0x2 [driver]
 do_syscall_64+0x1/0x2
 </TASK>
Allocated by task 27:
 driver_open+0x1/0x2 [driver]
"""


def test_a_frame_of_the_driver_is_guilty_before_core_code() -> None:
    assert guilty_function(STACK.splitlines()) == "driver_calls_core"


def test_core_code_is_guilty_when_no_driver_is_there() -> None:
    lines = [line for line in STACK.splitlines() if "[driver]" not in line]
    assert guilty_function(lines) == "core_checks_it"
    assert guilty_function(lines[1:]) == "core_does_it"


def test_what_an_interrupt_interrupted_is_not_guilty() -> None:
    lines = ["Call Trace:", " <IRQ>", " core_timer+0x1/0x2", " </IRQ>", " <TASK>"]
    assert guilty_function([*lines, " driver_ioctl+0x1/0x2 [driver]"]) == "core_timer"


def test_an_address_without_a_symbol_does_not_end_the_stack() -> None:
    stack = [
        "Call Trace:",
        " <TASK>",
        " __flush_work+0x466/0xbf0",
        " ? 0xffffffff81000000",
        " 0xffffffffa0001234",
        " mydrv_clear+0x4d/0x310 [mydrv]",
    ]
    assert guilty_function(stack) == "mydrv_clear"


def test_a_whole_stack_of_machinery_is_where_the_kernel_says() -> None:
    text = """BUG: KASAN: vmalloc-out-of-bounds in __x64_sys_ioctl+0x162/0x170
Read of size 8 at addr ffffffffa00021d0 by task init/27
CPU: 0 UID: 0 PID: 27 Comm: init Tainted: G           O       6.12.117 #1
Call Trace:
 <TASK>
 dump_stack_lvl+0x6f/0xa0
 print_report+0xc7/0x5c0
 kasan_report+0xf4/0x130
 __x64_sys_ioctl+0x162/0x170
 do_syscall_64+0x63/0x100
"""
    lines = text.splitlines()
    whole = find_splat([*lines, " </TASK>"])
    assert whole is not None
    assert whole.title == "KASAN: vmalloc-out-of-bounds Read in sys_ioctl"
    assert whole.complete
    # The driver may have followed.
    cut = find_splat(lines[:-2])
    assert cut is not None
    assert cut.title.endswith("(report cut short)")


def test_machinery_alone_is_not_guilty() -> None:
    assert guilty_function(["Call Trace:", " dump_stack+0x1/0x2", " kfree+0x1/0x2"]) is None


def test_kmsg_records_become_console_lines() -> None:
    raw = (
        b"6,127,1159813,-,caller=T25;pkv: hello\n"
        b" SUBSYSTEM=misc\n DEVICE=c10:63\n"
        b"4,128,12345678901,c;no caller\n"
        b"12,129,5,-,caller=C0,more=1;one\\x0atwo; \\x5cx41 \\xc3\\xa9\n"
        b"garbage\n"
        b"6,130,7,-,caller=T1;cut"
    )
    assert console_lines(raw) == [
        "[    1.159813][   T25] pkv: hello",
        "[12345.678901] no caller",
        "[    0.000005][    C0] one",
        "[    0.000005][    C0] two; \\x41 é",
        "[    0.000007][    T1] cut",
    ]
    assert console_lines(b"") == []
