# SPDX-License-Identifier: Apache-2.0
"""Stacks as 32-bit arm prints them: registers between frames, saved ones, wild calls."""

from __future__ import annotations

from fuzzer.splat.analyse import all_splats
from fuzzer.splat.splat import Splat

CPU = "CPU: 1 PID: 8604 Comm: meter Not tainted 6.0.0 #1"
REGISTERS = " r7:81d67c90 r6:82222b24 r5:60000193 r4:81d72818"
SAVED = [
    "Exception stack(0x91883f00 to 0x91883f48)",
    "3f00: 20b35644 7effffff 00040000 00000055 00000000 1f4cabd4 20000100 20000118",
    "3f20: 91882000 00000000 000001b5 75e4fc9c 00000051 91883f50 80616f68 80616f94",
    "3f40: 60000013 ffffffff",
]


def only(*lines: str) -> Splat:
    (record,) = all_splats([f"[    1.000000] {line}" for line in lines])
    return record


def test_what_a_timer_interrupted_is_told_after_saved_registers() -> None:
    record = only(
        "rcu: INFO: rcu_sched self-detected stall on CPU",
        CPU,
        "Backtrace: ",
        "(show_stack) from [<80124a8c>] (rcu_dump_cpu_stacks+0xcc/0x110)",
        REGISTERS,
        "(rcu_dump_cpu_stacks) from [<80124a8c>] (rcu_sched_clock_irq+0x6e4/0x98c)",
        "(rcu_sched_clock_irq) from [<80124a8c>] (tick_handle_periodic+0x30/0xd0)",
        "(tick_handle_periodic) from [<80124a8c>] (gic_handle_irq+0xb0/0xe8)",
        "(gic_handle_irq) from [<80124a8c>] (__irq_svc+0x6c/0x90)",
        *SAVED,
        "(__irq_svc) from [<80616f94>] (gauge_spin+0x140/0x1dc)",
        "(gauge_spin) from [<80616f94>] (sys_ioctl+0x124/0x170)",
        "(sys_ioctl) from [<80100060>] (ret_fast_syscall+0x0/0x54)",
        "",
    )
    assert record.function == "gauge_spin"


def test_who_called_a_wild_address_is_where_it_returns_to() -> None:
    record = only(
        "Unable to handle kernel NULL pointer dereference at virtual address 00000000",
        "Internal error: Oops: 80000207 [#1] PREEMPT SMP ARM",
        CPU,
        "PC is at 0x0",
        "LR is at gauge_receive+0xc0/0x15c",
        "pc : [<00000000>]    lr : [<808ea9f4>]    psr: 60000013",
        "Backtrace: ",
        "[<808ea934>] (gauge_receive) from [<808dcfac>] (other_ioctl+0x7b4/0xa6c)",
        REGISTERS,
        "[<808dc7f8>] (other_ioctl) from [<804b9814>] (sys_ioctl+0x110/0xa74)",
        "---[ end trace 0000000000000000 ]---",
    )
    assert record.function == "gauge_receive"


def test_a_pointer_that_is_a_functions_is_not_where_it_returns_to() -> None:
    record = only(
        "Unable to handle kernel NULL pointer dereference at virtual address 00000000",
        CPU,
        "PC is at gauge_put+0x1/0x2",
        "LR is at other_ioctl+0xc0/0x15c",
        "Backtrace: ",
        "[<808dc7f8>] (other_ioctl) from [<804b9814>] (sys_ioctl+0x110/0xa74)",
        "---[ end trace 0000000000000000 ]---",
    )
    assert record.function == "gauge_put"


def test_a_symbolised_backtrace_is_read() -> None:
    record = only(
        "WARNING: CPU: 1 PID: 8604 at mm/vmalloc.c:3132 __vmalloc_node_range+0x44c/0x584",
        "Kernel panic - not syncing: kernel: panic_on_warn set ...",
        CPU,
        "Call Trace:",
        " frame pointer underflow",
        "Backtrace: ",
        "(dump_backtrace) from [<8175145c>] (show_stack+0x18/0x1c arch/arm/kernel/traps.c:256)",
        REGISTERS,
        "[<81751444>] (show_stack) from [<8176d4a4>] (__dump_stack lib/dump_stack.c:88 [inline])",
        "[<81751444>] (show_stack) from [<8176d4a4>] (panic+0x11c/0x36c kernel/panic.c:340)",
        "[<81751f64>] (panic) from [<80469ba0>] (vmalloc_user+0x6c/0x74 mm/vmalloc.c:3359)",
        REGISTERS,
        "[<80469b34>] (vmalloc_user) from [<81766a24>] (gauge_map+0x74/0xc4 drivers/gauge.c:39)",
        "(gauge_map) from [<80100060>] (ret_fast_syscall+0x0/0x1c arch/arm/mm/proc-v7.S:6)",
        *SAVED,
    )
    assert record.title == "WARNING: zero-size vmalloc in gauge_map"
