# SPDX-License-Identifier: Apache-2.0
"""A program: calls on the files of one driver, as vm/channel.h defines them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeAlias

from fuzzer.program.ops import FLAG_COUNT, FLAG_WIDE, OPERATIONS, Op, Payload

MAX_CALLS = 128
"""Calls in a program; what follows is ignored (CH_MAX_CALLS)."""

MAX_PROGRAM_SIZE = 0x10000
"""Bytes of a wire program that fit the channel (CH_PROGRAM_SIZE)."""

MAX_PRELOAD = 0x400
"""The most bytes of the calls that preload a machine (CH_PRELOAD_SIZE)."""

N_FILES = 8
"""Files a program can have open; file 0 is open before the first call (W_N_FILES)."""

N_THREADS = 3
"""Threads that calls of a parallel part can run on, beside the serial one (W_N_THREADS)."""

MAX_WAIT = 10_000_000
"""Longest a thread waits for its time in a parallel part, in TSC ticks (W_MAX_WAIT)."""

MAX_FIXUPS = 8
"""Fixups of one call (W_MAX_FIXUPS)."""

MAX_PAYLOAD = 0xFFFF
"""Bytes of one call's payload, whose length is 16 bits wide."""

MAX_PARTS = 16
"""Parts of a vector; the last takes the rest (W_MAX_PARTS)."""

HALF = 0xFFFFFFFF
"""A half of ``arg``."""


@dataclass(frozen=True, slots=True)
class Fixup:
    """The 8 bytes at ``data[at]`` are made the address of ``data[to]`` in the guest.

    From some ``to`` on it is an address of 4 bytes or a link between calls, see ``links``.
    """

    at: int
    to: int


@dataclass(frozen=True, slots=True)
class Call:
    """One call. What ``cmd`` and ``arg`` mean depends on ``op``; see ``enum w_op``.

    ``file`` is below N_FILES, ``flags`` 8 bits, ``cmd`` 32 bits, ``arg`` 64
    bits, all unsigned; ``data`` is the payload.

    With ``fault`` (16 bits) above 0, that allocation or user copy within the
    call fails, where the kernel can inject faults. The last ``cut`` (16 bits)
    bytes of its buffer are unmapped. Of ``flags`` those that flags_used() does
    not name are ignored. ``thread`` is 0, or for a call of a parallel part 1 to
    N_THREADS; vm/channel.h has the rules.
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


Program: TypeAlias = tuple[Call, ...]


def position(call: Call) -> int:
    """Return the offset of a pread or pwrite, 64 bits and unsigned."""
    return (call.arg & ~HALF if call.flags & FLAG_WIDE else 0) | call.cmd


def at_position(call: Call, offset: int) -> Call:
    """Return a pread or pwrite at another offset, 64 bits and unsigned.

    A count that does not fit beside it becomes the largest that does.
    """
    arg = count(call) if call.op is Op.PREAD else call.arg & HALF
    flags = call.flags & ~FLAG_WIDE
    if offset > HALF:
        arg = min(arg, HALF) | (offset & ~HALF)
        flags |= FLAG_WIDE
    return replace(call, flags=flags, cmd=offset & HALF, arg=arg)


def count(call: Call) -> int:
    """Return how many bytes a read, pread, write or pwrite asks for."""
    if OPERATIONS[call.op].payload is Payload.WRITTEN:
        length = len(call.data)
        return min(call.arg & HALF, length) if call.flags & FLAG_COUNT else length
    return call.arg & HALF if call.op is Op.PREAD and call.flags & FLAG_WIDE else call.arg


def with_count(call: Call, number: int) -> Call:
    """Return a read or pread, or a write or pwrite with FLAG_COUNT, of another count.

    It must fit where the old one did.
    """
    keeps = call.flags & (FLAG_WIDE | FLAG_COUNT) & OPERATIONS[call.op].flags
    return replace(call, arg=call.arg & ~HALF | number if keeps else number)
