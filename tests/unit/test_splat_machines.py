# SPDX-License-Identifier: Apache-2.0
"""Reports of machines that are no x86, and of kernels of long ago and of today."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from fuzzer.splat.analyse import all_splats
from fuzzer.splat.scan import scan
from fuzzer.splat.splat import Splat

CPU = "CPU: 2 PID: 331 Comm: tool Tainted: G           O      5.10.0 #7"
END = "---[ end trace 0000000000000000 ]---"


def stamped(lines: Sequence[str]) -> list[str]:
    return [f"[   12.{number:06d}] {line}" for number, line in enumerate(lines)]


def only(*lines: str) -> Splat:
    (record,) = all_splats(stamped(lines))
    return record


def test_a_serror_is_told_although_its_stack_is_that_of_a_panic() -> None:
    lines = stamped(
        [
            "SError Interrupt on CPU2, code 0x00000000be000011 -- SError",
            CPU,
            "pstate: 60400005 (nZCv daif +PAN -UAO -TCO -DIT -SSBS BTYPE=--)",
            "pc : meter_kick+0x30/0x70 [meter]",
            "lr : meter_write+0x50/0x90 [meter]",
            *(f"x{number}: 0000000000000000" for number in range(29, 9, -1)),
            "Kernel panic - not syncing: Asynchronous SError Interrupt",
            CPU,
            "Call trace:",
            " show_stack+0x20/0x38 (C)",
            " panic+0x168/0x370",
            " el1h_64_error+0x6c/0x70",
            " meter_kick+0x30/0x70 [meter] (P)",
            " vfs_write+0xd0/0x380",
            "SMP: stopping secondary CPUs",
            "---[ end Kernel panic - not syncing: Asynchronous SError Interrupt ]---",
        ]
    )
    (report,) = scan(["\n".join(lines).encode()])
    assert report.rule.title == "SError Interrupt in {function}"
    (record,) = all_splats(lines)
    assert record.title == "SError Interrupt in meter_kick"


def test_the_end_of_a_panic_is_a_report_where_nothing_else_is_left() -> None:
    record = only("---[ end Kernel panic - not syncing: meter: broken ]---")
    assert record.title == "kernel panic: meter"


def test_functions_of_powerpcs_first_abi_have_no_dot() -> None:
    record = only(
        "Unable to handle kernel paging request for data at address 0x000012e0",
        "Faulting instruction address: 0xd0000000008cb4dc",
        "Oops: Kernel access of bad area, sig: 11 [#1]",
        "CPU: 1 PID: 251 Comm: eehd Not tainted 3.10.0-33.el7.ppc64 #1",
        "NIP [d0000000008cb4dc] .meter_error+0x18c/0x220 [meter]",
        "LR [d0000000008cb4d8] .meter_error+0x188/0x220 [meter]",
        "Call Trace:",
        "[c000000010ff3a30] [c000000010ff3ad0] 0xc000000010ff3ad0 (unreliable)",
        "[c000000010ff3ad0] [c00000000806b258] .eeh_report_error+0x98/0x110",
    )
    assert record.title == "BUG: unable to handle page fault in meter_error"
    assert record.module
    assert record.module.name == "meter"


def test_powerpc_says_what_an_access_was_and_who_jumped_into_the_void() -> None:
    fault = "BUG: Kernel NULL pointer dereference on write at 0x0000001c"
    record = only(
        fault,
        "Faulting instruction address: 0xc008000001b90844",
        "Oops: Kernel access of bad area, sig: 11 [#1]",
        CPU,
        "NIP [c008000001b90844] meter_query+0x5c/0x270 [meter]",
    )
    assert record.access
    assert record.access.direction == "write"
    record = only(
        "BUG: Unable to handle kernel instruction fetch",
        "Oops: Kernel access of bad area, sig: 11 [#1]",
        CPU,
        "NIP [b7bb9000] 0xb7bb9000",
        "LR [c06c9968] meter_call+0x6c/0xa8",
        "Call Trace:",
        "[c259dde0] [c06c9960] meter_call+0x64/0xa8 (unreliable)",
        "[c259de00] [c06c8c04] meter_write+0x110/0x15c",
    )
    assert record.function == "meter_call"


@pytest.mark.parametrize("name", ["do_page_fault", "do_trap_ecall_u", "do_DataAbort", "do_ade"])
def test_the_core_of_other_architectures_is_not_to_blame(name: str) -> None:
    record = only(
        "WARNING: CPU: 2 PID: 331 at drivers/meter.c:7 meter_check+0x1/0x2",
        CPU,
        "Call Trace:",
        f"[<80083930>] {name}+0x5c/0xac",
        "[<803dd1a8>] meter_read+0x88/0x1f0",
        "[<803dd1b8>] meter_check+0x88/0x1f0",
        END,
    )
    assert record.function == "meter_read"


def test_a_fault_with_nothing_but_machinery_is_where_the_cpu_was() -> None:
    record = only(
        "Unhandled fault: external abort on non-linefetch (0x008) at 0xfa21200c",
        "pgd = c0204000",
        "Internal error: : 8 [#1] SMP ARM",
        CPU,
        "PC is at gic_handle_irq+0x58/0x9c",
        "[<c03017f4>] (gic_handle_irq) from [<c0e9b030>] (__irq_svc+0x70/0x98)",
        "[<c0e9b030>] (__irq_svc) from [<c0308ffc>] (arch_cpu_idle+0x24/0x3c)",
        "[<c0308ffc>] (arch_cpu_idle) from [<c0394994>] (do_idle+0x194/0x2ac)",
        END,
    )
    assert record.title == "external abort on non-linefetch in gic_handle_irq"


def test_a_thread_of_the_core_is_named_by_what_it_runs() -> None:
    record = only(
        "BUG: scheduling while atomic: cpuhp/1/21/0x00000002",
        "CPU: 1 PID: 21 Comm: cpuhp/1 Not tainted 5.14.11 #1",
        "Call Trace:",
        " dump_stack_lvl+0x46/0x5a",
        " __schedule_bug.cold+0x4c/0x58",
        " __schedule+0x11ab/0x1530",
        " schedule+0x59/0xc0",
        " smpboot_thread_fn+0x147/0x1e0",
        " kthread+0x132/0x160",
        " ret_from_fork+0x22/0x30",
    )
    assert record.title == "BUG: scheduling while atomic in smpboot_thread_fn"


def test_a_stall_of_old_kernels_is_of_the_cpu_in_braces() -> None:
    record = only(
        "INFO: rcu_sched self-detected stall on CPU { 2}  (t=21001 jiffies g=8727 c=8726 q=223)",
        "sending NMI to all CPUs:",
        "NMI backtrace for cpu 0",
        "CPU: 0 PID: 0 Comm: swapper/0 Not tainted 3.11.6 #2",
        "Call Trace:",
        " [<ffffffff8143c5e0>] cpuidle_enter_state+0x40/0xc0",
        "Code: d2",
        "NMI backtrace for cpu 2",
        "CPU: 2 PID: 999 Comm: meterd Not tainted 3.11.6 #2",
        "Call Trace:",
        " [<ffffffffa043c900>] meter_spin+0x20/0x90 [meter]",
        " [<ffffffff81085970>] kthread+0xc0/0xd0",
    )
    assert record.function == "meter_spin"
    assert record.task.name == "meterd"


def test_a_lockup_is_not_the_drivers_whose_timer_notices() -> None:
    record = only(
        "watchdog: BUG: soft lockup - CPU#0 stuck for 23s! [netd:101]",
        "CPU#0 Utilization every 4000ms during lockup:",
        "\t#1:   0% system,\t100% softirq,\t  0% hardirq,\t  0% idle",
        "CPU: 0 UID: 0 PID: 101 Comm: netd Not tainted 6.18.3 #1 NONE",
        "Call Trace:",
        "[<8008a7c0>] watchdog_timer_fn+0x2d0/0x354",
        "[<80061500>] hrtimer_interrupt+0xf4/0x290",
        "[<80010db4>] board_timer_irq+0x34/0x5c",
        "[<80049e0c>] __handle_irq_event_percpu+0x60/0x160",
        "[<80290cf4>] meter_poll+0x94/0x360",
        "[<80290d00>] __napi_poll+0x30/0x100",
    )
    assert record.function == "meter_poll"


def test_a_hard_lockup_that_is_told_after_its_warning_is_one_report() -> None:
    record = only(
        "WARNING: at kernel/watchdog.c:245 watchdog_overflow_callback+0x9c/0xd0()",
        "Hardware name: Bochs",
        "Watchdog detected hard LOCKUP on cpu 0",
        "Pid: 0, comm: swapper/0 Not tainted 3.8.9 #1",
        "Call Trace:",
        " <NMI>  [<ffffffff810eb83c>] watchdog_overflow_callback+0x9c/0xd0",
        " [<ffffffff81645c41>] end_repeat_nmi+0x1e/0x2e",
        " <<EOE>>  [<ffffffff810944f0>] meter_account+0x90/0xa0",
        " [<ffffffff8101c06b>] cpu_idle+0x11b/0x140",
    )
    assert record.title == "BUG: hard lockup in meter_account"


def test_a_deadlock_that_happens_while_it_is_told_does_not_hide_its_stack() -> None:
    stack = [
        "[<c0014990>] (unwind_backtrace+0x0/0xf4) from [<c005ccb8>] (__lock_acquire+0x14/0x1b98)",
        "[<c005ccb8>] (__lock_acquire+0x14/0x1b98) from [<bf054120>] (meter_irq+0x18/0xdc [meter])",
        "[<bf054120>] (meter_irq+0x18/0xdc [meter]) from [<c003c324>] (kthread+0x8c/0x98)",
    ]
    records = all_splats(
        stamped(
            [
                "[ INFO: possible recursive locking detected ]",
                "3.5.0-rc5 #2 Not tainted",
                "stack backtrace:",
                *stack,
                "BUG: spinlock lockup suspected on CPU#0, meterd/73",
                " lock: 0xc3358724, .magic: dead4ead, .owner: meterd/73, .owner_cpu: 0",
                *stack,
            ]
        )
    )
    assert [record.title for record in records] == [
        "possible deadlock in meter_irq",
        "BUG: spinlock lockup suspected in meter_irq",
    ]


def test_kasans_first_words_and_slubs_rulers_inside_of_its_report() -> None:
    record = only(
        "=" * 66,
        "BUG: KASan: out of bounds access in meter_fill+0x44/0x70 [meter] at addr ffff8800364b28f3",
        "Write of size 1 by task tool/131",
        "=" * 77,
        "BUG kmalloc-128 (Tainted: G           O   ): kasan: bad access detected",
        "-" * 77,
        "INFO: Allocated in meter_new+0x24/0x60 [meter] age=1 cpu=0 pid=131",
        "CPU: 0 PID: 131 Comm: tool Tainted: G    B      O    4.4.0 #1",
        "Call Trace:",
        " [<ffffffff81506cc1>] kasan_report_error+0x221/0x530",
        " [<ffffffffa0002044>] meter_fill+0x44/0x70 [meter]",
        "=" * 66,
    )
    assert record.title == "KASAN: out of bounds Write in meter_fill"
    assert record.kernel == "4.4.0"


def test_rhels_letter_after_the_dashes_is_no_kernel() -> None:
    state = "Kdump: loaded Tainted: G           OE  ------------ T 3.10.0-1160.el7.x86_64 #1"
    record = only(
        "kernel BUG at drivers/meter.c:9!",
        f"CPU: 1 PID: 2345 Comm: tool {state}",
        "Call Trace:",
        " meter_put+0x1/0x2 [meter]",
        END,
    )
    assert (record.task.name, record.kernel, record.taint) == (
        "tool",
        "3.10.0-1160.el7.x86_64",
        "GOE",
    )


@pytest.mark.parametrize(
    ("line", "title"),
    [
        ("BUG meter_cache: Objects remaining on kmem_cache_close()", "SLUB: objects remaining"),
        ("BUG dentry(12:session.scope) (Not tainted): Poison overwritten", "SLUB: Poison"),
        ("[ INFO: suspicious rcu_dereference_check() usage. ]", "WARNING: suspicious RCU usage"),
        ("stack segment: 0000 [#1] PREEMPT SMP", "stack segment fault in meter_put"),
        ("irq event 18: bogus return value ffff", "irq: bogus return value"),
        ("WARNING: SOFTIRQ-safe -> SOFTIRQ-unsafe lock order detected", "possible deadlock in"),
    ],
)
def test_kinds_by_other_words(line: str, title: str) -> None:
    record = only(line, CPU, "Call Trace:", " meter_put+0x1/0x2 [meter]", "handlers:", END)
    assert record.title.startswith(title)


def test_slab_is_reclaimed_for_nobody_in_particular() -> None:
    record = only(
        "list_del corruption. prev->next should be ffff98679438a5d0, but was ca53e83f5e8cf5a8",
        CPU,
        "RIP: 0010:__list_del_entry_valid.cold+0x31/0x47",
        "Call Trace:",
        " __dentry_kill+0x89/0x180",
        " shrink_dentry_list+0x6a/0xe0",
        " prune_dcache_sb+0x53/0x80",
        " super_cache_scan+0x113/0x1b0",
        " do_shrink_slab+0x14a/0x2d0",
        " kthread+0x11b/0x140",
        " ret_from_fork+0x22/0x30",
    )
    assert record.title == "list corruption in __dentry_kill"


def test_a_guess_at_the_edge_of_a_function_is_no_call() -> None:
    record = only(
        "WARNING: CPU: 2 PID: 331 at kernel/module.c:1108 module_put+0x57/0x70",
        CPU,
        "Call Trace:",
        " [<c103ed6a>] ? __warn+0xfa/0x120",
        " [<f80ca4d0>] ? meter_next+0x460/0x460 [meter]",
        " [<f80ca4d8>] ? meter_table+0x0/0x20 [meter]",
        " [<f80bc9ca>] ? meter_exit+0x3a/0x70 [meter]",
        END,
    )
    assert record.function == "meter_exit"


def test_typed_blanks_and_old_symbolisers() -> None:
    record = only(
        "kernel BUG at drivers/meter.c:9!",
        CPU,
        "Call Trace:",
        " [ < ffffffffa0002044 > ] meter_put+0x14 /0x70 [ meter ]",
        " [<ffffffffa0002144>] meter_close+0x14/0x70 [meter]",
    )
    assert record.function == "meter_put"
    assert record.module
    assert record.module.name == "meter"
    record = only(
        "kernel BUG at drivers/meter.c:9!",
        CPU,
        "Call trace:",
        "[<     inline     >] meter_check drivers/meter.c:8",
        "[<ffffffc00020dbcc>] meter_close+0x0/0x258 drivers/meter.c:83",
    )
    assert record.function == "meter_check"
