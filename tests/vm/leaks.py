# SPDX-License-Identifier: Apache-2.0
"""Memory leaks of the driver, as kmemleak sees them; the guest is booted with kmemleak=on."""

from __future__ import annotations

import re

from fuzzer.machine.machine import Machine

_FILE = "/sys/kernel/debug/kmemleak"
# kmemleak leaves objects alone that are younger than 5 s.
_MINIMUM_AGE = 6
# A pointer may linger on a stack: what one scan takes for reachable, the next does not.
_SCANS = 2
_FRAME = re.compile(r"^ *([\w.]+)\+0x[0-9a-f]+/0x[0-9a-f]+ \[pkv\]", re.MULTILINE)


def _shell(machine: Machine, script: str) -> str:
    done = machine.execute(["/bin/busybox", "sh", "-c", script], timeout=120.0)
    assert done.status == 0, done.output
    return done.output.decode(errors="replace")


def forget_leaks(machine: Machine) -> None:
    """Have what was lost before now not reported."""
    _shell(machine, f"echo clear > {_FILE}")


def find_leak(machine: Machine) -> str | None:
    """Return the title of the first leak of the driver's, after the time it takes to be sure."""
    for _ in range(_SCANS):
        _shell(machine, f"busybox sleep {_MINIMUM_AGE}")
        report = _shell(machine, f"echo scan > {_FILE}; cat {_FILE}")
        if found := _FRAME.search(report):
            return f"memory leak in {found[1]}"
    return None
