# SPDX-License-Identifier: Apache-2.0
"""Struct layouts read from DWARF 5 debugging information."""

from __future__ import annotations

from collections.abc import Container, Iterator
from pathlib import Path
from typing import cast

from elftools.common.exceptions import DWARFError
from elftools.dwarf.compileunit import CompileUnit
from elftools.dwarf.die import DIE
from elftools.elf.elffile import ELFFile

from fuzzer.target.layout import Member, MemberKind, StructLayout

_QUALIFIERS = frozenset(
    f"DW_TAG_{tag}_type" for tag in ("const", "volatile", "restrict", "atomic")
) | {"DW_TAG_typedef"}

_DW_ATE_FLOATS = frozenset((0x03, 0x04))
_DW_ATE_SIGNED = frozenset((0x05, 0x06))
_DW_ATE_CHARS = frozenset((0x06, 0x08))


_COMPOSITES = {"DW_TAG_structure_type": "struct", "DW_TAG_union_type": "union"}
_ENUM = "DW_TAG_enumeration_type"

# A file that no compiler made may go round in circles.
_MOST_QUALIFIERS = 64
_MOST_MEMBERS = 4096
_DEEPEST = 32


def variables(elf: ELFFile, names: Container[str]) -> Iterator[tuple[str, DIE]]:
    """Yield the file-scope variables of these names with their DIEs."""
    for die in _top_level(elf):
        if die.tag == "DW_TAG_variable" and (name := _name(die)) in names:
            yield name, die


def pointed_type(variable: DIE) -> DIE | None:
    """Return what a pointer variable points to, as it was declared; None for ``void``."""
    pointer = _target(variable)
    return None if pointer is None else _target(pointer)


def whole_layout(die: DIE | None, *, through_pointer: bool = False) -> StructLayout | None:
    """Return the layout of a type if it is a struct or a union that is defined, else None.

    Its name is its tag or, if it has none, that of a typedef. ``through_pointer``: of a pointer
    to one as well.
    """
    die, alias = _plain(die)
    if through_pointer and die is not None and die.tag == "DW_TAG_pointer_type":
        die, alias = _plain(_target(die))
    if die is None or die.tag not in _COMPOSITES or "DW_AT_declaration" in die.attributes:
        return None
    tag = _name(die)
    return struct_layout(tag or alias, die).named(tag or alias, _COMPOSITES[die.tag] if tag else "")


def element_layout(variable: DIE) -> StructLayout | None:
    """Return the layout of a variable that is a struct, or an array of structs, else None."""
    die, _ = _plain(_target(variable))
    if die is not None and die.tag == "DW_TAG_array_type":
        die = _target(die)
    return whole_layout(die)


def declared_in(variable: DIE) -> str:
    """Return the directory of the file that declares a variable's struct; empty if unknown."""
    die, _ = _plain(_target(variable))
    if die is not None and die.tag == "DW_TAG_array_type":
        die, _ = _plain(_target(die))
    return _place(die)[0] if die is not None else ""


def _place(die: DIE) -> tuple[str, str]:
    """Return the directory and the name of the file that has a declaration; empty if unknown."""
    if "DW_AT_decl_file" not in die.attributes:
        return "", ""
    lines = die.dwarfinfo.line_program_for_CU(cast(CompileUnit, die.cu))
    if lines is None:
        return "", ""
    entry = lines.header["file_entry"][die.attributes["DW_AT_decl_file"].value]
    directory = lines.header["include_directory"][entry.dir_index]
    return directory.decode(errors="replace"), entry.name.decode(errors="replace")


def inlined_functions(elf: ELFFile) -> Iterator[tuple[str, Path]]:
    """Yield the functions of which there are only inlined copies, with the files they are in."""
    for die in _top_level(elf):
        if die.tag == "DW_TAG_subprogram" and "DW_AT_inline" in die.attributes:
            directory, name = _place(die)
            yield _name(die), Path(directory, name)


def named_layouts(elf: ELFFile, names: Container[str]) -> dict[str, StructLayout]:
    """Return the layouts of structs, unions and typedefs by name; a tag goes before a typedef."""
    found: dict[str, StructLayout] = {}
    for die in _top_level(elf):
        if die.tag not in _COMPOSITES and die.tag != "DW_TAG_typedef":
            continue
        name = _name(die)
        if name not in names or (name in found and found[name].keyword):
            continue
        keyword = _COMPOSITES.get(die.tag, "")
        if (keyword or name not in found) and (layout := whole_layout(die)) is not None:
            found[name] = layout.named(name, keyword)
    return found


def enumerators(elf: ELFFile) -> dict[str, int]:
    """Return the values of all enumerators by name."""
    return {
        _name(child): _integer(child, "DW_AT_const_value")
        for die in _top_level(elf)
        if die.tag == _ENUM
        for child in die.iter_children()
        if child.tag == "DW_TAG_enumerator"
    }


def type_names(elf: ELFFile) -> set[str]:
    """Return the names of all structs, unions, typedefs and enumerators."""
    tags = {*_COMPOSITES, "DW_TAG_typedef"}
    names = {_name(die) for die in _top_level(elf) if die.tag in tags}
    return {*names, *enumerators(elf)} - {""}


def struct_layout(name: str, die: DIE) -> StructLayout:
    """Return the layout of the struct (or union) that ``die`` describes."""
    members: list[Member] = []
    if die.tag == "DW_TAG_union_type":
        members.append(Member("union_0", 0, _size(die), MemberKind.BYTES, _size(die)))
    else:
        _collect(die, 0, "", members)
    return StructLayout(name, _size(die), tuple(members))


def _top_level(elf: ELFFile) -> Iterator[DIE]:
    if not elf.has_dwarf_info():
        return
    for unit in elf.get_dwarf_info().iter_CUs():
        yield from unit.get_top_DIE().iter_children()


def _target(die: DIE) -> DIE | None:
    return die.get_DIE_from_attribute("DW_AT_type") if "DW_AT_type" in die.attributes else None


def _plain(die: DIE | None) -> tuple[DIE | None, str]:
    """Return a type with typedefs and qualifiers taken off, and the innermost typedef's name."""
    alias = ""
    for _ in range(_MOST_QUALIFIERS):
        if die is None or die.tag not in _QUALIFIERS:
            return die, alias
        if die.tag == "DW_TAG_typedef":
            alias = _name(die)
        die = _target(die)
    raise DWARFError("a typedef of itself")


def _name(die: DIE) -> str:
    attribute = die.attributes.get("DW_AT_name")
    return attribute.value.decode() if attribute is not None else ""


def _type(die: DIE) -> DIE:
    """Return the type of ``die`` with typedefs and qualifiers taken off."""
    found, _ = _plain(_target(die))
    if found is None:
        raise DWARFError("a member without a type")
    return found


def _integer(die: DIE, attribute: str, default: int = 0) -> int:
    found = die.attributes.get(attribute)
    return found.value if found is not None and isinstance(found.value, int) else default


def _size(die: DIE) -> int:
    if die.tag == "DW_TAG_array_type":
        return _size(_type(die)) * _elements(die)
    return _integer(die, "DW_AT_byte_size", 8 if die.tag == "DW_TAG_pointer_type" else 0)


def _elements(array: DIE) -> int:
    """Return the number of elements, 0 for a flexible array member."""
    total = 1
    for child in array.iter_children():
        if child.tag != "DW_TAG_subrange_type":
            continue
        bound = _integer(child, "DW_AT_upper_bound", -1)
        # An array declared [0] may carry its bound of -1 as an unsigned value.
        count = 0 if bound >= (1 << 31) else bound + 1
        total *= _integer(child, "DW_AT_count", count)
    return total


def _is_text(array: DIE) -> bool:
    ranges = [each for each in array.iter_children() if each.tag == "DW_TAG_subrange_type"]
    return len(ranges) == 1 and _integer(_type(array), "DW_AT_encoding") in _DW_ATE_CHARS


def _collect(struct: DIE, base: int, prefix: str, members: list[Member], depth: int = 0) -> None:
    if depth > _DEEPEST or len(members) > _MOST_MEMBERS:
        raise DWARFError(f"struct {_name(struct)} has too many members")
    for die in struct.iter_children():
        if die.tag != "DW_TAG_member":
            continue
        if "DW_AT_bit_size" in die.attributes:
            _add_bits(die, base, prefix, members)
            continue
        offset = base + _integer(die, "DW_AT_data_member_location")
        kind_die = _type(die)
        name = _name(die)
        if kind_die.tag == "DW_TAG_structure_type":
            inner = f"{prefix}{name}." if name else prefix
            _collect(kind_die, offset, inner, members, depth + 1)
        else:
            members.append(_member(f"{prefix}{name or f'union_{offset}'}", offset, kind_die))


def _member(name: str, offset: int, die: DIE) -> Member:
    size = _size(die)
    if die.tag == "DW_TAG_pointer_type":
        return Member(name, offset, size, MemberKind.POINTER)
    if die.tag == "DW_TAG_array_type":
        text = _is_text(die)
        return Member(name, offset, size, MemberKind.BYTES, _elements(die), is_text=text)
    encoding = _integer(die, "DW_AT_encoding")
    scalar = die.tag in ("DW_TAG_base_type", "DW_TAG_enumeration_type")
    if not scalar or encoding in _DW_ATE_FLOATS or size not in (1, 2, 4, 8):
        return Member(name, offset, size, MemberKind.BYTES, size)
    return Member(name, offset, size, MemberKind.INTEGER, signed=encoding in _DW_ATE_SIGNED)


def _add_bits(die: DIE, base: int, prefix: str, members: list[Member]) -> None:
    first_bit = base * 8 + _integer(die, "DW_AT_data_bit_offset")
    start, end = first_bit // 8, (first_bit + _integer(die, "DW_AT_bit_size") + 7) // 8
    if members and members[-1].name.startswith(f"{prefix}bits_"):
        last = members[-1]
        if start <= last.offset + last.size:
            start = last.offset
            members.pop()
    size = end - start
    members.append(Member(f"{prefix}bits_{start}", start, size, MemberKind.BYTES, size))
