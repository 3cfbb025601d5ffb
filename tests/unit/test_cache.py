# SPDX-License-Identifier: Apache-2.0
"""The cache: what is trusted, who builds, what is removed."""

from __future__ import annotations

import errno
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from fuzzer import cache as cache_module
from fuzzer import manifest
from fuzzer.cache import (
    build_once,
    content_key,
    damaged_entries,
    discard_entry,
    locked,
    lookup,
)
from fuzzer.errors import InfrastructureError
from fuzzer.paths import project_root

_KEY = content_key("key")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Use an empty cache."""
    directory = tmp_path / "cache"
    monkeypatch.setenv("PKVFUZZ_CACHE", str(directory))
    return directory


def _write(directory: Path) -> None:
    (directory / "content").write_text("new")


def _entries(cache: Path) -> list[str]:
    return sorted(path.name for path in cache.iterdir() if not path.name.startswith("."))


def test_a_key_depends_on_each_part_and_where_it_ends() -> None:
    keys = {content_key("ab", "c"), content_key("a", "bc"), content_key("abc"), content_key("ab")}
    assert len(keys) == 4
    assert content_key("ab", "c") == content_key(b"ab", b"c")


def test_an_entry_is_built_once(cache: Path) -> None:
    assert lookup("thing", "k") is None
    directory = build_once("thing", "k", _write)
    assert directory == cache / "thing-k"
    (directory / "content").write_text("old")
    assert build_once("thing", "k", _write) == directory
    assert lookup("thing", "k") == directory
    assert (directory / "content").read_text() == "old"


_INTERRUPTED = """
import os, signal
from fuzzer.cache import build_once

def build(directory):
    (directory / "half").write_text("done")
    os.kill(os.getpid(), signal.SIGKILL)

build_once("thing", "k", build)
"""


def test_an_interrupted_build_is_not_trusted(cache: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _INTERRUPTED], cwd=project_root(), timeout=60, check=False
    )
    assert done.returncode < 0
    assert (cache / "thing-k" / "half").exists()
    assert lookup("thing", "k") is None
    directory = build_once("thing", "k", _write)
    assert sorted(path.name for path in directory.iterdir()) == [".complete", "content"]


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt()])
def test_a_failed_build_leaves_nothing(cache: Path, error: BaseException) -> None:
    def build(directory: Path) -> None:
        _write(directory)
        raise error

    with pytest.raises(type(error)):
        build_once("thing", "k", build)
    assert _entries(cache) == []
    assert lookup("thing", "k") is None
    build_once("thing", "k", _write)


def test_a_full_disk_is_said_to_be_full(cache: Path) -> None:
    def build(directory: Path) -> None:
        _write(directory)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(InfrastructureError, match=r"disk .* is full.* PKVFUZZ_CACHE") as caught:
        build_once("thing", "k", build)
    assert str(cache) in str(caught.value)
    assert _entries(cache) == []


def test_a_cache_that_cannot_be_written_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("PKVFUZZ_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(InfrastructureError, match=r"cannot be written: .* Set PKVFUZZ_CACHE"):
        build_once("thing", "k", _write)


def test_builders_at_the_same_time_build_once() -> None:
    builds: list[Path] = []
    found: list[Path] = []
    all_there = threading.Barrier(4)

    def build(directory: Path) -> None:
        builds.append(directory)
        time.sleep(0.1)
        _write(directory)

    def start() -> None:
        all_there.wait()
        directory = build_once("thing", "k", build)
        assert (directory / "content").read_text() == "new"
        found.append(directory)

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(builds) == 1
    assert found == builds * 4


def test_the_lock_is_released_when_its_holder_fails() -> None:
    with pytest.raises(ValueError, match="on purpose"), locked("x"):
        raise ValueError("on purpose")
    with locked("x"):
        pass


def test_who_waits_is_told_for_whom_and_since_when() -> None:
    said: list[str] = []
    asked = threading.Event()

    def tell(text: str) -> None:
        said.append(text)
        asked.set()

    def wait() -> None:
        with locked("kernel-full-1", tell, silence=0.0):
            pass

    waiting = threading.Thread(target=wait)
    with locked("kernel-full-1", said.append):
        waiting.start()
        assert asked.wait(10)
    waiting.join(10)
    (text,) = said
    pattern = rf"waiting for kernel-full-1, .*\(process {os.getpid()}\) .* since \d\d:\d\d:\d\d"
    assert re.fullmatch(pattern, text)


def test_the_oldest_entries_are_removed_once_nobody_can_be_using_them(cache: Path) -> None:
    for age, key in enumerate(("new", "old", "older")):
        stamp = build_once("thing", key, _write) / ".complete"
        then = time.time() - 2 * 24 * 3600 * age
        os.utime(stamp, (then, then))
    build_once("other", "k", _write)
    build_once("thing", "newest", _write, keep=3)
    assert _entries(cache) == ["other-k", "thing-new", "thing-newest", "thing-old"]
    build_once("thing", "last", _write, keep=1)
    assert _entries(cache) == ["other-k", "thing-last", "thing-new", "thing-newest"]


def test_what_is_used_while_others_are_removed_stays(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for days, key in enumerate(("old", "older"), start=1):
        then = time.time() - days * 24 * 3600
        os.utime(build_once("thing", key, _write) / ".complete", (then, then))
    remove = shutil.rmtree

    def slowly(path: Path, *, ignore_errors: bool) -> None:
        remove(path, ignore_errors=ignore_errors)
        if path.name == "thing-old":
            lookup("thing", "older")

    monkeypatch.setattr(shutil, "rmtree", slowly)
    build_once("thing", "new", _write, keep=1)
    assert _entries(cache) == ["thing-new", "thing-older"]


def test_an_entry_whose_files_were_lost_is_named_and_made_again(
    cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = build_once("thing", _KEY, _write)
    content = directory / "content"
    whole = content.read_bytes()
    cache_module._sound.clear()
    assert lookup("thing", _KEY) == directory
    for damage in (b"", None, whole + b"x"):
        cache_module._sound.clear()
        content.unlink()
        if damage is not None:
            content.write_bytes(damage)
        assert lookup("thing", _KEY) is None
        (line,) = capsys.readouterr().err.splitlines()
        assert f"{directory} is damaged, and is made again: content" in line
        assert build_once("thing", _KEY, _write, tell=lambda _: None) == directory
        capsys.readouterr()
        assert content.read_bytes() == whole
    cache_module._sound.clear()
    (directory / ".complete").write_text("{")
    assert lookup("thing", _KEY) is None


def test_what_changed_at_the_same_size_is_found_by_its_hash(cache: Path) -> None:
    directory = build_once("thing", _KEY, _write)
    assert list(damaged_entries()) == []
    content = directory / "content"
    content.write_bytes(bytes(each ^ 1 for each in content.read_bytes()))
    assert list(damaged_entries()) == [(directory, "content has another content")]
    discard_entry(directory)
    assert lookup("thing", _KEY) is None


def test_an_entry_is_on_the_disk_before_it_is_complete(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bool] = []
    sync = manifest._sync

    def synced(directory: Path) -> None:
        seen.append((directory / ".complete").exists())
        sync(directory)

    monkeypatch.setattr(manifest, "_sync", synced)
    build_once("thing", _KEY, _write)
    assert seen == [False]


def test_an_entry_of_an_older_version_is_believed(cache: Path) -> None:
    directory = build_once("thing", _KEY, _write)
    (directory / ".complete").write_bytes(b"")
    cache_module._sound.clear()
    assert lookup("thing", _KEY) == directory
