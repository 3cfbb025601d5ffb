# SPDX-License-Identifier: Apache-2.0
"""Simpler forms of one call: without conditions, with smaller numbers.

Each function returns forms of a call that are simpler in one respect, the simplest first.
Applied to a result again and again, it returns none in the end.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from fuzzer.program.links import of_call
from fuzzer.program.ops import (
    CONDITIONS,
    FLAG_COUNT,
    FLAG_VALUE,
    FLAG_VECTOR,
    OPERATIONS,
    OPTIONAL_MODES,
    POINTS,
    TIMES,
    URING,
    URING_ASYNC,
    URING_LEAVE,
    Number,
    Payload,
    flags_used,
    uses_arg,
)
from fuzzer.program.program import (
    HALF,
    N_FILES,
    Call,
    at_position,
    count,
    is_request_call,
    mapping_of,
    pointed_mapping,
    position,
    with_count,
)
from fuzzer.program.syntax import ACCESS

# Kinds of numbers in ``cmd`` that are no names, so that smaller ones are simpler.
_COUNTS_CMD = frozenset({Number.WHENCE, Number.EVENTS, Number.PAGES})
_SIGNED = frozenset({Number.OFFSET, Number.VALUE})
_NOT_SMALLER = TIMES | {Number.NONE, Number.FLIPPED}
# What a flip changes a word to: whether it crashes takes many runs each time.
_FLIPPED = (16, 64, 256, 4096, 65536)
_RDWR = ACCESS["O_RDWR"]
_SIGN = 1 << 63
_WIDTH = 1 << 64


def has_payload(call: Call) -> bool:
    """Tell whether a call uses its payload."""
    operation = OPERATIONS[call.op]
    return operation.payload is not Payload.NONE and not operation.flags & call.flags & FLAG_VALUE


def normalized(call: Call) -> Call:
    """Return the call with 0 in the fields that its operation does not use."""
    flags = call.flags & flags_used(call.op, call.flags)
    operation = OPERATIONS[call.op]
    uses_cmd = operation.cmd is not Number.NONE or bool(flags & FLAG_VECTOR)
    cmd = call.cmd if uses_cmd else 0
    return replace(
        call,
        flags=flags,
        cmd=cmd % N_FILES if operation.cmd is Number.FILE else cmd,
        arg=call.arg if uses_arg(call.op, flags) else 0,
        data=call.data if has_payload(call) else b"",
        fixups=call.fixups if has_payload(call) else of_call(call.fixups),
        mode=_mode(call),
    )


def _mapping(call: Call) -> int | None:
    """Return the file in whose mapping a call's buffer lies, or what that points to."""
    file = mapping_of(call)
    return pointed_mapping(call) if file is None else file


def _mode(call: Call) -> int:
    if is_request_call(call):
        return call.mode & (URING | URING_ASYNC | URING_LEAVE)
    file = _mapping(call)
    if file is not None:
        return file + 1 + (call.mode & POINTS)
    return 0 if OPERATIONS[call.op].mode is Number.NONE else call.mode


def without_conditions(call: Call) -> list[Call]:
    """Return the call without any conditions, and without each single one.

    An offset in the file counts as a condition, and so does a handle that its result gives
    or its argument takes, a place of its buffer in a mapping, and that it is a request in a ring.
    """
    used = call.flags & flags_used(call.op, call.flags)
    kept, conditions = used & ~CONDITIONS, used & CONDITIONS
    single = [_without_flag(call, bit) for bit in _bits(conditions)]
    if call.fault:
        single.append(replace(call, fault=0))
    for link in of_call(call.fixups):
        single.append(replace(call, fixups=tuple(each for each in call.fixups if each != link)))
    if call.cut:
        single.append(replace(call, cut=0))
    has_mode = OPERATIONS[call.op].mode in OPTIONAL_MODES or _mapping(call) is not None
    if is_request_call(call):
        has_mode = True
        ways = (bit for bit in (URING_ASYNC, URING_LEAVE) if call.mode & bit)
        single += [replace(call, mode=call.mode & ~bit) for bit in ways]
    if has_mode:
        single.append(replace(call, mode=0))
    if (op := OPERATIONS[call.op].plainer) is not None:
        # This form uses the file's own position.
        single.append(replace(normalized(at_position(call, 0)), op=op))
    mode = 0 if has_mode else call.mode
    plain = replace(call, flags=kept | conditions, fault=0, cut=0, mode=mode)
    plain = _without_flag(plain, conditions)
    return [each for each in dict.fromkeys((plain, *single)) if each != call]


def _without_flag(call: Call, flags: int) -> Call:
    split = flags & FLAG_VECTOR & OPERATIONS[call.op].flags
    return replace(call, flags=call.flags & ~flags, cmd=0 if split else call.cmd)


def _bits(flags: int) -> Iterator[int]:
    for shift in range(8):
        if flags >> shift & 1:
            yield 1 << shift


def smaller(value: int) -> list[int]:
    """Return a few numbers from 0 up to the predecessor of ``value``, which is at least 0.

    Applied again and again, this leads to the least number that will do in about as many
    steps as the value has bits.
    """
    found = [0, 1]
    step = (value + 1) // 2
    while step:
        found.append(value - step)
        step //= 2
    return [each for each in dict.fromkeys(found) if 0 <= each < value]


def smaller_signed(value: int, bits: int) -> list[int]:
    """Return integers closer to zero; all are signed, given as unsigned ones of ``bits`` bits."""
    if not value >> (bits - 1):
        return smaller(value)
    size = (1 << bits) - value
    return [0, 1] + [(1 << bits) - each for each in smaller(size) if each]


def _smaller_offset(offset: int) -> list[int]:
    """Return offsets closer to zero; for a large one those of usual limits come first."""
    found = smaller_signed(offset, 64)
    if not HALF < offset < 1 << 63:
        return found
    limits = [(1 << power) + step for power in range(31, 63) for step in (0, 1)]
    return [*found[:2], *(each for each in limits if each < offset), *found[2:]]


def smaller_numbers(call: Call) -> list[Call]:
    """Return forms of a call with one of its numbers smaller, except those in its payload.

    Times stay as well: a wait that is barely long enough here is too short elsewhere.
    """
    operation = OPERATIONS[call.op]
    flags = call.flags & flags_used(call.op, call.flags)
    found: list[Call] = []
    if operation.arg is Number.COUNT:
        found += [with_count(call, value) for value in smaller(count(call))]
    elif operation.arg not in _NOT_SMALLER and uses_arg(call.op, flags):
        signed = operation.arg in _SIGNED
        values = smaller_signed(call.arg, 64) if signed else smaller(call.arg)
        found += [replace(call, arg=value) for value in values]
    elif operation.arg is Number.FLIPPED:
        found += [replace(call, arg=value) for value in _FLIPPED if value < call.arg]
    if operation.cmd is Number.POSITION:
        found += [at_position(call, value) for value in _smaller_offset(position(call))]
    if flags & FLAG_COUNT:
        found += [with_count(call, value) for value in smaller(count(call))]
    if operation.cmd in _COUNTS_CMD or flags & FLAG_VECTOR:
        found += [replace(call, cmd=value) for value in smaller(call.cmd)]
    if operation.cmd is Number.FLAGS and call.cmd != _RDWR:
        found.append(replace(call, cmd=_RDWR))
    # An earlier fault, or a smaller cut, is simpler; without_conditions() tried to have none.
    found += [replace(call, fault=value) for value in smaller(call.fault) if value]
    found += [replace(call, cut=value) for value in smaller(call.cut) if value]
    if _mapping(call) is not None:
        kind = call.mode & POINTS
        found += [
            replace(call, mode=kind | value) for value in smaller(call.mode & ~POINTS) if value
        ]
    return found
