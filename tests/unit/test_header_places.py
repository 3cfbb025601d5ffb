# SPDX-License-Identifier: Apache-2.0
"""The files that a stranger's description and headers can have a compiler show."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fuzzer.cli.main import main
from fuzzer.errors import BadInputError, PkvfuzzError
from fuzzer.target import header_places as places_module
from fuzzer.target.header import read_headers
from fuzzer.target.header_places import header_places, is_private
from fuzzer.target.target import load_target

PRIVATE = "the private text"
DESCRIPTION = """\
version: 1
name: demo
device: /dev/demo
module: {{name: demo, source: .}}
header: {header}
include: {include}
calls:
  - ioctl: NUMBER
"""


@pytest.fixture
def given(tmp_path: Path) -> Path:
    """Return a stranger's directory."""
    path = tmp_path / "given"
    path.mkdir()
    return path


@pytest.fixture
def private(tmp_path: Path) -> Path:
    """Return a file beside that directory."""
    path = tmp_path / "private"
    path.write_text(f"{PRIVATE}\n")
    return path


def _described(given: Path, header: str = "h.h", include: str = "[]") -> Path:
    path = given / "demo.yaml"
    path.write_text(DESCRIPTION.format(header=header, include=include))
    return path


@pytest.mark.parametrize(
    "text",
    [
        '#include "{private}"\n',
        '#include "../private"\n',
        '#include "elsewhere.h"\n',
        '#define FILE "{private}"\n#include FILE\n',
        '#if __has_include("{private}")\n#error it is there\n#endif\n#include "{private}"\n',
        '#include "/etc/passwd"\n',
        '#include "/proc/1/environ"\n',
    ],
)
def test_no_include_shows_another_file(
    given: Path, private: Path, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PKVFUZZ_PRIVATE", PRIVATE)
    (given / "elsewhere.h").symlink_to(private)
    (given / "h.h").write_text(text.format(private=private))
    with pytest.raises(PkvfuzzError, match=r"h\.h") as raised:
        load_target(_described(given))
    assert not any(each in str(raised.value) for each in (PRIVATE, "private text", "root:x"))


def test_assembly_reads_no_other_file(given: Path, private: Path) -> None:
    (given / "h.h").write_text(f'asm(".incbin \\"{private}\\"");\n#define NUMBER 3\n')
    with pytest.raises(PkvfuzzError, match="file not found"):
        read_headers([given / "h.h"], constants=["NUMBER"])


@pytest.mark.parametrize("header", ["/etc/passwd", "link.h"])
def test_a_header_elsewhere_that_is_private_is_refused(
    given: Path, header: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden = tmp_path / ".hidden"
    hidden.mkdir()
    (hidden / "key.h").write_text(PRIVATE)
    (given / "link.h").symlink_to(hidden / "key.h")
    with pytest.raises(BadInputError, match="Copy the header beside the description") as raised:
        load_target(_described(given, header))
    assert PRIVATE not in str(raised.value)


def test_a_directory_of_headers_that_is_private_is_refused(given: Path) -> None:
    (given / "h.h").write_text("#include <passwd>\n")
    for include in ("[/etc]", "[/]", f"[{Path.home()}]", "[/proc/self]"):
        with pytest.raises(BadInputError, match="Copy the header"):
            load_target(_described(given, include=include))


def test_headers_of_a_repository_and_of_named_directories_are_seen(
    given: Path, tmp_path: Path
) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / "shared.h").write_text("#define NUMBER 3\n")
    (given / "h.h").write_text('#include "../shared.h"\n')
    assert load_target(_described(given)).constants == {"NUMBER": 3}
    (tmp_path / ".git").rmdir()
    with pytest.raises(BadInputError, match="is seen if 'include' names its directory"):
        load_target(_described(given))
    assert load_target(_described(given, include="[..]")).constants == {"NUMBER": 3}


def test_an_include_that_never_ends_is_ended(
    given: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(places_module, "_SECONDS", 1.0)
    os.mkfifo(given / "pipe.h")
    (given / "h.h").write_text('#include "pipe.h"\n')
    assert main(["target", "check", str(_described(given))]) == 3
    assert "timed out" in capsys.readouterr().err


def test_home_directories_and_those_of_the_system_are_private(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home" / "user"
    (home / "linux" / "include").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    assert all(map(is_private, (home, home.parent, home / ".ssh", Path("/etc/x"), Path("/"))))
    assert not is_private(home / "linux" / "include")
    assert header_places(home / "linux", [Path("/usr/include"), home / "linux" / "include"])
