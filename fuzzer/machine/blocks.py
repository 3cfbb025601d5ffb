# SPDX-License-Identifier: Apache-2.0
"""The instrumented blocks of a driver, read from its object file.

With ``-fsanitize-coverage=trace-pc`` each block calls
``__sanitizer_cov_trace_pc``; in a module each of those calls is a relocation.
So the set of blocks is known before anything runs, and a counter can be given
to each.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile
from elftools.elf.relocation import RelocationSection
from elftools.elf.sections import SymbolTableSection

from fuzzer.errors import BadInputError

_TRACE_PC = "__sanitizer_cov_trace_pc"
# What KCOV records is the return address: behind the call's 4-byte operand.
_OPERAND_SIZE = 4


@dataclass(frozen=True, slots=True, order=True)
class Block:
    """One instrumented block: its section and the offset that KCOV reports."""

    section: str
    offset: int


def read_blocks(module: Path) -> tuple[Block, ...]:
    """Return a module's instrumented blocks, in order.

    Raises:
        BadInputError: not an x86-64 ELF object.
    """
    found = set()
    try:
        with module.open("rb") as file:
            elf = ELFFile(file)
            if elf.get_machine_arch() != "x64":
                raise BadInputError(f"{module}: built for {elf.get_machine_arch()}, not for x86-64")
            for section in elf.iter_sections():
                if not isinstance(section, RelocationSection):
                    continue
                symbols = elf.get_section(section["sh_link"])
                if not isinstance(symbols, SymbolTableSection):
                    continue
                code = elf.get_section(section["sh_info"]).name
                for relocation in section.iter_relocations():
                    symbol = symbols.get_symbol(relocation["r_info_sym"])
                    if symbol.name == _TRACE_PC:
                        found.add(Block(code, relocation["r_offset"] + _OPERAND_SIZE))
    except (OSError, ELFError) as error:
        raise BadInputError(f"{module}: not a kernel module: {error}") from error
    return tuple(sorted(found))


@dataclass(frozen=True, slots=True)
class BlockTable:
    """What the executor needs to turn a PC into a counter.

    ``entries`` is indexed by the PC's distance from ``base`` (relative to the
    start of ``.text``) and holds the block's number plus one, or 0.
    """

    base: int
    entries: list[int]


def make_table(blocks: tuple[Block, ...], sections: dict[str, int], room: int) -> BlockTable:
    """Return the table for a loaded module.

    Code that is gone once the module is loaded (``.init.text``) has no place
    in it. ``room`` is the most entries that the channel can hold.

    Raises:
        BadInputError: the driver's code is too large.
    """
    text = sections.get(".text", 0)
    places = [
        (sections[block.section] + block.offset - text, number)
        for number, block in enumerate(blocks)
        if block.section in sections and not block.section.startswith(".init")
    ]
    if not places:
        return BlockTable(0, [])
    base = min(place for place, _ in places)
    entries = [0] * (max(place for place, _ in places) - base + 1)
    if len(entries) > room:
        raise BadInputError(f"the driver's code spans {len(entries)} bytes, at most {room} fit")
    for place, number in places:
        entries[place - base] = number + 1
    return BlockTable(base, entries)


def blocks_at(
    blocks: tuple[Block, ...], sections: dict[str, int], pcs: tuple[int, ...]
) -> frozenset[int]:
    """Return the numbers of the blocks that a set of PCs belongs to."""
    by_pc = {
        sections[block.section] + block.offset: number
        for number, block in enumerate(blocks)
        if block.section in sections
    }
    return frozenset(by_pc[pc] for pc in pcs if pc in by_pc)
