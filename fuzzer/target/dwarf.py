# SPDX-License-Identifier: Apache-2.0
"""Struct layouts read from DWARF 5 debugging information."""

from __future__ import annotations

from collections.abc import Iterator

from elftools.dwarf.die import DIE

from fuzzer.target.layout import Member, MemberKind, StructLayout

_QUALIFIERS = frozenset(
    f"DW_TAG_{tag}_type" for tag in ("const", "volatile", "restrict", "atomic")
) | {"DW_TAG_typedef"}

_DW_ATE_FLOATS = frozenset((0x03, 0x04))
_DW_ATE_SIGNED = frozenset((0x05, 0x06))
_DW_ATE_CHARS = frozenset((0x06, 0x08))


def variable_types(top: DIE) -> Iterator[tuple[str, DIE]]:
    """Yield the name of each file-scope variable with the DIE of its type."""
    for die in top.iter_children():
        if die.tag == "DW_TAG_variable" and "DW_AT_type" in die.attributes:
            yield _name(die), _type(die)


def struct_layout(name: str, die: DIE) -> StructLayout:
    """Return the layout of the struct (or union) that ``die`` describes."""
    members: list[Member] = []
    if die.tag == "DW_TAG_union_type":
        members.append(Member("union_0", 0, _size(die), MemberKind.BYTES, _size(die)))
    else:
        _collect(die, 0, "", members)
    return StructLayout(name, _size(die), tuple(members))


def _name(die: DIE) -> str:
    attribute = die.attributes.get("DW_AT_name")
    return attribute.value.decode() if attribute is not None else ""


def _type(die: DIE) -> DIE:
    """Return the type of ``die`` with typedefs and qualifiers taken off."""
    found = die.get_DIE_from_attribute("DW_AT_type")
    while found.tag in _QUALIFIERS:
        found = found.get_DIE_from_attribute("DW_AT_type")
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


def _collect(struct: DIE, base: int, prefix: str, members: list[Member]) -> None:
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
            _collect(kind_die, offset, f"{prefix}{name}." if name else prefix, members)
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
