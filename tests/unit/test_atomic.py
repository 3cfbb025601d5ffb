# SPDX-License-Identifier: Apache-2.0
"""Files that are written whole, or stay as they were."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from fuzzer.atomic import write_whole


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

    def fail(self: Path, data: bytes) -> int:
        self.touch()
        raise error

    monkeypatch.setattr(Path, "write_bytes", fail)
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


def test_what_is_no_file_is_written_to(tmp_path: Path) -> None:
    write_whole(Path("/dev/null"), "gone")
    assert Path("/dev/null").is_char_device()
