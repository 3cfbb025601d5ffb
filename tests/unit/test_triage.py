# SPDX-License-Identifier: Apache-2.0
"""``pkvfuzz triage``: distinct reports, same bugs, exit codes."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from fuzzer.cli.main import main
from fuzzer.report.triage import printable
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


def score(text: str, **facts: bool) -> int:
    (record,) = all_splats(text.splitlines(), Facts(**facts))
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
    assert score(write) > score(KASAN) > score(KASAN, needs_race=True)
    assert score(KASAN) > score(KASAN, needs_fault=True)
    assert score(KASAN, size_controlled=True) > score(KASAN, size_controlled=False)
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
    assert lines[1].startswith("[2] medium 25      2x  WARNING in td_warn  (")
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


def test_the_same_bug_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "two.log"
    log.write_text(KASAN + GPF)
    assert main(["triage", str(log)]) == 1
    assert "the same bug as [1]" in capsys.readouterr().out
    assert main(["triage", "--json", str(log)]) == 1
    first, second = json.loads(capsys.readouterr().out)["reports"]
    assert (first["same_bug_as"], second["same_bug_as"]) == (None, first["title"])


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


def test_a_terminal_takes_nothing_of_a_log_for_a_command() -> None:
    assert printable("\x1b[2Jé\n\x07") == "�[2Jé\n�"
