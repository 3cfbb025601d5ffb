# SPDX-License-Identifier: Apache-2.0
"""The guilty function where the stack's first functions are not run for their caller."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from fuzzer.splat.analyse import all_splats
from fuzzer.splat.frames import Frame
from fuzzer.splat.machinery import is_machinery
from fuzzer.splat.splat import Splat

SIZE = "+0x12/0x80"
FAULT = "Oops: general protection fault, probably for non-canonical address 0xeb4b: 0000 [#1] SMP"
CPU = "CPU: 0 UID: 0 PID: 27 Comm: init Not tainted 6.12.1 #1"
ENTRY = ("__x64_sys_nanosleep", "do_syscall_64", "entry_SYSCALL_64_after_hwframe")


def only(*lines: str) -> Splat:
    (record,) = all_splats([f"[    1.000000] {line}" for line in lines])
    return record


def frames(functions: Sequence[str]) -> list[str]:
    return [line if line.startswith(" <") else f" {line}{SIZE}" for line in functions]


def report(head: str, *functions: str, before: Sequence[str] = ()) -> Splat:
    """Return the record of a report with this first line and these functions, innermost first."""
    return only(head, *before, "Call Trace:", " <TASK>", *frames(functions), " </TASK>", "")


@pytest.mark.parametrize(
    ("functions", "function"),
    [
        # The scheduler's tree is damaged: who sleeps has nothing to do with it.
        (
            ("rb_erase", "set_next_entity", "pick_next_task_fair", "__schedule", "schedule"),
            "set_next_entity",
        ),
        # Reclaim and an interrupt are for nobody in particular.
        (
            ("__x86_indirect_thunk_rax", "do_shrink_slab", "shrink_slab", "other_write"),
            "do_shrink_slab",
        ),
        (
            ("native_apic_mem_write", "handle_it", "asm_sysvec_reschedule_ipi", "other_write"),
            "handle_it",
        ),
        (("memcmp", "list_sort", "run_ksoft", "el1_interrupt", "other_write"), "list_sort"),
    ],
)
def test_who_runs_by_chance_is_not_to_blame(functions: Sequence[str], function: str) -> None:
    assert report(FAULT, *functions, *ENTRY).function == function


def test_who_schedules_where_it_must_not_is_to_blame() -> None:
    record = report(
        "BUG: scheduling while atomic: init/27/0x00000002",
        "dump_stack_lvl",
        "__schedule_bug",
        "__schedule",
        "schedule",
        "other_write",
        *ENTRY,
    )
    assert record.function == "other_write"


def test_who_allocated_a_bad_page_is_to_blame() -> None:
    head = "BUG: Bad page state in process init  pfn:03c98"
    owner = [
        "page last allocated via order 0, migratetype Unmovable, pid 27, tgid 27 (init)",
        *frames(("post_alloc_hook", "get_page_from_freelist", "drv_fill")),
    ]
    functions = ("dump_stack_lvl", "bad_page", "free_unref_folios", "other_write", *ENTRY)
    assert report(head, *functions, before=owner).function == "drv_fill"
    assert report(head, *functions).function == "other_write"


def test_where_an_uninitialised_value_comes_from_is_named_for_want_of_more() -> None:
    record = only(
        "BUG: KMSAN: kernel-infoleak in _copy_to_iter+0x12/0x80",
        *frames(("_copy_to_iter", "kernfs_fop_read_iter", "vfs_read", *ENTRY)),
        "",
        "Uninit was stored to memory at:",
        *frames(("sysfs_kf_bin_read", "drv_describe", "kernfs_fop_read_iter", "vfs_read")),
        "",
    )
    assert record.function == "drv_describe"


def test_the_unlocker_is_named_by_the_line_after_the_lock() -> None:
    record = only(
        "WARNING: bad unlock balance detected!",
        "6.12.1 #1 Not tainted",
        "init/27 is trying to release lock (rtnl_mutex) at:",
        "[<ffffffff81234567>] drv_seq_stop+0x12/0x80",
        "but there are no more locks to release!",
        "",
        "stack backtrace:",
        CPU,
        "Call Trace:",
        *frames(("dump_stack_lvl", "print_unlock_imbalance_bug", "lock_release", *ENTRY)),
        "",
    )
    assert record.function == "drv_seq_stop"


def test_a_stack_that_ran_out_is_of_what_the_core_entered() -> None:
    head = "Kernel panic - not syncing: corrupted stack end detected inside scheduler"
    functions = (
        "dump_stack_lvl",
        "panic",
        "__schedule",
        "schedule",
        "drv_deep",
        "drv_work",
        "process_one_work",
        "worker_thread",
        "kthread",
        "ret_from_fork",
    )
    record = report(head, *functions)
    assert record.title == "kernel panic: corrupted stack end in drv_work"


def test_an_address_in_place_of_a_function_is_no_name() -> None:
    head = "Kernel panic - not syncing: stack-protector: Kernel stack is corrupted in: "
    functions = ("dump_stack_lvl", "panic", "__stack_chk_fail", "drv_copy", *ENTRY)
    assert report(f"{head}ffffffff8343632e", *functions).function == "drv_copy"
    assert report(f"{head}drv_other+0x1/0x2", *functions).function == "drv_other"


@pytest.mark.parametrize(
    ("functions", "function"),
    [
        (
            (
                "dump_stack_lvl",
                "check_preemption_disabled",
                "do_user_addr_fault",
                "exc_page_fault",
                "asm_exc_page_fault",
            ),
            "do_user_addr_fault",
        ),
        (
            (
                "dump_stack_lvl",
                "__schedule_bug",
                "schedule",
                "exit_to_user_mode_prepare",
                "syscall_exit_to_user_mode",
                "do_syscall_64",
                "entry_SYSCALL_64_after_hwframe",
            ),
            "exit_to_user_mode_prepare",
        ),
    ],
)
def test_a_whole_stack_of_errands_has_a_name(functions: Sequence[str], function: str) -> None:
    record = report(
        "BUG: using __this_cpu_read() in preemptible [00000000] code: init/27", *functions
    )
    assert record.function == function


def test_a_stack_that_ends_with_a_guess_is_whole() -> None:
    lines = ["BUG: spinlock recursion on CPU#0, init/27", "Call Trace:"]
    functions = ("dump_stack_lvl", "spin_dump", "do_raw_spin_lock", "wake_up_new_task", "kthread")
    record = only(*lines, *frames(functions), f" ? kthread_park{SIZE}")
    assert record.function == "wake_up_new_task"
    assert not record.cut


def test_a_subsystems_own_way_to_panic_is_not_to_blame() -> None:
    functions = ("__xyzfs_panic", "xyzfs_commit", "xyzfs_sync", *ENTRY)
    assert report("kernel BUG at fs/xyzfs/prints.c:12!", *functions).function == "xyzfs_commit"
    assert not is_machinery(Frame("drv_panic", module="drv"))


def test_lines_of_others_do_not_end_a_stack() -> None:
    """Programs write empty lines to the console, and other tasks their messages."""
    lines = [
        "[    1.000000] BUG: KASAN: slab-use-after-free in memcmp+0x12/0x80",
        "[    1.000000] Read of size 8 at addr ffff888003c98400 by task init/27",
        "[    1.000000] Call Trace:",
        "[    1.000000]  dump_stack_lvl+0x12/0x80",
        "",
        "[    1.000000]  print_report+0x12/0x80",
    ]
    for function in ("kasan_report", "memcmp", "strnstr", "other_find"):
        lines += [
            "[    1.000000] eth0: link is up",
            "[    1.000000] eth0: link is down",
            f"[    1.000000]  {function}+0x12/0x80",
        ]
    (record,) = all_splats(lines)
    assert record.function == "other_find"


def test_an_interrupted_task_is_not_what_a_timer_found() -> None:
    """On arm64 a softirq that hangs has no timer's functions above it."""
    functions = (
        "_raw_spin_unlock_irqrestore",
        "kmem_cache_free",
        "drv_poll",
        "net_rx_action",
        "__do_softirq",
        "irq_exit",
        "gic_handle_irq",
        "el1_irq",
        "other_write",
    )
    record = only(
        "watchdog: BUG: soft lockup - CPU#0 stuck for 22s! [ksoftirqd/0:9]",
        CPU,
        "pc : _raw_spin_unlock_irqrestore+0x12/0x80",
        "lr : _raw_spin_unlock_irqrestore+0x12/0x80",
        "Call trace:",
        *frames(functions),
        "",
    )
    assert record.function != "other_write"


def test_the_stack_of_the_cpu_that_stalls_is_its_own() -> None:
    record = only(
        "rcu: INFO: rcu_sched self-detected stall on CPU",
        "rcu: \t1-...!: (10499 ticks this GP) idle=9f9/1/0x4000000000000002 softirq=2116/2117",
        "\t(t=10500 jiffies g=989 q=72)",
        "rcu: Stack dump where RCU GP kthread last ran:",
        "Task dump for CPU 0:",
        "task:other state:R  running task stack:    0 pid: 1432 ppid:  1414 flags:0x00000002",
        "Call trace:",
        *frames(("__switch_to", "other_wait")),
        "Task dump for CPU 1:",
        "task:init state:R  running task stack:    0 pid: 1429 ppid:  1407 flags:0x00000002",
        "Call trace:",
        *frames(
            (
                "show_stack",
                "rcu_dump_cpu_stacks",
                "rcu_sched_clock_irq",
                "tick_sched_timer",
                "hrtimer_interrupt",
                "gic_handle_irq",
                "el1_interrupt",
                "el1h_64_irq",
                "lock_acquire",
                "drv_spin",
                "vfs_read",
                "__arm64_sys_read",
                "el0_svc",
            )
        ),
        "",
    )
    assert record.function == "drv_spin"


def test_a_panic_that_tells_of_the_report_before_belongs_to_it() -> None:
    record = only(
        "Bad mode in Synchronous Abort handler detected on CPU0, code 0x34000001 -- BTI",
        CPU,
        "pc : drv_probe+0x0/0x3c0",
        "lr : drv_init+0x12/0x80",
        "Kernel panic - not syncing: bad mode",
        CPU,
        "Call trace:",
        *frames(("dump_stack_lvl", "panic", "bad_mode", "el1_inv", "el1_sync", "drv_probe")),
        "",
    )
    assert record.title == "bad mode in drv_probe"


def test_a_race_in_the_core_names_both_sides() -> None:
    record = only(
        "BUG: KCSAN: data-race in find_next_bit / rcu_report_exp_cpu_mult",
        "",
        "read to 0xffffffff85a7f140 of 8 bytes by task 27 on cpu 0:",
        *frames(("find_next_bit", "sync_rcu_exp_select_node_cpus", "process_one_work", "kthread")),
        "",
        "write to 0xffffffff85a7f140 of 8 bytes by interrupt on cpu 1:",
        *frames(
            (
                "rcu_report_exp_cpu_mult",
                "rcu_exp_handler",
                "call_function_single_interrupt",
                "other_write",
                *ENTRY,
            )
        ),
        "",
    )
    assert record.function == "rcu_report_exp_cpu_mult / sync_rcu_exp_select_node_cpus"
