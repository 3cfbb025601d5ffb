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

from fuzzer.target.layout import Member, MemberKind, StructLayout, UnionChoice

_QUALIFIERS = frozenset(
    f"DW_TAG_{tag}_type" for tag in ("const", "volatile", "restrict", "atomic")
) | {"DW_TAG_typedef"}

_DW_ATE_FLOATS = frozenset((0x03, 0x04))
_DW_ATE_SIGNED = frozenset((0x05, 0x06))
_DW_ATE_CHARS = frozenset((0x06, 0x08))


_COMPOSITES = {"DW_TAG_structure_type": "struct", "DW_TAG_union_type": "union"}
_ENUM = "DW_TAG_enumeration_type"

_BIG = frozenset(("be16", "be32", "be64"))

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


def whole_layout(
    die: DIE | None, *, through_pointer: bool = False, depth: int = 0
) -> StructLayout | None:
    """Return the layout of a type if it is a struct or a union that is defined, else None.

    Its name is its tag or, if it has none, that of a typedef. ``through_pointer``: of a pointer
    to one as well. It is in ``depth`` others.
    """
    die, alias = _plain(die)
    if through_pointer and die is not None and die.tag == "DW_TAG_pointer_type":
        die, alias = _plain(_target(die))
    if die is None or die.tag not in _COMPOSITES or "DW_AT_declaration" in die.attributes:
        return None
    tag = _name(die)
    return struct_layout(tag or alias, die, depth).named(
        tag or alias, _COMPOSITES[die.tag] if tag else ""
    )


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


def struct_layout(name: str, die: DIE, depth: int = 0) -> StructLayout:
    """Return the layout of the struct (or union) that ``die`` describes.

    It is in ``depth`` others.
    """
    members: list[Member] = []
    if die.tag == "DW_TAG_union_type":
        members.append(_union("union_0", 0, "", die, depth))
    else:
        _collect(die, 0, "", members, depth)
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
        inner = f"{prefix}{name}." if name else prefix
        if kind_die.tag == "DW_TAG_structure_type":
            _collect(kind_die, offset, inner, members, depth + 1)
        elif kind_die.tag == "DW_TAG_union_type":
            union = f"{prefix}{name or f'union_{offset}'}"
            members.append(_union(union, offset, inner, kind_die, depth + 1))
        else:
            one = f"{prefix}{name or f'union_{offset}'}"
            members.append(_member(one, offset, die, depth))


def _union(name: str, offset: int, prefix: str, die: DIE, depth: int = 0) -> Member:
    """Return a union; its members' names begin with ``prefix``."""
    if depth > _DEEPEST:
        raise DWARFError(f"union {_name(die)} has too many members")
    choices: list[UnionChoice] = []
    for child in die.iter_children():
        if child.tag != "DW_TAG_member":
            continue
        found: list[Member] = []
        kind_die, own = _type(child), _name(child)
        if "DW_AT_bit_size" in child.attributes:
            _add_bits(child, offset, prefix, found)
        elif kind_die.tag == "DW_TAG_structure_type":
            _collect(kind_die, offset, f"{prefix}{own}." if own else prefix, found, depth + 1)
        elif kind_die.tag == "DW_TAG_union_type":
            inner = f"{prefix}{own}." if own else prefix
            named = f"{prefix}{own or f'union_{offset}'}"
            found.append(_union(named, offset, inner, kind_die, depth + 1))
        else:
            found.append(_member(f"{prefix}{own}", offset, child, depth))
        if found:
            choices.append(UnionChoice(own or found[0].name.removeprefix(prefix), tuple(found)))
    size = _size(die)
    return Member(name, offset, size, MemberKind.BYTES, size, choices=tuple(choices))


def _member(name: str, offset: int, of: DIE, depth: int = 0) -> Member:
    """Return the member that ``of`` is, or the element of such an array."""
    die, size = _type(of), _size(_type(of))
    if die.tag == "DW_TAG_pointer_type":
        return Member(name, offset, size, MemberKind.POINTER)
    if die.tag == "DW_TAG_array_type":
        text = _is_text(die)
        element = None if text else _element(die, depth)
        count = _elements(die)
        return Member(name, offset, size, MemberKind.BYTES, count, is_text=text, element=element)
    encoding = _integer(die, "DW_AT_encoding")
    scalar = die.tag in ("DW_TAG_base_type", "DW_TAG_enumeration_type")
    if not scalar or encoding in _DW_ATE_FLOATS or size not in (1, 2, 4, 8):
        return Member(name, offset, size, MemberKind.BYTES, size)
    signed = encoding in _DW_ATE_SIGNED
    return Member(name, offset, size, MemberKind.INTEGER, signed=signed, is_big=_is_big(of))


def _element(array: DIE, depth: int) -> StructLayout | None:
    """Return the element of an array of one dimension: a struct, or a number of some bytes."""
    ranges = [each for each in array.iter_children() if each.tag == "DW_TAG_subrange_type"]
    die = _type(array)
    if len(ranges) != 1 or not _size(die):
        return None
    if die.tag in _COMPOSITES:
        return whole_layout(_target(array), depth=depth + 1)
    one = _member("", 0, array, depth + 1)
    if one.kind is MemberKind.BYTES or one.size == 1:
        return None
    return StructLayout("", one.size, (one,), "")


def _is_big(die: DIE) -> bool:
    """Tell whether a type is one of the kernel's whose first byte is the high one."""
    found = _target(die)
    for _ in range(_MOST_QUALIFIERS):
        if found is None or found.tag not in _QUALIFIERS:
            return False
        if _name(found).lstrip("_") in _BIG:
            return True
        found = _target(found)
    return False


def _add_bits(die: DIE, base: int, prefix: str, members: list[Member]) -> None:
    width = _integer(die, "DW_AT_bit_size")
    first_bit = base * 8 + _integer(die, "DW_AT_data_bit_offset")
    start, end = first_bit // 8, (first_bit + width + 7) // 8
    signed = _integer(_type(die), "DW_AT_encoding") in _DW_ATE_SIGNED
    name, shift = f"{prefix}{_name(die)}", first_bit % 8
    fields: tuple[Member, ...] = (
        Member(
            *(name, start, end - start, MemberKind.INTEGER),
            signed=signed,
            bits=width,
            shift=shift,
        ),
    )
    if members and members[-1].name.startswith(f"{prefix}bits_"):
        last = members[-1]
        if start <= last.offset + last.size:
            start = last.offset
            fields = (*last.choices[0].members, *fields)
            members.pop()
    size = end - start
    choices = (UnionChoice("", fields),)
    members.append(
        Member(f"{prefix}bits_{start}", start, size, MemberKind.BYTES, size, choices=choices)
    )
