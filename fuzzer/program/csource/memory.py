# SPDX-License-Identifier: Apache-2.0
"""The buffer of a call in C: a literal, a struct, or bytes that end at a gap."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from fuzzer.program.csource.literals import c_integer, c_string
from fuzzer.program.links import Link, LinkKind, addresses, in_buffer, links
from fuzzer.program.ops import FLAG_NULL, FLAG_READONLY
from fuzzer.program.payload import Buffer, Elements, Structs, Value, is_number, unpack_struct
from fuzzer.program.program import Call, Fixup, mapping_of, pointed_mapping
from fuzzer.target.layout import Member, MemberKind, StructLayout

ROOM = 0x10000
"""Bytes before the unmapped page, the gap (SCRATCH_SIZE in vm/executor/buffer.h)."""


@dataclass(frozen=True, slots=True)
class Memory:
    """A buffer: ``expression`` is its address once ``setup`` was run.

    The lines of ``setup`` begin with a declaration; those of ``before`` come just before the
    call, those of ``cleanup`` after it. ``needs`` are helpers, ``includes`` headers. ``base``
    is a name for the address of the first byte, empty if there is none; ``members`` are the C
    expressions at offsets.
    """

    expression: list[str]
    setup: list[str] = field(default_factory=list)
    before: list[str] = field(default_factory=list)
    cleanup: list[str] = field(default_factory=list)
    needs: tuple[str, ...] = ()
    includes: tuple[str, ...] = ()
    base: str = ""
    members: Mapping[int, str] = field(default_factory=dict)


def taken(link: Link) -> str:
    """Return the C expression of the handle or file that a link takes, or a number beside it."""
    name = f"{'f' if link.is_file else 'h'}{link.number}"
    beside = {LinkKind.TAKE_NEXT: " + 1", LinkKind.TAKE_LAST: " - 1"}
    return name + beside.get(link.kind, "")


def is_special(call: Call) -> bool:
    """Tell whether a call's buffer has to be placed: it is cut, read-only, or has fixups."""
    return bool(call.cut or call.flags & FLAG_READONLY or in_buffer(call.fixups))


def mapped_size(call: Call, length: int) -> int:
    """Return how many of a buffer's ``length`` bytes are mapped, as the executor maps them."""
    return max(0, min(length, ROOM) - (call.cut if mapping_of(call) is None else 0))


def placed(call: Call, size: int, content: list[str], declaration: str) -> Memory:
    """Return ``size`` bytes before the gap, filled by the lines of ``content``.

    ``declaration`` declares the pointer to them: ``char *data``.
    """
    name = declaration.rsplit("*", 1)[1]
    needs: tuple[str, ...] = ("before_gap",)
    setup = [f"{declaration} = before_gap({size});"]
    if content:
        setup += ["", *content]
    cleanup = []
    if call.flags & FLAG_READONLY:
        needs = (*needs, "read_only")
        setup += [*([] if content else [""]), "read_only(1);"]
        cleanup = ["read_only(0);"]
    return Memory([name], setup, [], cleanup, needs, ("string.h",), base=name)


def bytes_memory(call: Call, *, named: bool = False) -> Memory:
    """Return a payload as bytes that end at the gap, with its addresses filled in.

    With ``named`` there is a name for the bytes.
    """
    size = mapped_size(call, len(call.data))
    lines = []
    if any(call.data[:size]):
        lines = _copy("data", call.data[:size])
    fixups = in_buffer(call.fixups)
    pointed = pointed_mapping(call)
    lines += _fixed_up(call, fixups, size, "data" if pointed is None else f"maps[{pointed}].base")
    if not lines and not fixups and not named and not call.flags & FLAG_READONLY:
        return Memory([f"before_gap({size})"], needs=("before_gap",))
    memory = placed(call, size, lines, "char *data")
    return memory if pointed is None else replace(memory, needs=(*memory.needs, "maps"))


def _fixed_up(call: Call, fixups: tuple[Fixup, ...], size: int, base: str) -> list[str]:
    """Return the lines that put addresses and handles into ``data``, which will be at ``base``."""
    lines: list[str] = []
    for link in links(fixups):
        width = min(link.size, size - link.at)
        if link.kind is not LinkKind.GIVE and width > 0:
            lines.append(f"memcpy(data + {link.at}, &(uint64_t){{ {taken(link)} }}, {width});")
    for fixup in addresses(fixups):
        if fixup.at + fixup.size > len(call.data) or fixup.at >= size:
            continue
        to, width = min(fixup.to, len(call.data)), min(fixup.size, size - fixup.at)
        address = f"(char *){{ {base} + {to} }}"
        if fixup.is_low:
            own = "data" if pointed_mapping(call) is not None else base
            address = f"(uint32_t){{ (uintptr_t)({own} + {to}) }}"
        lines.append(f"memcpy(data + {fixup.at}, &{address}, {width});")
    return lines


def mapping_memory(call: Call, file: int, data: bytes, layout: StructLayout | None) -> Memory:
    """Return a buffer in the mapping of a file, where ``data`` is put unless it is 0."""
    base = f"maps[{file}].base"
    fixups = in_buffer(call.fixups)
    values = unpack_struct(layout, data, fixups) if layout else None
    taken_there = [link for link in links(fixups) if link.kind is not LinkKind.GIVE]
    if not any(data) and not addresses(fixups) and not taken_there:
        return Memory([base], needs=("maps",))
    if layout and values is not None and len(data) == layout.size and not addresses(fixups):
        first, later = _members(layout, values, "")
        if not later:
            made = _initialiser(first)
            end = f", sizeof({layout.c_type}));"
            lines = [f"fill({file}, &({layout.c_type}){made[0]}", *made[1:]]
            lines[-1] += end
            includes = layout_includes(layout)
            return Memory([base], before=lines, needs=("fill",), includes=includes)
    literal = c_string(data)
    lines = [f"fill({file}, {literal[0]}, {len(data)});"]
    if len(literal) > 1:
        lines = [f"fill({file},", *(f"\t{line}" for line in literal)]
        lines[-1] += f", {len(data)});"
    if not addresses(fixups) and not taken_there:
        return Memory([base], before=lines, needs=("fill",))
    declaration = ["char data[] =", *(f"\t{line}" for line in literal)]
    declaration = [f"char data[] = {literal[0]}"] if len(literal) == 1 else declaration
    declaration[-1] += ";"
    filled = _fixed_up(call, fixups, len(data), base)
    filled.append(f"fill({file}, data, {len(data)});")
    return Memory([base], [*declaration, ""], filled, needs=("fill",), includes=("string.h",))


def struct_memory(call: Call, layout: StructLayout | None, *, named: bool = False) -> Memory:
    """Return an ioctl's payload as a struct if it is one, else as bytes; ``named`` as of bytes."""
    if call.flags & FLAG_NULL:
        return Memory(["NULL"], includes=("stddef.h",))
    fixups = in_buffer(call.fixups)
    values = unpack_struct(layout, call.data, fixups) if layout else None
    if pointed_mapping(call) is not None and addresses(fixups):
        return bytes_memory(call, named=named)
    if layout is None or values is None or mapped_size(call, len(call.data)) < layout.size:
        return bytes_memory(call, named=named)
    placed = call.cut or call.flags & FLAG_READONLY or addresses(fixups)
    if placed or len(call.data) > layout.size:
        return _placed_struct(call, layout, values)
    first, later = _members(layout, values, "arg.")
    initialiser = _initialiser(first)
    given = _given(values, layout, "arg.")
    if not later and not given and not named:
        lines = [f"&({layout.c_type}){initialiser[0]}", *initialiser[1:]]
        return Memory(lines, includes=layout_includes(layout))
    if layout.is_number:
        initialiser = first or ["0"]
    setup = [f"{layout.c_type} arg = {initialiser[0]}", *initialiser[1:]]
    setup[-1] += ";"
    if later:
        setup += ["", *later]
    includes: tuple[str, ...] = ("string.h",) if later else ()
    includes += layout_includes(layout)
    return Memory(["&arg"], setup, includes=includes, base="(char *)&arg", members=given)


def _given(values: Mapping[str, Value], layout: StructLayout, access: str) -> dict[int, str]:
    """Return the members of a struct that give handles, by their offsets."""
    found = {}
    for name, value in values.items():
        if isinstance(value, Link) and value.kind is LinkKind.GIVE:
            member = layout.member(name)
            place = _WHOLE[access] if layout.is_number else f"{access}{name}"
            found[value.at] = _read(place, member)
    return found


# A number alone, by how members of a struct in its place are named.
_WHOLE = {"arg.": "arg", "arg->": "*arg"}


def _read(access: str, member: Member | None) -> str:
    return f"be{member.width}toh({access})" if member and member.is_big else access


def _placed_struct(call: Call, layout: StructLayout, values: Mapping[str, Value]) -> Memory:
    size = mapped_size(call, len(call.data))
    starts = {fixup.at: fixup.to for fixup in addresses(call.fixups)}
    first, later = _members(layout, values, "arg->", starts)
    initialiser = _initialiser(first)
    content = [f"*arg = ({layout.c_type}){initialiser[0]}", *initialiser[1:]]
    content[-1] += ";"
    rest = bytearray(call.data)
    inner = [
        line
        for at, value in _pointing(layout, values, 0)
        for line in _pointed_structs(value, starts[at], starts, rest)
    ]
    elements = _flexible(layout, values, starts, rest)
    if any(rest[layout.size : size]):
        later += _copy("arg + 1", bytes(rest[layout.size : size]))
    later += [*elements, *inner]
    memory = placed(call, size, [*content, *later], f"{layout.c_type} *arg")
    memory = replace(memory, base="(char *)arg", members=_given(values, layout, "arg->"))
    memory = replace(memory, includes=(*memory.includes, *layout_includes(layout)))
    if size == layout.size:
        return memory
    memory.setup[0] = f"{layout.c_type} *arg = before_gap(sizeof(*arg) + {size - layout.size});"
    return memory


def _members(
    layout: StructLayout,
    values: Mapping[str, Value],
    access: str,
    starts: Mapping[int, int] | None = None,
    base: int = 0,
) -> tuple[list[str], list[str]]:
    """Return the members to initialise, and the lines that fill the others.

    ``access`` is the prefix of a member's name in a line. ``starts`` are the offsets in the
    payload of the buffers that members point to, ``base`` that of the struct.
    """
    first: list[str] = []
    later: list[str] = []
    for name, value in values.items():
        member = layout.member(name)
        assert member is not None
        designated = f".{name} = " if name and not layout.is_number else ""
        if isinstance(value, Buffer | Structs):
            assert starts is not None
            size = 0 if base else layout.size
            first.append(f"{designated}{_address(member, starts[base + member.offset], size)}")
        elif isinstance(value, Link):
            if value.kind is not LinkKind.GIVE:
                first.append(f"{designated}{_written(taken(value), member)}")
        elif isinstance(value, int):
            first.append(f"{designated}{_written(c_integer(value), member)}")
        elif isinstance(value, Elements):
            if not member.count:
                continue  # These are behind the struct.
            for number, each in enumerate(value.each):
                at = base + member.offset + number * value.layout.size
                inner, copied = _members(
                    value.layout, each, f"{access}{name}[{number}].", starts, at
                )
                later += copied
                if inner and is_number(value.layout):
                    first.append(f".{name}[{number}] = {inner[0]}")
                elif inner:
                    first.append(f".{name}[{number}] = {{ {', '.join(inner)} }}")
        elif member.count == 0 and member.offset == layout.size:
            continue  # The content of a flexible array is behind the struct.
        elif member.is_text and len(value) < member.size:
            first.append(f".{name} = {' '.join(c_string(value))}")
        elif member.is_text:
            later += _copy(f"{access}{name}", value)
        else:
            whole = "&arg" if access.startswith("arg.") else "arg"
            later += _copy(f"(char *){whole} + {base + member.offset}", value)
    return first, later


def _pointed_structs(
    structs: Structs, start: int, starts: Mapping[int, int], rest: bytearray
) -> list[str]:
    """Return the lines that fill the structs at ``start``, which another one points to.

    Their bytes are set to zero in ``rest``, the rest of the payload.
    """
    layout = structs.layout
    lines: list[str] = []
    for number, values in enumerate(structs.each):
        at = start + number * layout.size
        rest[at : at + layout.size] = bytes(layout.size)
        access = f"(({layout.c_type} *)((char *)arg + {start}))[{number}]"
        first, later = _members(layout, values, f"{access}.", starts, at)
        initialiser = _initialiser(first)
        lines += [f"{access} = ({layout.c_type}){initialiser[0]}", *initialiser[1:]]
        lines[-1] += ";"
        lines += later
        for place, value in _pointing(layout, values, at):
            lines += _pointed_structs(value, starts[place], starts, rest)
    return lines


def _pointing(
    layout: StructLayout, values: Mapping[str, Value], base: int
) -> Iterator[tuple[int, Structs]]:
    """Yield the structs that members of a struct at ``base`` point to, with their places."""
    for name, value in values.items():
        member = layout.member(name)
        assert member is not None
        if isinstance(value, Structs):
            yield base + member.offset, value
        elif isinstance(value, Elements):
            for number, each in enumerate(value.each):
                place = base + member.offset + number * value.layout.size
                yield from _pointing(value.layout, each, place)


def _flexible(
    layout: StructLayout,
    values: Mapping[str, Value],
    starts: Mapping[int, int],
    rest: bytearray,
) -> list[str]:
    """Return the lines that fill the elements behind a struct; they become zero in ``rest``."""
    lines: list[str] = []
    for name, value in values.items():
        member = layout.member(name)
        if not isinstance(value, Elements) or member is None or member.count:
            continue
        if not is_number(value.layout) and not value.layout.name:
            continue
        for number, each in enumerate(value.each):
            at = layout.size + number * value.layout.size
            rest[at : at + value.layout.size] = bytes(value.layout.size)
            if not each:
                continue
            access = f"arg->{name}[{number}]"
            first, later = _members(value.layout, each, f"{access}.", starts, at)
            if is_number(value.layout):
                lines.append(f"{access} = {first[0]};")
                continue
            initialiser = _initialiser(first)
            lines += [f"{access} = ({value.layout.c_type}){initialiser[0]}", *initialiser[1:]]
            lines[-1] += ";"
            lines += later
    return lines


def layout_includes(layout: StructLayout) -> tuple[str, ...]:
    """Return the headers that C with the values of a struct needs, beside that with its type."""
    found = dict.fromkeys(("linux/types.h",) if layout.is_number else ())
    for member in layout.every():
        if member.is_big:
            found["endian.h"] = None
        for inner in (member.element, member.of):
            if inner is not None:
                found |= dict.fromkeys(layout_includes(inner))
    return tuple(found)


def _written(number: str, member: Member) -> str:
    if member.is_big:
        return f"htobe{member.width}({number})"
    return _pointer(number) if member.is_pointer else number


def _pointer(number: str) -> str:
    plain = number.isalnum()
    return f"(void *){number}" if plain else f"(void *)({number})"


def _address(member: Member, start: int, size: int) -> str:
    place = "arg + 1" if start == size else f"(char *)arg + {start}"
    return f"(void *)({place})" if member.kind is MemberKind.POINTER else f"(uintptr_t)({place})"


def _initialiser(members: list[str]) -> list[str]:
    if not members:
        return ["{ 0 }"]
    one = f"{{ {', '.join(members)} }}"
    if len(one) <= 48:
        return [one]
    return ["{", *(f"\t{member}," for member in members), "}"]


def _copy(to: str, data: bytes) -> list[str]:
    """Return a memcpy() of literal bytes."""
    if len(data) > 16 and len(set(data)) == 1:
        return [f"memset({to}, {data[0]:#04x}, {len(data)});"]
    literal = c_string(data)
    if len(literal) == 1:
        return [f"memcpy({to}, {literal[0]}, {len(data)});"]
    return [
        f"memcpy({to},",
        *(f"       {line}" for line in literal[:-1]),
        f"       {literal[-1]}, {len(data)});",
    ]
