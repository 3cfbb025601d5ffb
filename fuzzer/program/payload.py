# SPDX-License-Identifier: Apache-2.0
"""A struct's members as a payload with fixups, and back.

The payload is the struct, then what a flexible array member holds, then the
buffers that pointer members point to, in the order of the members, without
gaps.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from fuzzer.program.program import Fixup
from fuzzer.target.layout import Member, MemberKind, StructLayout


@dataclass(frozen=True, slots=True)
class Buffer:
    """What a pointer member points to."""

    data: bytes


Value: TypeAlias = int | bytes | Buffer


def pack_struct(
    layout: StructLayout, values: Mapping[str, Value]
) -> tuple[bytes, tuple[Fixup, ...]]:
    """Return payload and fixups for members by name; those left out are zero.

    Raises ValueError for an unknown member, or a value that does not fit one.
    """
    names = [member.name for member in layout.members]
    for name in values:
        if name not in names:
            close = difflib.get_close_matches(name, names, n=1)
            guess = f"did you mean {close[0]}? " if close else ""
            raise ValueError(
                f"{layout.c_type} has no member {name}; {guess}it has {', '.join(names)}"
            )
    data = bytearray(layout.size)
    fixups: list[Fixup] = []
    buffers: list[tuple[Member, bytes]] = []
    for member in layout.members:
        value = values.get(member.name)
        if value is None:
            continue
        if isinstance(value, Buffer):
            if not member.holds_address:
                raise ValueError(f"{member.name} is not 64 bits wide: an address does not fit")
            buffers.append((member, value.data))
        elif _is_flexible(layout, member) and isinstance(value, bytes):
            data += value
        else:
            content = _content(member, value)
            data[member.offset : member.offset + len(content)] = content
    for member, content in buffers:
        fixups.append(Fixup(member.offset, len(data)))
        data += content
    return bytes(data), tuple(fixups)


def unpack_struct(
    layout: StructLayout, data: bytes, fixups: tuple[Fixup, ...]
) -> dict[str, Value] | None:
    """Return the members that ``pack_struct`` makes exactly this payload of.

    Zero members are left out. None when there is no such thing: the payload
    is too short, has bytes in its padding, or fixups elsewhere.
    """
    starts = [fixup.to for fixup in fixups]
    if len(data) < layout.size or starts != sorted(starts):
        return None
    extents = zip(fixups, [*starts, len(data)][1:], strict=True)
    buffers = {fixup.at: data[fixup.to : end] for fixup, end in extents}
    values: dict[str, Value] = {}
    for member in layout.members:
        if _is_flexible(layout, member):
            content = data[layout.size : starts[0] if starts else len(data)]
        else:
            content = data[member.offset : member.offset + member.size]
        if member.offset in buffers and member.holds_address:
            values[member.name] = Buffer(buffers[member.offset])
        elif not any(content):
            if content and _is_flexible(layout, member):
                values[member.name] = content
        elif member.kind is MemberKind.BYTES:
            flexible = _is_flexible(layout, member)
            values[member.name] = content if flexible else content.rstrip(b"\0")
        else:
            values[member.name] = int.from_bytes(content, "little", signed=member.signed)
    return values if pack_struct(layout, values) == (data, fixups) else None


def _is_flexible(layout: StructLayout, member: Member) -> bool:
    return member.count == 0 and member.offset == layout.size


def _content(member: Member, value: int | bytes) -> bytes:
    if member.kind is MemberKind.BYTES:
        if not isinstance(value, bytes):
            raise ValueError(f"{member.name} takes a string of up to {member.size} bytes")
        if len(value) > member.size:
            raise ValueError(f"{member.name} is {len(value)} bytes; {member.size} fit")
        return value
    if not isinstance(value, int):
        raise ValueError(f"{member.name} takes an integer of {member.size} bytes")
    bits = member.size * 8
    if not -(1 << (bits - 1)) <= value < 1 << bits:
        raise ValueError(f"{member.name} is {value}; an integer of {member.size} bytes fits")
    return (value & ((1 << bits) - 1)).to_bytes(member.size, "little")
