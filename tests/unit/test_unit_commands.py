# SPDX-License-Identifier: Apache-2.0
"""Compiler commands that Kbuild wrote down: what is kept of them, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from fuzzer.driver.unit_commands import Unit, read_units
from fuzzer.errors import BadInputError
from tests.unit.fake_build import note


def _unit(tmp_path: Path, command: str) -> Unit | None:
    (tmp_path / "a.c").write_text("")
    note(tmp_path / "a.o", command)
    units = read_units(tmp_path, tmp_path)
    return units[0] if units else None


def test_options_that_say_how_c_is_read_are_kept(tmp_path: Path) -> None:
    unit = _unit(
        tmp_path,
        "gcc -Wp,-MMD,.a.o.d -nostdinc -I./include -I more -include linux/kconfig.h "
        "-D__KERNEL__ -DTEXT='\"a;b #c\"' -D PRICE='$5' -UX -std=gnu11 -fshort-wchar -m64 "
        "-mcmodel=kernel -fsanitize=kernel-address -fdump-tree-all -Wall -O2 -g "
        "-DKBUILD_MODNAME='\"my_a\"' -c -o a.o a.c",
    )
    assert unit is not None
    assert unit.command == (
        *("gcc", "-nostdinc", "-I./include", "-I", "more", "-include", "linux/kconfig.h"),
        *("-D__KERNEL__", '-DTEXT="a;b #c"', "-D", "PRICE=$5", "-UX", "-std=gnu11"),
        *("-fshort-wchar", "-m64", "-mcmodel=kernel", "-O2", '-DKBUILD_MODNAME="my_a"'),
    )
    assert unit.source == tmp_path / "a.c"
    assert unit.object == tmp_path / "a.o"
    assert unit.modules == ("my_a",)


def test_commands_of_older_kernels_and_compilers_with_a_version_are_known(tmp_path: Path) -> None:
    (tmp_path / "a.c").write_text("")
    (tmp_path / ".a.o.cmd").write_text("cmd_a.o := gcc-12 -DX -c -o a.o a.c\n")
    (unit,) = read_units(tmp_path, tmp_path / "kernel")
    assert unit.command == ("gcc-12", "-DX")
    assert unit.directory == tmp_path


def test_a_command_of_clang_loses_the_options_of_its_parts(tmp_path: Path) -> None:
    unit = _unit(
        tmp_path,
        "clang-14 -DX -mllvm -msan-disable-checks=1 -Xclang -load -m64 -c -o a.o a.c",
    )
    assert unit is not None
    assert unit.command == ("clang-14", "-DX", "-m64")


@pytest.mark.parametrize(
    "option",
    [
        *("-fplugin=./evil.so", "-fplugin-arg-x-y=z", "-wrapper", "-B/tmp", "-specs=x"),
        *("@options", "-D @options", "-x c++", "--specs=x"),
    ],
)
def test_what_runs_something_else_is_refused(tmp_path: Path, option: str) -> None:
    with pytest.raises(BadInputError, match="runs something else"):
        _unit(tmp_path, f"gcc {option} -c -o a.o a.c")


@pytest.mark.parametrize(
    ("compiler", "run"),
    [
        *(("cc", "gcc"), ("./gcc", "gcc"), ("/usr/bin/gcc-12", "gcc-12"), ("ccache gcc", "gcc")),
        ("/tmp/evil/x86_64-linux-gnu-gcc", "x86_64-linux-gnu-gcc"),
    ],
)
def test_the_compiler_is_the_one_on_the_path(tmp_path: Path, compiler: str, run: str) -> None:
    unit = _unit(tmp_path, f"{compiler} -DX -c -o a.o a.c")
    assert unit is not None
    assert unit.command == (run, "-DX")


@pytest.mark.parametrize(
    "command",
    [
        "evil -c -o a.o a.c",
        "X=1 gcc -c -o a.o a.c",
        "touch x; gcc -c -o a.o a.c",
        "gcc -D'unfinished -c -o a.o a.c",
        "gcc -c -o a.o elsewhere.c",
        "gcc -o a.o a.c",
        "gcc -c -o a.o a.S",
        "",
    ],
)
def test_what_is_no_compilation_of_c_is_left_out(tmp_path: Path, command: str) -> None:
    assert _unit(tmp_path, command) is None


def test_what_kbuild_adds_to_a_module_is_left_out(tmp_path: Path) -> None:
    for name in ("a.mod", ".module-common"):
        (tmp_path / f"{name}.c").write_text("")
        note(tmp_path / f"{name}.o", f"gcc -c -o {name}.o {name}.c")
    assert read_units(tmp_path, tmp_path) == ()
