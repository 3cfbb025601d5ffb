# SPDX-License-Identifier: Apache-2.0
"""Drivers whose licence keeps them from the kernel's lock checks."""

from __future__ import annotations

from pathlib import Path

import pytest

from fuzzer.driver.licences import foreign_licences, put_under_gpl
from fuzzer.driver.modinfo import read_modinfo
from fuzzer.driver.source_build import build_source
from tests.unit.toy_kernel import code, make_toy_kernel, write_files

DEFINES = "#define MODULE_LICENSE(x) extern int licence\n#define module_init(f) extern int init\n"


def module(licence: str) -> str:
    return f"{DEFINES}{code()}module_init(toy);\n{licence}\n"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PKVFUZZ_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("lock_checks", [False, True])
@pytest.mark.parametrize(
    ("stated", "licences"),
    [
        ('MODULE_LICENSE("GPL v2");', ()),
        ('MODULE_LICENSE("MIT");', ("MIT",)),
        ('MODULE_LICENSE("Dual BSD/ GPL");', ("Dual BSD/ GPL",)),
        ("", ("none",)),
    ],
)
def test_the_copy_of_a_driver_is_under_the_gpl(
    tmp_path: Path, stated: str, licences: tuple[str, ...], lock_checks: bool
) -> None:
    kernel = make_toy_kernel(tmp_path / "kernel", lock_checks=lock_checks)
    files = {"Makefile": "obj-m := mini.o\n", "mini.c": module(stated)}
    source = write_files(tmp_path / "source", files)
    for _ in range(2):  # From the cache as well.
        build = build_source(source, kernel)
        assert build.licences == licences
        assert read_modinfo(build.modules[0].path).licence in ("GPL", "GPL v2")
    assert (source / "mini.c").read_text() == files["mini.c"]


def test_lines_keep_their_numbers(tmp_path: Path) -> None:
    stated = (
        "#define MODULE_LICENSE(x) x\n  MODULE_LICENSE ( DRIVER_LICENSE ); /* caf\xe9 */\nint a;\n"
    )
    (tmp_path / "mini.c").write_bytes(stated.encode("latin-1"))
    (tmp_path / "no-init.c").write_text("int b;\n")
    (tmp_path / "none.c").write_text("module_init(start);")
    put_under_gpl(tmp_path)
    changed = stated.replace("MODULE_LICENSE ( DRIVER_LICENSE )", 'MODULE_LICENSE("GPL")')
    assert (tmp_path / "mini.c").read_bytes() == changed.encode("latin-1")
    assert (tmp_path / "no-init.c").read_text() == "int b;\n"
    assert (tmp_path / "none.c").read_text() == 'module_init(start);\nMODULE_LICENSE("GPL");\n'


def test_what_was_refused_for_something_else_keeps_its_licence(tmp_path: Path) -> None:
    (tmp_path / "mini.c").write_text('MODULE_LICENSE("MIT");\n')
    output = 'ERROR: modpost: "nothing" [mini.ko] undefined!\n'
    assert foreign_licences(tmp_path, (), output) == ()
