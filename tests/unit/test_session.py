# SPDX-License-Identifier: Apache-2.0
"""Files for a guest, and a command's input and output, without a guest."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from fuzzer.errors import BadInputError
from fuzzer.machine import files
from fuzzer.machine.files import HostFile, parse_file, put_files
from fuzzer.machine.machine import Execution, Machine
from fuzzer.machine.session import Session

_ROOM = b"MemAvailable: 50000 kB\nFilesystem\ntmpfs 100000 60000 40000 60% /tmp\n"


class FakeMachine:
    """Remembers what it is told to run; ``running`` tells whether that is not over."""

    def __init__(self, output: bytes = b"") -> None:
        self.ran: list[tuple[list[str], bytes]] = []
        self.running = False
        self.channel = SimpleNamespace(
            finished=lambda: not self.running, post_execution=self.post_execution
        )
        self._output = output

    def post_execution(self, words: Sequence[str], image: bytes, _timeout: float) -> None:
        assert not self.running
        self.ran.append(([*words], image))
        self.running = True

    def execute(self, words: Sequence[str], image: bytes = b"", timeout: float = 0) -> Execution:
        self.ran.append(([*words], image))
        return Execution(0, self._output, b"")

    def executed(self, _name: str) -> Execution:
        return Execution(0, b"", b"said")

    def parts(self) -> list[bytes]:
        """Return what was carried behind a shell."""
        carried = [(words, image) for words, image in self.ran if image]
        return [image[len(image) - int(words[4]) :] for words, image in carried]


@pytest.fixture(autouse=True)
def shell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_shell", lambda: b"shell")
    monkeypatch.setattr(files, "BULK_SIZE", 5 + 1000)


def started(words: Sequence[str] = (), *, has_input: bool = True) -> tuple[Session, FakeMachine]:
    machine = FakeMachine()
    return Session(cast(Machine, machine), words, has_input=has_input), machine


def test_a_file_goes_to_tmp_or_where_it_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a:b"
    path.write_bytes(b"12345")
    path.chmod(0o750)
    assert parse_file(str(path)) == HostFile(path, "/tmp/a:b", 0o750, 5)
    assert parse_file(f"{path}:/x").remote == "/x"
    assert parse_file(f"{path}:/x/../y/").remote == "/y/a:b"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("none", "none: No such file"),
        ("none:/x", "none: No such file"),
        ("", "is a directory.*tar -cf"),
        ("pipe", "not a regular file"),
        ("file:x", "'x' is no absolute path"),
        ("huge", r"huge: 200\.0 MiB are too much.*room for 128\.0 MiB"),
    ],
)
def test_what_cannot_be_put_is_told(name: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    os.mkfifo(tmp_path / "pipe")
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(200 << 20)
    with pytest.raises(BadInputError, match=f"^--put .*{message}"):
        parse_file(f"{tmp_path}/{name}")


def test_a_file_that_may_not_be_read_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    # Root may read anything.
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(BadInputError, match="file: Permission denied"):
        parse_file(str(tmp_path / "file"))


def test_a_large_file_is_put_in_parts(tmp_path: Path) -> None:
    content = os.urandom(2500)
    (tmp_path / "file").write_bytes(content)
    (tmp_path / "empty").write_bytes(b"")
    machine = FakeMachine(_ROOM)
    chosen = [parse_file(f"{tmp_path}/{name}") for name in ("file", "empty")]
    put_files(cast(Machine, machine), chosen)
    assert machine.parts() == [content[:1000], content[1000:2000], content[2000:], b""]
    scripts = [words[2] for words, image in machine.ran if image]
    assert [">>" in script for script in scripts] == [False, True, True, False]


def test_files_that_do_not_fit_are_told_before_any_is_put(tmp_path: Path) -> None:
    for name in ("a", "b"):
        with (tmp_path / name).open("wb") as file:
            file.truncate(20 << 20)
    machine = FakeMachine(_ROOM)
    chosen = [parse_file(f"{tmp_path}/{name}") for name in ("a", "b")]
    with pytest.raises(BadInputError, match=r"a, .*b: 40\.0 MiB are too much.*room for 32\.8 MiB"):
        put_files(cast(Machine, machine), chosen)
    assert machine.parts() == []


def test_input_goes_to_the_guest_in_parts_and_ends() -> None:
    session, machine = started(["cat", "a b"])
    assert b"cat 'a b' < " in machine.parts()[0]
    session.feed(b"x" * 1500)
    assert session.push()
    session.feed(b"y")
    session.end_input()
    assert session.push()
    for _ in range(3):
        machine.running = False
        session.push()
    assert machine.parts()[1:] == [b"x" * 1000, b"x" * 500 + b"y"]
    assert "kill" in machine.ran[-1][0][2]
    assert not session.has_room
    assert session.ended_log().startswith(b"saidsaid")


def test_more_input_than_the_guest_takes_waits_on_the_host() -> None:
    session, _ = started()
    while session.has_room:
        session.feed(b"z" * 100_000)
    session.feed(b"z" * 5_000_000)
    assert session.push()
    assert not session.has_room


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_output_is_what_the_command_wrote_in_whatever_parts_it_comes(size: int) -> None:
    session, machine = started(has_input=False)
    mark = re.search(rb'echo "(\x1e\w+ )', machine.parts()[0])
    assert mark
    text = b"one\r\n\x1eno mark\r\rtwo" + mark[1] + b"3\r\nsaid later\r\n"
    shown = b""
    for at in range(0, len(text), size):
        shown += session.output(text[at : at + size])
    shown += session.rest()
    assert shown == b"one\n\x1eno mark\r\rtwosaid later\n"
    assert session.status == 3
