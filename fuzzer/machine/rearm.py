# SPDX-License-Identifier: Apache-2.0
"""Re-arming of reports that a kernel makes once only.

KASAN, lockdep and each WARN_ONCE() are silent after their first report, and of calls that
sleep where they may not, one a second is reported. A machine that has reported while its
driver was loaded would find nothing more, so its kernel's variables are set back in the
file that is its memory. Later the executor does so for KASAN, after each program at which
the kernel printed something. It is told the addresses of these variables, of the kernel log
and of the kernel's page table.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from fuzzer.errors import PkvfuzzError
from fuzzer.machine.channel_layout import MAX_SLEEP_TOLD
from fuzzer.machine.machine import Machine

# Where the kernel's image is mapped on x86-64, without address space randomisation.
_TEXT_MAPPING = 0xFFFFFFFF80000000
_BANNER, _BANNER_TEXT = "linux_banner", b"Linux version "
# The time of the last report of a sleep in atomic context: three variables of this name.
_SLEEP_TOLD = "prev_jiffy"
# Variables of KASAN, lockdep and the scheduler, and their bytes at boot.
_KASAN, _LOG, _PAGE_TABLE = "kasan_flags", "prb", "init_top_pgt"
_VARIABLES = {
    _KASAN: (0).to_bytes(8, "little"),
    "debug_locks": (1).to_bytes(4, "little"),
    "debug_locks_silent": (0).to_bytes(4, "little"),
    _SLEEP_TOLD: (0).to_bytes(8, "little"),
}
_ONCE = "echo 1 > /sys/kernel/debug/clear_warn_once"
_SECONDS = 30.0


def rearm_reports(machine: Machine, memory: Path, kernel: Path) -> bool:
    """Re-arm a kernel's reports in a machine's memory; return whether that was possible.

    ``memory`` is the file of the machine's memory, mapped shared; ``kernel`` is the
    kernel's build directory.
    """
    symbols = _symbols(kernel / "System.map")
    try:
        with memory.open("r+b", buffering=0) as file:
            banner = os.pread(file.fileno(), len(_BANNER_TEXT), symbols.get(_BANNER, 0))
            if banner != _BANNER_TEXT:
                return False
            for name, address in symbols.items():
                # Variables that are local to a function have a number behind their names.
                if value := _VARIABLES.get(name.partition(".")[0]):
                    os.pwrite(file.fileno(), value, address)
        machine.execute(["/bin/busybox", "sh", "-c", _ONCE], timeout=_SECONDS)
    except (OSError, PkvfuzzError):
        return False
    return True


def equip_variables(machine: Machine, kernel: Path) -> None:
    """Tell a machine's executor the addresses of its kernel's variables.

    With them KASAN reports again after each program in which it has reported, so does the check
    for sleeping in atomic context, known lines of the kernel log cost little, and pages that
    are freed while they are mapped are seen.
    ``kernel`` is the kernel's build directory. Without its System.map nothing is changed.
    """
    symbols = _symbols(kernel / "System.map")
    if _BANNER in symbols:
        header = machine.channel.header
        header.banner = symbols[_BANNER]
        header.kasan_flags = symbols.get(_KASAN, 0)
        header.log_ring = symbols.get(_LOG, 0)
        header.page_table = symbols.get(_PAGE_TABLE, 0) if _KASAN in symbols else 0
        told = [at for name, at in sorted(symbols.items()) if name.startswith(_SLEEP_TOLD)]
        for number, address in enumerate(told[:MAX_SLEEP_TOLD]):
            header.sleep_told[number] = address


def _symbols(path: Path) -> dict[str, int]:
    """Return the places in a machine's memory of the kernel's variables."""
    names = "|".join((_BANNER, _LOG, _PAGE_TABLE, *_VARIABLES))
    try:
        text = path.read_text()
    except OSError:
        return {}
    found = re.findall(rf"^([0-9a-f]+) \w ((?:{names})(?:\.\d+)?)$", text, re.MULTILINE)
    return {name: int(address, 16) - _TEXT_MAPPING for address, name in found}
