# SPDX-License-Identifier: Apache-2.0
"""The operations that a driver's files have, read from its module.

A driver's ``struct file_operations`` and ``struct proc_ops`` are tables of
function addresses, which a module holds as relocations. So a table is known by
its size, and its entries by which of them are to be filled in.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile
from elftools.elf.relocation import RelocationSection
from elftools.elf.sections import SymbolTableSection

from fuzzer.cache import build_once, content_key
from fuzzer.driver.probe_module import build_probe
from fuzzer.errors import BadInputError
from fuzzer.kernel.kernel import Kernel

_PROBE_NAME = "pkvfuzz_operations"
_SECTION = ".pkvfuzz.operations"
# Names of an entry here, and in the kernel's struct.
_ENTRIES: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "file_operations": {
        "read": ("read",),
        "write": ("write",),
        "read_iter": ("read_iter",),
        "write_iter": ("write_iter",),
        "lseek": ("llseek",),
        "poll": ("poll",),
        "ioctl": ("unlocked_ioctl",),
        "compat": ("compat_ioctl",),
        "mmap": ("mmap",),
        "open": ("open",),
        "fasync": ("fasync", "check_flags"),
        "lock": ("lock", "setlease"),
        "flock": ("flock",),
        "fsync": ("fsync",),
        "getdents": ("iterate_shared",),
        "fdinfo": ("show_fdinfo",),
        "splice_read": ("splice_read",),
        "splice_write": ("splice_write",),
        # It is for a process that closes a file or exits.
        "child": ("flush",),
        "uring_cmd": ("uring_cmd",),
    },
    "v4l2_file_operations": {
        "read": ("read",),
        "write": ("write",),
        "poll": ("poll",),
        "ioctl": ("unlocked_ioctl",),
        "mmap": ("mmap",),
        "open": ("open",),
    },
    "proc_ops": {
        "read": ("proc_read", "proc_read_iter"),
        "write": ("proc_write",),
        "lseek": ("proc_lseek",),
        "poll": ("proc_poll",),
        "ioctl": ("proc_ioctl",),
        "mmap": ("proc_mmap",),
        "open": ("proc_open",),
    },
}
# What a file with another operation has as well.
_ALSO = {"read_iter": "read", "write_iter": "write"}
# Members that older kernels do not have, with macros that came with them.
_NEWER = {"uring_cmd": "IORING_SETUP_SQE128"}
# Here the kernel's own functions do nothing, or pass the call on.
_OWN = frozenset({"compat", "fsync"})
_SYMBOL = struct.Struct("<IBBHQQ")
_RELOCATION = struct.Struct("<QQq")
_STT_OBJECT = 1
# SHF_EXECINSTR.
_EXECUTABLE = 4


@dataclass(frozen=True, slots=True)
class OperationTable:
    """One table: the name of its variable, its struct, and the operations it has.

    Operations are named as the calls of a description are: read, write, lseek, poll,
    ioctl, mmap, open, fasync and so on; compat are the ioctls of 32-bit programs. Reads and
    writes that a ring of io_uring makes without waiting are read_iter and write_iter as well.
    """

    name: str
    struct: str
    operations: frozenset[str]


def read_operations(module: Path, kernel: Kernel) -> tuple[OperationTable, ...]:
    """Return the tables of file operations in a module built for a kernel, by name.

    Raises:
        BadInputError: it is no kernel module.
        InfrastructureError: the kernel's structs cannot be read.
    """
    layouts = _layouts(kernel)
    try:
        with module.open("rb") as file:
            return tuple(sorted(_tables(ELFFile(file), layouts), key=lambda table: table.name))
    except (OSError, ELFError, struct.error, ValueError, OverflowError, MemoryError) as error:
        # A damaged one may tell of sections of any size.
        raise BadInputError(f"{module}: not a kernel module: {error}") from error


@dataclass(frozen=True, slots=True)
class _TableLayout:
    struct: str
    size: int
    entries: Mapping[int, str]


def _tables(elf: ELFFile, layouts: tuple[_TableLayout, ...]) -> Iterator[OperationTable]:
    symbols = elf.get_section_by_name(".symtab")
    if not isinstance(symbols, SymbolTableSection):
        return
    names = symbols.stringtable.data()
    entries = list(_SYMBOL.iter_unpack(symbols.data()))
    filled = _filled_in(elf, [section for _, _, _, section, _, _ in entries])
    for name, info, _, section, value, size in entries:
        if info & 0xF != _STT_OBJECT:
            continue
        for layout in layouts:
            if size != layout.size or section not in filled:
                continue
            # The compiler may have put several tables into one section.
            inside = {
                at - value: own for at, own in filled[section].items() if value <= at < value + size
            }
            found = frozenset(
                layout.entries[at]
                for at in inside.keys() & layout.entries.keys()
                if inside[at] or layout.entries[at] not in _OWN
            )
            found |= {also for name, also in _ALSO.items() if name in found}
            if found:
                text = str(names[name : names.index(b"\0", name)], "ascii", "replace")
                yield OperationTable(text, layout.struct, found)
                break


def _filled_in(elf: ELFFile, sections: Sequence[int]) -> dict[int, dict[int, bool]]:
    """Return the offsets of the functions that data sections name, by number of section.

    Of each is told whether it is the module's own. ``sections`` are those of the symbols,
    by number; 0 is that of another module's.
    """
    code = {n for n, each in enumerate(elf.iter_sections()) if each["sh_flags"] & _EXECUTABLE}
    code.add(0)
    found: dict[int, dict[int, bool]] = {}
    for section in elf.iter_sections():
        if not isinstance(section, RelocationSection) or not section.is_RELA():
            continue
        target = section["sh_info"]
        if not elf.get_section(target).name.startswith((".rodata", ".data", ".ro_after_init")):
            continue
        offsets = {
            at: sections[info >> 32] != 0
            for at, info, _ in _RELOCATION.iter_unpack(section.data())
            if info >> 32 < len(sections) and sections[info >> 32] in code
        }
        found.setdefault(target, {}).update(offsets)
    return found


def _layouts(kernel: Kernel) -> tuple[_TableLayout, ...]:
    """Return the kernel's structs, from an object that is compiled there once."""
    numbers = (each for (each,) in struct.iter_unpack("<Q", _probe(kernel)))
    layouts = []
    for name, entries in _ENTRIES.items():
        size = next(numbers)
        places = {
            next(numbers): operation for operation, members in entries.items() for _ in members
        }
        layouts.append(_TableLayout(name, size, places))
    return tuple(layouts)


def _probe(kernel: Kernel) -> bytes:
    lines = ["#include <linux/fs.h>", "#include <linux/proc_fs.h>"]
    lines += ["#include <media/v4l2-dev.h>", "#include <linux/module.h>"]
    lines += ["#include <uapi/linux/io_uring.h>"]
    lines += ["const unsigned long long pkvfuzz_operations[]"]
    lines += [f'__attribute__((used, section("{_SECTION}"))) = {{']
    for name, entries in _ENTRIES.items():
        lines.append(f"sizeof(struct {name}),")
        for members in entries.values():
            lines += [line for member in members for line in _offset(name, member)]
    lines += ["};", 'MODULE_LICENSE("GPL");']
    source = "\n".join(lines) + "\n"

    def build(directory: Path) -> None:
        build_probe(kernel, directory, source, f"{_PROBE_NAME}.o")

    directory = build_once("operations", content_key(kernel.key, source), build, keep=8)
    with (directory / f"{_PROBE_NAME}.o").open("rb") as file:
        section = ELFFile(file).get_section_by_name(_SECTION)
        return bytes(section.data()) if section is not None else b""


def _offset(name: str, member: str) -> list[str]:
    """Return the lines with the offset of a member; where there is none, that of no member."""
    lines = [f"offsetof(struct {name}, {member}),"]
    if member not in _NEWER:
        return lines
    return [f"#ifdef {_NEWER[member]}", *lines, "#else", f"sizeof(struct {name}),", "#endif"]


def operation_names(tables: tuple[OperationTable, ...]) -> frozenset[str]:
    """Return the operations that any of some tables has."""
    return frozenset(name for table in tables for name in table.operations)
