# SPDX-License-Identifier: Apache-2.0
"""Siblings: ioctls that lead to a crash as a known one does, found by trials.

A driver often has several ioctls that set the same thing: by pointer and by value, with and
without the old value handed back. To learn each by itself takes some forty machines; to try it
in the place of a known one takes one or two.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import replace

from fuzzer.engine.probing import Cause, EnoughError, Programs
from fuzzer.engine.traits import CallKind, Condition, Pattern, kind_of
from fuzzer.program.ops import FLAG_VALUE, Op
from fuzzer.program.program import Call
from fuzzer.program.wire import decode, encode_call

_IOCTL = int(Op.IOCTL)
# The sizes of a number that is passed by pointer.
_WIDTHS = frozenset({4, 8})


def siblings_of(
    cause: Cause, kind: CallKind, others: Sequence[CallKind], crashes: Callable[[Programs], bool]
) -> list[tuple[Pattern, Pattern]]:
    """Return pairs of patterns: of a cause's call of this kind, and of an ioctl in its place.

    The ioctls among ``others`` are tried with the argument of that call; an argument that is
    a number is tried by pointer and by value. This ends when ``crashes`` raises EnoughError.
    """
    chunk = next((each for calls in cause.programs for each in calls if kind_of(each) == kind), b"")
    pattern = next((each for each in cause.patterns if each.kind == kind), None)
    if not chunk or pattern is None or chunk[0] != _IOCTL:
        return []
    known = {each.kind for each in cause.patterns}
    found: list[tuple[Pattern, Pattern]] = []
    with contextlib.suppress(EnoughError):
        for other in others:
            if other[0] != _IOCTL or other in known:
                continue
            for sibling, conditions in _forms(chunk, pattern.conditions, other):
                if crashes(_with(cause.programs, chunk, sibling)):
                    found.append((pattern, Pattern(other, conditions)))
                    break
    return found


def _forms(
    chunk: bytes, conditions: tuple[Condition, ...], kind: CallKind
) -> list[tuple[bytes, tuple[Condition, ...]]]:
    """Return forms of an ioctl with another number, each with conditions on its operands.

    In the second form an argument that is a number is passed the other way.
    """
    forms = [(chunk[:4] + kind[1:] + chunk[8:], conditions)]
    call = decode(chunk)[0]
    cmd = int.from_bytes(kind[1:], "little")
    if call.flags & FLAG_VALUE:
        by_pointer = replace(call, cmd=cmd, flags=call.flags & ~FLAG_VALUE, arg=0)
        data = (call.arg & 0xFFFF_FFFF).to_bytes(4, "little")
        renamed = _renamed(conditions, "arg", "word0")
        forms.append((encode_call(replace(by_pointer, data=data)), renamed))
    elif len(call.data) in _WIDTHS and not call.fixups:
        number = int.from_bytes(call.data, "little")
        by_value = Call(Op.IOCTL, call.file, FLAG_VALUE, cmd, arg=number, mode=call.mode)
        is_value = Condition("flags", bits=FLAG_VALUE)
        forms.append((encode_call(by_value), (*_renamed(conditions, "word0", "arg"), is_value)))
    return forms


def _renamed(conditions: tuple[Condition, ...], name: str, new: str) -> tuple[Condition, ...]:
    return tuple(replace(each, name=new) for each in conditions if each.name == name)


def _with(programs: Programs, chunk: bytes, sibling: bytes) -> Programs:
    return tuple(
        tuple(sibling if each == chunk else each for each in program) for program in programs
    )
