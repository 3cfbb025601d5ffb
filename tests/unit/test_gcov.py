# SPDX-License-Identifier: Apache-2.0
"""Coverage of a small program that is compiled and run here."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from fuzzer.errors import InfrastructureError
from tests.support.gcov import (
    FileCoverage,
    format_table,
    read_coverage,
    total_coverage,
)

_HEADER = """\
static inline int clamp(int x)
{
	if (x > 3)
		return 3;
	return x;
}
"""

_MAIN = """\
#include "lib/clamp.h"
#include <outside.h>
int other(int x);
int main(int argc, char **argv)
{
	if (argc > 5)
		return 1;
	return clamp(argc) + other(argc) + outside(argc) - 3;
}
"""

_OTHER = """\
#include "lib/clamp.h"
int other(int x)
{
	return clamp(x + 5) - 2;
}
"""

# Like a header of the kernel: code in the driver's object, but not the driver's.
_OUTSIDE = """\
static inline int outside(int x)
{
	return x > 10 ? 0 : 1;
}
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Return the directory of a program that was compiled there, and run once."""
    directory, include = tmp_path / "source", tmp_path / "include"
    (directory / "lib").mkdir(parents=True)
    include.mkdir()
    (directory / "lib" / "clamp.h").write_text(_HEADER)
    (directory / "main.c").write_text(_MAIN)
    (directory / "other.c").write_text(_OTHER)
    (include / "outside.h").write_text(_OUTSIDE)
    for name in ("main", "other"):
        _compile(directory, name)
    subprocess.run(
        ["gcc", "--coverage", "main.o", "other.o", "-o", "program"],
        cwd=directory,
        check=True,
        timeout=60,
    )
    subprocess.run([directory / "program"], check=True, timeout=60)
    return directory


def _compile(directory: Path, name: str) -> None:
    command = ["gcc", "-O0", "--coverage", "-I../include", "-c", f"{name}.c", "-o", f"{name}.o"]
    subprocess.run(command, cwd=directory, check=True, timeout=60)


def test_lines_and_branches_are_counted_for_each_source_file(source: Path) -> None:
    assert read_coverage(source, source) == [
        # main.c passes through one side of clamp(), other.c through the other.
        FileCoverage("lib/clamp.h", 4, 4, 2, 2, ()),
        FileCoverage("main.c", 4, 3, 2, 1, (7,)),
        FileCoverage("other.c", 2, 2, 0, 0, ()),
    ]


def test_data_may_lie_elsewhere_than_the_source(source: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for path in source.glob("*.gc*"):
        shutil.move(path, data)
    main = read_coverage(data, source)[1]
    assert (main.name, main.hit) == ("main.c", 3)


def test_an_object_that_did_not_run_counts_as_missed(source: Path) -> None:
    (source / "other.gcda").unlink()
    header, _, other = read_coverage(source, source)
    assert other.missed == (2, 4)
    assert header.missed == (4,)


def test_an_object_without_code_is_nothing(source: Path) -> None:
    (source / "empty.c").write_text("int data;\n")
    _compile(source, "empty")
    (source / "empty.gcno").touch()
    assert len(read_coverage(source, source)) == 3


def test_no_data_is_an_error_that_says_what_to_do(source: Path, tmp_path: Path) -> None:
    for path in source.glob("*.gcda"):
        path.unlink()
    with pytest.raises(InfrastructureError, match=r"no \.gcda file .* copy what"):
        read_coverage(source, source)
    (tmp_path / "nothing").mkdir()
    with pytest.raises(InfrastructureError, match=r"no \.gcno file .*GCOV_PROFILE=y"):
        read_coverage(tmp_path / "nothing", source)


def test_data_of_another_build_is_an_error(source: Path) -> None:
    (source / "main.c").write_text(_MAIN.replace("argc > 5", "argc > 5 && argc < 9"))
    _compile(source, "main")
    with pytest.raises(InfrastructureError, match=r"main\.gcda.*Copy the .* of one build"):
        read_coverage(source, source)


def test_data_of_another_compiler_is_an_error(source: Path) -> None:
    # "oncg" and the version, "B22*" for GCC 12.2, in the byte order of the host.
    notes = bytearray((source / "main.gcno").read_bytes())
    notes[4:8] = b"*94A"
    (source / "main.gcno").write_bytes(notes)
    with pytest.raises(InfrastructureError, match=r"not of the compiler's version.*build again"):
        read_coverage(source, source)


def test_damaged_data_is_an_error(source: Path) -> None:
    (source / "main.gcno").write_bytes(b"nonsense")
    with pytest.raises(InfrastructureError, match=r"gcov failed: .*main\.gcno"):
        read_coverage(source, source)


def test_a_missing_gcov_is_an_error_that_says_what_to_install(
    source: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InfrastructureError, match="apt-get install gcc"):
        read_coverage(source, source)


def test_a_gcov_that_prints_no_json_is_an_error(
    source: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake = tmp_path / "gcov"
    fake.write_text("#!/bin/sh\necho File main.c\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(InfrastructureError, match="GCC 9"):
        read_coverage(source, source)


def test_the_table_has_a_line_for_each_file_and_the_total() -> None:
    files = [
        FileCoverage("main.c", 200, 190, 40, 21, (7, 8, 9)),
        FileCoverage("lib/clamp.h", 4, 4, 0, 0, ()),
    ]
    assert total_coverage(files) == FileCoverage("total", 204, 194, 40, 21, ())
    assert format_table(files).splitlines() == [
        "file                  lines      branches  missed lines",
        "main.c       190/200  95.0%  21/40  52.5%  7-9",
        "lib/clamp.h      4/4 100.0%          none",
        "total        194/204  95.1%  21/40  52.5%",
    ]
