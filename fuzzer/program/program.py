# SPDX-License-Identifier: Apache-2.0
"""A program: calls on the files of one driver, as vm/channel.h defines them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeAlias

from fuzzer.program.ops import (
    FLAG_COUNT,
    FLAG_WIDE,
    OPERATIONS,
    POINTS,
    URING,
    Op,
    Payload,
    can_lie_in_mapping,
    can_point,
    is_request,
)

MAX_CALLS = 128
"""The most calls in a program; further ones are ignored (CH_MAX_CALLS)."""

MAX_PROGRAM_SIZE = 0x10000
"""The most bytes of a wire program (CH_PROGRAM_SIZE)."""

MAX_PRELOAD = 0x400
"""The most bytes of the calls that preload a machine (CH_PRELOAD_SIZE)."""

N_FILES = 8
"""The most open files of a program; file 0 is open before the first call (W_N_FILES)."""

N_THREADS = 3
"""The most threads of a parallel part, beside the serial thread (W_N_THREADS)."""

MAX_WAIT = 10_000_000
"""The longest wait of a thread in a parallel part, in TSC ticks (W_MAX_WAIT)."""

MAX_FIXUPS = 32
"""The most fixups of one call (W_MAX_FIXUPS)."""

MAX_PAYLOAD = 0xFFFF
"""The most bytes of one call's payload, whose length is 16 bits wide."""

MAX_PARTS = 16
"""The most parts of a vector; the last part takes the rest (W_MAX_PARTS)."""

HALF = 0xFFFFFFFF
"""The mask of the lower half of ``arg``."""


@dataclass(frozen=True, slots=True)
class Fixup:
    """The executor replaces the 8 bytes at ``data[at]`` by the address of ``data[to]``.

    With a large ``to`` it is an address of 4 bytes or a link between calls, see ``links``.
    """

    at: int
    to: int


@dataclass(frozen=True, slots=True)
class Call:
    """One call. The meaning of ``cmd`` and ``arg`` depends on ``op``; see ``enum w_op``.

    ``file`` is below N_FILES, ``flags`` 8 bits, ``cmd`` 32 bits, ``arg`` 64
    bits, all unsigned; ``data`` is the payload.

    With ``fault`` (16 bits) above 0, the allocation or user copy of that number within
    the call fails, where the kernel can inject faults. The last ``cut`` (16 bits) bytes of
    its buffer are unmapped. Flags that are not in flags_used() are ignored. ``thread`` is 0,
    or 1 to N_THREADS for a call of a parallel part; vm/channel.h has the rules. ``mode``
    (8 bits) is n for a buffer in the mapping of file n - 1, see also URING and Operation.mode.
    """

    op: Op
    file: int = 0
    flags: int = 0
    cmd: int = 0
    arg: int = 0
    data: bytes = b""
    fixups: tuple[Fixup, ...] = ()
    fault: int = 0
    cut: int = 0
    thread: int = 0
    mode: int = 0


Program: TypeAlias = tuple[Call, ...]


def mapping_of(call: Call) -> int | None:
    """Return the file in whose mapping the buffer of a call lies, None if it is elsewhere."""
    if not call.mode or call.mode & (POINTS | URING):
        return None
    if not can_lie_in_mapping(call.op, call.flags):
        return None
    return (call.mode - 1) % N_FILES


def pointed_mapping(call: Call) -> int | None:
    """Return the file in whose mapping lies what a call's buffer points to; None: in the buffer."""
    if call.mode & (POINTS | URING) != POINTS or not can_point(call.op, call.flags):
        return None
    return (call.mode - 1) % N_FILES


def is_request_call(call: Call) -> bool:
    """Tell whether a call is a request in the program's ring."""
    return is_request(call.op, call.mode)


def position(call: Call) -> int:
    """Return the offset of a pread or pwrite, 64 bits and unsigned."""
    return (call.arg & ~HALF if call.flags & FLAG_WIDE else 0) | call.cmd


def at_position(call: Call, offset: int) -> Call:
    """Return a pread or pwrite at another offset, 64 bits and unsigned.

    A count that does not fit beside the offset is reduced to the largest that does.
    """
    arg = count(call) if call.op is Op.PREAD else call.arg & HALF
    flags = call.flags & ~FLAG_WIDE
    if offset > HALF:
        arg = min(arg, HALF) | (offset & ~HALF)
        flags |= FLAG_WIDE
    return replace(call, flags=flags, cmd=offset & HALF, arg=arg)


def count(call: Call) -> int:
    """Return the number of bytes that a read, pread, write or pwrite asks for."""
    if OPERATIONS[call.op].payload is Payload.WRITTEN:
        length = len(call.data)
        return min(call.arg & HALF, length) if call.flags & FLAG_COUNT else length
    return call.arg & HALF if call.op is Op.PREAD and call.flags & FLAG_WIDE else call.arg


def with_count(call: Call, number: int) -> Call:
    """Return a read or pread, or a write or pwrite with FLAG_COUNT, of another count.

    The new count has to fit where the old one did.
    """
    keeps = call.flags & (FLAG_WIDE | FLAG_COUNT) & OPERATIONS[call.op].flags
    return replace(call, arg=call.arg & ~HALF | number if keeps else number)
