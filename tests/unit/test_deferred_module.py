# SPDX-License-Identifier: Apache-2.0
"""A driver whose blocks call a module of ours in place of KCOV."""

from __future__ import annotations

import io
import subprocess
from pathlib import Path
from typing import cast

import pytest
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

import fuzzer.driver.deferred_module
from fuzzer.driver.blocks import TRACE_PC, read_blocks
from fuzzer.driver.deferred_module import with_deferred_module
from fuzzer.driver.driver import Driver, Needed
from fuzzer.driver.renaming import renamed
from fuzzer.errors import InfrastructureError
from fuzzer.kernel.kernel import Kernel

NO_KERNEL = cast(Kernel, None)
SOURCE = """
void __sanitizer_cov_trace_pc(void);
void toy(void) { __sanitizer_cov_trace_pc(); }
/* Its name is the end of the other one, so that they may share bytes. */
void trace_pc(void) { toy(); }
"""


def compiled(directory: Path, source: str = SOURCE) -> Path:
    """Return an object file in which the linker has put the names in order."""
    path = directory / "toy.ko"
    command = ["gcc", "-c", "-x", "c", "-", "-o", "first.o"]
    subprocess.run(command, cwd=directory, input=source, text=True, check=True, timeout=60)
    command = ["ld", "-r", "first.o", "-o", path.name]
    subprocess.run(command, cwd=directory, check=True, timeout=60)
    return path


def symbols(image: bytes) -> dict[str, tuple[object, int]]:
    table = ELFFile(io.BytesIO(image)).get_section_by_name(".symtab")
    assert isinstance(table, SymbolTableSection)
    return {each.name: (each["st_shndx"], each["st_value"]) for each in table.iter_symbols()}


def test_a_symbol_has_another_name_and_all_else_is_as_it_was(tmp_path: Path) -> None:
    image = compiled(tmp_path).read_bytes()
    before, after = symbols(image), symbols(renamed(image, TRACE_PC, "ours"))
    assert after.pop("ours") == before.pop(TRACE_PC)
    assert after == before
    assert "trace_pc" in after


def test_the_file_is_left_alone_and_so_are_its_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = compiled(tmp_path)
    needed = Needed(tmp_path / "pkvfuzz_deferred.ko")
    monkeypatch.setattr(
        fuzzer.driver.deferred_module,
        "with_own_module",
        lambda driver, kernel, name: Driver(driver.name, driver.object, "other", (), (needed,)),
    )
    driver = Driver("toy", path, "key")
    loaded = with_deferred_module(driver, NO_KERNEL)
    assert (loaded.key, loaded.needs) == ("other", (needed,))
    assert loaded.blocks() == driver.blocks() == read_blocks(path)
    assert "pkvfuzz_trace_pc" in symbols(loaded.image())
    assert "pkvfuzz_trace_pc" not in symbols(driver.image())


SIGNED = b"~Module signature appended~\n"
VERSIONED = f'{SOURCE}int x __attribute__((section("__versions")));'


@pytest.mark.parametrize(
    ("source", "end"), [(SOURCE, SIGNED), (VERSIONED, b""), ("void toy(void) {}", b"")]
)
def test_what_the_kernel_would_not_take_otherwise_is_loaded_as_it_is(
    tmp_path: Path, source: str, end: bytes
) -> None:
    path = compiled(tmp_path, source)
    path.write_bytes(path.read_bytes() + end)
    driver = Driver("toy", path, "key")
    assert with_deferred_module(driver, NO_KERNEL) is driver


def test_a_part_of_the_kernel_and_what_is_no_module_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "vmlinux").write_bytes(b"no object file")
    builtin = Driver("part", tmp_path / "vmlinux", "key", parts=(tmp_path / "part.o",))
    damaged = Driver("damaged", tmp_path / "vmlinux", "key")
    for driver in (builtin, damaged):
        assert with_deferred_module(driver, NO_KERNEL) is driver


def test_where_the_module_does_not_build_coverage_is_that_of_calls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(driver: Driver, kernel: Kernel, name: str) -> Driver:
        raise InfrastructureError(f"building {name}.ko failed")

    monkeypatch.setattr(fuzzer.driver.deferred_module, "with_own_module", fail)
    driver = Driver("toy", compiled(tmp_path), "key")
    assert with_deferred_module(driver, NO_KERNEL) is driver
    assert (
        "not of what toy does later: building pkvfuzz_deferred.ko failed" in capsys.readouterr().err
    )
