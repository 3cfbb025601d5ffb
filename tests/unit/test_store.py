# SPDX-License-Identifier: Apache-2.0
"""The crash store: whole or not there, and readable again."""

from __future__ import annotations

import dataclasses
import itertools
import json
import shutil
import threading
from pathlib import Path

import pytest

from fuzzer.campaign.subject import description_of
from fuzzer.cli.main import main
from fuzzer.crash.crash import Crash, Identity
from fuzzer.crash.store import CrashStore, read_crash, slug_of
from fuzzer.driver.source_build import driver_directory
from fuzzer.errors import BadInputError
from fuzzer.program import batch
from fuzzer.program.ops import Op
from fuzzer.program.program import Call
from fuzzer.program.wire import encode
from fuzzer.target.target import Target, load_target

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


@pytest.mark.parametrize(
    ("name", "length"),
    [
        *itertools.product(["crash.json", "program.bin", "history.bin"], [0, 5, -1]),
        ("first-seen.bin", 5),
        ("first-seen.bin", -1),
    ],
)
def test_a_truncated_file_is_told(
    tmp_path: Path, pkv_target: Target, name: str, length: int
) -> None:
    path = CrashStore(tmp_path).put(crash(), pkv_target) / name
    path.write_bytes(path.read_bytes().rstrip(b"\n")[:length])
    with pytest.raises(BadInputError, match="damaged"):
        read_crash(path.parent)


def test_a_crash_of_a_program_without_calls_can_be_read(tmp_path: Path, pkv_target: Target) -> None:
    made = crash(program=b"", original=b"", history=(b"first", b""))
    path = CrashStore(tmp_path).put(made, pkv_target)
    assert read_crash(path) == made
    # Of one that an older version stored nothing is known.
    record = json.loads((path / "crash.json").read_text())
    del record["program_bytes"]
    (path / "crash.json").write_text(json.dumps(record))
    with pytest.raises(BadInputError, match=r"damaged .*0 bytes, not some"):
        read_crash(path)


def test_a_history_that_ends_between_two_programs_is_told(
    tmp_path: Path, pkv_target: Target
) -> None:
    path = CrashStore(tmp_path).put(crash(history=(b"first", b"second")), pkv_target)
    (path / "history.bin").write_bytes(batch.pack([b"first"]))
    with pytest.raises(BadInputError, match=r"damaged .*1 programs, not 2"):
        read_crash(path)


def test_another_format_is_refused(tmp_path: Path, pkv_target: Target) -> None:
    path = CrashStore(tmp_path).put(crash(), pkv_target) / "crash.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, "format": 99}))
    with pytest.raises(BadInputError, match="format 99"):
        read_crash(path.parent)


def test_all_can_be_read_while_they_are_replaced_and_removed(
    tmp_path: Path, pkv_target: Target
) -> None:
    store = CrashStore(tmp_path)
    store.put(crash(), pkv_target)
    done = threading.Event()

    def replace() -> None:
        for number in range(150):
            store.put(crash(sightings=number), pkv_target)
            store.put(crash(title="KASAN: another"), pkv_target)
            store.remove("KASAN: another")
        done.set()

    thread = threading.Thread(target=replace)
    thread.start()
    reads = 0
    while not done.is_set():
        assert len(store.all()) <= 2
        reads += 1
    thread.join()
    assert reads > 10


def test_what_is_half_removed_is_no_crash(tmp_path: Path, pkv_target: Target) -> None:
    store = CrashStore(tmp_path)
    store.put(crash(), pkv_target).rename(tmp_path / ".kasan-another.1.gone")
    assert store.all() == []


def test_slugs_are_plain_file_names() -> None:
    assert slug_of("BUG: ../../etc in <x>") == "bug-etc-in-x"
    assert slug_of("???") == "crash"
    assert len(slug_of("x" * 500)) <= 80


def test_a_crash_has_its_signature_and_its_raw_log(tmp_path: Path, pkv_target: Target) -> None:
    stored = crash(log=b"4,1,1000,-;BUG: KASAN\xff\n", also_titles=("general protection fault",))
    path = CrashStore(tmp_path).put(stored, pkv_target)
    assert (path / "log.txt").read_bytes() == stored.log
    assert read_crash(path) == stored
    record = json.loads((path / "crash.json").read_text())
    assert record["signature"] == str(stored.signature)
    assert record["also_titles"] == ["general protection fault"]


def test_what_an_older_version_stored_reads_and_gets_a_signature(
    tmp_path: Path, pkv_target: Target
) -> None:
    path = CrashStore(tmp_path).put(crash(), pkv_target)
    record = json.loads((path / "crash.json").read_text())
    for name in ("signature", "also_titles"):
        del record[name]
    for name in ("release", "compiler", "config", "driver_compiler", "pkvfuzz"):
        del record["identity"][name]
    (path / "crash.json").write_text(json.dumps(record))
    assert read_crash(path) == crash()


def test_what_a_newer_version_knows_of_an_identity_does_no_harm(
    tmp_path: Path, pkv_target: Target
) -> None:
    path = CrashStore(tmp_path).put(crash(), pkv_target)
    record = json.loads((path / "crash.json").read_text())
    record["identity"]["colour"] = "blue"
    (path / "crash.json").write_text(json.dumps(record))
    assert read_crash(path) == crash()


def test_a_directory_of_any_name_can_be_written_in_place(
    tmp_path: Path, pkv_target: Target
) -> None:
    store = CrashStore(tmp_path)
    mine = store.put(crash(), pkv_target).rename(tmp_path / "mine")
    store.put_at(mine, crash(sightings=9), pkv_target)
    assert [(path.name, each.sightings) for path, each in store.entries()] == [("mine", 9)]


def test_the_versions_are_in_the_readme(tmp_path: Path, pkv_target: Target) -> None:
    exact = dataclasses.replace(
        crash().identity, release="6.12.1", compiler="gcc 12", config="abcd", pkvfuzz="9.9"
    )
    path = CrashStore(tmp_path).put(crash(identity=exact), pkv_target)
    readme = (path / "README.md").read_text()
    for row in (
        "| kernel | 6.12.1 (full k) |",
        "| kernel's configuration | abcd |",
        "| kernel's compiler | gcc 12 |",
        "| pkvfuzz | 9.9 |",
    ):
        assert row in readme


@pytest.fixture
def drv(tmp_path: Path) -> Path:
    """Return the description of a driver that is not the project's."""
    directory = tmp_path / "drv"
    (directory / "include").mkdir(parents=True)
    (directory / "Kbuild").write_text("obj-m := drv.o\n")
    (directory / "include" / "drv.h").write_text("#define DRV_GO 1\n")
    path = directory / "drv.yaml"
    path.write_text(
        "version: 1\nname: drv\ndevice: /dev/drv\nmodule: {source: ., name: drv}\n"
        "header: include/drv.h\ncalls: [{ioctl: DRV_GO}]\n"
    )
    return path


def test_a_foreign_description_is_found_where_it_was_and_in_a_copy(
    tmp_path: Path, drv: Path
) -> None:
    identity = dataclasses.replace(crash().identity, target="drv", description=str(drv))
    stored = crash(identity=identity)
    path = CrashStore(tmp_path / "work" / "crashes").put(stored, load_target(drv))
    assert not any(str(tmp_path).encode() in f.read_bytes() for f in path.iterdir() if f.is_file())
    found = read_crash(path).identity
    assert found.description == "../../../drv/drv.yaml"
    place = description_of(found, path)
    assert place
    assert place.resolve() == drv
    # Elsewhere, there is what the bundle has.
    copy = tmp_path / "some" / "where" / "else" / "mine"
    shutil.copytree(path, copy)
    assert description_of(found, copy) == copy / "drv.yaml"
    with pytest.raises(BadInputError, match="holds no driver"):
        driver_directory(copy)
    # With the driver beside it, it is complete.
    shutil.copy(drv.parent / "Kbuild", copy)
    assert driver_directory(copy) == copy
    assert load_target(copy / "drv.yaml").headers == (copy / "include" / "drv.h",)
    (copy / "drv.yaml").unlink()
    assert description_of(found, copy) is None


def test_a_copy_whose_driver_is_missing_asks_for_it(
    tmp_path: Path, drv: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    identity = dataclasses.replace(crash().identity, target="drv", description=str(drv))
    path = CrashStore(tmp_path / "a").put(crash(identity=identity), load_target(drv))
    copy = tmp_path / "b" / "c" / "mine"
    shutil.copytree(path, copy)
    assert main(["replay", str(copy)]) == 2
    told = capsys.readouterr().err
    assert "holds no driver" in told
    assert "--target" in told
