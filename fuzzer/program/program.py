# SPDX-License-Identifier: Apache-2.0
"""A program: calls on one device, as vm/channel.h defines them."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TypeAlias

MAX_CALLS = 128
"""Calls in a program; what follows is ignored (CH_MAX_CALLS)."""

MAX_PROGRAM_SIZE = 0x10000
"""Bytes of a wire program that fit the channel (CH_PROGRAM_SIZE)."""

N_FILES = 8
"""Files a program can have open; file 0 is open before the first call (W_N_FILES)."""

MAX_FIXUPS = 8
"""Fixups of one call (W_MAX_FIXUPS)."""

MAX_PAYLOAD = 0xFFFF
"""Bytes of one call's payload, whose length is 16 bits wide."""

FLAG_VALUE = 0x1
"""Call flag: an ioctl passes ``arg``, not the address of its payload (W_VALUE)."""


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
    """

    op: Op
    file: int = 0
    flags: int = 0
    cmd: int = 0
    arg: int = 0
    data: bytes = b""
    fixups: tuple[Fixup, ...] = ()


Program: TypeAlias = tuple[Call, ...]
