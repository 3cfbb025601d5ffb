# SPDX-License-Identifier: Apache-2.0
"""Instrumented blocks, read from objects that gcc makes here."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from fuzzer.driver.blocks import (
    LINKED,
    Block,
    BlockTable,
    blocks_at,
    make_table,
    read_blocks,
    read_builtin_blocks,
    read_functions,
)
from fuzzer.errors import BadInputError

_SOURCE = """
int branch(int x) { if (x) return branch(x - 1); return 1; }
__attribute__((section(".init.text"))) int first(void) { return 2; }
"""


def _compile(directory: Path, *flags: str) -> Path:
    (directory / "code.c").write_text(_SOURCE)
    built = directory / "code.o"
    subprocess.run(
        ["gcc", "-O0", *flags, "-c", str(directory / "code.c"), "-o", str(built)], check=True
    )
    return built


def test_each_call_is_a_block_behind_it(tmp_path: Path) -> None:
    built = _compile(tmp_path, "-fsanitize-coverage=trace-pc")
    blocks = read_blocks(built)
    assert {block.section for block in blocks} == {".text", ".init.text"}
    assert list(blocks) == sorted(blocks)
    command = ["objdump", "-dr", "-j", ".text", str(built)]
    listing = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    calls = re.findall(r"^\s*([0-9a-f]+): R_X86_64_\w+\s+__sanitizer_cov_trace_pc", listing, re.M)
    expected = [int(call, 16) + 4 for call in calls]
    assert len(expected) > 1
    assert [block.offset for block in blocks if block.section == ".text"] == expected


def test_code_without_coverage_has_no_blocks(tmp_path: Path) -> None:
    assert read_blocks(_compile(tmp_path)) == ()


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="not a kernel module"):
        read_blocks(tmp_path / "nowhere.ko")
    (tmp_path / "text.ko").write_text("no ELF")
    with pytest.raises(BadInputError, match="not a kernel module"):
        read_blocks(tmp_path / "text.ko")
    with pytest.raises(BadInputError, match="built for x86, not for x86-64"):
        read_blocks(_compile(tmp_path, "-m32", "-fsanitize-coverage=trace-pc"))


def test_a_cut_object_is_refused(tmp_path: Path) -> None:
    built = _compile(tmp_path, "-fsanitize-coverage=trace-pc")
    whole = built.read_bytes()
    for size in range(0, len(whole), 64):
        built.write_bytes(whole[:size])
        with pytest.raises(BadInputError):
            read_blocks(built)


BLOCKS = (
    Block(".exit.text", 4),
    Block(".init.text", 9),
    Block(".text", 9),
    Block(".text", 20),
    Block(".text.unlikely", 5),
)
SECTIONS = {".text": 0x1000, ".text.unlikely": 0xFF0, ".exit.text": 0x1100, ".init.text": 0x9000}


def test_the_table_is_relative_to_text_and_leaves_out_init() -> None:
    table = make_table(BLOCKS, SECTIONS, 4096)
    assert table.base == 0xFF5 - 0x1000
    places = {table.base + at: entry for at, entry in enumerate(table.entries) if entry}
    assert places == {0xFF5 - 0x1000: 5, 9: 3, 20: 4, 0x104: 1}
    assert len(table.entries) == 0x104 - table.base + 1


def test_a_driver_without_blocks_has_an_empty_table() -> None:
    assert make_table((), SECTIONS, 10) == BlockTable(0, [])
    assert make_table(BLOCKS, {}, 10) == BlockTable(0, [])


def test_code_that_spans_too_much_is_refused() -> None:
    with pytest.raises(BadInputError, match=r"spans 272 bytes, at most 271 fit"):
        make_table(BLOCKS, SECTIONS, 271)
    assert len(make_table(BLOCKS, SECTIONS, 272).entries) == 272


def test_pcs_are_mapped_to_blocks() -> None:
    assert blocks_at(BLOCKS, SECTIONS, (0x9009, 0x1009, 0x1008, 0xDEAD)) == {1, 2}
    assert blocks_at(BLOCKS, {}, (9,)) == frozenset()


_LINKED_SOURCE = """
static int twice(int x) { return x ? x + x : 3; }
int shared(int x) { return x > 7 ? twice(x) : 1; }
"""
_OTHER_SOURCE = """
static int twice(int x) { return x ? x : 4; }
int other(int x) { return x > 5 ? twice(x) : 2; }
void __sanitizer_cov_trace_pc(void) { }
"""


def _link(directory: Path) -> tuple[Path, Path]:
    """Return an object with coverage, and what it was linked into."""
    for name, source, flags in (
        ("code", _LINKED_SOURCE, ["-fsanitize-coverage=trace-pc"]),
        ("other", _OTHER_SOURCE, []),
    ):
        (directory / f"{name}.c").write_text(source)
        command = ["gcc", "-O0", *flags, "-c", f"{name}.c", "-o", f"{name}.o"]
        subprocess.run(command, cwd=directory, check=True)
    command = ["ld", "-Ttext=0x7000000", "-e", "0", "other.o", "code.o", "-o", "linked"]
    subprocess.run(command, cwd=directory, check=True)
    return directory / "code.o", directory / "linked"


def test_blocks_of_a_linked_object_are_known_by_their_addresses(tmp_path: Path) -> None:
    built, linked = _link(tmp_path)
    blocks = read_builtin_blocks([built], linked)
    listing = subprocess.run(
        ["objdump", "-d", str(linked)], capture_output=True, text=True, check=True
    ).stdout
    calls = re.findall(r"^\s*([0-9a-f]+):.*call.*<__sanitizer_cov_trace_pc>", listing, re.M)
    assert len(calls) > 3
    assert [block.offset for block in blocks] == [int(call, 16) + 5 for call in calls]
    table = make_table(blocks, {LINKED: 0}, 1 << 16)
    assert table.base == blocks[0].offset
    assert table.entries[blocks[-1].offset - table.base] == len(blocks)


def test_a_kernel_without_coverage_of_the_driver_is_refused(tmp_path: Path) -> None:
    built, linked = _link(tmp_path)
    with pytest.raises(BadInputError, match=r"other\.o: no instrumented block"):
        read_builtin_blocks([built.with_name("other.o")], linked)
    with pytest.raises(BadInputError, match="damaged"):
        read_builtin_blocks([built], tmp_path / "nowhere")
    linked.write_bytes(linked.read_bytes()[:3000])
    with pytest.raises(BadInputError):
        read_builtin_blocks([built], linked)


def test_functions_of_an_object_are_listed(tmp_path: Path) -> None:
    built, _ = _link(tmp_path)
    assert set(read_functions(built)) == {"twice", "shared"}
