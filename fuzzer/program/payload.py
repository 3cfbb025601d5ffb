# SPDX-License-Identifier: Apache-2.0
"""A struct's members as a payload with fixups, and back.

The payload is the struct, then what a flexible array member holds, then the
buffers that pointer members point to, in the order of the members, without
gaps. Structs that are written come one after the other, and then their buffers.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from fuzzer.program.links import LINK, Link, addresses, links
from fuzzer.program.program import Fixup
from fuzzer.target.layout import Member, MemberKind, StructLayout


@dataclass(frozen=True, slots=True)
class Buffer:
    """What a pointer member points to."""

    data: bytes


Value: TypeAlias = int | bytes | Buffer | Link
"""A link's place is that of its member, and so is its size."""

_SIZES = (4, 8)


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
    linked: list[Fixup] = []
    buffers: list[tuple[Member, bytes]] = []
    for member in layout.members:
        value = values.get(member.name)
        if value is None:
            continue
        if isinstance(value, Buffer):
            if not member.holds_address:
                raise ValueError(f"{member.name} is not 64 bits wide: an address does not fit")
            buffers.append((member, value.data))
        elif isinstance(value, Link):
            linked.append(_placed(member, value))
        elif _is_flexible(layout, member) and isinstance(value, bytes):
            data += value
        else:
            content = _content(member, value)
            data[member.offset : member.offset + len(content)] = content
    for member, content in buffers:
        fixups.append(Fixup(member.offset, len(data)))
        data += content
    return bytes(data), (*fixups, *linked)


def _placed(member: Member, link: Link) -> Fixup:
    if member.size not in _SIZES or member.kind is MemberKind.BYTES:
        raise ValueError(f"{member.name} is no number of 4 or 8 bytes: no handle fits")
    return replace(link, at=member.offset, is_wide=member.size == _SIZES[1]).fixup()


def unpack_struct(
    layout: StructLayout, data: bytes, fixups: tuple[Fixup, ...]
) -> dict[str, Value] | None:
    """Return the members that ``pack_struct`` makes exactly this payload of.

    Zero members are left out. None when there is no such thing: the payload
    is too short, has bytes in its padding, or fixups elsewhere.
    """
    linked = {link.at: link for link in links(fixups)}
    whole, fixups = fixups, addresses(fixups)
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
        elif member.offset in linked and not any(content):
            values[member.name] = linked[member.offset]
        elif not any(content):
            if content and _is_flexible(layout, member):
                values[member.name] = content
        elif member.kind is MemberKind.BYTES:
            flexible = _is_flexible(layout, member)
            values[member.name] = content if flexible else content.rstrip(b"\0")
        else:
            values[member.name] = int.from_bytes(content, "little", signed=member.signed)
    try:
        return values if pack_struct(layout, values) == (data, whole) else None
    except ValueError:  # A link where there is no member for it.
        return None


def pack_records(
    records: Sequence[tuple[StructLayout, Mapping[str, Value]]],
) -> tuple[bytes, tuple[Fixup, ...], int]:
    """Return payload and fixups for structs one after the other, and how many bytes these are.

    What their pointers point to is behind all of them. Raises ValueError as
    ``pack_struct`` does.
    """
    made = [pack_struct(layout, values) for layout, values in records]
    ends = [fixups[0].to if fixups else len(data) for data, fixups in made]
    count = sum(ends)
    written, pointed = b"", b""
    fixups: list[Fixup] = []
    for (data, own), end in zip(made, ends, strict=True):
        at, to = len(written), count + len(pointed) - end
        fixups += [
            Fixup(at + fixup.at, fixup.to if fixup.to >= LINK else to + fixup.to) for fixup in own
        ]
        written += data[:end]
        pointed += data[end:]
    return written + pointed, tuple(fixups), count


def unpack_records(
    layout: StructLayout, data: bytes, fixups: tuple[Fixup, ...], count: int
) -> list[dict[str, Value]] | None:
    """Return the members of the structs that ``pack_records`` makes exactly this of.

    None when there is no such thing: see ``unpack_struct``. A struct with a
    flexible array member is one alone.
    """
    size = layout.size
    is_one = any(_is_flexible(layout, member) for member in layout.members)
    if links(fixups):
        return None
    if not size or count < size or (count % size and not is_one):
        return None
    records: list[dict[str, Value]] = []
    step = count if is_one else size
    for start in range(0, count, step):
        own = [fixup for fixup in fixups if start <= fixup.at < start + step]
        last = len(records) == count // step - 1
        index = fixups.index(own[-1]) + 1 if own else 0
        end = len(data) if last or index >= len(fixups) else fixups[index].to
        first = own[0].to if own else end
        if first < count or end < first:
            return None
        piece = data[start : start + step] + data[first:end]
        local = tuple(Fixup(f.at - start, f.to - first + step) for f in own)
        if any(fixup.to < step for fixup in local):
            return None
        values = unpack_struct(layout, piece, local)
        if values is None:
            return None
        records.append(values)
    packed = pack_records([(layout, values) for values in records])
    return records if packed == (data, fixups, count) else None


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
