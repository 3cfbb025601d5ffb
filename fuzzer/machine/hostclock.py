# SPDX-License-Identifier: Apache-2.0
"""The rate of the host's time stamp counter, which is the guest's under TCG.

A guest's kernel measures it against timers that a busy host serves late. On
one boot in three it then rejected the counter and told time by ticks of 10 ms,
or delayed for a hundredth of the time asked for. So the kernel is told the rate.
"""

from __future__ import annotations

import ctypes
import mmap
import platform
import time

# rdtsc; shl $32,%rdx; or %rdx,%rax; ret
_READ_COUNTER = bytes.fromhex("0f31 48c1e220 4809d0 c3")
_MEASURE_SECONDS = 0.02
_ATTEMPTS = 5


def counter_khz() -> int | None:
    """Return the frequency of the host's time stamp counter in kHz, None if it is not available.

    That is so on another architecture, and on a host that forbids running code in memory
    that was written.
    """
    if platform.machine() != "x86_64":
        return None
    try:
        page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    except OSError:
        return None
    with page:
        page.write(_READ_COUNTER)
        return _measure(page)


def _measure(code: mmap.mmap) -> int:
    # The buffer's export has to end before the mapping can be closed: with this function.
    read = ctypes.CFUNCTYPE(ctypes.c_uint64)(ctypes.addressof(ctypes.c_char.from_buffer(code)))

    def sample() -> tuple[int, int]:
        # The closest of some pairs is taken, with least noise between its two readings.
        pairs = []
        for _ in range(_ATTEMPTS):
            before = time.clock_gettime_ns(time.CLOCK_MONOTONIC_RAW)
            ticks = read()
            after = time.clock_gettime_ns(time.CLOCK_MONOTONIC_RAW)
            pairs.append((after - before, (before + after) // 2, ticks))
        _, nanoseconds, ticks = min(pairs)
        return nanoseconds, ticks

    began, first = sample()
    time.sleep(_MEASURE_SECONDS)
    ended, last = sample()
    return (last - first) * 1_000_000 // (ended - began)
