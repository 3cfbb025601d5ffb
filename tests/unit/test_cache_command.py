# SPDX-License-Identifier: Apache-2.0
"""``pkvfuzz cache list`` and ``clean``."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fuzzer import __version__
from fuzzer.archive.writing import Packing, write_archive
from fuzzer.cache import build_once
from fuzzer.cli.main import main
from fuzzer.kernel.source import compiler_version
from fuzzer.machine.accel import Accel, AccelChoice

Make = Callable[[str, str, float, int], Path]
KEYS = [letter * 16 for letter in "abcdef"]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Return what makes an entry of the cache, used so many hours ago, of so many MiB."""
    monkeypatch.setenv("PKVFUZZ_CACHE", str(tmp_path))

    def entry(kind: str, key: str, hours: float, mebibytes: int) -> Path:
        def build(directory: Path) -> None:
            (directory / "content").write_bytes(b"x" * (mebibytes << 20))

        path = build_once(kind, key, build)
        used = time.time() - 3600 * hours
        os.utime(path / ".complete", (used, used))
        return path

    return entry


def test_the_largest_kind_comes_first(make: Make, capsys: pytest.CaptureFixture[str]) -> None:
    make("base", KEYS[0], 0, 1)
    make("base", KEYS[1], 30, 2)
    make("kernel-fast", KEYS[2], 100, 5)
    assert main(["cache", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["5", "MiB", "1", "kernel-fast", "used", "4", "days", "ago"]
    assert lines[1].split()[:4] == ["3", "MiB", "2", "base"]
    assert "in 3 entries of" in lines[2]
    assert main(["cache", "list", "--all"]) == 0
    assert f"base-{KEYS[1]}" in capsys.readouterr().out


def test_what_was_not_used_for_long_is_removed(
    make: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new = make("base", KEYS[0], 50, 1), make("base", KEYS[1], 40, 1)
    kept = make("venv", KEYS[2], 5000, 1)
    assert main(["cache", "clean", "--older", "2d", "--dry-run"]) == 0
    assert "1 of 3 entries would be removed" in capsys.readouterr().out
    assert old.exists()
    assert main(["cache", "clean", "--older", "2d"]) == 0
    assert (old.exists(), new.exists(), kept.exists()) == (False, True, True)
    assert not (old.parent / f".{old.name}.lock").exists()


def test_what_was_not_used_for_longest_goes_until_the_rest_is_small_enough(make: Make) -> None:
    first, second, third = (make("base", KEYS[n], 50 - n, 2) for n in range(3))
    assert main(["cache", "clean", "--size", "5M"]) == 0
    assert (first.exists(), second.exists(), third.exists()) == (False, True, True)


def test_nothing_that_is_in_use_is_removed(make: Make, capsys: pytest.CaptureFixture[str]) -> None:
    used, locked = make("base", KEYS[0], 0.9, 1), make("base", KEYS[1], 50, 1)
    with (locked.parent / f".{locked.name}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert main(["cache", "clean", "--size", "0"]) == 0
        assert used.exists()
        assert (locked / ".complete").exists()
    assert "what was used in the last hour stays" in capsys.readouterr().out
    assert main(["cache", "clean", "--size", "0"]) == 0
    assert (used.exists(), locked.exists()) == (True, False)


def test_what_was_left_unfinished_is_removed(make: Make, tmp_path: Path) -> None:
    half = tmp_path / f"driver-{KEYS[0]}"
    half.mkdir(parents=True)
    (half / "content").touch()
    assert main(["cache", "clean", "--size", "0"]) == 0
    assert half.exists()
    old = time.time() - 7200
    os.utime(half, (old, old))
    assert main(["cache", "clean", "--older", "1h"]) == 0
    assert not half.exists()


def test_a_size_is_checked(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cache", "clean", "--size", "much"]) == 2
    assert "'much': allowed are 500M, 10G, or bytes" in capsys.readouterr().err


def test_a_directory_that_is_no_working_directory_is_not_exported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["cache", "export", str(tmp_path / "a"), "--workdir", str(tmp_path)]) == 2
    assert "it has no corpus" in capsys.readouterr().err


def test_what_is_of_no_use_on_this_host_is_told(
    tmp_path: Path, make: Make, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    base = make("base", KEYS[0], 0, 1)
    packing = Packing([base], "QEMU 1.0", "kvm", compiler_version(), __version__)
    write_archive(tmp_path / "archive", packing)
    monkeypatch.setenv("PKVFUZZ_CACHE", str(tmp_path / "other"))
    monkeypatch.setattr("fuzzer.cli.cache.qemu_version", lambda: "QEMU 9.9")
    monkeypatch.setattr("fuzzer.cli.cache.choose_accel", lambda: AccelChoice(Accel.TCG, ""))
    assert main(["cache", "import", str(tmp_path / "archive")]) == 0
    said = capsys.readouterr()
    assert said.out.startswith("entries added to")
    told = "its templates are not used here, and made anew: they are of another "
    told += "{} ({}; this host has {})"
    assert told.format("QEMU", "QEMU 1.0", "QEMU 9.9") in said.err
    assert told.format("accelerator", "kvm", "tcg") in said.err
    assert "compiler" not in said.err
    assert main(["cache", "import", str(tmp_path / "archive")]) == 0
    assert "1 were there already" in capsys.readouterr().out


def test_a_file_to_import_has_to_be_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["cache", "import", str(tmp_path / "a")]) == 2
    assert "there is no such file" in capsys.readouterr().err
