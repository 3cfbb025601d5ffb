# SPDX-License-Identifier: Apache-2.0
"""How fast a log is searched for reports, beside a program that only reads its lines."""

from __future__ import annotations

import io
import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from fuzzer.splat.scan import BLOCK, Scanner

_LINES = 200_000
_TIMES = 5
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


@dataclass(frozen=True, slots=True)
class LogSpeed:
    """Megabytes (10^6 bytes) a second through a log without a report.

    ``lines_mb_s`` is a pass that reads the same log line by line and does nothing;
    ``ratio`` is the search over that pass. Each is the best of five, taken in turn:
    other work on the machine only ever slows one down.
    """

    size: int
    mb_s: float
    lines_mb_s: float
    ratio: float


def quiet_log(lines: int = _LINES) -> bytes:
    """Return a log without a report, the same each time."""
    source = random.Random(_SEED)
    text = (
        f"[{number / 1000:12.6f}][ {source.choice('TC')}{source.randrange(9999):4}] "
        + source.choice(_MESSAGES).format(source.randrange(10_000))
        for number in range(lines)
    )
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

    searches, reads = [], []
    for _ in range(_TIMES):
        searches.append(_seconds(search))
        reads.append(_seconds(read))
    mb = len(log) / 1e6
    return LogSpeed(len(log), mb / min(searches), mb / min(reads), min(reads) / min(searches))


def _seconds(work: Callable[[], None]) -> float:
    # CPU time: the log is in memory, and waiting for a turn on a busy machine is not ours.
    start = time.process_time()
    work()
    return time.process_time() - start
