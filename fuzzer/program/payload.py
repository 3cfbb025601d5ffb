# SPDX-License-Identifier: Apache-2.0
"""A struct's members as a payload with fixups, and back.

The payload is the struct, then the content of a flexible array member, then the
buffers that pointer members point to, in the order of the members, without gaps.
Several written structs come one after the other, and then their buffers.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
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


@dataclass(frozen=True, slots=True)
class Elements:
    """The elements of an array in a struct, each by its members; those left out are zero.

    A number is the only member of an element, without a name.
    """

    layout: StructLayout
    each: tuple[Mapping[str, Value], ...]


def is_number(layout: StructLayout) -> bool:
    """Tell whether an array's element is a number, and no struct."""
    return len(layout.members) == 1 and not layout.members[0].name


Value: TypeAlias = int | bytes | Buffer | Structs | Elements | Link
"""The value of a member; a link has the place and the size of the member."""

_SIZES = (4, 8)


def pack_struct(
    layout: StructLayout, values: Mapping[str, Value]
) -> tuple[bytes, tuple[Fixup, ...]]:
    """Return payload and fixups for members by name; members left out are zero.

    Addresses are in the order of the members that have them, then links by their places.
    Raises ValueError for an unknown member, or a value that does not fit one.
    """
    packing = _Packing(layout)
    packing.members(layout, values, 0)
    return packing.finish()


class _Packing:
    """A payload in the making; the buffers that members point to are put behind it."""

    def __init__(self, layout: StructLayout) -> None:
        self._end = layout.size
        self._data = bytearray(layout.size)
        self._links: list[Link] = []
        self._pointers: list[tuple[int, Member, Buffer | Structs]] = []

    def members(self, layout: StructLayout, values: Mapping[str, Value], base: int) -> None:
        """Put the members of a struct at ``base``."""
        _check_names(layout, values)
        for member in layout.every():
            if (value := values.get(member.name)) is not None:
                self._member(member, value, base)

    def _member(self, member: Member, value: Value, base: int) -> None:
        at = base + member.offset
        if isinstance(value, Buffer | Structs):
            if not _holds_address(member):
                raise ValueError(
                    f"{member.name} is not 64 or 32 bits wide: an address does not fit"
                )
            self._pointers.append((at, member, value))
        elif isinstance(value, Link):
            self._links.append(_placed(member, value, at))
        elif isinstance(value, Elements):
            self._elements(member, value, at)
        elif member.count == 0 and at == self._end and isinstance(value, bytes):
            self._data += value
        elif isinstance(value, bytes):
            content = _bytes(member, value)
            self._data[at : at + len(content)] = content
        else:
            self._number(member, value, base)

    def _number(self, member: Member, value: int, base: int) -> None:
        if member.kind is MemberKind.BYTES:
            raise ValueError(f"{member.name} takes a string of up to {member.size} bytes")
        bits = member.width
        if not -(1 << (bits - 1)) <= value < 1 << bits:
            what = (
                f"a bit-field of {bits} bits" if member.bits else f"an integer of {_size(member)}"
            )
            raise ValueError(f"{member.name} is {value}; {what} fits")
        end = base + member.offset + member.size
        part = self._data[base:end]
        member.write(part, value)
        self._data[base:end] = part

    def _elements(self, member: Member, value: Elements, at: int) -> None:
        size, n = value.layout.size, len(value.each)
        if member.element is None or member.element != value.layout:
            raise ValueError(f"{member.name} is no array of {value.layout.c_type or 'numbers'}")
        if member.count == 0 and at == self._end:
            self._data += bytes(n * size)
        elif n > member.count:
            raise ValueError(f"{member.name} has {n} elements; {member.count} fit")
        for number, each in enumerate(value.each):
            self.members(value.layout, each, at + number * size)

    def finish(self) -> tuple[bytes, tuple[Fixup, ...]]:
        """Return payload and fixups."""
        data, found, linked = self._data, list[Fixup](), [each.fixup() for each in self._links]
        for at, member, pointer in self._pointers:
            start = len(data)
            found.append(Address(at, start, is_low=member.size == _SIZES[0]).fixup())
            if isinstance(pointer, Buffer):
                data += pointer.data
                continue
            block, own, _ = pack_records([(pointer.layout, values) for values in pointer.each])
            for each in own:
                (found if address_of(each) else linked).append(_moved(each, start, start))
            data += block
        return bytes(data), (*found, *sorted(linked, key=_at))


def _at(fixup: Fixup) -> int:
    return fixup.at


def _size(member: Member) -> str:
    return f"{member.size} byte{'s' * (member.size > 1)}"


def _check_names(layout: StructLayout, values: Mapping[str, Value]) -> None:
    names = [member.name for member in layout.every()]
    for name in values:
        if name not in names:
            close = difflib.get_close_matches(name, names, n=1)
            guess = f"did you mean {close[0]}? " if close else ""
            raise ValueError(
                f"{layout.c_type} has no member {name}; {guess}it has {', '.join(names)}"
            )


def _placed(member: Member, link: Link, at: int) -> Link:
    if member.size not in _SIZES or member.bits or member.kind is MemberKind.BYTES:
        raise ValueError(f"{member.name} is no number of 4 or 8 bytes: no handle fits")
    return replace(link, at=at, is_wide=member.size == _SIZES[1])


def unpack_struct(
    layout: StructLayout, data: bytes, fixups: tuple[Fixup, ...]
) -> dict[str, Value] | None:
    """Return the members of which ``pack_struct`` makes exactly this payload.

    Zero members are left out; of a union those of one choice are there. None when there are
    none such: the payload is too short, has bytes in its padding, or fixups elsewhere.
    """
    if len(data) < layout.size:
        return None
    values = _Unpacking(layout, data, fixups).values()
    try:
        return values if pack_struct(layout, values) == (data, fixups) else None
    except ValueError:  # There is a link where no member is.
        return None


class _Unpacking:
    """A payload that is taken apart."""

    def __init__(self, layout: StructLayout, data: bytes, fixups: tuple[Fixup, ...]) -> None:
        self._layout, self._data, self._fixups = layout, data, fixups
        self._links = {link.at: link for link in links(fixups)}
        self._end = _end_of(data, fixups)
        own = [address for address in addresses(fixups) if address.at < self._end]
        starts = [address.to for address in own]
        extents = zip(starts, [*starts, len(data)][1:], strict=True)
        self._pointed = dict(zip([address.at for address in own], extents, strict=True))

    def values(self) -> dict[str, Value]:
        """Return the values of the struct's members."""
        return self._members(self._layout.members, 0)

    def _members(self, members: Iterable[Member], base: int) -> dict[str, Value]:
        values: dict[str, Value] = {}
        for member in members:
            self._member(member, base, values)
        return values

    def _member(self, member: Member, base: int, values: dict[str, Value]) -> None:
        at = base + member.offset
        flexible = member.count == 0 and at == self._layout.size
        content = self._data[at : self._end if flexible else at + member.size]
        if at in self._pointed and _holds_address(member):
            start, end = self._pointed[at]
            several = self._structs(member, start, end) if member.of else None
            values[member.name] = several or Buffer(self._data[start:end])
        elif at in self._links and not any(content) and _holds_link(member):
            values[member.name] = self._links[at]
        elif member.choices and (self._is_taken(at, len(content)) or any(content)):
            self._choose(member, base, values, content)
        elif member.element is not None and (
            (flexible and content) or any(content) or self._is_taken(at, len(content))
        ):
            size, n = member.element.size, len(content) // member.element.size
            if n * size != len(content):
                values[member.name] = content
                return
            each = [self._members(member.element.members, at + i * size) for i in range(n)]
            while not flexible and not each[-1]:
                del each[-1]
            values[member.name] = Elements(member.element, tuple(each))
        elif not any(content):
            if content and flexible:
                values[member.name] = content
        elif member.kind is MemberKind.BYTES:
            values[member.name] = content if flexible else content.rstrip(b"\0")
        elif number := member.read(self._data[base : at + member.size]):
            values[member.name] = number

    def _choose(self, member: Member, base: int, values: dict[str, Value], content: bytes) -> None:
        """Add the members of a choice that has all that is there, or else the bytes."""
        known = values.get(member.by) if member.by else None
        number = known if isinstance(known, int) else 0
        told = {name for value, name in member.cases if value == number}
        for choice in sorted(member.choices, key=lambda each: each.name not in told):
            inner = StructLayout("", base + member.offset + member.size, choice.members)
            found = self._members(choice.members, base)
            packing = _Packing(inner)
            try:
                packing.members(inner, found, base)
                data, fixups = packing.finish()
            except ValueError:
                continue
            start, end = base + member.offset, base + member.offset + member.size
            places = {each.at for each in fixups if start <= each.at < end}
            if data[start:end] == content and places == self._places(start, end):
                values.update(found)
                return
        if any(content):
            values[member.name] = content.rstrip(b"\0")

    def _places(self, start: int, end: int) -> set[int]:
        return {at for at in (*self._pointed, *self._links) if start <= at < end}

    def _is_taken(self, at: int, size: int) -> bool:
        return bool(self._fixups) and bool(self._places(at, at + size))

    def _structs(self, member: Member, start: int, end: int) -> Structs | None:
        return _unpack_structs(member, self._data, self._fixups, start, end)


def _holds_link(member: Member) -> bool:
    return member.kind is not MemberKind.BYTES and not member.bits and member.size in _SIZES


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
    found: list[Fixup] = []
    linked: list[Fixup] = []
    for (data, own), end in zip(made, ends, strict=True):
        at, to = len(written), count + len(pointed) - end
        for fixup in own:
            one = _moved(fixup, at if fixup.at < end else to, to)
            (found if address_of(fixup) else linked).append(one)
        written += data[:end]
        pointed += data[end:]
    return written + pointed, (*found, *sorted(linked, key=_at)), count


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
    if not size or count < size or (count % size and not is_one):
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
        own = tuple(_moved(f, -start, 0) for f in fixups if start <= f.at < start + step)
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


def _bytes(member: Member, value: bytes) -> bytes:
    if member.kind is not MemberKind.BYTES:
        raise ValueError(f"{member.name} takes an integer of {member.size} bytes")
    if len(value) > member.size:
        raise ValueError(f"{member.name} is {len(value)} bytes; {member.size} fit")
    return value
