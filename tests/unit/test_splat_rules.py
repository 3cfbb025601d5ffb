# SPDX-License-Identifier: Apache-2.0
"""The rules: each has an example, which it alone is responsible for."""

from __future__ import annotations

import pytest

from fuzzer.splat.analyse import all_splats
from fuzzer.splat.find import find_splat
from fuzzer.splat.rules import HINTS, RULES, Rule, first_match

STACK = [
    "CPU: 0 UID: 0 PID: 27 Comm: init Tainted: G           O       6.12.117 #1",
    "Call Trace:",
    " <TASK>",
    " dump_stack_lvl+0x6f/0xa0",
    " drv_guilty+0x63/0x90 [drv]",
    " entry_SYSCALL_64_after_hwframe+0x4b/0x53",
    " </TASK>",
]
# One side of a race.
RACE = [
    "read to 0xffff888003c98400 of 4 bytes by task 27 on cpu 0:",
    " drv_guilty+0x63/0x90 [drv]",
    " entry_SYSCALL_64_after_hwframe+0x4b/0x53",
]

HARMLESS = (
    "traps: init[27] general protection fault ip:430f2a sp:7ffc error:0 in init[401000+7d000]",
    "init[27]: segfault at 7fa27a1f0000 ip 0000000000430f2a sp 00007ffcd5651208 error 4",
    "mydrv: DEBUG: state 3",
    "mydrv: the WARNING: lamp is on, KASAN: is a word",
    "INFO: lockdep is turned off.",
    "Linux agpgart interface v0.103",
    "EXT4-fs (sda1): warning: mounting fs with errors",
    "FAULT_INJECTION: forcing a failure.",
    "drv: version 1.2",
    "reboot: Restarting system",
    "Command line: console=ttyS0 oops=panic BUG: WARNING: CPU: 0 PID: 1 at x",
    "pkv: module verification failed: signature and/or required key missing - tainting kernel",
)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.example[:50])
def test_an_example_is_its_own_rule_s(rule: Rule) -> None:
    found = first_match(rule.example)
    assert found
    assert found[0] is rule
    assert rule.hint in rule.example
    assert any(hint in rule.example for hint in HINTS)


# The first "Linux version" is a boot.
@pytest.mark.parametrize(
    "rule", [r for r in RULES if r.kind != "reboot"], ids=lambda rule: rule.example[:50]
)
def test_an_example_with_a_stack_is_a_report_with_a_title(rule: Rule) -> None:
    stack = [*RACE, "", *RACE] if rule.kind == "kcsan" else STACK
    (record,) = all_splats([rule.example, *stack])
    assert (record.kind, record.crash) == (rule.kind, rule.crash)
    assert record.corrupted is None or rule.kind == "lost"
    assert "{" not in record.title
    assert ("drv_guilty" in record.title) == ("{function}" in rule.title)
    assert (find_splat([rule.example, *stack]) is not None) == rule.crash


# The stack protector's line says itself which function it was.
@pytest.mark.parametrize(
    "rule",
    [r for r in RULES if not (r.site and r.site.search(r.example))],
    ids=lambda rule: rule.example[:50],
)
def test_a_first_line_alone_names_the_function_that_it_has_or_none(rule: Rule) -> None:
    for record in all_splats([rule.example]):
        if record.function is not None:
            assert f"{record.function}+0x" in rule.example
        else:
            assert record.corrupted or "{function}" not in rule.title


@pytest.mark.parametrize("text", HARMLESS)
def test_a_harmless_line_starts_no_report(text: str) -> None:
    assert all_splats([text, *STACK]) == []


def test_every_sanitizer_check_of_ubsan_has_its_name_in_the_title() -> None:
    checks = (
        "signed-integer-overflow unsigned-integer-overflow negation-overflow division-overflow "
        "null-ptr-deref misaligned-access object-size-mismatch array-index-out-of-bounds "
        "shift-out-of-bounds unreachable invalid-load alignment-assumption"
    )
    for check in checks.split():
        found = find_splat([f"UBSAN: {check} in drivers/drv.c:18:3", *STACK])
        assert found
        assert found.title == f"UBSAN: {check} in drv_guilty"
