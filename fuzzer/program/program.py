# SPDX-License-Identifier: Apache-2.0
"""A program: calls on the files of one driver, as vm/channel.h defines them."""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace
from typing import TypeAlias

MAX_CALLS = 128
"""Calls in a program; what follows is ignored (CH_MAX_CALLS)."""

MAX_PROGRAM_SIZE = 0x10000
"""Bytes of a wire program that fit the channel (CH_PROGRAM_SIZE)."""

MAX_SETTLEMENT = 0x400
"""Bytes of the calls that a machine can be settled by (CH_SETTLED_SIZE)."""

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

FLAG_VALUE = 0x01
"""Call flag: an ioctl passes ``arg``, not the address of its payload (W_VALUE)."""

FLAG_VECTOR = 0x02
"""Call flag: readv or writev, in parts of ``cmd`` bytes, or with 0 in one (W_VECTOR)."""

FLAG_NULL = 0x04
"""Call flag: the buffer's address is NULL, whatever else is said of it (W_NULL)."""

FLAG_READONLY = 0x08
"""Call flag: the kernel can read the buffer and not write to it (W_READONLY)."""

FLAG_COMPAT = 0x10
"""Call flag: an ioctl as a 32-bit program makes it (W_COMPAT)."""

FLAG_WIDE = 0x20
"""Call flag: the upper half of ``arg`` is that of a pread's or pwrite's offset (W_WIDE)."""

FLAG_COUNT = 0x40
"""Call flag: the lower half of ``arg`` is how much of its payload is written (W_COUNT)."""

FLAG_WAITS = 0x80
"""Call flag: the call was seen to wait while the next ones were made (W_WAITS)."""


class Op(enum.IntEnum):
    """Operations, numbered as in ``enum w_op``."""

    OPEN = 0
    CLOSE = 1
    READ = 2
    WRITE = 3
    PREAD = 4
    PWRITE = 5
    LSEEK = 6
    IOCTL = 7
    POLL = 8
    MMAP = 9
    SLEEP = 10
    UNLOAD = 11
    LOAD = 12
    DUP = 13
    WAIT = 14


WITHOUT_FILE = frozenset({Op.SLEEP, Op.UNLOAD, Op.LOAD, Op.WAIT})
"""Operations that do not look at ``file``."""

POSITIONED = frozenset({Op.PREAD, Op.PWRITE})
"""Operations that say where in the file they take place."""

HALF = 0xFFFFFFFF
"""A half of ``arg``."""

_BUFFER_FLAGS = FLAG_NULL | FLAG_READONLY
_FLAGS = {
    Op.OPEN: FLAG_WAITS,
    Op.CLOSE: FLAG_WAITS,
    Op.READ: _BUFFER_FLAGS | FLAG_VECTOR | FLAG_WAITS,
    Op.WRITE: _BUFFER_FLAGS | FLAG_VECTOR | FLAG_COUNT | FLAG_WAITS,
    Op.PREAD: _BUFFER_FLAGS | FLAG_WIDE | FLAG_WAITS,
    Op.PWRITE: _BUFFER_FLAGS | FLAG_WIDE | FLAG_COUNT | FLAG_WAITS,
    Op.IOCTL: _BUFFER_FLAGS | FLAG_COMPAT | FLAG_VALUE | FLAG_WAITS,
}


def flags_used(op: Op, flags: int) -> int:
    """Return all flags that a call looks at: with FLAG_VALUE an ioctl has no buffer."""
    used = _FLAGS.get(op, 0)
    return used & ~_BUFFER_FLAGS if used & flags & FLAG_VALUE else used


@dataclass(frozen=True, slots=True)
class Fixup:
    """The 8 bytes at ``data[at]`` are made the address of ``data[to]`` in the guest."""

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
    if call.op in {Op.WRITE, Op.PWRITE}:
        length = len(call.data)
        return min(call.arg & HALF, length) if call.flags & FLAG_COUNT else length
    return call.arg & HALF if call.op is Op.PREAD and call.flags & FLAG_WIDE else call.arg


def with_count(call: Call, number: int) -> Call:
    """Return a read or pread, or a write or pwrite with FLAG_COUNT, of another count.

    It must fit where the old one did.
    """
    keeps = call.op is not Op.READ and call.flags & (FLAG_WIDE | FLAG_COUNT)
    return replace(call, arg=call.arg & ~HALF | number if keeps else number)
