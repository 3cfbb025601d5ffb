# SPDX-License-Identifier: Apache-2.0
"""Memory leaks of a driver, found by kmemleak in a guest booted with ``ARGUMENTS``.

kmemleak looks for objects that no pointer leads to, once they are 5 s old. So such a guest
counts instructions (QEMU's ``-icount``): there a wait takes no time.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

from fuzzer.errors import InfrastructureError
from fuzzer.machine.channel_layout import FLAG_NAME
from fuzzer.machine.machine import Machine
from fuzzer.machine.qemu import VIRTUAL_CLOCK
from fuzzer.splat.find import find_splat
from fuzzer.splat.splat import Splat

LEAK = "leak"
"""The kind of crashes that kmemleak finds."""

ARGUMENTS = "kmemleak=on"
"""Arguments for the kernel's command line."""

HARDWARE = VIRTUAL_CLOCK

FILE = "/sys/kernel/debug/kmemleak"
"""The file to which a scan is written as a command, and from which its report is read."""

MINIMUM_AGE = 6
"""Seconds from its allocation after which an object may be reported."""

SCANS = 2
"""Scans for a report: objects that changed since the scan before are not reported."""

_TIMEOUT = 120.0
_ALLOCATED_BY = re.compile(r'comm "program (\d+)"')
_OBJECT = re.compile(r"^unreferenced object ", re.MULTILINE)


def _shell(machine: Machine, script: str) -> str:
    done = machine.execute(["/bin/busybox", "sh", "-c", script], timeout=_TIMEOUT)
    if done.status:
        raise InfrastructureError(
            f"looking for leaks failed in the guest: {done.output.decode(errors='replace')}"
        )
    return done.output.decode(errors="replace")


def forget_leaks(machine: Machine) -> int:
    """Make kmemleak ignore memory lost so far, and attribute later objects to programs.

    Returns the number of the next program, see :func:`allocating_program`.
    """
    _shell(machine, f"echo clear > {FILE}")
    machine.channel.header.flags |= FLAG_NAME
    return int(machine.channel.header.programs) + 1


def allocating_program(leak: Splat) -> int | None:
    """Return the number of the program that allocated a lost object, None if it is not known.

    Another program may have lost the object.
    """
    found = _ALLOCATED_BY.search(leak.text)
    return int(found[1]) if found else None


def find_leak(machine: Machine, marks: Sequence[str]) -> Splat | None:
    """Return the report of the first lost object that the driver allocated.

    ``marks`` are the marks of its frames in a trace, see :meth:`Driver.frame_marks`.

    Raises:
        LostMachineError: the guest is gone.
    """
    for _ in range(SCANS):
        script = f"busybox sleep {MINIMUM_AGE}; echo scan > {FILE}; cat {FILE}"
        if found := parse_leaks(_shell(machine, script), marks):
            return found
    return None


def parse_leaks(report: str, marks: Sequence[str]) -> Splat | None:
    """Return the first object in kmemleak's list that has a mark of the driver's frames."""
    starts = [match.start() for match in _OBJECT.finditer(report)]
    for start, end in pairwise([*starts, len(report)]):
        text = report[start:end]
        if any(mark in text for mark in marks):
            return find_splat(text.splitlines())
    return None
