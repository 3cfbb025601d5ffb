# SPDX-License-Identifier: Apache-2.0
"""The worth of a kernel after a report: which reports are likely consequences of others."""

from __future__ import annotations

import re

from fuzzer.splat.rules import Family
from fuzzer.splat.splat import Splat

# After these the kernel goes on without one of its threads, if it does, and anything may follow.
_FATAL = frozenset({"fault", "oops", "panic", "reboot", "lost", "cfi"})
# lockdep and WARN_ON_ONCE() have nothing more to say after their first report.
_ONCE = frozenset({"lockdep", "warning"})
# The number that the kernel counts its oopses by.
_OOPS = re.compile(r"\[#\d+\]")
# Damage that core code found in what a driver freed, wrote or left behind.
_DAMAGE = re.compile(
    r"^(?:list corruption|SLUB: \w+ overwritten|usercopy: kernel memory overwrite)"
)
# A timer, a work item or another object of the kernel's that was freed while it is in use.
_LEFT_BEHIND = re.compile(r"ODEBUG: free active")
_UNLOADED = "[last unloaded: "
# Damaged memory shows as such, as numbers or states that cannot be, or as a wild jump.
_SHOWN_BY_DAMAGE = frozenset(
    {Family.MEMORY, Family.FREE, Family.NUMBER, Family.ASSERT, Family.STACK, Family.OTHER}
)


def leaves_usable(splat: Splat) -> bool:
    """Return whether a kernel goes on after a report as if there was none.

    What it reports later is no consequence then. A kernel that killed one of its own
    threads does not: what that one had locked, or half done, stays so.
    """
    return splat.kind not in _FATAL and _OOPS.search(splat.text) is None


def keeps_looking(splat: Splat) -> bool:
    """Return whether a kernel can report another bug of a kind after this one."""
    return leaves_usable(splat) and splat.kind not in _ONCE


def damages_memory(splat: Splat) -> bool:
    """Return whether a report tells of a bug of a driver's that damages the kernel's memory.

    A driver that is part of the kernel is not told from it.
    """
    if _LEFT_BEHIND.search(splat.text):
        return _names_driver(splat) or bool(splat.modules) or _UNLOADED in splat.text
    if not _names_driver(splat):
        return False
    if splat.family is not Family.MEMORY:
        return splat.family is Family.FREE
    # What faults has not written.
    writes = splat.kind != "fault" and splat.access and splat.access.direction == "write"
    return bool(writes) or _DAMAGE.search(splat.title) is not None


def is_aftermath(splat: Splat) -> bool:
    """Return whether a report may be of memory that was damaged before.

    It is of code that no driver called, and nothing in it names a driver.
    """
    if not splat.stacks or splat.family not in _SHOWN_BY_DAMAGE or damages_memory(splat):
        return False
    return not _names_driver(splat)


def _names_driver(splat: Splat) -> bool:
    return any(frame.module for stack in splat.stacks for frame in stack.frames if frame.reliable)
