# SPDX-License-Identifier: Apache-2.0
"""Conditions of calls other than the usual: faults, odd buffers, threads.

These work on a call's canonical wire bytes, as ``struct w_call`` has them.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from fuzzer.program.file_choices import URING_WAYS
from fuzzer.program.flips import has_flips, without_flips
from fuzzer.program.links import addresses_of
from fuzzer.program.ops import (
    CONDITIONS,
    FLAG_COMPAT,
    FLAG_NULL,
    FLAG_READONLY,
    FLAG_VALUE,
    FLAG_VECTOR,
    OPERATIONS,
    Number,
    Op,
    Payload,
    is_request,
    ops_with,
)
from fuzzer.program.program import N_THREADS
from fuzzer.program.wire import FIXUP_SIZE, HEADER_SIZE, count_of

_FAULT, _CUT, _THREAD, _MODE = 18, 20, 22, 23
_IOCTL = int(Op.IOCTL)
_READS = ops_with(lambda each: each.arg is Number.COUNT)
_WRITES = ops_with(lambda each: each.payload is Payload.WRITTEN)
_CAN_FAIL = ops_with(lambda each: each.can_fail)
_REACHES_DRIVER = ops_with(lambda each: each.reaches_driver)
_LOAD = int(Op.LOAD)
# The share of changes of a request in a ring after which it is a plain call.
_PLAIN = 0.2
# Loading a module makes many allocations; each of the first so many fails equally often.
_LOAD_FAULTS = 250
_SCRATCH = 0x10000
# The flags that change the way in which each operation is made, some twice as often as others.
_FORMS = tuple(
    tuple(
        flag
        for flag in (*(FLAG_VECTOR, FLAG_COMPAT) * 2, FLAG_NULL, FLAG_READONLY)
        if OPERATIONS[op].flags & flag
    )
    for op in Op
)
_PARTS = (1, 1, 2, 3, 4, 8, 16, 512)
_REPEATS = (1, 1, 2, 4, 8)
_TOUCHING, _SAME = 0.4, 0.4


def with_fault(chunk: bytes, nth: int) -> bytes:
    """Return the call with its ``nth`` allocation or user copy failing; 0: none."""
    return chunk[:_FAULT] + nth.to_bytes(2, "little") + chunk[_CUT:]


def fault_of(chunk: bytes) -> int:
    """Return the number of the allocation or user copy of a call that is to fail; 0: none."""
    return int.from_bytes(chunk[_FAULT:_CUT], "little")


def with_cut(chunk: bytes, cut: int) -> bytes:
    """Return the call with the last ``cut`` bytes of its buffer unmapped."""
    return chunk[:_CUT] + cut.to_bytes(2, "little") + chunk[_THREAD:]


def with_thread(chunk: bytes, thread: int) -> bytes:
    """Return the call as one of a thread, 0 to N_THREADS."""
    if chunk[_THREAD] == thread:
        return chunk
    return chunk[:_THREAD] + bytes((thread,)) + chunk[_THREAD + 1 :]


def is_parallel(chunks: Sequence[bytes]) -> bool:
    """Tell whether any call of a program runs on a thread beside others."""
    return any(chunk[_THREAD] for chunk in chunks)


def is_racing(chunks: Sequence[bytes]) -> bool:
    """Tell whether another call runs beside one of a program, or changes its buffer."""
    return is_parallel(chunks) or has_flips(chunks)


def one_by_one(chunks: Sequence[bytes]) -> list[bytes]:
    """Return a program with the same calls, and nothing beside any."""
    return [with_thread(chunk, 0) for chunk in without_flips(chunks)]


def can_fail(chunk: bytes) -> bool:
    """Tell whether faults can be injected into a call, as it may allocate or copy."""
    return chunk[0] in _CAN_FAIL


def has_forms(chunk: bytes) -> bool:
    """Tell whether a call can be made as a vector, as a 32-bit one, or with an odd buffer."""
    return bool(_FORMS[chunk[0]])


def buffer_size(chunk: bytes) -> int:
    """Return the number of bytes of a call's buffer that can be cut; 0 if it has none."""
    op = chunk[0]
    if op in _READS:
        return min(count_of(chunk), _SCRATCH)
    if op in _WRITES or (op == _IOCTL and not chunk[2] & FLAG_VALUE):
        return len(chunk) - HEADER_SIZE - FIXUP_SIZE * chunk[3]
    return 0


def fitted(chunk: bytes) -> bytes:
    """Return an ioctl with a buffer of the size that is encoded in its number.

    Other calls, and ioctls with addresses that point behind that size, are not changed.
    """
    size = int.from_bytes(chunk[4:8], "little") >> 16 & 0x3FFF
    body = HEADER_SIZE + FIXUP_SIZE * chunk[3]
    if chunk[0] != _IOCTL or chunk[2] & FLAG_VALUE or size in (0, len(chunk) - body):
        return chunk
    if chunk[3] and any(each.to >= size for each in addresses_of(chunk)):
        return chunk
    data = chunk[body:][:size].ljust(size, b"\0")
    return chunk[:16] + size.to_bytes(2, "little") + chunk[18:body] + data


class ConditionMutator:
    """Changes the conditions of calls; the same ``rng`` state gives the same choices."""

    def __init__(self, rng: random.Random) -> None:
        self._random = rng.random

    def fail(self, chunk: bytes) -> bytes:
        """Return the call with another fault, mostly an early one, or with none."""
        rand = self._random
        if fault_of(chunk) and rand() < 0.3:
            return with_fault(chunk, 0)
        if chunk[0] == _LOAD:
            return with_fault(chunk, 1 + int(rand() * _LOAD_FAULTS))
        return with_fault(chunk, 1 + int(6 * rand() ** 2))

    def cut(self, chunk: bytes) -> bytes:
        """Return the call with its buffer cut somewhere, or mapped as a whole again."""
        rand = self._random
        size = min(buffer_size(chunk), 0xFFFF)
        if not size:
            return chunk
        kind = rand()
        if kind < 0.2:
            return with_cut(chunk, 0)
        choices = (1, size, size // 2, 8 * int(rand() * (size / 8 + 1)), int(rand() * size) + 1)
        return with_cut(chunk, choices[int(rand() * len(choices))])

    def form(self, chunk: bytes) -> bytes:
        """Return a call for which :func:`has_forms` holds, made in another way."""
        rand = self._random
        op, flags = chunk[0], chunk[2] & ~CONDITIONS
        if is_request(op, chunk[_MODE]):
            ways = (0,) if op != _IOCTL and rand() < _PLAIN else URING_WAYS
            return chunk[:_MODE] + bytes((ways[int(rand() * len(ways))],)) + chunk[_MODE + 1 :]
        cmd = chunk[4:8]
        if FLAG_VECTOR in _FORMS[op]:
            cmd = bytes(4)
        if chunk[2] == flags or rand() < 0.3:
            forms = _FORMS[op]
            form = forms[int(rand() * len(forms))]
            if form == FLAG_VECTOR:
                cmd = _PARTS[int(rand() * len(_PARTS))].to_bytes(4, "little")
            flags |= form
        return chunk[:2] + bytes((flags,)) + chunk[3:4] + cmd + chunk[8:]

    def race(
        self, chunks: list[bytes], generate: Callable[[list[bytes]], bytes], limit: int
    ) -> list[bytes]:
        """Return a program with parallel parts: 2 or 3 threads, each repeating a few calls.

        Some of the calls are the program's own, others are made by ``generate(chunks)``;
        often all threads make the same. The last calls before the part are often repeated
        with it, as most races have only one chance in each state of the driver. The program
        has at most ``limit`` calls in all; ``limit`` is 8 or more.
        """
        rand = self._random
        part = self._part(chunks, generate)
        del part[limit - 2 :]
        before = [with_thread(chunk, 0) for chunk in chunks[: limit - len(part)]]
        if rand() < 0.3:
            at = int(rand() * (len(before) + 1))
            return before[:at] + part + before[at:]
        again = before[-1 - int(rand() * 3) :] + part
        rounds = (limit - len(before) - len(part)) // len(again)
        return before + part + again * int(rand() * (rounds + 1))

    def _part(self, chunks: list[bytes], generate: Callable[[list[bytes]], bytes]) -> list[bytes]:
        rand = self._random
        n_threads = 2 + int(rand() * (N_THREADS - 1))
        repeats = _REPEATS[int(rand() * len(_REPEATS))]
        same = rand() < _SAME
        calls: list[bytes] = []
        part: list[bytes] = []
        for thread in range(1, n_threads + 1):
            if not (same and calls):
                calls = [self._one(chunks, generate) for _ in range(1 + int(rand() ** 2 * 3))]
            part += [with_thread(call, thread) for call in calls] * repeats
        return part

    def _one(self, chunks: list[bytes], generate: Callable[[list[bytes]], bytes]) -> bytes:
        rand = self._random
        if chunks and rand() < _TOUCHING:
            chunk = chunks[int(rand() * len(chunks))]
            if chunk[0] in _REACHES_DRIVER:
                return chunk
        return generate(chunks)
