# SPDX-License-Identifier: Apache-2.0
"""Instrumented blocks, read from objects that gcc makes here."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from fuzzer.errors import BadInputError
from fuzzer.machine.blocks import Block, BlockTable, blocks_at, make_table, read_blocks

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
