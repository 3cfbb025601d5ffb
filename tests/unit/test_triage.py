# SPDX-License-Identifier: Apache-2.0
"""``pkvfuzz triage``: distinct reports, same bugs, exit codes."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from fuzzer.cli.main import main
from fuzzer.splat.analyse import all_splats
from fuzzer.splat.severity import Facts
from fuzzer.splat.signature import signature_of
from tests.unit.splats import DATA, read_lines

SPLATS = DATA / "splats"
GOLDEN = DATA.parent.parent / "data" / "golden"

KASAN = """\
BUG: KASAN: slab-use-after-free in drv_last+0x63/0x90 [drv]
Read of size 8 at addr ffff888003c98400 by task init/27
Call Trace:
 <TASK>
 kasan_report+0xf4/0x130
 drv_last+0x63/0x90 [drv]
 drv_read+0x76/0x37d [drv]
 vfs_read+0x1/0x2
 </TASK>
"""
GPF = """\
Oops: general protection fault, probably for non-canonical address 0xdead000000000100: 0000 [#1]
RIP: 0010:drv_last+0x33/0x70 [drv]
Call Trace:
 <TASK>
 drv_read+0x66/0x30d [drv]
 vfs_read+0x1/0x2
 </TASK>
---[ end trace 0000000000000000 ]---
"""
FAULT = """\
BUG: unable to handle page fault for address: ffffc90000201000
#PF: supervisor read access in kernel mode
Oops: Oops: 0000 [#1] SMP
RIP: 0010:memcpy+0x33/0x70
Call Trace:
 <TASK>
 drv_last+0x31/0x70 [drv]
 drv_read+0x66/0x30d [drv]
 vfs_read+0x1/0x2
 </TASK>
---[ end trace 0000000000000000 ]---
"""
ELSEWHERE = KASAN.replace("drv_last", "drv_first")


def only(text: str, facts: Facts | None = None) -> str:
    (record,) = all_splats(text.splitlines(), facts or Facts())
    return str(signature_of(record))


def score(text: str, facts: Facts | None = None) -> int:
    (record,) = all_splats(text.splitlines(), facts or Facts())
    return record.severity.score


def test_one_bug_has_one_signature_whatever_noticed_it() -> None:
    assert only(KASAN) == only(GPF) == only(FAULT)
    assert only(KASAN) != only(ELSEWHERE)


def test_a_deadlock_is_the_same_from_either_side() -> None:
    text = (SPLATS / "pkv-lock-order-full.log").read_text()
    turned = text.replace("pkv_llseek", "pkv_write").replace("&pkv.lock", "&pkv.x")
    turned = turned.replace("&pkv.size_lock", "&pkv.lock").replace("&pkv.x", "&pkv.size_lock")
    assert only(text) == only(turned)


def test_timers_that_leak_are_told_apart_though_only_the_core_is_in_the_stack() -> None:
    text = (GOLDEN / "timer-preempt-leak.log").read_text()
    assert only(text) == only(text)
    assert "prov_timer_leaks" in only(text)
    assert only(text) != only(text.replace("prov_timer_leaks", "prov_timer_other"))


def test_a_write_is_worse_than_a_read_and_a_race_less_bad() -> None:
    write = KASAN.replace("Read of", "Write of")
    assert score(write) > score(KASAN) > score(KASAN, Facts(needs_race=True))
    assert score(KASAN) > score(KASAN, Facts(needs_fault=True))
    assert score(KASAN, Facts(size_controlled=True)) > score(KASAN, Facts(size_controlled=False))
    null = FAULT.replace("ffffc90000201000", "0000000000000008")
    assert score(FAULT) > score(null)


def test_a_clean_log_is_exit_code_0(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "clean.log"
    log.write_text("[    1.000000] drv: ready\n" * 1000)
    assert main(["triage", str(log)]) == 0
    assert capsys.readouterr().out == "no kernel report in 1,000 lines\n"


def test_reports_are_exit_code_1_and_a_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    logs = [str(SPLATS / f"{name}.log") for name in ("warn", "uaf-user", "warn", "noise")]
    assert main(["triage", *logs]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("[1] high 65        1x  KASAN: slab-use-after-free Read in")
    assert lines[1].startswith("[2] medium 25      2x  WARNING in td_warn [testdrv]  (")
    assert lines[1].count("warn.log:2") == 2
    assert lines[2] == ""


def test_json_has_every_report_with_its_places(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["triage", "--json", str(SPLATS / "uaf-user.log")]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["lines"] == len(read_lines(SPLATS / "uaf-user.log"))
    (report,) = told["reports"]
    assert report["where"] == [{"log": str(SPLATS / "uaf-user.log"), "line": 2}]
    assert report["access"]["address"] == "0xffff888003c98400"
    assert report["object"]["cache"] == "kmalloc-128"
    assert [stack["role"] for stack in report["stacks"]] == ["fault", "alloc", "free"]


def test_one_bug_is_one_finding_whatever_titles_it_has(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "two.log"
    log.write_text(KASAN + GPF)
    assert main(["triage", str(log)]) == 1
    out = capsys.readouterr().out
    assert "also reported as: general protection fault in drv_last  (" in out
    assert "[2]" not in out
    assert main(["triage", "--json", str(log)]) == 1
    (report,) = json.loads(capsys.readouterr().out)["reports"]
    assert report["title"] == "KASAN: slab-use-after-free Read in drv_last"
    (other,) = report["others"]
    assert other["title"] == "general protection fault in drv_last"
    assert other["where"] == [{"log": str(log), "line": 10}]


CAUSE = """\
BUG: kernel NULL pointer dereference, address: 0000000000000010
Oops: Oops: 0000 [#1] PREEMPT SMP
CPU: 1 UID: 0 PID: 321 Comm: tool Tainted: G           OE      6.12.10 #1
RIP: 0010:drv_put+0x12/0x40 [drv]
Call Trace:
 <TASK>
 drv_ioctl+0x55/0x90 [drv]
 </TASK>
Modules linked in: other(E) drv(OE+) [last unloaded: gone(O)]
---[ end trace 0000000000000000 ]---
"""
CONSEQUENCE = """\
BUG: unable to handle page fault for address: ffffc90000105000
#PF: supervisor write access in kernel mode
Oops: Oops: 0002 [#2] PREEMPT SMP
CPU: 1 UID: 0 PID: 321 Comm: tool Tainted: G      D    OE      6.12.10 #1
RIP: 0010:lost_it+0x12/0x40
Call Trace:
 <TASK>
 do_exit+0x94/0xd0
 </TASK>
---[ end trace 0000000000000000 ]---
"""


def reports_of(log: Path, capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    assert main(["triage", "--json", str(log)]) == 1
    reports: list[dict[str, Any]] = json.loads(capsys.readouterr().out)["reports"]
    return reports


def test_a_cause_is_before_its_consequence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "two.log"
    log.write_text(CAUSE + CONSEQUENCE)
    cause, consequence = reports_of(log, capsys)
    assert cause["severity"]["score"] < consequence["severity"]["score"]
    assert (cause["after"], consequence["after"]) == (None, cause["title"])
    assert main(["triage", str(log)]) == 1
    assert f"likely a consequence of: {cause['title']}" in capsys.readouterr().out


def test_what_happens_without_a_cause_too_is_no_consequence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "three.log"
    first = CONSEQUENCE.replace("[#2]", "[#1]").replace("G      D    OE", "G           OE")
    log.write_text(CAUSE + CONSEQUENCE + "Linux version 6.12.10 (a@b) #1 SMP\n" + first)
    assert not any(report["after"] for report in reports_of(log, capsys))
    log.write_text(CONSEQUENCE)
    assert [report["after"] for report in reports_of(log, capsys)] == [None]


def test_the_module_is_told_with_its_marks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "one.log"
    log.write_text(CAUSE)
    assert main(["triage", str(log)]) == 1
    out = capsys.readouterr().out
    assert out.splitlines()[0].endswith(f"in drv_put [drv]  ({log}:1)")
    assert "  module: drv (out of tree, unsigned, being loaded)" in out
    assert "--module drv.ko" in out
    (report,) = reports_of(log, capsys)
    marks = ["out of tree", "unsigned", "being loaded"]
    assert report["module"] == {"name": "drv", "marks": marks}


@pytest.mark.parametrize(
    ("first", "source"),
    [
        ("UBSAN: shift-out-of-bounds in drivers/drv.c:183:11", "drivers/drv.c:183"),
        ("WARNING: CPU: 0 PID: 2 at /b/drv.c:5 drv_x+0x1/0x2 [drv]", "/b/drv.c:5"),
        ("kernel BUG at lib/drv.c:12!", "lib/drv.c:12"),
    ],
)
def test_the_source_line_that_a_check_prints_is_told(first: str, source: str) -> None:
    (record,) = all_splats([first, *KASAN.splitlines()[2:]])
    assert record.source == source


HUNG = """\
INFO: task tool:27 blocked for more than 122 seconds.
      Tainted: G           OE      6.12.10 #1
task:tool            state:D stack:0     pid:27    tgid:27    ppid:1      flags:0x00004002
Call Trace:
 <TASK>
 __schedule+0x3f0/0x9d0
 schedule_preempt_disabled+0x15/0x30
 __mutex_lock.constprop.0+0x3a0/0x700
 drv_write+0x33/0x80 [drv]
 </TASK>
"""
LOCKS = """\

Showing all locks held in the system:
1 lock held by khungtaskd/30:
 #0: ffffffff82f1c2a0 (rcu_read_lock){....}-{1:2}, at: debug_show_all_locks+0x36/0x1a0
2 locks held by tool/27:
 #0: ffff888003c98400 (sb_writers#4){.+.+}-{0:0}, at: ksys_write+0x6c/0xf0
 #1: ffff888003c98500 (&drv->lock){+.+.}-{3:3}, at: drv_write+0x33/0x80 [drv]
1 lock held by worker/31:
 #0: ffff888003c98500 (&drv->lock){+.+.}-{3:3}, at: drv_read.isra.0+0x12/0x80 [drv]
"""
OWNER = "INFO: task tool:27 is blocked on a mutex likely owned by task worker:31.\n"


def test_who_holds_the_lock_is_told_of_a_hung_task(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "hung.log"
    log.write_text(HUNG + LOCKS)
    assert main(["triage", str(log)]) == 1
    out = capsys.readouterr().out
    assert "  waits for &drv->lock, held by worker/31 (taken in drv_read)" in out
    assert "held by khungtaskd" not in out
    log.write_text(HUNG + OWNER)
    (report,) = reports_of(log, capsys)
    (holder,) = report["holders"]
    assert (holder["task"], holder["pid"]) == ("worker", 31)


def test_what_a_severity_means_is_told() -> None:
    def meaning(text: str) -> str:
        (record,) = all_splats(text.splitlines())
        return record.severity.meaning

    assert meaning(KASAN).startswith("memory bug")
    assert meaning(CAUSE).startswith("no memory is damaged")
    warning = "WARNING: CPU: 0 PID: 2 at /b/drv.c:5 drv_x+0x1/0x2 [drv]"
    assert "harmless unless" in meaning(warning)
    assert meaning("drv: Unknown symbol drv_helper (err -2)") == "not a kernel bug"


def test_a_bug_report_has_what_is_known_and_what_the_kernel_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "one.log"
    log.write_text(CAUSE + "drv: ready\n")
    assert main(["triage", "--bug-report", str(log)]) == 1
    out = capsys.readouterr().out
    assert out.startswith("Subject: BUG: NULL pointer dereference in drv_put [drv]\n\n")
    assert CAUSE in out
    assert "kernel: 6.12.10, tainted" in out
    log.write_text("drv: ready\n")
    assert main(["triage", "--bug-report", str(log)]) == 0
    assert capsys.readouterr().out == "no crash in 1 lines\n"


def test_a_notice_is_told_and_is_no_crash(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["triage", str(DATA / "splats-made" / "modules.log")]) == 0
    assert "notice" in capsys.readouterr().out


def test_standard_input_is_a_log(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(KASAN.encode())))
    assert main(["triage", "-"]) == 1
    assert "(stdin:1)" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["no-such.log"], ["."], []])
def test_what_cannot_be_read_is_exit_code_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["triage", *arguments]) == 2
    assert "Traceback" not in capsys.readouterr().err
