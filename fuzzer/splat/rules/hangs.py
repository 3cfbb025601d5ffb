# SPDX-License-Identifier: Apache-2.0
"""Hangs: lockups, stalls, tasks that do not go on.

Formats: kernel/watchdog.c, kernel/hung_task.c, kernel/rcu/tree_stall.h,
kernel/rcu/tree_exp.h, kernel/rcu/tasks.h, kernel/workqueue.c of Linux 6.12.
"""

from __future__ import annotations

from fuzzer.splat.rules.rule import Family, Rule, rule


def _hang(
    pattern: str,
    title: str,
    hint: str,
    example: str,
    *,
    score: int = 35,
    doubtful: bool = False,
    **more: str,
) -> Rule:
    return rule(
        pattern,
        title,
        "hang",
        family=Family.HANG,
        hint=hint,
        score=score,
        example=example,
        interrupted=True,
        absorbs=more.get("absorbs", ""),
        site=more.get("site"),
        doubtful=doubtful,
    )


RULES = (
    _hang(
        r"INFO: task .* blocked (?:on \w+ .*|in I/O wait )?for more than"
        r"|INFO: task .* can't die for more",
        "INFO: task hung in {function}",
        "INFO:",
        "INFO: task init:27 blocked for more than 5 seconds.",
        score=30,
    ),
    # The name of a task may have the end of a line in it.
    _hang(
        r"INFO: task \S[^:]{0,15}$",
        "INFO: task hung in {function}",
        "INFO:",
        "INFO: task a",
        score=30,
        doubtful=True,
    ),
    _hang(
        r"BUG: soft lockup - CPU|BUG: soft lockup detected on CPU",
        "BUG: soft lockup in {function}",
        "BUG",
        "watchdog: BUG: soft lockup - CPU#0 stuck for 26s! [init:27]",
    ),
    _hang(
        r"Watchdog detected hard LOCKUP on cpu|\bCPU \d+ detected hard LOCKUP on other CPUs",
        "BUG: hard lockup in {function}",
        "hard LOCKUP",
        "watchdog: Watchdog detected hard LOCKUP on cpu 1",
        score=40,
        # Before 4.5 it is the message of a WARN().
        absorbs="warning",
    ),
    _hang(
        r"INFO: rcu\w* (?:self-)?detected (?:expedited )?stalls?\b",
        "INFO: rcu stall in {function}",
        "INFO:",
        "rcu: INFO: rcu_preempt self-detected stall on CPU",
    ),
    _hang(
        r"BUG: workqueue lockup",
        "BUG: workqueue lockup",
        "BUG",
        "BUG: workqueue lockup - pool cpus=0 node=0 flags=0x0 nice=0 stuck for 32s!",
        score=30,
        # The work that does not end.
        site=r"^ +in-flight: \d+(?:\(RESCUER\))?:([A-Za-z_][\w.]*)",
    ),
)
