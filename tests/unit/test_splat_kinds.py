# SPDX-License-Identifier: Apache-2.0
"""Kinds of report that have a form of their own, after the kernel's and the modules' source."""

from __future__ import annotations

import pytest

from fuzzer.splat.analyse import all_splats
from fuzzer.splat.splat import Splat
from fuzzer.splat.triage import LogTriage

CPU = "CPU: 0 UID: 0 PID: 231 Comm: tool Tainted: G           OE      6.12.1 #1"
OOPS = "Oops: invalid opcode: 0000 [#1] PREEMPT SMP"
END = "---[ end trace 0000000000000000 ]---"


def stamped(*lines: str) -> list[str]:
    return [f"[   12.{number:06d}] {line}" for number, line in enumerate(lines)]


def only(*lines: str) -> Splat:
    (record,) = all_splats(stamped(*lines))
    return record


def stack(*functions: str) -> list[str]:
    return ["Call Trace:", " <TASK>", *(f" {each}" for each in functions), " </TASK>"]


def test_an_interrupts_handler_is_named_with_its_module() -> None:
    record = only(
        'irq 18: nobody cared (try booting with the "irqpoll" option)',
        CPU,
        *stack("dump_stack_lvl+0x6f/0xa0", "__report_bad_irq+0x35/0xaf", "note_interrupt+0x2/0x9"),
        *(f"RAX: 000000000000000{number} RBX: 0000000000000000" for number in range(8)),
        "handlers:",
        "[<0000000012345678>] gauge_irq [gauge] threaded [<000000001ead0000>] gauge_thread [gauge]",
        "Disabling IRQ #18",
    )
    assert record.title == "irq: nobody cared in gauge_irq"
    assert record.module
    assert record.module.name == "gauge"


@pytest.mark.parametrize(
    ("head", "second"),
    [
        ("VFS: Busy inodes after unmount of sdb1 (gaugefs)", "kernel BUG at fs/super.c:650!"),
        (
            "VFS: Close: file count is 0 (f_op=gauge_fops [gauge])",
            "WARNING: CPU: 0 PID: 231 at fs/open.c:1511 filp_flush+0x73/0x80",
        ),
    ],
)
def test_what_the_kernel_does_about_it_is_no_second_report(head: str, second: str) -> None:
    oops = [OOPS] if "BUG" in second else []
    lines = ("------------[ cut here ]------------", second, *oops, CPU)
    frames = ("generic_shutdown_super+0x120/0x130", "gauge_kill+0x21/0x40 [gauge]")
    record = only(head, *lines, *stack(*frames), END)
    assert record.title.startswith(head[:15])
    assert record.function == "gauge_kill"


@pytest.mark.parametrize(
    "lines",
    [
        [
            "VERIFY3(sa.sa_magic == SA_MAGIC) failed (1234 == 3100762)",
            "PANIC at gauge.c:412:gauge_put()",
            "Showing stack for process 231",
            CPU,
            *stack(
                "dump_stack_lvl+0x44/0x5c",
                "spl_dumpstack+0x29/0x2f [spl]",
                "spl_panic+0xd1/0xe9 [spl]",
                "gauge_put+0x1/0x2 [gauge]",
            ),
        ],
        [
            "LustreError: 231:0:(gauge.c:77:gauge_put()) ASSERTION( ref > 0 ) failed: ",
            "LustreError: 231:0:(gauge.c:77:gauge_put()) LBUG",
            *stack(
                "libcfs_call_trace+0x90/0xf0 [libcfs]",
                "lbug_with_loc+0x4c/0xa0 [libcfs]",
                "gauge_put+0x55/0x90 [gauge]",
            ),
            "Kernel panic - not syncing: LBUG",
        ],
        [
            "XFS (sda1): Assertion failed: ip->i_nlink > 0, file: fs/xfs/gauge.c, line: 1234",
            "------------[ cut here ]------------",
            "kernel BUG at fs/xfs/xfs_message.c:102!",
            OOPS,
            "RIP: 0010:assfail+0x51/0x60 [gauge]",
            *stack("gauge_put+0x77/0x90 [gauge]"),
            END,
        ],
    ],
    ids=["SPL", "Lustre", "XFS"],
)
def test_who_asserts_is_named_and_not_what_prints_it(lines: list[str]) -> None:
    record = only(*lines)
    assert record.title == "assertion failed in gauge_put"
    assert record.module
    assert record.module.name == "gauge"


def test_who_has_a_reference_to_a_device_is_told() -> None:
    waiting = "unregister_netdevice: waiting for eth7 to become free. Usage count = 2"
    tracked = [
        "ref_tracker: eth7@ffff888012345678 has 1/1 users at",
        "     dev_hold+0x12/0x20",
        "     gauge_open+0x55/0x90 [gauge]",
    ]
    lines = stamped(waiting, *tracked, "", waiting)
    first, leak, second = all_splats(lines)
    assert first.title == second.title
    assert leak.title == "reference leak in gauge_open"
    # Also in the middle of a log of which only parts are looked at.
    quiet = stamped(*("eth7: link is up",) * 5000)
    triage = LogTriage()
    triage.add_log("log", ["\n".join([*quiet, *lines, *quiet]).encode()])
    assert {bug.finding.record.title for bug in triage.bugs()} == {first.title, leak.title}


def test_a_wait_for_a_device_does_not_damage_the_report_around_it() -> None:
    lines = stamped(
        "INFO: task tool:231 blocked for more than 120 seconds.",
        "Call Trace:",
        " schedule+0x9c/0x1b0",
        "unregister_netdevice: waiting for lo to become free. Usage count = 6",
        " mutex_lock_nested+0x3b0/0x1130",
        " gauge_release+0xcc/0x220 [gauge]",
        "",
    )
    assert {each.title for each in all_splats(lines)} == {
        "INFO: task hung in gauge_release",
        "unregister_netdevice: waiting for a device to become free",
    }


def test_a_free_of_what_kmalloc_did_not_give_is_a_bad_free() -> None:
    head = "WARNING: CPU: 1 PID: 231 at mm/slab_common.c:935 free_large_kmalloc+0x34/0x12c"
    record = only(head, CPU, *stack("kfree+0x1/0x2", "gauge_put+0x1/0x2 [gauge]"), END)
    assert (record.title, record.family) == ("WARNING: bad free in gauge_put", "free")


def test_many_symbols_that_are_not_known_are_one_finding() -> None:
    names = ("meter_read", "meter_write", "meter_open")
    lines = stamped(*(f"gauge: Unknown symbol {name} (err -2)" for name in names))
    triage = LogTriage()
    triage.add_log("log", ["\n".join(lines).encode()])
    (bug,) = triage.bugs()
    assert len(bug.others) == 2


@pytest.mark.parametrize(
    "line",
    [
        "Lockdown: insmod: unsigned module loading is restricted; see man kernel_lockdown.7",
        "Lockdown: Loading of unsigned modules is restricted; see man kernel_lockdown.7",
    ],
)
def test_a_lockdown_is_told_as_older_kernels_do(line: str) -> None:
    record = only(line)
    assert record.title.startswith("module: lockdown: ")
    assert record.advice


def test_trusty_panics() -> None:
    assert only("trusty: panic: failed(-8) to start app 3").title == "trusty: panic"


@pytest.mark.parametrize(
    "line",
    [
        "drv: module using GPL-only symbols uses symbols helper from proprietary module other.",
        "drv: exports protected symbol drv_helper",
        "drv: Unknown relocation: 57",
        "Invalid ELF header magic: != ELF",
    ],
)
def test_other_reasons_why_a_module_does_not_load(line: str) -> None:
    record = only(line)
    assert record.title.startswith("module")
    assert not record.crash
    assert record.advice


def test_a_duplicate_name_is_the_cause_of_the_object_that_is_not_added() -> None:
    triage = LogTriage()
    frames = (
        "kobject_add_internal+0xaa/0x320",
        "device_add+0xfc/0x620",
        "gauge_init+0x1a/0x20 [g]",
    )
    lines = stamped(
        "sysfs: cannot create duplicate filename '/devices/virtual/misc/gauge'",
        CPU,
        *stack(*frames),
        "------------[ cut here ]------------",
        "WARNING: CPU: 0 PID: 231 at lib/kobject.c:240 kobject_add_internal+0x2b0/0x320",
        CPU,
        *stack(*frames),
        END,
    )
    triage.add_log("log", ["\n".join(lines).encode()])
    (bug,) = triage.bugs()
    assert bug.finding.record.title == "sysfs: cannot create duplicate filename in gauge_init"


def test_where_no_root_file_system_can_be_mounted() -> None:
    head = "Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)"
    assert only(head).title == "kernel panic: VFS: Unable to mount root fs"


@pytest.mark.parametrize("line", ["EIP: gauge_put+0x59/0xb0", "pc : gauge_put+0x59/0xb0 [gauge]"])
def test_the_rest_of_a_report_is_known_by_its_instruction_pointer(line: str) -> None:
    assert only(line, "Code: 90 83 05 38").title.endswith("without its beginning in gauge_put")


def test_the_end_that_a_checked_copy_makes_is_one_bug_with_its_warning() -> None:
    frames = ("__fortify_panic+0xd/0x10", "gauge_store+0x1a/0x30 [gauge]")
    lines = stamped(
        "strnlen: detected buffer overflow: 17 byte read of buffer size 16",
        "WARNING: CPU: 0 PID: 231 at lib/string_helpers.c:1029 __fortify_report+0x43/0x50",
        CPU,
        *stack(*frames),
        END,
        "kernel BUG at lib/string_helpers.c:1036!",
        OOPS,
        CPU,
        *stack(*frames),
        END,
    )
    triage = LogTriage()
    triage.add_log("log", ["\n".join(lines).encode()])
    (bug,) = triage.bugs()
    assert bug.finding.record.title == "WARNING: buffer overflow in gauge_store"


def test_a_panic_after_a_hang_does_not_change_who_hangs() -> None:
    record = only(
        "INFO: task meterd:812 blocked for more than 120 seconds.",
        "      Tainted: G           OE     5.4.0-150-generic #167-Ubuntu",
        *stack("__schedule+0x2e3/0x740", "gauge_sync+0x4c/0x90 [gauge]"),
        "Kernel panic - not syncing: hung_task: blocked tasks",
        "CPU: 3 PID: 56 Comm: khungtaskd Tainted: G           OE     5.4.0-150-generic #167-Ubuntu",
        *stack("dump_stack+0x6d/0x8b", "panic+0x101/0x2e3", "watchdog.cold+0xd7/0xd7"),
    )
    assert (record.title, record.task.name) == ("INFO: task hung in gauge_sync", "meterd")
