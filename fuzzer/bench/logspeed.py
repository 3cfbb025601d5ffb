# SPDX-License-Identifier: Apache-2.0
"""The speed at which a log is searched for reports, beside a program that only reads its lines."""

from __future__ import annotations

import io
import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from fuzzer.splat.scan import BLOCK, Scanner
from fuzzer.splat.triage import LogTriage

_LINES = 200_000
_TIMES = 5
# So many lines of a flood take about as long as those of a log without a report.
_FLOOD_SHARE = 5
_SEED = 1
# What a healthy kernel prints; some of it nearly looks like a report.
_MESSAGES = (
    "usb 1-1: new high-speed USB device number {0} using xhci_hcd",
    "drv: DEBUG: state {0}",
    "EXT4-fs (sda{0}): mounted filesystem with ordered data mode. Quota mode: none.",
    'audit: type=1400 audit(1700000{0}.123:{0}): apparmor="STATUS" operation="profile_load"',
    "e1000: eth{0} NIC Link is Up 1000 Mbps Full Duplex, Flow Control: RX",
    "systemd[1]: Started Session {0} of User root.",
    "clocksource: tsc: mask: 0xffffffffffffffff max_cycles: 0x{0}, max_idle_ns: 440795202126 ns",
    "drv: warning: {0} requests wait, the queue is full",
)


_CALLERS = ("ioctl", "read", "write", "release", "poll", "mmap")
# A report, but for stamps: {0} is what called, {1} a number.
_REPORT = """\
==================================================================
BUG: KASAN: slab-use-after-free in drv_last+0x14d/0x160 [drv]
Read of size 4 at addr ffff8880{1:08x} by task fuzz/{1}

CPU: 0 UID: 0 PID: {1} Comm: fuzz Tainted: G           O       6.12.1 #1
Tainted: [O]=OOT_MODULE
Call Trace:
 <TASK>
 dump_stack_lvl+0x6f/0xa0
 print_report+0xc7/0x5c0
 ? drv_last+0x14d/0x160 [drv]
 kasan_report+0xf4/0x130
 drv_last+0x14d/0x160 [drv]
 drv_{0}+0x50/0x70 [drv]
 vfs_{0}+0x1a9/0x5a0
 do_syscall_64+0x63/0x100
 entry_SYSCALL_64_after_hwframe+0x4b/0x53
RSP: 002b:00007ffc{1:08x} EFLAGS: 00000246 ORIG_RAX: 0000000000000000
RAX: ffffffffffffffda RBX: 00000000{1:08x} RCX: 000000000041d1ed
 </TASK>

Allocated by task {1}:
 kasan_save_stack+0x2a/0x50
 __kasan_kmalloc+0x8f/0xa0
 drv_open+0x81/0xf0 [drv]
 do_syscall_64+0x63/0x100
 entry_SYSCALL_64_after_hwframe+0x4b/0x53

Freed by task {1}:
 kasan_save_stack+0x2a/0x50
 kfree+0x10f/0x370
 drv_close+0x31/0x40 [drv]
 do_syscall_64+0x63/0x100
 entry_SYSCALL_64_after_hwframe+0x4b/0x53

The buggy address belongs to the object at ffff8880{1:08x}
 which belongs to the cache kmalloc-96 of size 96
The buggy address is located 44 bytes inside of
 freed 96-byte region [ffff8880{1:08x}, ffff8881{1:08x})

Memory state around the buggy address:
 ffff8880{1:08x}: fa fb fb fb fb fb fb fb fb fb fb fb fc fc fc fc
>ffff8881{1:08x}: fa fb fb fb fb fb fb fb fb fb fb fb fc fc fc fc
                                  ^
==================================================================
"""


@dataclass(frozen=True, slots=True)
class LogSpeed:
    """Megabytes (10^6 bytes) a second through a log without a report.

    ``flood_mb_s`` is the same through one that is nothing but reports, which are told apart.
    ``lines_mb_s`` is a pass that reads the same log line by line and does nothing;
    ``ratio`` is the search over that pass. Each is the best of five, taken in turn:
    other work on the machine only ever slows one down.
    """

    size: int
    mb_s: float
    lines_mb_s: float
    ratio: float
    flood_mb_s: float = 0.0


def quiet_log(lines: int = _LINES) -> bytes:
    """Return a log without a report, the same each time."""
    source = random.Random(_SEED)
    text = (
        f"[{number / 1000:12.6f}][ {source.choice('TC')}{source.randrange(9999):4}] "
        + source.choice(_MESSAGES).format(source.randrange(10_000))
        for number in range(lines)
    )
    return ("\n".join(text) + "\n").encode()


def flood_log(lines: int = _LINES // _FLOOD_SHARE) -> bytes:
    """Return a log of about so many lines that is nothing but reports, the same each time."""
    source = random.Random(_SEED)
    text: list[str] = []
    while len(text) < lines:
        number = source.randrange(100, 32_000)
        report = _REPORT.format(source.choice(_CALLERS), number)
        stamp = f"[{len(text) / 1000:12.6f}][{f'T{number}':>6}]"
        text += [f"{stamp} {line}" for line in report.splitlines()]
    return ("\n".join(text) + "\n").encode()


def measure_log_speed(lines: int = _LINES) -> LogSpeed:
    """Search a log that is in memory already, and read it line by line."""
    log = quiet_log(lines)

    def search() -> None:
        scanner = Scanner()
        for start in range(0, len(log), BLOCK):
            scanner.feed(log[start : start + BLOCK])
        scanner.finish()

    def read() -> None:
        for _line in io.TextIOWrapper(io.BytesIO(log), errors="replace"):
            pass

    flood = flood_log(lines // _FLOOD_SHARE)

    def tell_apart() -> None:
        blocks = (flood[start : start + BLOCK] for start in range(0, len(flood), BLOCK))
        LogTriage().add_log("flood", blocks)

    searches, reads, floods = [], [], []
    for _ in range(_TIMES):
        searches.append(_seconds(search))
        reads.append(_seconds(read))
        floods.append(_seconds(tell_apart))
    mb = len(log) / 1e6
    return LogSpeed(
        len(log),
        mb / min(searches),
        mb / min(reads),
        min(reads) / min(searches),
        len(flood) / 1e6 / min(floods),
    )


def _seconds(work: Callable[[], None]) -> float:
    # CPU time: the log is in memory, and waiting for a turn on a busy machine is not ours.
    start = time.process_time()
    work()
    return time.process_time() - start
