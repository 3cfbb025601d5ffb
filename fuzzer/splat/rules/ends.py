# SPDX-License-Identifier: Apache-2.0
"""The end of a guest: panic, reboot, no memory; and modules that do not load.

Formats: kernel/panic.c, mm/oom_kill.c, kernel/module/main.c of Linux 6.12.
"""

from __future__ import annotations

from fuzzer.splat.rules.rule import Family, Rule, rule

CONSEQUENCES = (
    r"Fatal exception|Fatal machine check|panic_on_warn set|\w+: panic_on_warn set|kasan\.fault="
    r"|hung_task: blocked tasks|softlockup: hung tasks|Hard LOCKUP|RCU Stall"
    r"|Aiee, killing interrupt handler|Attempted to kill (?:init|the idle task)"
    r"|kernel stack overflow|Oops|stack guard"
)
"""Panics that only say that there was a report before."""

PANIC = (
    rule(
        r"Kernel panic - not syncing: stack-protector: Kernel stack is corrupted in: ([\w.]+)?",
        "kernel panic: stack is corrupted in {function}",
        "panic",
        family=Family.STACK,
        hint="Kernel panic",
        score=75,
        example="Kernel panic - not syncing: stack-protector: Kernel stack is corrupted in: "
        "drv_guilty",
        site=r"stack is corrupted in: ([\w.]+)",
    ),
    rule(
        rf"Kernel panic - not syncing: ({CONSEQUENCES})",
        "kernel panic: {0}",
        "panic",
        family=Family.PANIC,
        hint="Kernel panic",
        score=35,
        example="Kernel panic - not syncing: Fatal exception in interrupt",
        opener=False,
    ),
    rule(
        r"Kernel panic - not syncing: (VFS: Unable to mount root fs|[^:]+)",
        "kernel panic: {0}",
        "panic",
        family=Family.PANIC,
        hint="Kernel panic",
        score=40,
        example="Kernel panic - not syncing: testdrv asked for it",
    ),
)

REBOOT = (
    rule(
        r"^Linux version \d",
        "unexpected kernel reboot",
        "reboot",
        family=Family.OTHER,
        hint=" version ",
        score=30,
        example="Linux version 6.12.1 (user@host) (gcc 12.2.0) #1 SMP",
    ),
)

LOST = (
    rule(
        r"^---\[ end trace [0-9a-f ]*\]---",
        "kernel report without its beginning",
        "lost",
        family=Family.OTHER,
        hint="[ end trace",
        score=30,
        example="---[ end trace 0000000000000000 ]---",
        opener=False,
    ),
)


def _notice(pattern: str, title: str, kind: str, hint: str, example: str) -> Rule:
    return rule(
        pattern,
        title,
        kind,
        family=Family.OTHER,
        hint=hint,
        score=10,
        example=example,
        crash=False,
    )


NOTICES = (
    _notice(
        r"^\S+(?: \S+)* invoked oom-killer: ",
        "out of memory in {function}",
        "oom",
        "oom-killer",
        "init invoked oom-killer: gfp_mask=0x140cca(GFP_HIGHUSER_MOVABLE), order=0",
    ),
    # Where an allocation was made to fail while a module was loaded, which does it no harm.
    _notice(
        r"^WARNING: .*\bat (?:lib/dynamic_debug\.c:\d+ )?ddebug_module_notify\b",
        "no memory for dynamic debug messages",
        "warning",
        "WARNING: ",
        "WARNING: CPU: 0 PID: 27 at lib/dynamic_debug.c:1353 ddebug_module_notify+0x57/0x2b0",
    ),
    _notice(
        r"^(\w+): (Unknown symbol \w+)",
        "module {0}: {1}",
        "module",
        "Unknown symbol",
        "drv: Unknown symbol drv_helper (err -2)",
    ),
    _notice(
        r"^(\w+): (version magic) '",
        "module {0}: built for another kernel",
        "module",
        " version ",
        "drv: version magic '6.1.0 SMP' should be '6.12.1 SMP'",
    ),
    _notice(
        r"^(\w+): (disagrees about version of symbol \w+)",
        "module {0}: {1}",
        "module",
        " version ",
        "drv: disagrees about version of symbol module_layout",
    ),
    _notice(
        r"^(\w+): '\w+'->init suspiciously returned",
        "module {0}: init returned a number above 0",
        "module",
        "suspiciously returned",
        "drv: 'drv'->init suspiciously returned 1, it should follow 0/-E convention",
    ),
    # Not a bug, but from here on lockdep sees none.
    _notice(
        r"BUG: (MAX_LOCK\w+|MAX_STACK_TRACE_ENTRIES) too low!",
        "lockdep turned itself off: {0} too low",
        "lockdep-off",
        "BUG",
        "BUG: MAX_LOCKDEP_ENTRIES too low!",
    ),
)
