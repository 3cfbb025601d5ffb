# SPDX-License-Identifier: Apache-2.0
"""A struct's members as a payload with fixups, and back.

The payload is the struct, then the content of a flexible array member, then the
buffers that pointer members point to, in the order of the members, without gaps.
Several written structs come one after the other, and then their buffers.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from fuzzer.program.links import Address, Link, address_of, addresses, links
from fuzzer.program.program import Fixup
from fuzzer.target.layout import Member, MemberKind, StructLayout


@dataclass(frozen=True, slots=True)
class Buffer:
    """The bytes that a pointer member points to."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Structs:
    """The structs that a pointer member points to, each by its members."""

    layout: StructLayout
    each: tuple[Mapping[str, Value], ...]


Value: TypeAlias = int | bytes | Buffer | Structs | Link
"""The value of a member; a link has the place and the size of the member."""

_SIZES = (4, 8)


def pack_struct(
    layout: StructLayout, values: Mapping[str, Value]
) -> tuple[bytes, tuple[Fixup, ...]]:
    """Return payload and fixups for members by name; members left out are zero.

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
    pointers: list[tuple[Member, Buffer | Structs]] = []
    for member in layout.members:
        value = values.get(member.name)
        if value is None:
            continue
        if isinstance(value, Buffer | Structs):
            if not _holds_address(member):
                raise ValueError(
                    f"{member.name} is not 64 or 32 bits wide: an address does not fit"
                )
            pointers.append((member, value))
        elif isinstance(value, Link):
            linked.append(_placed(member, value))
        elif _is_flexible(layout, member) and isinstance(value, bytes):
            data += value
        else:
            content = _content(member, value)
            data[member.offset : member.offset + len(content)] = content
    for member, pointer in pointers:
        start = len(data)
        fixups.append(Address(member.offset, start, is_low=member.size == _SIZES[0]).fixup())
        if isinstance(pointer, Buffer):
            data += pointer.data
            continue
        records = [(pointer.layout, values) for values in pointer.each]
        block, own, _ = pack_records(records)
        fixups += [_moved(each, start, start) for each in own]
        data += block
    return bytes(data), (*fixups, *linked)


def _placed(member: Member, link: Link) -> Fixup:
    if member.size not in _SIZES or member.kind is MemberKind.BYTES:
        raise ValueError(f"{member.name} is no number of 4 or 8 bytes: no handle fits")
    return replace(link, at=member.offset, is_wide=member.size == _SIZES[1]).fixup()


def unpack_struct(
    layout: StructLayout, data: bytes, fixups: tuple[Fixup, ...]
) -> dict[str, Value] | None:
    """Return the members of which ``pack_struct`` makes exactly this payload.

    Zero members are left out. None when there are none such: the payload is too short,
    has bytes in its padding, or fixups elsewhere.
    """
    linked = {link.at: link for link in links(fixups)}
    own = [address for address in addresses(fixups) if address.at < layout.size]
    starts = [address.to for address in own]
    if len(data) < layout.size or starts != sorted(starts):
        return None
    extents = zip(starts, [*starts, len(data)][1:], strict=True)
    pointed = dict(zip([address.at for address in own], extents, strict=True))
    values: dict[str, Value] = {}
    for member in layout.members:
        if _is_flexible(layout, member):
            content = data[layout.size : starts[0] if starts else len(data)]
        else:
            content = data[member.offset : member.offset + member.size]
        if member.offset in pointed and _holds_address(member):
            start, end = pointed[member.offset]
            several = _unpack_structs(member, data, fixups, start, end) if member.of else None
            values[member.name] = several or Buffer(data[start:end])
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
        return values if pack_struct(layout, values) == (data, fixups) else None
    except ValueError:  # There is a link where no member is.
        return None


def _unpack_structs(
    member: Member, data: bytes, fixups: tuple[Fixup, ...], start: int, end: int
) -> Structs | None:
    """Return the structs that a member points to; None if the bytes there are no such structs."""
    if member.of is None or not start < end:
        return None
    inside = tuple(_moved(each, -start, -start) for each in fixups if start <= each.at < end)
    block = data[start:end]
    records = unpack_records(member.of, block, inside, _end_of(block, inside))
    return Structs(member.of, tuple(records)) if records else None


def pack_records(
    records: Sequence[tuple[StructLayout, Mapping[str, Value]]],
) -> tuple[bytes, tuple[Fixup, ...], int]:
    """Return payload and fixups for structs one after the other, and the size of these.

    The buffers that they point to are behind all of them. Raises ValueError as
    ``pack_struct`` does.
    """
    made = [pack_struct(layout, values) for layout, values in records]
    ends = [_end_of(data, fixups) for data, fixups in made]
    count = sum(ends)
    written, pointed = b"", b""
    fixups: list[Fixup] = []
    for (data, own), end in zip(made, ends, strict=True):
        at, to = len(written), count + len(pointed) - end
        fixups += [_moved(fixup, at, to) for fixup in own]
        written += data[:end]
        pointed += data[end:]
    return written + pointed, tuple(fixups), count


def _end_of(data: bytes, fixups: tuple[Fixup, ...]) -> int:
    """Return the end of a struct, where the buffers that it points to begin."""
    return min((address.to for address in addresses(fixups)), default=len(data))


def _moved(fixup: Fixup, at: int, to: int) -> Fixup:
    """Return a fixup of a struct that is moved by ``at`` bytes and its buffers by ``to``."""
    address = address_of(fixup)
    if address is None:
        return replace(fixup, at=at + fixup.at)
    return replace(address, at=at + address.at, to=to + address.to).fixup()


def unpack_records(
    layout: StructLayout, data: bytes, fixups: tuple[Fixup, ...], count: int
) -> list[dict[str, Value]] | None:
    """Return the members of the structs of which ``pack_records`` makes exactly this payload.

    None when there are none such, see ``unpack_struct``. A struct with a flexible array
    member has to be the only one.
    """
    size = layout.size
    is_one = any(_is_flexible(layout, member) for member in layout.members)
    found = addresses(fixups)
    if len(found) < len(fixups) or not size or count < size or (count % size and not is_one):
        return None
    step = count if is_one else size
    starts = range(0, count, step)
    firsts = [
        min((each.to for each in found if start <= each.at < start + step), default=None)
        for start in starts
    ]
    records: list[dict[str, Value]] = []
    for number, (start, first) in enumerate(zip(starts, firsts, strict=True)):
        piece: bytes = data[start : start + step]
        own: tuple[Fixup, ...] = ()
        if first is not None:
            end = next((each for each in firsts[number + 1 :] if each is not None), len(data))
            if not count <= first <= end:
                return None
            piece += data[first:end]
            own = tuple(
                _moved(f, (-start if f.at < count else step - first), step - first)
                for f in fixups
                if start <= f.at < start + step or first <= f.at < end
            )
        values = unpack_struct(layout, piece, own)
        if values is None:
            return None
        records.append(values)
    try:
        packed = pack_records([(layout, values) for values in records])
    except ValueError:
        return None
    return records if packed == (data, fixups, count) else None


def _holds_address(member: Member) -> bool:
    return member.kind is not MemberKind.BYTES and member.size in _SIZES


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
