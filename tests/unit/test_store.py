# SPDX-License-Identifier: Apache-2.0
"""The crash store: whole or not there, and readable again."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from fuzzer.crash.store import Crash, CrashStore, Identity, read_crash, slug_of
from fuzzer.errors import BadInputError
from fuzzer.program.program import Call, Op
from fuzzer.program.wire import encode
from fuzzer.target.target import Target

TITLE = "KASAN: slab-use-after-free Read in pkv_read"


def crash(**changes: object) -> Crash:
    found = Crash(
        title=TITLE,
        kind="kasan",
        function="pkv_read",
        judged_on="full",
        reproduced=3,
        runs=3,
        sightings=1,
        sighted_as=(TITLE,),
        identity=Identity("pkv", "module/pkv.yaml", "stale-last", "full k", "d", "q", "tcg"),
        report="BUG: KASAN\n",
        first_log="seen\n",
        program=encode((Call(Op.WRITE, data=b"a=1\n"), Call(Op.READ, arg=64))),
        history=(b"", encode((Call(Op.READ, arg=1),))),
        first_run=(b"one", b"two", b"three"),
    )
    return dataclasses.replace(found, **changes)  # type: ignore[arg-type]


def test_a_stored_crash_reads_back_the_same(tmp_path: Path, pkv_target: Target) -> None:
    path = CrashStore(tmp_path).put(crash(), pkv_target)
    assert path.name == "kasan-slab-use-after-free-read-in-pkv-read"
    assert read_crash(path) == crash()
    assert 'write(f0, "a=1\\n")' in (path / "program.prog").read_text()


def test_a_crash_stored_before_there_were_schedules_has_none(
    tmp_path: Path, pkv_target: Target
) -> None:
    path = CrashStore(tmp_path).put(crash(exact=True), pkv_target)
    assert read_crash(path) == crash(exact=True)
    record = json.loads((path / "crash.json").read_text())
    del record["exact"]
    (path / "crash.json").write_text(json.dumps(record))
    assert read_crash(path) == crash()


def test_a_bundle_is_the_same_when_made_again(tmp_path: Path, pkv_target: Target) -> None:
    first = CrashStore(tmp_path / "a").put(crash(), pkv_target)
    again = CrashStore(tmp_path / "b").put(crash(), pkv_target)
    files = sorted(path.name for path in first.iterdir())
    assert {"README.md", "report.json", "repro.c", "pkv.h"} <= set(files)
    for name in files:
        assert (first / name).read_bytes() == (again / name).read_bytes()
        assert str(tmp_path).encode() not in (first / name).read_bytes()


def test_the_same_title_twice_is_one_directory(tmp_path: Path, pkv_target: Target) -> None:
    store = CrashStore(tmp_path)
    store.put(crash(sightings=1), pkv_target)
    store.put(crash(sightings=2), pkv_target)
    assert [each.sightings for each in store.all()] == [2]


def test_what_was_judged_is_not_replaced_by_what_was_not(
    tmp_path: Path, pkv_target: Target
) -> None:
    store = CrashStore(tmp_path)
    store.put(crash(), pkv_target)
    store.put(crash(runs=0, reproduced=0), pkv_target)
    assert store.all()[0].runs == 3


def test_sightings_are_added_up_over_the_titles_of_a_crash(
    tmp_path: Path, pkv_target: Target
) -> None:
    store = CrashStore(tmp_path)
    store.put(crash(sighted_as=("a", "b")), pkv_target)
    store.update_sightings({"a": 4, "b": 3, "other": 9})
    assert store.all()[0].sightings == 7


def test_a_killed_write_is_undone(tmp_path: Path, pkv_target: Target) -> None:
    store = CrashStore(tmp_path)
    final = store.put(crash(), pkv_target)
    # Killed between moving the old one away and the new one in.
    final.rename(tmp_path / f".{final.name}.123.old")
    (tmp_path / f".{final.name}.123").mkdir()
    store.recover()
    assert read_crash(final) == crash()
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", final.name]


@pytest.mark.parametrize("name", ["crash.json", "program.bin", "report.txt", "history.bin"])
def test_a_missing_file_is_told_by_name(tmp_path: Path, pkv_target: Target, name: str) -> None:
    path = CrashStore(tmp_path).put(crash(), pkv_target)
    (path / name).unlink()
    with pytest.raises(BadInputError, match=name):
        read_crash(path)


def test_a_crash_without_the_record_of_its_first_run_can_be_read(
    tmp_path: Path, pkv_target: Target
) -> None:
    path = CrashStore(tmp_path).put(crash(), pkv_target)
    (path / "first-seen.bin").unlink()
    assert read_crash(path) == crash(first_run=())


@pytest.mark.parametrize("name", ["crash.json", "program.bin", "history.bin", "first-seen.bin"])
def test_a_truncated_file_is_told(tmp_path: Path, pkv_target: Target, name: str) -> None:
    path = CrashStore(tmp_path).put(crash(), pkv_target) / name
    path.write_bytes(path.read_bytes()[: 5 if name != "program.bin" else 0])
    with pytest.raises(BadInputError, match="damaged"):
        read_crash(path.parent)


def test_another_format_is_refused(tmp_path: Path, pkv_target: Target) -> None:
    path = CrashStore(tmp_path).put(crash(), pkv_target) / "crash.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, "format": 99}))
    with pytest.raises(BadInputError, match="format 99"):
        read_crash(path.parent)


def test_slugs_are_plain_file_names() -> None:
    assert slug_of("BUG: ../../etc in <x>") == "bug-etc-in-x"
    assert slug_of("???") == "crash"
    assert len(slug_of("x" * 500)) <= 80
