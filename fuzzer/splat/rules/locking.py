# SPDX-License-Identifier: Apache-2.0
"""Reports of lockdep, of RCU's checks, and of what must not be done in an atomic context.

Formats: kernel/locking/lockdep.c, kernel/locking/spinlock_debug.c,
kernel/sched/core.c, lib/smp_processor_id.c, kernel/workqueue.c of Linux 6.12.
"""

from __future__ import annotations

from fuzzer.splat.rules.rule import Family, Rule, rule


def _lockdep(pattern: str, title: str, example: str, *, score: int = 30, **more: str) -> Rule:
    return rule(
        pattern,
        title + " in {function}",
        "lockdep",
        family=Family.LOCK,
        hint=next(hint for hint in ("WARNING:", "INFO:", "BUG") if hint in example),
        score=score,
        example=example,
        site=more.get("site"),
    )


# Before 4.11 "[ INFO: ... ]" and "[ BUG: ... ]".
_SAYS = "(?:WARNING|INFO|BUG): "

LOCKDEP = (
    _lockdep(
        rf"{_SAYS}possible circular locking dependency detected",
        "possible deadlock",
        "WARNING: possible circular locking dependency detected",
        score=35,
    ),
    _lockdep(
        rf"{_SAYS}possible recursive locking detected",
        "possible deadlock",
        "WARNING: possible recursive locking detected",
        score=35,
    ),
    _lockdep(
        rf"{_SAYS}inconsistent lock state",
        "inconsistent lock state",
        "WARNING: inconsistent lock state",
        score=35,
    ),
    _lockdep(
        rf"{_SAYS}bad (unlock balance|contention) detected",
        "WARNING: bad {0}",
        "WARNING: bad unlock balance detected!",
        score=40,
    ),
    _lockdep(
        rf"{_SAYS}lock held when returning to user space",
        "WARNING: lock held when returning to user space",
        "WARNING: lock held when returning to user space!",
        score=40,
        site=r"^ *#\d+: .* at: (?:\[<\S*>\] )?([\w.]+)(?:\+0x| \()",
    ),
    _lockdep(
        rf"{_SAYS}\S+/\d+ still has locks held!",
        "WARNING: task still has locks held",
        "WARNING: init/27 still has locks held!",
        site=r"^ *#\d+: .* at: (?:\[<\S*>\] )?([\w.]+)(?:\+0x| \()",
    ),
    _lockdep(
        rf"{_SAYS}held lock freed",
        "WARNING: held lock freed",
        "WARNING: held lock freed!",
        score=45,
    ),
    _lockdep(
        rf"{_SAYS}(possible irq lock inversion|Nested lock was not taken|chain_key collision)",
        "WARNING: {0}",
        "WARNING: possible irq lock inversion dependency detected",
    ),
    _lockdep(
        rf"{_SAYS}\w+-safe -> \w+-unsafe lock order detected",
        "possible deadlock",
        "WARNING: SOFTIRQ-safe -> SOFTIRQ-unsafe lock order detected",
        score=35,
    ),
    _lockdep(r"BUG: (Invalid wait context)", "BUG: {0}", "[ BUG: Invalid wait context ]", score=25),
    rule(
        r"BUG: key \S+ has not been registered!",
        "BUG: lock key has not been registered in {function}",
        "lockdep",
        family=Family.LOCK,
        hint="BUG",
        score=30,
        example="BUG: key ffff888003c98400 has not been registered!",
        absorbs="warning",
    ),
    _lockdep(
        r"INFO: trying to register non-static key",
        "INFO: trying to register non-static key",
        "INFO: trying to register non-static key.",
    ),
    _lockdep(
        rf"{_SAYS}suspicious (?:RCU|rcu_dereference_check\(\)) usage",
        "WARNING: suspicious RCU usage",
        "WARNING: suspicious RCU usage",
    ),
    _lockdep(
        r"BUG: ((?:spin|rw|rt)lock [a-z ]+?) on CPU#\d+",
        "BUG: {0}",
        "BUG: spinlock bad magic on CPU#0, init/27",
        score=45,
    ),
)


def _context(pattern: str, title: str, kind: str, example: str, site: str | None = None) -> Rule:
    return rule(
        pattern,
        title + " in {function}",
        kind,
        family=Family.CONTEXT,
        hint="BUG",
        score=30,
        example=example,
        site=site,
    )


CONTEXT = (
    _context(
        r"BUG: sleeping function called from invalid context",
        "BUG: sleeping function called from invalid context",
        "atomic-sleep",
        "BUG: sleeping function called from invalid context at drivers/drv.c:176",
    ),
    _context(
        r"BUG: scheduling while atomic",
        "BUG: scheduling while atomic",
        "atomic",
        "BUG: scheduling while atomic: init/27/0x00000002",
    ),
    _context(
        r"BUG: using (\w+(?:\(\))?) in preemptible",
        "BUG: using {0} in preemptible code",
        "atomic",
        "BUG: using smp_processor_id() in preemptible [00000000] code: init/27",
    ),
    _context(
        r"BUG: (scheduling in a non-blocking section|assuming \w+(?: \w+)? context)",
        "BUG: {0}",
        "atomic",
        "BUG: assuming atomic context at drivers/drv.c:12",
    ),
    _context(
        r"BUG: (workqueue leaked [\w, ]+): ",
        "BUG: {0}",
        "atomic",
        "BUG: workqueue leaked atomic, lock or RCU: kworker/0:1[27]",
        site=r"^ *(?:last function: |preempt=.* workfn=)([\w.]+)",
    ),
)

RULES = (*LOCKDEP, *CONTEXT)
