# SPDX-License-Identifier: Apache-2.0
"""Lines that look like a report and are none."""

from __future__ import annotations

import re

HARMLESS = re.compile(
    r"""
    # A user process died; the kernel is well.
    ^traps:\ (?!PANIC)|^\S+\[\d+\]:\ segfault\ at|^potentially\ unexpected\ fatal\ signal
    # Ways to speak of one.
    |BUG:\ \d+\ unexpected\ failures|INFO:\ lockdep\ is\ turned\ off|messages\ suppressed$
    |^Command\ line:|^Kernel\ command\ line:|\bINFO:\ Stall\ ended
    |suppressed\ full\ report
    # The kernel's tests of its own checkers.
    |^\ *\#\ (?:Subtest|kasan|kfence|kcsan|kmsan)|^\ *(?:not\ )?ok\ \d+
    """,
    re.VERBOSE,
)
"""Such a line never starts a report."""

OWN_STACK = re.compile(
    r"^FAULT_INJECTION: forcing a failure|: page allocation failure: order:"
    r"|^sysrq: Show |^SysRq : Show "
)
"""Starts a stack that belongs to no report, and so ends the report before it."""
