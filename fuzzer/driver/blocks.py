# SPDX-License-Identifier: Apache-2.0
"""The instrumented blocks of a driver, read from its object file.

With ``-fsanitize-coverage=trace-pc`` each block calls
``__sanitizer_cov_trace_pc``; in a module each of those calls is a relocation.
So the set of blocks is known before anything runs, and a counter can be given
to each.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence, Set
from dataclasses import dataclass
from pathlib import Path

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile
from elftools.elf.relocation import RelocationSection
from elftools.elf.sections import SymbolTableSection

from fuzzer.errors import BadInputError

TRACE_PC = "__sanitizer_cov_trace_pc"
"""The function that a block calls."""

LINKED = "linked"
"""The section of blocks that are known by their addresses in the kernel."""

_TEXT = ".text"
# Elf64_Sym: name, info, other, section, value, size.
_SYMBOL = struct.Struct("<IBBHQQ")
# Elf64_Rela: offset, info (the symbol's number above 32 bits of type), addend.
_RELOCATION = struct.Struct("<QQq")
_STT_FUNC, _STT_FILE = 2, 4
# KCOV records the return address, which is behind the call's 4-byte operand.
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
                if not isinstance(symbols, SymbolTableSection) or not section.is_RELA():
                    continue
                wanted = _numbers_of(symbols, TRACE_PC)
                code = elf.get_section(section["sh_info"]).name
                # By hand: a module has thousands, and each machine's start waits for this.
                for offset, info, _ in _RELOCATION.iter_unpack(section.data()):
                    if info >> 32 in wanted:
                        found.add(Block(code, offset + _OPERAND_SIZE))
    except (OSError, ELFError, struct.error, ValueError, OverflowError, MemoryError) as error:
        raise BadInputError(f"{module}: not a kernel module: {error}") from error
    return tuple(sorted(found))


def _numbers_of(table: SymbolTableSection, name: str) -> set[int]:
    """Return the numbers of the symbols of a name."""
    names = table.stringtable.data()
    wanted = name.encode() + b"\0"
    return {
        number
        for number, (at, *_) in enumerate(_SYMBOL.iter_unpack(table.data()))
        if names.startswith(wanted, at)
    }


@dataclass(frozen=True, slots=True)
class _Function:
    """A function as a symbol table has it: ``section`` is its section's number."""

    name: str
    section: int
    start: int
    size: int


def _read_symbols(elf: ELFFile) -> tuple[list[_Function], list[int], list[str]]:
    """Return the functions, the number of functions before each file's symbol, and the files.

    Parsed by hand, for a kernel has a hundred thousand symbols.
    """
    table = elf.get_section_by_name(".symtab")
    if not isinstance(table, SymbolTableSection):
        return [], [], []
    names = elf.get_section(table["sh_link"]).data()
    functions: list[_Function] = []
    starts: list[int] = []
    files: list[str] = []

    def text(offset: int) -> str:
        end: int = names.index(b"\0", offset)
        return str(names[offset:end], "ascii", "replace")

    data = table.data()
    for name, info, _, section, value, size in _SYMBOL.iter_unpack(
        data[: len(data) - len(data) % _SYMBOL.size]
    ):
        kind = info & 0xF
        if kind == _STT_FILE:
            starts.append(len(functions))
            files.append(text(name))
        elif kind == _STT_FUNC and section:
            functions.append(_Function(text(name), section, value, size))
    return functions, starts, files


def read_functions(module: Path) -> tuple[str, ...]:
    """Return the names of the functions that an object file defines.

    Raises:
        BadInputError: not an ELF object.
    """
    try:
        with module.open("rb") as file:
            return tuple(function.name for function in _read_symbols(ELFFile(file))[0])
    except (OSError, ELFError, ValueError) as error:
        raise BadInputError(f"{module}: not an object file: {error}") from error


class _LinkedFunctions:
    """The addresses of a kernel's functions, by source file, as two may share a name."""

    def __init__(self, vmlinux: Path) -> None:
        with vmlinux.open("rb") as file:
            self._functions, self._starts, self._files = _read_symbols(ELFFile(file))

    def of_file(self, file: str, names: Set[str]) -> dict[str, int]:
        """Return the addresses of a file's functions of these names, by name."""
        best: dict[str, int] = {}
        ends = [*self._starts[1:], len(self._functions)]
        for name, start, end in zip(self._files, self._starts, ends, strict=True):
            if name == file:
                found = {each.name: each.start for each in self._functions[start:end]}
                local = {each: found[each] for each in names & found.keys()}
                best = max(best, local, key=len)
        # The global ones stand behind all files.
        for each in self._functions[self._starts[-1] if self._starts else 0 :]:
            if each.name in names:
                best.setdefault(each.name, each.start)
        return best


def linked_addresses(path: Path, vmlinux: Path) -> dict[str, int]:
    """Return the addresses that the functions of an object have in a kernel, by name.

    Raises:
        BadInputError: a file is missing or not ELF.
    """
    try:
        linked = _LinkedFunctions(vmlinux)
        return linked.of_file(f"{path.stem}.c", {*read_functions(path)})
    except (OSError, ELFError, ValueError) as error:
        raise BadInputError(f"the kernel's build directory is damaged: {error}") from error


def read_builtin_blocks(objects: Sequence[Path], vmlinux: Path) -> tuple[Block, ...]:
    """Return the blocks of object files that are linked into a kernel, in order.

    Their section is :data:`LINKED` and their offsets are addresses. Code that
    only runs at boot is left out, and so is what the linker puts far from the
    rest, as it does with what the compiler calls unlikely.

    Raises:
        BadInputError: a file is missing or not ELF, or none has blocks.
    """
    found: set[Block] = set()
    try:
        linked = _LinkedFunctions(vmlinux)
        for path in objects:
            with path.open("rb") as file:
                elf = ELFFile(file)
                text = elf.get_section_index(_TEXT)
                functions = [each for each in _read_symbols(elf)[0] if each.section == text]
            addresses = linked.of_file(f"{path.stem}.c", {each.name for each in functions})
            calls = [block.offset for block in read_blocks(path) if block.section == _TEXT]
            for each in functions:
                if (address := addresses.get(each.name)) is not None:
                    moved = address - each.start
                    inside = range(each.start, each.start + each.size)
                    found.update(Block(LINKED, at + moved) for at in calls if at - 1 in inside)
    except (OSError, ELFError, ValueError) as error:
        raise BadInputError(f"the kernel's build directory is damaged: {error}") from error
    if not found:
        names = ", ".join(path.name for path in objects)
        raise BadInputError(
            f"{names}: no instrumented block. The kernel needs CONFIG_KCOV, and the driver to be "
            "built with KCOV_INSTRUMENT_NAME.o=y"
        )
    return tuple(sorted(found))


@dataclass(frozen=True, slots=True)
class BlockTable:
    """The table by which the executor turns a PC into a counter.

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
