# SPDX-License-Identifier: Apache-2.0
"""Sightings on disk: whole or not there."""

from __future__ import annotations

import dataclasses
import errno
import os
from pathlib import Path

import pytest

from fuzzer.crash.sighting import Sighting, Spool, read_sighting

SIGHTING = Sighting(
    "KASAN: thing in f", "kasan", b"\x00program", (b"", b"one", b"two"), b"6,1,2,-;log\xff", "w0"
)


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    """Return an empty spool."""
    made = Spool(tmp_path)
    made.create()
    return made


def test_a_sighting_is_read_as_it_was_stored(spool: Spool) -> None:
    stored = spool.add(SIGHTING)
    assert spool.waiting() == [stored]
    assert read_sighting(stored) == SIGHTING


def test_one_that_is_judged_meanwhile_does_not_wait(spool: Spool) -> None:
    stored = spool.add(SIGHTING)
    # Listed, and gone when it is looked at.
    (spool.directory / "worker-1-gone").symlink_to("nowhere")
    assert spool.waiting() == [stored]


def test_sightings_wait_oldest_first(spool: Spool) -> None:
    stored = [spool.add(dataclasses.replace(SIGHTING, title=str(n))) for n in range(4)]
    for age, path in enumerate(stored):
        os.utime(path, ns=(age, age))
    assert spool.waiting() == stored


def test_workers_and_later_runs_do_not_collide(tmp_path: Path) -> None:
    spools = [Spool(tmp_path), Spool(tmp_path)]
    spools[0].create()
    spools[0].add(SIGHTING)
    spools[1].add(dataclasses.replace(SIGHTING, origin="w1"))
    # The same process again: what it stored before is still waiting.
    Spool(tmp_path).add(SIGHTING)
    assert len(spools[0].waiting()) == 3


def test_what_is_half_written_does_not_wait_and_is_dropped(spool: Spool) -> None:
    partial = spool.directory / ".w0-1-1"
    partial.mkdir()
    (partial / "program").write_bytes(b"half")
    assert spool.waiting() == []
    stored = spool.add(SIGHTING)
    spool.create()
    assert not partial.exists()
    assert spool.waiting() == [stored]


@pytest.mark.parametrize("failing", ["log", "meta.json"])
def test_a_full_disk_leaves_nothing_behind(
    spool: Spool, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    write_bytes, write_text = Path.write_bytes, Path.write_text

    def full(path: Path) -> None:
        if path.name == failing:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def bytes_unless_full(path: Path, data: bytes) -> int:
        full(path)
        return write_bytes(path, data)

    def text_unless_full(path: Path, data: str) -> int:
        full(path)
        return write_text(path, data)

    monkeypatch.setattr(Path, "write_bytes", bytes_unless_full)
    monkeypatch.setattr(Path, "write_text", text_unless_full)
    with pytest.raises(OSError, match="No space left"):
        spool.add(SIGHTING)
    assert list(spool.directory.iterdir()) == []


def test_a_sighting_becomes_visible_whole(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    rename = Path.rename
    seen: list[tuple[list[Path], Sighting]] = []

    def watched(path: Path, target: Path) -> Path:
        seen.append((spool.waiting(), read_sighting(path)))
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", watched)
    spool.add(SIGHTING)
    assert seen == [([], SIGHTING)]


def test_a_directory_that_is_no_sighting_is_an_error(spool: Spool, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        read_sighting(tmp_path / "nothing")
    stored = spool.add(SIGHTING)
    (stored / "history").write_bytes(b"\xff\xff\xff")
    with pytest.raises(ValueError, match="cut short"):
        read_sighting(stored)


def test_sightings_are_counted_by_title(spool: Spool, tmp_path: Path) -> None:
    assert spool.counts() == {}
    for title in ("a", "b in f", "a", "two\nlines", "a"):
        spool.count(title)
    assert Spool(tmp_path).counts() == {"a": 3, "b in f": 1, "two lines": 1}
