# SPDX-License-Identifier: Apache-2.0
"""``pkvfuzz crashes`` over the project's own stored crashes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from fuzzer.cli.main import main
from fuzzer.crash.store import CrashStore
from fuzzer.paths import project_root
from fuzzer.target.target import Target
from tests.unit.reports import LEFT_TIMER, in_timers
from tests.unit.test_dedup import crash

CRASHES = project_root() / "crashes"
WRITE = "KASAN: slab-out-of-bounds Write in pkv_store_write"
READ = "KASAN: slab-use-after-free Read in pkv_store_last"
FAULT = "BUG: unable to handle page fault in pkv_store_last"
DEADLOCK = "possible deadlock in pkv_mutex_read_begin"


def test_the_most_severe_comes_first(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["crashes", str(CRASHES)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [title for line in lines for title in (WRITE, READ, DEADLOCK) if title in line] == [
        WRITE,
        READ,
        DEADLOCK,
    ]
    assert lines[0].startswith(("[1] critical", "[1] high"))
    assert not any("same bug" in line for line in lines)
    assert all("reproduced 3 of 3" in line for line in lines)


def test_a_campaigns_directory_has_them_in_crashes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(CRASHES, tmp_path / "work" / "pkv" / "crashes")
    monkeypatch.chdir(tmp_path)
    assert main(["crashes", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {each["title"] for each in found} == {WRITE, READ, DEADLOCK}
    scores = [each["severity"]["score"] for each in found]
    assert scores == sorted(scores, reverse=True)
    assert all(each["path"].startswith("work/pkv/crashes/") for each in found)


def test_titles_of_one_bug_are_marked_as_such(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stored = tmp_path / "crashes"
    shutil.copytree(CRASHES, stored)
    first = stored / "kasan-slab-use-after-free-read-in-pkv-store-last"
    second = stored / "another"
    shutil.copytree(first, second)
    # The same place, met by a kernel without KASAN. Older versions stored no signature.
    record = json.loads((second / "crash.json").read_text())
    record |= {"title": FAULT, "kind": "fault"}
    record.pop("signature", None)
    (second / "crash.json").write_text(json.dumps(record))
    report = (second / "report.txt").read_text()
    stamp = report[report.rindex("\n", 0, report.index("Call Trace")) + 1 :].split(" Call")[0]
    fault = f"{stamp} BUG: unable to handle page fault for address: ffffc90000201000\n"
    (second / "report.txt").write_text(fault + report[report.index(f"{stamp} Call") :])
    assert main(["crashes", str(stored)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line[:3] for line in lines] == ["[1]", "[2]", "[3]", "[4]"]
    (marked,) = (line for line in lines if "same bug as" in line)
    earlier = next(line for line in lines if READ in line or FAULT in line)
    assert marked.endswith(f"; same bug as {earlier[:3]}")
    assert main(["crashes", "--json", str(stored)]) == 0
    found = {each["path"]: each for each in json.loads(capsys.readouterr().out)}
    one, two = found[str(first)], found[str(second)]
    assert one["signature"] == two["signature"] == "memory: pkv_store_last<pkv_do_read<pkv_read"
    assert {one["same_as"], two["same_as"]} & {str(first), str(second)}
    others = [each for path, each in found.items() if path not in {str(first), str(second)}]
    assert [each["same_as"] for each in others] == [None, None]


def test_a_likely_consequence_is_told_with_its_cause(
    tmp_path: Path, pkv_target: Target, capsys: pytest.CaptureFixture[str]
) -> None:
    store = CrashStore(tmp_path)
    cause = store.put(crash(LEFT_TIMER), pkv_target)
    later = store.put(crash(in_timers("__run_timers")), pkv_target)
    assert main(["crashes", str(tmp_path)]) == 0
    lines = {line.split("; ")[2]: line for line in capsys.readouterr().out.splitlines()}
    number = lines[str(cause)][:3]
    assert lines[str(later)].endswith(f"; likely a consequence of {number}")
    assert main(["crashes", "--json", str(tmp_path)]) == 0
    found = {each["path"]: each for each in json.loads(capsys.readouterr().out)}
    assert found[str(later)]["likely_consequence_of"] == str(cause)
    assert found[str(cause)]["likely_consequence_of"] is None


def test_a_crashs_own_directory_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["crashes", str(CRASHES / "kasan-slab-use-after-free-read-in-pkv-store-last")]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"# {READ}")
    assert "Severity: " in shown
    assert "PKV_IOC_DELETE" in shown
    assert "BUG: KASAN: slab-use-after-free in pkv_store_last" in shown


def test_nothing_stored_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["crashes", str(tmp_path)]) == 0
    assert capsys.readouterr().out == "no crashes\n"
    assert main(["crashes", str(tmp_path / "none")]) == 2
    assert "no such directory" in capsys.readouterr().err


def test_a_damaged_crash_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "crash.json").write_text("{")
    assert main(["crashes", str(tmp_path)]) == 2
    assert "damaged" in capsys.readouterr().err
