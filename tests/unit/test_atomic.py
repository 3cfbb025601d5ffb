# SPDX-License-Identifier: Apache-2.0
"""Files that are written whole, or stay as they were."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from fuzzer.atomic import appending, open_lock, remove_partial, write_output, write_whole


def _names(directory: Path) -> list[str]:
    return [path.name for path in directory.iterdir()]


def test_a_file_is_replaced_and_nothing_else_is_left(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text("old")
    write_whole(path, "new")
    assert (path.read_text(), _names(tmp_path)) == ("new", ["x"])
    write_whole(path, b"\xff")
    assert path.read_bytes() == b"\xff"


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left"), KeyboardInterrupt()])
def test_what_was_there_stays_where_the_new_cannot_be_written(
    error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x"
    path.write_text("old")

    def fail(_fd: int) -> None:
        raise error

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(type(error)) as raised:
        write_whole(path, "new")
    assert (path.read_text(), _names(tmp_path)) == ("old", ["x"])
    if isinstance(raised.value, OSError):
        assert raised.value.filename == str(path)


def test_a_file_grows_in_another_directory_if_readers_look_at_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    seen: list[list[str]] = []
    replace = Path.replace

    def look(self: Path, target: Path) -> Path:
        seen.append(_names(corpus))
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", look)
    write_whole(corpus / "x", b"1", through=tmp_path)
    assert (seen, _names(corpus), _names(tmp_path)) == ([[]], ["x"], ["corpus"])


def test_an_output_that_is_no_file_is_written_to(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        write_output(pipe, "there")
        assert os.read(reader, 99) == b"there"
    finally:
        os.close(reader)
    assert pipe.is_fifo()
    write_output(tmp_path / "x", "a file")
    assert (tmp_path / "x").read_text() == "a file"


def test_a_device_is_never_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Not on one of the host's: root can replace them.
    path = tmp_path / "null"
    path.write_text("stays")
    monkeypatch.setattr(Path, "is_char_device", lambda self: self == path)
    with pytest.raises(OSError, match="a device"):
        write_whole(path, "gone")
    assert path.read_text() == "stays"


@pytest.mark.parametrize("is_hard", [False, True])
def test_what_a_link_leads_to_stays_as_it_was(tmp_path: Path, *, is_hard: bool) -> None:
    canary, own = tmp_path / "canary", tmp_path / "own"
    canary.write_text("untouched")
    own.mkdir()
    link = own / "x"
    link.hardlink_to(canary) if is_hard else link.symlink_to(canary)
    with pytest.raises(OSError, match="is a link"), appending(link) as file:
        file.write(b"more")
    with pytest.raises(OSError, match="is a link"):
        open_lock(link)
    write_whole(link, "another file")
    assert (canary.read_text(), link.read_text()) == ("untouched", "another file")
    assert not link.is_symlink()


def test_data_is_on_the_disk_before_the_name_appears(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    replace, fsync = Path.replace, os.fsync

    def synced(fd: int) -> None:
        order.append("sync")
        fsync(fd)

    def named(path: Path, target: Path) -> Path:
        order.append("name")
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", named)
    write_whole(tmp_path / "x", "1")
    write_whole(tmp_path / "y", "2", sync=False)
    assert order == ["sync", "name", "name"]


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / ".x.12345678.partial").touch()
    (tmp_path / ".keep").touch()
    remove_partial(tmp_path)
    assert _names(tmp_path) == [".keep"]
