# SPDX-License-Identifier: Apache-2.0
"""Logs in the forms that they have in mails, forums and bug reports."""

from __future__ import annotations

from fuzzer.splat.analyse import all_splats
from fuzzer.splat.splat import Splat


def only(text: str) -> Splat:
    (record,) = all_splats(text.strip("\n").split("\n"))
    return record


def test_a_console_with_the_number_of_the_processor_in_front() -> None:
    lines = [
        "[ 2928.208367] rcu: INFO: rcu_sched self-detected stall on CPU",
        "[ 2928.210083] rcu:     1-....: (6499 ticks this GP) idle=036/1/0x40000000000000",
        "[ 2928.210620] Task dump for CPU 1:",
        "[ 2928.210676] Call Trace:",
        "[ 2928.210693]  [<00000000af57ec88>] show_stack+0x158/0x1f0",
        "[ 2928.210710]  [<00000000af5846aa>] rcu_dump_cpu_stacks+0x26a/0x2a8",
        "[ 2928.210734]  [<00000000ae690c26>] tick_sched_timer+0x86/0x188",
        "[ 2928.210756]  [<00000000ae48dbf2>] do_IRQ+0x152/0x1c8",
        "[ 2928.210780] ([<00000000af58da04>] lock_is_held_type+0xe4/0x130)",
        "[ 2928.210790]  [<00000000ae62b1b2>] gauge_scan+0x152/0x1d0 [gauge]",
        "[ 2928.210805]  [<00000000ae8bdd66>] __s390x_sys_ioctl+0x1f6/0x2c8",
    ]
    # A terminal of 80 columns, which are filled.
    assert only("\n".join(f"01: {line:<76}" for line in lines)).function == "gauge_scan"


def test_a_journal_that_a_mail_program_wrapped() -> None:
    blank = " "
    record = only(f"""
Apr 20 03:25:55 h2 kernel: general protection fault, probably for non-canonical
address 0xc1316515e40a92f6: 0000 [#1] SMP
Apr 20 03:25:55 h2 kernel: CPU: 3 PID: 3921 Comm: kworker/u16:5 Tainted: G    {blank}
          T 5.7.0-rc2-dirty #194
Apr 20 03:25:55 h2 kernel: Hardware name: Sample Technology Co., Ltd.
GA-990FXA-UD3/GA-990FXA-UD3, BIOS F6 03/30/2012
Apr 20 03:25:55 h2 kernel: RIP: 0010:gauge_atomic_commit+0x102d/0x1fd8
Apr 20 03:25:55 h2 kernel: Code: 48 89 9d a0 fc ff ff 8b 90 e0 02 00 00 85 d2
0f 85 26 f1 ff ff 48 8b 85 e0 fc ff ff 48 89 85 a0 fc ff ff 48 8b b5 e0 fc ff
Apr 20 03:25:55 h2 kernel: Call Trace:
Apr 20 03:25:55 h2 kernel:  commit_tail+0x3a/0x90
""")
    assert record.title == "general protection fault in gauge_atomic_commit"
    assert (record.task.name, record.kernel) == ("kworker/u16:5", "5.7.0-rc2-dirty")


def test_a_stack_without_its_heading() -> None:
    record = only("""
> rcu: INFO: rcu_sched self-detected stall on CPU
> rcu:   36-....: (20999 ticks this GP) idle=b01c/1/0x4000000000000000 softirq=35839/35839
>   <TASK>
>   ? asm_sysvec_apic_timer_interrupt+0x16/0x20
>   gauge_huge_fault+0xf9/0x1b0 [gauge]
>   __do_fault+0x28/0x1b0
""")
    assert record.function == "gauge_huge_fault"


def test_a_warnings_first_line_where_the_stack_does_not_have_it() -> None:
    head = "WARNING: CPU: 3 PID: 412 at drivers/gauge/core.c:210 gauge_probe+0x2a/0x60"
    stack = "Call Trace:\n ? gauge_probe+0x2a/0x60\n local_probe+0x2a/0x60"
    assert only(f"{head}\n{stack}").function == "gauge_probe"
    # A driver's function is before one of the kernel's own.
    assert only(f"{head}\n{stack} [local]").function == "local_probe"
    assert only(f"{head} [gauge]\n{stack} [local]").function == "gauge_probe"


def test_letters_in_place_of_digits_in_what_was_read_off_a_photograph() -> None:
    record = only("""
BUG: unable to handle page fault for address: ffffc90000105000
Oops: 0002 [#1] PREEMPT SMP NOPTI
CPU: 1 PID: 321 Comm: meter Tainted: G OE 6.1.0-18-amd64 #1 Debian 6.1.76-1
RIP: 0010:gauge_put+Ox12/Ox40 [gauge]
Call Trace:
<TASK>
gauge_ioctl+0x55/0x90 [gauge]
</TASK>
""")
    assert (record.function, record.taint) == ("gauge_put", "GOE")


def test_a_wait_for_a_page_in_old_kernels() -> None:
    record = only("""
INFO: task meter:3370 blocked for more than 120 seconds.
Call Trace:
 [<ffffffff8158d535>] io_schedule+0x73/0xc0
 [<ffffffff8110f8dd>] sync_page+0x3d/0x50
 [<ffffffff8126d88d>] gauge_get_page+0x3d/0x150
""")
    assert record.function == "gauge_get_page"


def test_a_hard_lockup_of_old_kernels_is_the_message_of_a_warning() -> None:
    """Without frame pointers all of a stack is guessed."""
    record = only("""
WARNING: CPU: 3 PID: 0 at /build/linux-3.16.7/kernel/watchdog.c:265 watchdog_overflow+0x98/0xc0()
Watchdog detected hard LOCKUP on cpu 3
CPU: 3 PID: 0 Comm: swapper/3 Tainted: G        W  O  3.16.0-4-amd64 #1
Call Trace:
 <NMI>  [<ffffffff8150b4c5>] ? dump_stack+0x41/0x51
 [<ffffffff81067767>] ? warn_slowpath_common+0x77/0x90
 [<ffffffff8150ddb1>] ? end_repeat_nmi+0x1e/0x2e
 <<EOE>>  <IRQ>  [<ffffffffa0123456>] ? gauge_target+0x56/0x110 [xt_gauge]
 [<ffffffffa0223456>] ? ipt_do_table+0x56/0x110 [ip_tables]
---[ end trace e9d0a0e126121c77 ]---
""")
    assert record.title == "BUG: hard lockup in gauge_target"


def test_the_work_that_a_workqueue_waits_for_is_told() -> None:
    record = only("""
[90434.890000] BUG: workqueue lockup - pool cpus=0 flags=0x4 nice=0 stuck for 197s!
[90434.890000] Showing busy workqueues and worker pools:
[90434.890000] workqueue events: flags=0x0
[90434.890000]   pwq 0: cpus=0 node=0 flags=0x0 nice=0 active=1/256 refcnt=2
[90434.890000]     in-flight: 2067:gauge_work [gauge]
""")
    assert (record.title, record.function) == ("BUG: workqueue lockup", "gauge_work")
    assert record.module
    assert record.module.name == "gauge"
