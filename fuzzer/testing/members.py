# SPDX-License-Identifier: Apache-2.0
"""A struct's members as Python values, made into the payload of a call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fuzzer.program.payload import Buffer, Elements, Structs, Value, is_number, pack_struct
from fuzzer.program.program import Fixup
from fuzzer.target.layout import Member, MemberKind, StructLayout


def pack_members(
    layout: StructLayout, members: Mapping[str, object]
) -> tuple[bytes, tuple[Fixup, ...]]:
    """Return payload and fixups for members: integers, bytes, strings, mappings and lists.

    Bytes for a pointer are what it points to, and so is a mapping, or a list of them, for one
    whose struct the description tells.

    Raises:
        ValueError: there is no such member, or the value is not for it.
    """
    return pack_struct(layout, _values(layout, members))


def _values(layout: StructLayout, members: Mapping[str, object]) -> dict[str, Value]:
    return {name: _value(name, layout.member(name), value) for name, value in members.items()}


def _value(name: str, member: Member | None, value: object) -> Value:
    if isinstance(value, str):
        value = value.encode()
    if isinstance(value, int):
        return int(value)
    if isinstance(value, bytes | bytearray):
        if member is None or member.kind is MemberKind.BYTES:
            return bytes(value)
        if not member.holds_address:
            raise ValueError(f"{name} takes a number")
        return Buffer(bytes(value))
    if isinstance(value, Mapping) and member is not None and member.of is not None:
        return Structs(member.of, (_values(member.of, value),))
    if isinstance(value, Sequence) and member is not None:
        if member.of is not None and member.element is None:
            of = member.of
            return Structs(of, tuple(_values(of, _mapping(name, each)) for each in value))
        if member.element is not None:
            return Elements(member.element, tuple(_element(name, member.element, e) for e in value))
    raise ValueError(f"{name} takes no {type(value).__name__}")


def _element(name: str, element: StructLayout, value: object) -> dict[str, Value]:
    if is_number(element):
        return {"": _value(name, None, value)}
    return _values(element, _mapping(name, value))


def _mapping(name: str, value: object) -> Mapping[str, object]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{name}: an element is a mapping of members, not {value!r}")
    return value
