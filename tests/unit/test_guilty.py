# SPDX-License-Identifier: Apache-2.0
"""The guilty function: what is machinery, and where the others come from."""

from __future__ import annotations

import pytest

from fuzzer.splat.analyse import all_splats
from fuzzer.splat.core_files import in_tree, is_core
from fuzzer.splat.frames import Frame
from fuzzer.splat.machinery import is_machinery, system_call
from fuzzer.splat.splat import Splat

SIZE = "+0x12/0x80"


def only(*lines: str) -> Splat:
    (record,) = all_splats(lines)
    return record


def kasan(*functions: str, end: str = " </TASK>") -> Splat:
    """Return the record of a report with these functions in its stack, innermost first."""
    frames = [" ".join((f" {name}{SIZE}", *module)) for name, *module in map(str.split, functions)]
    head = f"BUG: KASAN: slab-use-after-free in {functions[0].split()[0]}{SIZE}"
    access = "Read of size 8 at addr ffff888003c98400 by task init/27"
    return only(head, access, "Call Trace:", " <TASK>", " kasan_report+0xf4/0x130", *frames, end)


@pytest.mark.parametrize(
    "function",
    [
        # Each of a kind: traps, hang leaves, lockdep, containers, libraries, helpers of reports,
        # allocators, locks of subsystems, arm64's faults, timers, devices.
        *("do_invalid_op", "fixup_bug", "exc_invalid_op", "asm_exc_page_fault"),
        *("__switch_to", "context_switch", "bit_wait_io", "__flush_work", "schedule_timeout"),
        *("register_lock_class", "mark_lock_irq", "check_prev_add", "lock_sock_nested"),
        *("rb_erase", "xas_start", "klist_next", "rhashtable_jhash2", "__list_add_valid"),
        *("crc16", "memcpy", "strscpy", "_copy_from_iter", "vsnprintf", "find_next_bit"),
        *("skb_panic", "bad_page", "ref_tracker_free", "___might_sleep", "refcount_warn_saturate"),
        *("__alloc_frozen_pages_noprof", "__alloc_pages_nodemask", "folio_unlock", "vmalloc_user"),
        *("console_lock", "do_raw_spin_lock", "mutex_lock", "__wake_up_common", "mod_timer"),
        # Headers' functions, and those of headers that only one file includes.
        *("check_cpu_stall", "count_memcg_event_mm", "page_mkclean", "device_release"),
        *("do_tag_check_fault", "el1h_64_sync", "__do_kernel_fault", "__arch_copy_to_user"),
        *("__x86_indirect_thunk_rax", "kobject_put", "device_del", "sysfs_remove_file_ns"),
        *("vfs_read", "security_file_ioctl", "__x64_sys_ioctl", "do_syscall_64", "create_object"),
    ],
)
def test_core_functions_are_machinery(function: str) -> None:
    assert is_machinery(Frame(function))
    assert kasan(function, "other_put", "drv_ioctl").function == "other_put"


@pytest.mark.parametrize(
    "function",
    # A driver's, a file system's, a protocol's; the core's names that a driver has too.
    [
        *("e1000_clean_rx_irq", "ext4_file_write_iter", "tcp_sendmsg", "timeout_show"),
        # A protocol's, but the core's in other versions; of files that are beside the core's.
        *("drv_show_state", "icmp_send", "tick_handler", "alg_setkey", "kvm_wait"),
    ],
)
def test_what_is_not_the_cores_is_to_blame(function: str) -> None:
    assert not is_machinery(Frame(function))


@pytest.mark.parametrize("name", ["handle_fill", "show_status", "list_put", "debug_x", "print_it"])
def test_a_modules_own_function_is_never_machinery(name: str) -> None:
    assert kasan(f"{name} [drv]", "drv_ioctl [drv]").function == name


@pytest.mark.parametrize("name", ["kmalloc", "kzalloc", "list_del", "spin_unlock", "copy_to_user"])
def test_a_copy_of_an_inline_function_in_a_module_is_machinery(name: str) -> None:
    assert kasan(f"{name} [drv]", "drv_ioctl [drv]").function == "drv_ioctl"
    inlined = Frame("put_it", module="drv", file="include/linux/list.h:9", inline=True)
    assert is_machinery(inlined)


def test_what_records_a_drivers_blocks_is_never_to_blame() -> None:
    frames = ("pkvfuzz_trace_pc [pkvfuzz_deferred]", "drv_ioctl [drv]")
    assert kasan(*frames).function == "drv_ioctl"


def test_a_modules_frame_is_before_any_of_the_kernels_own() -> None:
    assert kasan("snd_pcm_new", "drv_probe [drv]").function == "drv_probe"


@pytest.mark.parametrize(
    ("file", "core"),
    [
        ("mm/slub.c:12", True),
        ("./include/linux/slab.h:3", True),
        ("/home/us/linux-6.1/kernel/locking/mutex.c:9", True),
        ("arch/arm64/mm/fault.c:1", True),
        ("kernel/bpf/syscall.c:1", False),
        ("drivers/net/tun.c:4", False),
        ("fs/ext4/inode.c:4", False),
    ],
)
def test_a_source_file_tells_what_is_core(file: str, core: bool) -> None:
    name = in_tree(file)
    assert name is not None
    assert is_core(name) is core
    assert is_machinery(Frame("some_function", file=file, inline=True)) is core


def test_a_file_beside_the_kernels_tree_says_nothing() -> None:
    assert in_tree("drv.c:12") is None
    assert in_tree("/home/us/drv.c:12") is None


def test_a_stack_of_machinery_falls_back_to_the_system_call() -> None:
    record = kasan("__memcpy", "mutex_lock", "__x64_sys_mremap", "do_syscall_64")
    assert record.title == "KASAN: slab-use-after-free Read in sys_mremap"
    assert record.complete


@pytest.mark.parametrize("name", ["__x64_sys_read", "__do_sys_read", "SyS_read", "sys_read"])
def test_a_system_call_has_one_name_whatever_enters_it(name: str) -> None:
    assert system_call(name) == "sys_read"


WORK = """\
WARNING: CPU: 0 PID: 9 at mm/slub.c:5 kfree+0x1/0x2
CPU: 0 UID: 0 PID: 9 Comm: kworker/0:1 Not tainted 6.12.1 #1
Workqueue: {} drv_reset_work [drv]
RIP: 0010:kfree+0x1/0x2
Call Trace:
 <TASK>
 process_one_work+0x1/0x2
 worker_thread+0x1/0x2
 kthread+0x1/0x2
 ret_from_fork+0x1/0x2
 </TASK>
"""


@pytest.mark.parametrize("queue", ["events", ""])
def test_a_stack_of_machinery_in_a_worker_names_the_work(queue: str) -> None:
    assert only(*WORK.format(queue).splitlines()).function == "drv_reset_work"


TIMER = """\
BUG: unable to handle page fault for address: ffffffffa0001234
RIP: 0010:__run_timers+0x281/0xa00
Call Trace:
 <IRQ>
 run_timer_softirq+0xee/0x1d0
 handle_softirqs+0x265/0x870
 </IRQ>
"""


def test_a_stack_of_machinery_in_an_interrupt_names_what_it_ran_in() -> None:
    assert only(*TIMER.splitlines()).function == "__run_timers"


@pytest.mark.parametrize(
    ("head", "function"),
    [
        ("BUG: KASAN: slab-out-of-bounds in drv_fill+0x4e/0x70 [drv]", "drv_fill"),
        ("WARNING: CPU: 0 PID: 47 at /b/drv.c:1503 drv_fill+0x8a/0xa0 [drv]", "drv_fill"),
        ("BUG: KASAN: slab-out-of-bounds in memcpy+0x4e/0x70", None),
    ],
)
def test_a_report_without_a_stack_is_named_by_its_first_line(
    head: str, function: str | None
) -> None:
    record = only(head, "Modules linked in: drv(OE)")
    assert record.function == function
    assert (record.corrupted is None, record.cut) == (function is not None, True)
    if function:
        assert record.module is not None
        assert record.module.name == "drv"


def test_lockdep_without_a_stack_is_named_by_where_the_lock_is_taken() -> None:
    lines = """\
WARNING: possible recursive locking detected
6.12.1 #1 Not tainted
--------------------------------------------
tool/27 is trying to acquire lock:
ffff888003c98500 (&drv->lock){+.+.}-{3:3}, at: drv_write+0x33/0x80 [drv]
but task is already holding lock:
ffff888003c98500 (&drv->lock){+.+.}-{3:3}, at: drv_open+0x33/0x80 [drv]
other info that might help us debug this:
""".splitlines()
    assert only(*lines).function == "drv_write"


def test_the_oldest_kernels_mark_interrupts_in_front_of_a_frame() -> None:
    lines = """\
WARNING: CPU: 1 PID: 797 at net/x.c:276 netdev_check+0xc7a/0xd10()
Call Trace:
 <IRQ>  [<ffffffff81656735>] dump_stack+0x19/0x1b
 [<ffffffff8159d19a>] netdev_check+0xc7a/0xd10
 <EOI>  [<ffffffffa03c9273>] other_spin+0xa3/0x210 [other]
 [<ffffffffa03ca531>] other_ioctl+0xb81/0x2330 [other]
""".splitlines()
    assert only(*lines).function == "netdev_check"


STALL = """\
rcu: INFO: rcu_preempt self-detected stall on CPU
rcu: 	0-....: (2100 ticks this GP) idle=9c4/1/0x4000000000000000 softirq=1/2 fqs=525
CPU: 0 UID: 0 PID: 27 Comm: tool Not tainted 6.12.1 #1
Call Trace:
 <IRQ>
 rcu_sched_clock_irq+0x1/0x2
 update_process_times+0x1/0x2
 hrtimer_interrupt+0x1/0x2
 sysvec_apic_timer_interrupt+0x1/0x2
{softirq} </IRQ>
 asm_sysvec_apic_timer_interrupt+0x1/0x2
RIP: 0010:foo_inner{number}+0x1/0x2
RSP: 0018:ffffc900003b7ee8 EFLAGS: 00000086
 foo_helper{number}+0x1/0x2
 foo_write+0x1/0x2
 vfs_write+0x1/0x2
 ksys_write+0x1/0x2
 </TASK>
"""


def test_a_stall_is_of_what_the_timer_interrupted() -> None:
    titles = {
        only(*STALL.format(softirq="", number=number).splitlines()).title for number in range(3)
    }
    assert titles == {"INFO: rcu stall in foo_write"}


def test_a_stall_in_an_interrupt_is_of_that_and_not_of_what_came_before() -> None:
    softirq = " bar_poll+0x1/0x2\n net_rx_action+0x1/0x2\n handle_softirqs+0x1/0x2\n"
    lines = STALL.format(softirq=softirq, number="").replace(
        " sysvec_apic_timer_interrupt+0x1/0x2\n",
        " sysvec_apic_timer_interrupt+0x1/0x2\n asm_sysvec_apic_timer_interrupt+0x1/0x2\n",
    )
    assert only(*lines.splitlines()).title in {
        "INFO: rcu stall in bar_poll",
        "INFO: rcu stall in net_rx_action",
    }


LOCKUP = """\
watchdog: BUG: soft lockup - CPU#1 stuck for 26s! [tool:27]
NMI backtrace for cpu 0
CPU: 0 UID: 0 PID: 9 Comm: other Not tainted 6.12.1 #1
RIP: 0010:bystander+0x1/0x2 [other]
Call Trace:
 <TASK>
 bystander_write+0x1/0x2 [other]
 vfs_write+0x1/0x2
 </TASK>
CPU: 1 UID: 0 PID: 27 Comm: tool Not tainted 6.12.1 #1
RIP: 0010:drv_spin+0x1/0x2 [drv]
Call Trace:
 <TASK>
 drv_write+0x1/0x2 [drv]
 vfs_write+0x1/0x2
 </TASK>
"""


def test_a_lockup_is_of_the_cpu_that_is_stuck_whichever_is_shown_first() -> None:
    record = only(*LOCKUP.splitlines())
    assert record.title == "BUG: soft lockup in drv_spin"


def test_who_waits_for_all_cpus_is_not_to_blame() -> None:
    lines = """\
INFO: task tool:27 blocked for more than 122 seconds.
Call Trace:
 <TASK>
 __schedule+0x1/0x2
 schedule_timeout+0x1/0x2
 __wait_rcu_gp+0x1/0x2
 synchronize_rcu+0x1/0x2
 foo_close+0x1/0x2{}
 __fput+0x1/0x2
 </TASK>
"""
    assert only(*lines.format("").splitlines()).title == "INFO: task hung in synchronize_rcu"
    # A driver of one's own may be what holds them up.
    assert only(*lines.format(" [drv]").splitlines()).title == "INFO: task hung in foo_close"


def test_a_stack_overflow_is_of_the_function_that_calls_itself() -> None:
    frames = [" drv_walk+0x33/0x80 [drv]"] * 9
    lines = ["BUG: TASK stack guard page was hit at ffffc90000000000 (stack is ffff..ffff)"]
    lines += ["Call Trace:", " <TASK>", " drv_hash+0x1/0x2 [drv]", *frames]
    lines += [" drv_ioctl+0x1/0x2 [drv]", " </TASK>"]
    assert only(*lines).title == "BUG: stack guard page was hit in drv_walk"


def test_titles_are_the_same_from_run_to_run() -> None:
    def title(text: str) -> str:
        return only(*text.splitlines()).title

    first = STALL.format(softirq="", number=1)
    again = first.replace("PID: 27", "PID: 4711").replace("CPU: 0", "CPU: 1").replace("2100", "99")
    assert title(first) == title(again)
    assert title(LOCKUP) == title(LOCKUP.replace("26s", "48s").replace("tool:27", "tool:4711"))


@pytest.mark.parametrize(
    ("lines", "title"),
    [
        (
            [
                "unreferenced object 0xffff880211e2aec0 (size 544):",
                '  comm "tool", pid 1377, jiffies 4294790842 (age 1473.137s)',
                "  backtrace:",
                "    [<ffffffff81189293>] create_object+0x123/0x2f0",
                "    [<ffffffff818b51d1>] kmemleak_alloc+0x21/0x50",
                "    [<ffffffff8117e4e3>] kmem_cache_alloc_trace+0xd3/0x110",
                "    [<ffffffff814dcd7b>] foo_create+0x6b/0xd0",
                "    [<ffffffff814aba20>] foo_ioctl+0x2d0/0x520",
            ],
            "memory leak in foo_create",
        ),
        (
            [
                "Unable to handle kernel paging request at virtual address ffff800012345678",
                "Internal error: Oops: 0000000096000004 [#1] SMP",
                "pc : __arch_copy_to_user+0x1b4/0x230",
                "lr : foo_read+0x60/0xa0",
                "Call trace:",
                " __arch_copy_to_user+0x1b4/0x230",
                " foo_read+0x60/0xa0",
                " vfs_read+0xc8/0x2e0",
                " invoke_syscall+0x48/0x114",
                "---[ end trace 0000000000000000 ]---",
            ],
            "BUG: unable to handle page fault in foo_read",
        ),
        (
            [
                "WARNING: CPU: 1 PID: 9 at drivers/foo.c:7 foo_check+0xa5/0xb0",
                "Call Trace:",
                " dump_stack+0x19/0x1b",
                " panic+0x1e4/0x41c",
                " __warn+0x1dc/0x200",
                " report_bug+0x211/0x2d0",
                " fixup_bug+0x37/0x80",
                " do_error_trap+0x2d7/0x3e0",
                " do_invalid_op+0x1b/0x20",
                " invalid_op+0x1b/0x40",
                "RIP: 0010:foo_check+0xa5/0xb0",
                "RSP: 0018:ffff8801da886e20 EFLAGS: 00010286",
                " foo_write+0xf8/0x180",
                " entry_SYSCALL_64_fastpath+0x29/0xa0",
            ],
            "WARNING in foo_check",
        ),
    ],
)
def test_kernels_of_all_ages_and_machines_have_their_machinery_known(
    lines: list[str], title: str
) -> None:
    assert only(*lines).title == title
