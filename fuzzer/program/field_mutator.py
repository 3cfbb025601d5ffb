# SPDX-License-Identifier: Apache-2.0
"""Mutation of a call's file and numbers."""

from __future__ import annotations

import random
from collections.abc import Callable

from fuzzer.program.choices import integer_chooser
from fuzzer.program.generate import Generator
from fuzzer.program.ops import FLAG_VALUE, FLAG_WIDE, OPERATIONS, SEEN, Number, Op, Operation
from fuzzer.program.placing import MODES, with_mode
from fuzzer.program.program import N_FILES
from fuzzer.program.wire import position_of, with_position

_CHANGE_FILE, _CHANGE_MODE = 0.1, 0.3
# A changed wait takes a time of the description, seldom up to so many times that.
_LONG_WAIT = 24
_IOCTL, _SLEEP, _PREAD = int(Op.IOCTL), int(Op.SLEEP), int(Op.PREAD)

_CMD, _ARG = (4, 4), (8, 8)
# Both fields, for the offset of a pread or pwrite: flags tell how it is split among them.
_OFFSET = (0, 8)
# Kinds of numbers that may have any value; others are chosen from a few values.
_ANY = SEEN | {Number.TICKS}


def _fields_of(operation: Operation) -> tuple[tuple[int, int], ...]:
    """Return the fields that may have any value, as (offset in struct w_call, bytes)."""
    arg = (_ARG,) if operation.arg in _ANY - {Number.VALUE} else ()
    if operation.cmd is Number.POSITION:
        return (*arg, _OFFSET)
    return (*arg, _CMD) if operation.cmd in _ANY else arg


_FIELDS = tuple(_fields_of(OPERATIONS[op]) for op in Op)


class FieldMutator:
    """Changes files and numbers of calls.

    ``mutate_bytes(data, max_size)`` changes plain bytes.
    """

    def __init__(
        self,
        rng: random.Random,
        generator: Generator,
        mutate_bytes: Callable[[bytes, int], bytes],
    ) -> None:
        self._random = rng.random
        self._generator = generator
        self._mutate_bytes = mutate_bytes
        self._uses_files = generator.uses_files
        self._integer = integer_chooser(rng)

    def change(self, chunk: bytes) -> bytes:
        """Return the call with another file or number; empty if it has no number to change."""
        rand = self._random
        if self._uses_files and rand() < _CHANGE_FILE:
            return chunk[:1] + bytes((int(rand() * N_FILES),)) + chunk[2:]
        op = chunk[0]
        if op in MODES and rand() < _CHANGE_MODE:
            return with_mode(chunk, MODES[op][int(rand() * len(MODES[op]))])
        if op == _SLEEP:
            # Most random numbers would mean the longest sleep: as long as ten thousand calls.
            return self._generator.wait(_LONG_WAIT) or chunk
        if OPERATIONS[op].cmd is Number.FILE:
            source = int(rand() * N_FILES)
            return chunk[:4] + source.to_bytes(4, "little") + chunk[8:]
        fields = (_ARG,) if op == _IOCTL and chunk[2] & FLAG_VALUE else _FIELDS[op]
        if not fields:
            return b""
        field = fields[int(rand() * len(fields))]
        if field is _OFFSET:
            old = position_of(chunk).to_bytes(8, "little")
            offset = int.from_bytes(self._changed(old), "little")
            return with_position(chunk, offset)
        at, width = field
        if op == _PREAD and chunk[2] & FLAG_WIDE:
            width = 4
        new = self._changed(chunk[at : at + width])
        return chunk[:at] + new + chunk[at + width :]

    def _changed(self, old: bytes) -> bytes:
        """Return another number of the same width, as wire bytes."""
        rand, width = self._random, len(old)
        kind = rand()
        if kind < 0.3:
            return self._integer().to_bytes(8, "little")[:width]
        if kind < 0.6:
            return self._mutate_bytes(old, width)[:width].ljust(width, b"\0")
        number = int.from_bytes(old, "little")
        if kind < 0.8:
            number += int(rand() * 33) - 16
        else:
            number ^= 1 << int(rand() * 8 * width)
        return (number & ((1 << (8 * width)) - 1)).to_bytes(width, "little")
