# SPDX-License-Identifier: Apache-2.0
"""The report of memory that was never set and reached a program, in the form of a kernel's."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import groupby

from fuzzer.crash.poison import POISONS, Leak
from fuzzer.program.links import addresses
from fuzzer.program.ops import OPERATIONS, Op
from fuzzer.program.program import Call
from fuzzer.program.text import format_program
from fuzzer.program.text_parser import struct_layouts
from fuzzer.splat.find import find_splat
from fuzzer.splat.splat import Splat
from fuzzer.target.layout import StructLayout
from fuzzer.target.target import Target
from fuzzer.wording import count

_CALL = re.compile(r"^Call (?P<call>\d+): ", re.MULTILINE)
_BYTES = re.compile(r"^Bytes? (?P<first>\d+)(?: to (?P<last>\d+))? of \d+: ", re.MULTILINE)
_TRACE = "Call Trace:"
# Longer text of a call says no more.
_LONGEST = 200


def leak_splat(leak: Leak, call: Call, target: Target, trace: Sequence[str]) -> Splat:
    """Return the report of a leak; ``trace`` are the lines of frames that lead to it."""
    splat = find_splat(_lines(leak, call, target, trace))
    assert splat is not None
    return splat


def trace_in(splat: Splat) -> list[str]:
    """Return the lines of frames of a report of a leak."""
    lines = splat.text.splitlines()
    return lines[lines.index(_TRACE) + 1 :] if _TRACE in lines else []


def leaking_call(report: str) -> int | None:
    """Return the index of the call that a report of a leak is about; None: it is not one."""
    match = _CALL.search(report)
    return int(match["call"]) if match else None


def leaked_ranges(report: str) -> list[range]:
    """Return the places of what leaked, as a report says."""
    found = _BYTES.finditer(report)
    return [range(int(m["first"]), int(m["last"] or m["first"]) + 1) for m in found]


def is_about(report: str, leak: Leak, call: Call) -> bool:
    """Tell whether a report is about leaks of a call like this one."""
    return report.startswith(f"{_subject(leak, call)} ")


def _subject(leak: Leak, call: Call) -> str:
    """Return how a report begins, which tells leaks of different calls apart."""
    kind = "uninit return value" if leak.results else "info leak"
    number = f" {call.cmd:#x}" if call.op is Op.IOCTL else ""
    return f"pkvfuzz: {kind}: {OPERATIONS[call.op].name}{number}"


def _lines(leak: Leak, call: Call, target: Target, trace: Sequence[str]) -> list[str]:
    text = format_program((call,), target).rstrip("\n")
    text = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
    hands_out = "depends on memory" if leak.results else f"hands out {count(leak.total, 'byte')}"
    lines = [f"{_subject(leak, call)} {hands_out} never set", f"Call {leak.call}: {text}"]
    if leak.results:
        zeros, _, other = leak.results
        lines.append(
            f"It returns {zeros} where free stack held 0x00, {other} where it held "
            f"{POISONS[-1].stack:#04x}"
        )
    else:
        layout = struct_layouts(target).get(call.cmd) if call.op is Op.IOCTL else None
        for place in (*_described(leak.stack, "stack"), *_described(leak.heap, "heap")):
            lines += _named(place, leak.size, call, layout)
    return [*lines, _TRACE, *trace]


def _described(places: Sequence[int], memory: str) -> Iterator[tuple[int, int, str]]:
    """Yield the first and last place of each run of bytes, and the memory that they are of."""
    for _, run in groupby(enumerate(places), key=lambda each: each[1] - each[0]):
        found = [place for _, place in run]
        yield found[0], found[-1], memory


def _named(
    place: tuple[int, int, str], size: int, call: Call, layout: StructLayout | None
) -> Iterator[str]:
    """Yield a line for each field, or gap between two, that a run of bytes lies in."""
    first, last, memory = place
    names = [_field(at, call, layout) for at in range(first, last + 1)]
    at = first
    for (name, start), same in groupby(names):
        end = at + len(list(same)) - 1
        numbers = f"Byte {at}" if at == end else f"Bytes {at} to {end}"
        where = f", {name}" if name else ""
        if name and at > start:
            where += f" from its byte {at - start}"
        yield f"{numbers} of {size}: {memory}{where}"
        at = end + 1


def _field(at: int, call: Call, layout: StructLayout | None) -> tuple[str, int]:
    """Return the name and the start of the field that a byte of a buffer is in.

    The name is empty if it is not known.
    """
    if layout is None:
        return "", 0
    if at >= layout.size:
        targets = [each for each in addresses(call.fixups) if each.to <= at]
        nearest = max(targets, key=lambda each: each.to, default=None)
        pointers = [m for m in layout.members if nearest and m.offset == nearest.at]
        return (
            (f"what {pointers[0].name} points to", nearest.to) if nearest and pointers else ("", 0)
        )
    name, start = "padding", 0
    for member in layout.members:
        if member.offset <= at < member.offset + member.size:
            return member.name, member.offset
        if member.offset <= at:
            name, start = f"padding after {member.name}", member.offset + member.size
    return name, start
