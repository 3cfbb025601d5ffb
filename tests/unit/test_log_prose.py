# SPDX-License-Identifier: Apache-2.0
"""Prose about reports, which is no report and does no harm to the one that follows."""

from __future__ import annotations

import pytest

from fuzzer.splat.analyse import all_splats

PROSE = (
    'since the update I get a "BUG: soft lockup - CPU#2" on the screen from time to time,',
    "and once it was kernel BUG at mm/slub.c. I have no log, sorry. What can I do?",
    "# BUG: unable to handle page fault with the new branch",
    "BUG: the menu does not open",
    "INFO: task manager does not start",
    "WARNING: at your own risk",
    "We had a Kernel panic - not syncing: Fatal exception, what is that?",
    "> is it the same as BUG: KASAN: use-after-free in foo?",
    "general protection fault, probably for non-canonical address, is what it says",
    "The list_del corruption was mended in 6.1, and refcount_t: underflow too.",
    "Fixes: BUG: sleeping function called from invalid context",
)
REPORT = """\
BUG: unable to handle page fault for address: ffffc90000105000
#PF: supervisor write access in kernel mode
Oops: Oops: 0002 [#1] PREEMPT SMP
CPU: 1 UID: 0 PID: 321 Comm: meter Tainted: G           OE      6.12.10 #1
RIP: 0010:gauge_put+0x12/0x40 [gauge]
Call Trace:
 <TASK>
 gauge_ioctl+0x55/0x90 [gauge]
 </TASK>
""".splitlines()
TITLE = "BUG: unable to handle page fault in gauge_put"


@pytest.mark.parametrize("prose", PROSE)
def test_prose_is_no_crash(prose: str) -> None:
    assert all_splats([prose, "", "Thank you!"]) == []
    assert all_splats(list(PROSE)) == []


@pytest.mark.parametrize("prose", PROSE)
@pytest.mark.parametrize("between", [[], [""], ["", "Here is the log:", "```"]])
def test_prose_does_not_damage_the_report_that_follows(prose: str, between: list[str]) -> None:
    (record,) = all_splats([prose, *between, *REPORT])
    assert (record.title, record.corrupted) == (TITLE, None)


def test_a_title_that_is_a_first_line_is_no_second_report() -> None:
    for title in (f"# {REPORT[0]}", REPORT[0], f"{REPORT[0]} [gauge]"):
        (record,) = all_splats([title, "", "The whole of it:", *REPORT])
        assert record.title == TITLE


@pytest.mark.parametrize(
    "line",
    [
        "[   12.345678] BUG: kernel NULL pointer dereference, address: 0000000000000010",
        "host kernel: BUG: unable to handle page fault for address: 0000000000002420",
        "BUG: unable to handle page fault for address: 0000000000002420",
        "unregister_netdevice: waiting for eth0 to become free. Usage count = 2",
        "INFO: task meter:2039 blocked for more than 122 seconds.",
        "kernel BUG at drivers/gauge.c:31!",
        "Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)",
        "VFS: Close: file count is 0",
        "VFS: Busy inodes after unmount of sdb1 (gaugefs)",
        "VFS: Busy inodes after unmount of sdb1. Self-destruct in 5 seconds.  Have a nice day...",
    ],
)
def test_a_whole_first_line_of_the_kernel_s_is_a_crash_on_its_own(line: str) -> None:
    (record,) = all_splats([line])
    assert record.crash


def test_a_first_line_behind_kasans_guess_is_found() -> None:
    """Kernels of 4.x have no end of line between the two."""
    guess = "kasan: GPF could be caused by NULL-ptr deref or user memory access"
    fault = "general protection fault: 0000 [#1] PREEMPT SMP KASAN"
    lines = [f"[   44.870467] {guess}{fault}", *(f"[   44.9] {line}" for line in REPORT[3:])]
    (record,) = all_splats(lines)
    assert record.title == "general protection fault in gauge_put"


def test_a_warning_of_the_unwinder_is_a_notice() -> None:
    line = "WARNING: kernel stack regs at 000000001e0ba1d5 in meter:321 has bad 'bp' value 0000000"
    (record,) = all_splats([f"[    1.000000] {line}"])
    assert (record.title, record.crash) == ("WARNING: kernel stack regs has bad 'bp' value", False)


def test_a_title_that_another_program_quotes_is_no_crash() -> None:
    lines = [
        "2024/07/22 10:43:12 vm-0: crash: UBSAN: Undefined behaviour in drivers/m.c:1631:25",
        "2024/07/22 10:43:13 reproducing crash 'UBSAN: Undefined behaviour in drivers/m.c:1631:25'",
        "2024/07/22 10:43:14 no repro for 'UBSAN: Undefined behaviour in drivers/m.c:1631:25': 1",
    ]
    assert all_splats(lines) == []


@pytest.mark.parametrize(
    "lines",
    [
        ["sound/core/pcm_lib.c:181: BUG: pcmC0D0p:0, pos = 0x4000, buffer size = 0x4000"],
        # A program's own fault, which the kernel tells where it is set to.
        [
            "Unhandled fault: alignment exception (0x011) at 0x00508ae4",
            "pgd = ec340000",
            "[00508ae4] *pgd=fb0c2835",
        ],
        ["INFO: task manager ready"],
    ],
)
def test_what_others_print_too_is_no_crash_alone(lines: list[str]) -> None:
    quiet = [f"usb 1-{number}: new high-speed USB device" for number in range(9)]
    assert all_splats(f"[   12.000000] {line}" for line in [*lines, *quiet]) == []


def test_a_doubtful_first_line_counts_with_a_report_after_it() -> None:
    lines = ["meter: BUG: reading is gone", "Call Trace:", " meter_read+0x1/0x2 [meter]"]
    (record,) = all_splats(f"[   12.000000] {line}" for line in lines)
    assert record.title == "BUG: reading is gone in meter_read"
