# SPDX-License-Identifier: Apache-2.0
"""Damaged files in a working directory: set aside, named, and no campaign is stopped by them."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest

from fuzzer.atomic import DAMAGED
from fuzzer.campaign.workdir import Workdir, program_name
from fuzzer.crash.store import read_crash
from fuzzer.engine.import_queue import import_directory
from fuzzer.errors import BadInputError, InfrastructureError
from fuzzer.paths import project_root
from fuzzer.program.ops import Op
from fuzzer.program.program import Call
from fuzzer.program.wire import encode
from fuzzer.target.target import Target

CRASHES = project_root() / "crashes"
READ = encode((Call(Op.READ, arg=64),))


@pytest.fixture
def workdir(tmp_path: Path) -> Workdir:
    """Return a working directory with a program and three crashes."""
    workdir = Workdir(tmp_path / "work")
    with workdir.opened("pkv", None):
        workdir.add_program(READ)
    shutil.copytree(CRASHES, workdir.crashes.directory)
    return workdir


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b"[" * 100_000])
def test_a_bad_crash_is_set_aside_and_the_others_stay(
    workdir: Workdir, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    bad, *_ = sorted(path for path in workdir.crashes.directory.iterdir() if path.is_dir())
    (bad / "crash.json").write_bytes(content)
    assert len(workdir.crashes.all()) == 2
    with workdir.opened("pkv", None):
        assert len(workdir.crashes.all()) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert str(bad / "crash.json") in line
    (aside,) = (workdir.root / DAMAGED).iterdir()
    assert str(aside) in line
    assert (aside / "crash.json").read_bytes() == content
    assert not bad.exists()
    with workdir.opened("pkv", None):
        assert capsys.readouterr().err == ""


def test_a_crash_of_the_same_title_takes_the_place_of_a_bad_one_that_is_kept(
    workdir: Workdir, pkv_target: Target
) -> None:
    bad, *_ = sorted(path for path in workdir.crashes.directory.iterdir() if path.is_dir())
    crash = read_crash(bad)
    (bad / "crash.json").write_text("{")
    assert workdir.crashes.put(crash, pkv_target) == bad
    assert read_crash(bad).title == crash.title
    assert [path.name.startswith(bad.name) for path in (workdir.root / DAMAGED).iterdir()] == [True]


@pytest.mark.parametrize("is_queued", [False, True])
def test_what_is_no_program_is_set_aside(
    workdir: Workdir, capsys: pytest.CaptureFixture[str], *, is_queued: bool
) -> None:
    place = import_directory(workdir.root) if is_queued else workdir.corpus
    place.mkdir(exist_ok=True)
    lost = program_name(READ + READ)
    (place / lost).touch()
    (place / program_name(b"cut")).write_bytes(b"cu")
    (place / "directory").mkdir()
    os.mkfifo(place / "pipe")
    (place / "link").symlink_to("/etc/passwd")
    (place / "own-name").write_bytes(READ)
    with workdir.opened("pkv", None):
        pass
    told = capsys.readouterr().err.splitlines()
    assert len(told) == len(list((workdir.root / DAMAGED).iterdir())) == 5
    assert any(str(place / lost) in line and "another hash" in line for line in told)
    left = {path.name for path in place.iterdir()}
    assert left == ({"own-name"} if is_queued else {"own-name", program_name(READ)})


def test_a_disk_that_is_full_at_the_first_start_blocks_no_later_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workdir = Workdir(tmp_path / "work")

    def full(_fd: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(InfrastructureError, match="No space left"), workdir.opened("pkv", None):
            pass
    assert not [path for path in workdir.root.iterdir() if "campaign" in path.name]
    # As older versions left it.
    (workdir.root / "campaign.json").touch()
    with workdir.opened("pkv", None):
        pass
    with pytest.raises(BadInputError, match="belongs to"), workdir.opened("other", None):
        pass


def test_a_program_that_a_full_disk_did_not_take_leaves_no_name(
    workdir: Workdir, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_fd: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        workdir.add_program(READ + READ)
    assert [path.name for path in workdir.corpus.iterdir()] == [program_name(READ)]
    assert not list(workdir.root.glob(".*.partial"))
