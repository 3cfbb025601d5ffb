# SPDX-License-Identifier: Apache-2.0
"""The wire form of programs: the format of the corpus, the channel and the executor.

It is defined by ``struct w_call`` in vm/channel.h. Decoding is total: any bytes are a
program. Encoding a decoded program gives the canonical form: operation, file and thread in
range, counts that fit, no tail. Fields and flags that an operation does not
use are kept.
"""

from __future__ import annotations

import struct

from fuzzer.program.ops import FLAG_COUNT, FLAG_WIDE, Number, Op, ops_with
from fuzzer.program.program import (
    HALF,
    MAX_CALLS,
    MAX_FIXUPS,
    N_FILES,
    N_THREADS,
    Call,
    Fixup,
    Program,
    at_position,
)

HEADER = struct.Struct("<BBBBIQHHHBB")
"""``struct w_call``: op, file, flags, n_fixups, cmd, arg, length, fault, cut, thread, mode."""

PLAIN_HEADER = struct.Struct("<BBBBIQH6x")
"""``struct w_call`` up to length; the call is serial, without fault or cut."""

FIXUP = struct.Struct("<HH")
"""``struct w_fixup``: at, to."""

HEADER_SIZE = HEADER.size
FIXUP_SIZE = FIXUP.size

_OPS = tuple(Op)
_POSITIONED = ops_with(lambda each: each.cmd is Number.POSITION)
_N_OPS = len(_OPS)
_SHAPE = struct.Struct("<BBxB12xH4xBx").unpack_from


def encode_call(call: Call) -> bytes:
    """Return the wire form of one call; ValueError for a field that does not fit."""
    if call.file >= N_FILES or call.thread > N_THREADS or len(call.fixups) > MAX_FIXUPS:
        raise ValueError(
            f"file {call.file}, thread {call.thread} or {len(call.fixups)} fixups is too many"
        )
    try:
        header = HEADER.pack(
            call.op,
            call.file,
            call.flags,
            len(call.fixups),
            call.cmd,
            call.arg,
            len(call.data),
            call.fault,
            call.cut,
            call.thread,
            call.mode,
        )
        fixups = b"".join([FIXUP.pack(fixup.at, fixup.to) for fixup in call.fixups])
    except struct.error as error:
        raise ValueError(f"a field of the {call.op.name} call does not fit: {error}") from None
    return header + fixups + call.data


def encode(program: Program) -> bytes:
    """Return the wire form of a program; ValueError for a field that does not fit."""
    return b"".join([encode_call(call) for call in program])


def decode(data: bytes) -> Program:
    """Return the program that bytes encode, exactly as the executor reads them."""
    return tuple([_decode_chunk(chunk) for chunk in split(data)])


def split(data: bytes) -> list[bytes]:
    """Return the canonical wire bytes of each call; joined they are the canonical program.

    This is much faster than ``decode``, as only headers are read.
    """
    chunks: list[bytes] = []
    append, shape, n_ops = chunks.append, _SHAPE, _N_OPS
    at, size = 0, len(data)
    last = size - HEADER_SIZE
    while at <= last:
        op, file, n_fixups, length, thread = shape(data, at)
        end = at + HEADER_SIZE + FIXUP_SIZE * n_fixups + length
        if (
            op < n_ops
            and file < N_FILES
            and n_fixups <= MAX_FIXUPS
            and thread <= N_THREADS
            and end <= size
        ):
            append(data[at:end])
        else:
            body = at + HEADER_SIZE
            n_fixups = min(n_fixups, MAX_FIXUPS, (size - body) // FIXUP_SIZE)
            length = min(length, size - body - n_fixups * FIXUP_SIZE)
            end = body + n_fixups * FIXUP_SIZE + length
            _, _, flags, _, cmd, arg, _, fault, cut, _, mode = HEADER.unpack_from(data, at)
            op, file, thread = op % n_ops, file % N_FILES, thread % (N_THREADS + 1)
            header = HEADER.pack(
                op, file, flags, n_fixups, cmd, arg, length, fault, cut, thread, mode
            )
            append(header + data[body:end])
        at = end
    # There are rarely more calls, so this is cheaper here than in the loop.
    del chunks[MAX_CALLS:]
    return chunks


def position_of(chunk: bytes) -> int:
    """Return the offset of a pread or pwrite, 64 bits and unsigned."""
    upper = chunk[12:16] if chunk[2] & FLAG_WIDE else b""
    return int.from_bytes(chunk[4:8] + upper, "little")


def with_position(chunk: bytes, offset: int) -> bytes:
    """Return a pread or pwrite at another offset, see at_position()."""
    return encode_call(at_position(_decode_chunk(chunk), offset))


def count_of(chunk: bytes) -> int:
    """Return the number of bytes that a read or pread asks for."""
    is_half = chunk[0] in _POSITIONED and chunk[2] & FLAG_WIDE
    return int.from_bytes(chunk[8 : 12 if is_half else 16], "little")


def written_of(chunk: bytes) -> int:
    """Return the number of bytes of its payload that a write or pwrite writes."""
    length = int.from_bytes(chunk[16:18], "little")
    return min(int.from_bytes(chunk[8:12], "little"), length) if chunk[2] & FLAG_COUNT else length


def plain_positioned(op: int, file: int, offset: int, count: int, data: bytes = b"") -> bytes:
    """Return a serial pread or pwrite; its count is cut to 32 bits if its offset needs more."""
    flags = 0
    if offset > HALF:
        flags, count = FLAG_WIDE, min(count, HALF) | (offset & ~HALF)
    return PLAIN_HEADER.pack(op, file, flags, 0, offset & HALF, count, len(data)) + data


def _decode_chunk(chunk: bytes) -> Call:
    op, file, flags, n_fixups, cmd, arg, _, fault, cut, thread, mode = HEADER.unpack_from(chunk)
    body = HEADER_SIZE + n_fixups * FIXUP_SIZE
    fixups = tuple([Fixup(at, to) for at, to in FIXUP.iter_unpack(chunk[HEADER_SIZE:body])])
    return Call(_OPS[op], file, flags, cmd, arg, chunk[body:], fixups, fault, cut, thread, mode)
