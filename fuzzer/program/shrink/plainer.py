# SPDX-License-Identifier: Apache-2.0
"""Plainer payloads of one call: structs with zero or short members, text of few letters.

Each function returns calls with a payload that is simpler in one respect, the simplest
first. Applied to a result again and again, it returns none in the end.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import TypeAlias

from fuzzer.program.links import Link, in_buffer, of_call
from fuzzer.program.ops import Op
from fuzzer.program.payload import Buffer, Elements, Structs, Value, pack_struct, unpack_struct
from fuzzer.program.program import MAX_PAYLOAD, Call
from fuzzer.program.shrink.lines import MANY, WORD, has_many_lines, uniform
from fuzzer.program.shrink.simpler import has_payload, smaller, smaller_signed
from fuzzer.target.layout import StructLayout

Layouts: TypeAlias = Mapping[int, StructLayout]
"""The struct of each ioctl number."""

_PLAIN = re.compile(rb"a*|1*")
# The most forms of one payload that are tried at a time.
_FORMS = 128


def is_text(call: Call, layouts: Layouts) -> bool:
    """Tell whether a call has a payload of which bytes can be left out."""
    if not has_payload(call) or in_buffer(call.fixups):
        return False
    return call.op is not Op.IOCTL or members(call, layouts) is None


def members(call: Call, layouts: Layouts) -> dict[str, Value] | None:
    """Return the members of an ioctl's struct, None if its payload is no struct."""
    layout = layouts.get(call.cmd) if call.op is Op.IOCTL and has_payload(call) else None
    return unpack_struct(layout, call.data, in_buffer(call.fixups)) if layout else None


def _packed(call: Call, layouts: Layouts, values: Mapping[str, Value]) -> Call | None:
    try:
        data, fixups = pack_struct(layouts[call.cmd], values)
    except ValueError:
        return None
    fixups += of_call(call.fixups)
    return replace(call, data=data, fixups=fixups) if len(data) <= MAX_PAYLOAD else None


def _variants(call: Call, layouts: Layouts, found: Iterator[Mapping[str, Value]]) -> list[Call]:
    made = (_packed(call, layouts, values) for values in found)
    return [each for each in dict.fromkeys(made) if each is not None and each != call]


def smaller_members(call: Call, layouts: Layouts) -> list[Call]:
    """Return forms of an ioctl with members of its struct zero, or numbers in it smaller."""
    values = members(call, layouts)
    if values is None:
        if not has_payload(call) or (call.op is not Op.IOCTL and not call.fixups):
            return []
        kept = (call.fixups[:i] + call.fixups[i + 1 :] for i in range(len(call.fixups)))
        return [*(replace(call, fixups=fixups) for fixups in kept), *_zeroed(call)]
    return _variants(call, layouts, _smaller(layouts[call.cmd], values))


def _smaller(layout: StructLayout, values: Mapping[str, Value]) -> Iterator[Mapping[str, Value]]:
    """Yield forms of a struct with zero members or smaller numbers, also where it points to."""
    yield {}
    for name in values:
        yield {other: value for other, value in values.items() if other != name}
    for member in layout.every():
        value = values.get(member.name)
        if isinstance(value, int):
            bits = member.width
            number = value & ((1 << bits) - 1)
            lower = smaller_signed(number, bits) if member.signed else smaller(number)
            for each in lower:
                yield {**values, member.name: each}
    for name, value in values.items():
        if isinstance(value, Structs | Elements):
            for changed in _in_one(value, _smaller):
                yield {**values, name: changed}


def _in_one(
    structs: Structs | Elements,
    forms: Callable[[StructLayout, Mapping[str, Value]], Iterator[Mapping[str, Value]]],
) -> Iterator[Structs | Elements]:
    """Yield the structs with one of them replaced by each of its forms."""
    for number, values in enumerate(structs.each):
        for form in forms(structs.layout, values):
            each = (*structs.each[:number], form, *structs.each[number + 1 :])
            yield replace(structs, each=each)


def shorter_members(call: Call, layouts: Layouts) -> list[Call]:
    """Return forms of an ioctl with shorter strings and buffers in its struct.

    Members that are the length of one are changed with it.
    """
    values = members(call, layouts)
    if values is None:
        return []

    return _variants(call, layouts, _shorter(layouts[call.cmd], values))


def _shorter(layout: StructLayout, values: Mapping[str, Value]) -> Iterator[Mapping[str, Value]]:
    """Yield forms of a struct with shorter strings and buffers, or fewer structs to point to."""
    for name, value in values.items():
        if isinstance(value, Structs | Elements):
            for number in smaller(len(value.each)):
                fewer = {**values, name: replace(value, each=value.each[:number])}
                told = [other for other, known in values.items() if known == len(value.each)]
                if told and number:
                    yield {**fewer, **dict.fromkeys(told, number)}
                yield fewer
            for changed in _in_one(value, _shorter):
                yield {**values, name: changed}
        elif not isinstance(value, int | Link):
            content = value.data if isinstance(value, Buffer) else value
            for length in smaller(len(content)):
                cut = content[:length]
                short = {**values, name: Buffer(cut) if isinstance(value, Buffer) else cut}
                told = [other for other, known in values.items() if known == len(content)]
                if told:
                    yield {**short, **dict.fromkeys(told, length)}
                yield short


def _zeroed(call: Call) -> list[Call]:
    """Return forms of a call with parts of its payload zero."""
    data = call.data
    found = []
    for start, end in _windows(len(data)):
        if any(data[start:end]):
            found.append(replace(call, data=data[:start] + bytes(end - start) + data[end:]))
    return found[:_FORMS]


def _windows(length: int) -> Iterator[tuple[int, int]]:
    size = length
    while size:
        yield from ((start, min(start + size, length)) for start in range(0, length, size))
        size //= 2


def plainer_text(call: Call, layouts: Layouts) -> list[Call]:
    """Return forms of a call with words of its text replaced by letters ``a`` or digits 1."""
    if is_text(call, layouts):
        return [replace(call, data=data) for data in plainer(call.data)]
    values = members(call, layouts) or {}

    def forms() -> Iterator[Mapping[str, Value]]:
        for name, value in values.items():
            if isinstance(value, bytes):
                for data in plainer(value):
                    yield {**values, name: data}
            elif isinstance(value, Buffer) and any(value.data):
                yield {**values, name: Buffer(bytes(len(value.data)))}

    return _variants(call, layouts, forms())


def uniform_lines(call: Call, layouts: Layouts) -> list[Call]:
    """Return forms of a call whose text has many lines, with the lines alike."""
    if not is_text(call, layouts):
        return []
    return [replace(call, data=data) for data in uniform(call.data)]


def plainer(data: bytes) -> list[bytes]:
    """Return forms of a text with all, every other, or single words, then bytes, made plain.

    Single ones are made plain only where there are few.
    """
    words = [match for match in WORD.finditer(data) if not _PLAIN.fullmatch(match[0])]
    if not words:
        return []
    found = [
        _made_plain(data, chosen, digits=digits)
        for chosen in (words, words[::2], words[1::2])
        for digits in (False, True)
    ]
    if len(words) > MANY:
        # With many lines, all words are made plain together, or the lines are alike already.
        found = found[:2] if has_many_lines(data) else found
        return [each for each in dict.fromkeys(found) if each != data]
    for word in words:
        found += [_made_plain(data, [word], digits=digits) for digits in (False, True)]
    # Of a word that cannot be plain as a whole, some bytes may be.
    places = [at for word in words for at in range(word.start(), word.end())]
    for at in places[:_FORMS]:
        if data[at : at + 1] not in {b"a", b"1"}:
            found.append(data[:at] + b"a" + data[at + 1 :])
    return [each for each in dict.fromkeys(found) if each != data]


def _made_plain(data: bytes, words: list[re.Match[bytes]], *, digits: bool) -> bytes:
    made = bytearray(data)
    for word in words:
        letter = b"1" if digits and word[0].isdigit() else b"a"
        made[word.start() : word.end()] = letter * len(word[0])
    return bytes(made)
