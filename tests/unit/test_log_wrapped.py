# SPDX-License-Identifier: Apache-2.0
"""Logs that a mail program or a terminal wrapped, and mails that are encoded."""

from __future__ import annotations

import quopri
import textwrap
from collections.abc import Callable, Sequence

import pytest

from fuzzer.splat.formats import plain_chunks
from fuzzer.splat.splat import Splat
from fuzzer.splat.triage import LogTriage

FAULT = """\
BUG: kernel NULL pointer dereference, address: 0000000000000018
#PF: supervisor read access in kernel mode
Oops: Oops: 0000 [#1] SMP NOPTI
CPU: 8 UID: 0 PID: 1234 Comm: meter Kdump: loaded Tainted: G           OE      6.12.0-rc4+ #107
Hardware name: Sample Super Server/H12SSW-iN, BIOS 2.4 04/13/2022
Workqueue: gauge_wq gauge_reset_task [gauge_core]
RIP: 0010:gauge_key_put_from_attribute+0x19d/0x610 [gauge_core]
RSP: 0018:ffffbb5f0082caa0 EFLAGS: 00010293
Call Trace:
 <TASK>
 gauge_validate_all_of_them.constprop.0+0x270/0x3c0 [gauge_core]
 process_one_work+0x17f/0x390
 worker_thread+0x2e9/0x470
 ret_from_fork+0x34/0x60
 </TASK>
Modules linked in: gauge_core(OE) vfat fat nfsv3 nfs_acl nfs lockd grace sunrpc scsi_transport_iscsi
---[ end trace 0000000000000000 ]---""".splitlines()
KASAN = """\
==================================================================
BUG: KASAN: slab-use-after-free in gauge_key_put_from_attribute+0x63/0x90 [gauge_core]
Read of size 8 at addr ffff888003c98400 by task meter-with-a-name/1234

CPU: 8 UID: 0 PID: 1234 Comm: meter Kdump: loaded Tainted: G           OE      6.12.0-rc4+ #107
Call Trace:
 <TASK>
 dump_stack_lvl+0x6f/0xa0
 gauge_key_put_from_attribute+0x63/0x90 [gauge_core]
 gauge_ioctl+0x63/0x90 [gauge_core]
 </TASK>
==================================================================""".splitlines()
LOCKED = """\
BUG: sleeping function called from invalid context at kernel/locking/mutex.c:580
in_atomic(): 1, irqs_disabled(): 0, non_block: 0, pid: 1234, name: meter
CPU: 8 UID: 0 PID: 1234 Comm: meter Kdump: loaded Tainted: G           OE      6.12.0-rc4+ #107
Call Trace:
 __might_resched+0x12/0x20
 mutex_lock+0x12/0x20
 gauge_key_put_from_attribute+0x63/0x90 [gauge_core]
""".splitlines()
FUNCTION = "gauge_key_put_from_attribute"


def stamped(lines: Sequence[str]) -> list[str]:
    return [f"[  306.{number:06d}] {line}" for number, line in enumerate(lines)]


def records(lines: Sequence[str]) -> list[Splat]:
    triage = LogTriage()
    triage.add_log("log", plain_chunks("log", ["\n".join(lines).encode()]))
    return [bug.finding.record for bug in triage.bugs()]


def wrapped(lines: Sequence[str], width: int = 72, before: str = "") -> list[str]:
    """Return lines as a mail program wraps them; stack frames are short enough."""
    return [
        f"{before}{part}"
        for line in lines
        for part in textwrap.wrap(line, width, break_long_words=False, break_on_hyphens=False)
        or [""]
    ]


def cut(lines: Sequence[str], width: int = 80) -> list[str]:
    """Return lines as a terminal shows them."""
    return [line[at : at + width] for line in lines for at in range(0, len(line) or 1, width)]


def quoted_printable(lines: Sequence[str]) -> list[str]:
    text = quopri.encodestring("\n".join(lines).encode()).decode()
    header = ["Subject: it crashes", "Content-Transfer-Encoding: quoted-printable", ""]
    return [*header, *text.split("\n")]


@pytest.mark.parametrize("report", [FAULT, KASAN, LOCKED], ids=["fault", "KASAN", "atomic"])
@pytest.mark.parametrize(
    "change",
    [
        wrapped,
        lambda lines: wrapped(lines, 76, "> "),
        lambda lines: wrapped(lines, 78, "> > "),
        cut,
        quoted_printable,
        lambda lines: quoted_printable(wrapped(lines, 74, "> ")),
        lambda lines: quoted_printable([f"> {each}".replace("  ", "\u00a0 ") for each in lines]),
    ],
    ids=["mail", "quoted", "quoted twice", "terminal", "encoded", "all of it", "blanks"],
)
def test_a_wrapped_log_says_the_same(
    report: list[str], change: Callable[[Sequence[str]], list[str]]
) -> None:
    (plain,) = records(stamped(report))
    (record,) = records(change(stamped(report)))
    assert (record.title, record.function, record.module) == (
        plain.title,
        FUNCTION,
        plain.module,
    )
    assert (record.kernel, record.task.name) == ("6.12.0-rc4+", "meter")


def test_a_log_without_stamps_is_put_together_too() -> None:
    lines = [part for line in FAULT for part in (wrapped([line]) if line[:1] != " " else [line])]
    (record,) = records(["Hello,", "", "it crashed again this night.", "", *lines])
    assert (record.function, record.kernel) == (FUNCTION, "6.12.0-rc4+")


def test_lines_of_others_are_no_rest_of_a_line() -> None:
    """A console has lines of programs, which have no stamp."""
    lines = stamped(FAULT)
    lines[4:4] = ["tool: started", "[gauge_core]", "0000000000000010", "executing program"]
    (record,) = records(lines)
    assert (record.function, record.kernel) == (FUNCTION, "6.12.0-rc4+")
    assert record.title == "BUG: NULL pointer dereference in gauge_key_put_from_attribute"


def test_two_first_lines_are_two() -> None:
    lines = [
        "BUG: memory leak",
        "unreferenced object 0xffff888003c98400 (size 64):",
        '  comm "meter", pid 1234, jiffies 4294937296',
        "  backtrace:",
        "    gauge_open+0x63/0x90 [gauge_core]",
    ]
    (record,) = records(lines)
    assert record.title == "memory leak in gauge_open"


def test_kernels_of_2_6_name_the_module_first() -> None:
    (record,) = records(
        [
            "BUG: unable to handle kernel NULL pointer dereference at 0000000000000018",
            "IP: [<ffffffffa0099645>] :gauge_core:gauge_put+0xb5/0x100",
            "Oops: 0000 [#1] SMP ",
            "Pid: 1966, comm: meter Not tainted 2.6.26.2 #1",
            "RIP: 0010:[<ffffffffa0099645>]  [<ffffffffa0099645>] :gauge_core:gauge_put+0xb5/0x100",
            "Call Trace:",
            " [<ffffffffa021bf0d>] :gauge_core:gauge_exit+0x1d/0x40",
            "",
        ]
    )
    assert (record.function, record.kernel, record.task.name) == ("gauge_put", "2.6.26.2", "meter")
    assert record.module
    assert record.module.name == "gauge_core"


def test_a_word_that_was_cut_anywhere_is_one_again() -> None:
    lines = [
        "[   65.486850] kernel BUG at drivers/gauge.c:9!",
        "[   65.486853] CPU: 0 UID: 0 PID: 2872 Comm: (sd-copy) Not taint",
        "ed 6.16.1 #1 PREEMPT(full)",
        "[   65.486855] Call Trace:",
        "[   65.486859]  gauge_put+0x1/0x2 [gauge]",
    ]
    (record,) = records(lines)
    assert (record.task.name, record.kernel) == ("(sd-copy)", "6.16.1")


def test_another_programs_word_in_brackets_is_no_module() -> None:
    lines = [
        "[   22.740146] BUG: looking up invalid subclass: 4294967295",
        "[   22.745847] Call Trace:",
        "[   22.752671]  [<cb3be762>] gauge_delete+0x6e/0xca",
        "[   22.759375]  [<cb49e9eb>] sysenter_past_esp+0x40/0x6a",
        "[init] ",
    ]
    (record,) = records(lines)
    assert (record.function, record.module) == ("gauge_delete", None)
