# SPDX-License-Identifier: Apache-2.0
"""Explanations of crashes whose titles do not say what is wrong."""

from __future__ import annotations

import pytest

from fuzzer.crash.meaning import meaning_of
from fuzzer.program.ops import Op
from fuzzer.program.program import Call
from fuzzer.program.wire import encode

UNLOAD = encode((Call(Op.UNLOAD),))
READ = encode((Call(Op.READ, arg=8),))
KASAN = """BUG: KASAN: vmalloc-out-of-bounds in filp_flush+0x162/0x170
Read of size 8 at addr ffffffffa00021d0 by task init/27
"""
FAULT = "BUG: unable to handle page fault for address: ffffffffa0002050\n"


@pytest.mark.parametrize("report", [KASAN, FAULT])
def test_memory_of_a_module_that_is_gone_is_told(report: str) -> None:
    assert ".owner" in meaning_of(report, (READ, UNLOAD))


@pytest.mark.parametrize(
    ("report", "program"),
    [
        (KASAN, READ),
        (KASAN.replace("ffffffffa00021d0", "ffff888003a8cb00"), UNLOAD),
        ("WARNING: CPU: 0 PID: 1 at m.c:3 f+0x1/0x2", UNLOAD),
        ("", UNLOAD),
    ],
)
def test_of_other_crashes_nothing_is_said(report: str, program: bytes) -> None:
    assert meaning_of(report, (program,)) == ""
