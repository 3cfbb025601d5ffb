# SPDX-License-Identifier: Apache-2.0
"""A trace as text: each call in the syntax of programs, and what it returned."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping

from fuzzer.crash.trace import Trace
from fuzzer.machine.channel import CallResult
from fuzzer.program.links import Link, addresses
from fuzzer.program.ops import OPERATIONS, Number, Payload
from fuzzer.program.payload import Buffer, Elements, Structs, Value, is_number, unpack_struct
from fuzzer.program.program import Call
from fuzzer.program.shrink.simpler import has_payload
from fuzzer.program.syntax import quote, show_integer
from fuzzer.program.text import format_program
from fuzzer.program.text_parser import struct_layouts
from fuzzer.target.layout import StructLayout
from fuzzer.target.target import Target
from fuzzer.wording import count

# Bytes shown of what a call read.
_SHOWN = 32
_HERE = "  <-- here"
_NO_RETURN = "? (did not return)"
_UNKNOWN = "(in which call is not known)"
_BEFORE = "(before the first call, when the device was opened)"
_DURING = {
    "reset": "after the calls, in the reset of the target",
    "close": "after the calls, when the files were closed or later",
}


def format_trace(trace: Trace, target: Target) -> str:
    """Return a trace as lines: what ran before, the calls, and what the kernel complained of."""
    lines = []
    if trace.before:
        lines.append(f"({count(trace.before, 'program')} before it)")
    if trace.runs > 1:
        lines.append(f"({count(trace.runs - 1, 'run')} of it on this machine before)")
    layouts = struct_layouts(target)
    for each in trace.calls:
        call = trace.program[each.index]
        text = format_program((call,), target).rstrip("\n")
        shown = _NO_RETURN if each.result is None else show_result(call, each.result, layouts)
        here = _HERE if trace.splat and each.index == trace.at else ""
        lines.append(f"{text} = {shown}{here}")
    if trace.splat:
        if trace.during:
            lines.append(f"({_DURING[trace.during]})")
        elif trace.at is None:
            lines.append(_UNKNOWN if trace.calls else _BEFORE)
        lines.append(trace.splat.title)
        if trace.later:
            lines.append(f"({count(trace.later, 'more call')} after that)")
    return "\n".join([*lines, ""])


def show_result(call: Call, result: CallResult, layouts: Mapping[int, StructLayout]) -> str:
    """Return what follows a call's ``=``: the value or the error, and the bytes it handed out."""
    fault = " (fault injected)" if result.faulted else ""
    if result.ret == -1:
        name = errno.errorcode.get(result.error)
        error = f"{name} ({os.strerror(result.error)})" if name else f"errno {result.error}"
        return f"-1 {error}{fault}"
    operation = OPERATIONS[call.op]
    value = f"{result.ret:#x}" if operation.cmd is Number.EVENTS else str(result.ret)
    given = ""
    if operation.arg is Number.COUNT and result.output:
        given = f" {_shortened(result.output)}"
    elif operation.payload is Payload.ARGUMENT and has_payload(call):
        given = _changes(call, result.output, layouts.get(call.cmd))
    return f"{value}{given}{fault}"


def _changes(call: Call, output: bytes, layout: StructLayout | None) -> str:
    """Return what an ioctl wrote to its buffer: the members of a struct, or the bytes."""
    after = bytearray(output)
    for fixup in addresses(call.fixups):
        # The guest has an address there, which says nothing.
        span = slice(fixup.at, fixup.at + fixup.size)
        after[span] = call.data[span]
    if after == call.data[: len(after)]:
        return ""
    fixups = tuple(each.fixup() for each in addresses(call.fixups))
    old = unpack_struct(layout, call.data, fixups) if layout else None
    new = unpack_struct(layout, bytes(after), fixups) if layout else None
    if old is None or new is None:
        return f" {_shortened(bytes(after))}"
    zero: Mapping[str, Value] = dict.fromkeys(old, 0)
    changed = {name: value for name, value in {**zero, **new}.items() if old.get(name) != value}
    members = (f"{name}: {_member(value)}" for name, value in changed.items())
    return f" {{{', '.join(members)}}}"


def _member(value: Value) -> str:
    if isinstance(value, int):
        return show_integer(value)
    if isinstance(value, Link):
        return f"h{value.number}"
    if isinstance(value, Elements):
        numbers = [*(each.get("", 0) for each in value.each)]
        if is_number(value.layout) and len(numbers) <= _SHOWN // 8:
            return f"[{', '.join(map(_member, numbers))}]"
        return f"[{len(value.each)} of {value.layout.c_type or 'its numbers'}]"
    if isinstance(value, Structs):
        return f"&[{len(value.each)} of {value.layout.c_type}]"
    return f"&{_shortened(value.data)}" if isinstance(value, Buffer) else _shortened(value)


def _shortened(data: bytes) -> str:
    return quote(data) if len(data) <= _SHOWN else f"{quote(data[:_SHOWN])}..."
