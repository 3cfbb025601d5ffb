# SPDX-License-Identifier: Apache-2.0
"""Numbers in a program that are descriptors of its files, told as what they are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from fuzzer.program.links import CALL, Link, LinkKind, in_buffer
from fuzzer.program.ops import FLAG_VALUE, OPERATIONS, File, Op
from fuzzer.program.program import MAX_FIXUPS, Call, Program

# The first descriptor of a program, and one that is as high as they get.
_FIRST, _LAST = 3, 32
# The most words of a buffer that are looked at.
_WORDS = 64


def with_files(program: Program) -> list[Program]:
    """Return forms of a program with a file in place of a number that may be its descriptor."""
    found: list[Program] = []
    files = [0]
    for number, call in enumerate(program):
        if OPERATIONS[call.op].file is File.OPENED:
            files = [call.file, *(file for file in files if file != call.file)]
        if call.op is not Op.IOCTL:
            continue
        for file in files:
            for form in _linked(call, file):
                found.append((*program[:number], form, *program[number + 1 :]))
    return found


def _linked(call: Call, file: int) -> Iterator[Call]:
    if len(call.fixups) >= MAX_FIXUPS:
        return
    if call.flags & FLAG_VALUE:
        if _FIRST <= call.arg <= _LAST:
            link = Link(LinkKind.TAKE, CALL, file, is_file=True)
            yield replace(call, arg=0, fixups=(*call.fixups, link.fixup()))
        return
    before = in_buffer(call.fixups)
    for at in range(0, min(len(call.data), 4 * _WORDS), 4):
        # Zeros at the end may have been left out.
        if _FIRST <= int.from_bytes(call.data[at : at + 4], "little") <= _LAST:
            link = Link(LinkKind.TAKE, at, file, is_file=True)
            data = call.data[:at] + bytes(4) + call.data[at + 4 :]
            fixups = (*before, link.fixup(), *call.fixups[len(before) :])
            yield replace(call, data=data, fixups=fixups)
