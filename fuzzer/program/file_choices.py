# SPDX-License-Identifier: Apache-2.0
"""Numbers to choose from for calls that neither read nor write a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fuzzer.program.ops import URING, URING_ASYNC, URING_LEAVE, Op
from fuzzer.program.syntax import FCNTL, FLOCK, OPEN_FLAGS, SPLICE
from fuzzer.target.calls import PlainKind

_ASYNC, _NONBLOCK, _APPEND = (OPEN_FLAGS[f"O_{name}"] for name in ("ASYNC", "NONBLOCK", "APPEND"))
_SET_FLAGS = (_ASYNC, _ASYNC, _ASYNC, 0, 0, _NONBLOCK, _ASYNC | _NONBLOCK, _APPEND)
_OWNER = tuple(FCNTL[f"F_{name}"] for name in ("SETOWN", "SETOWN", "SETSIG", "GETFL"))
_LOCK_COMMANDS = tuple(FCNTL[f"F_{name}"] for name in ("SETLK", "SETLK", "GETLK", "OFD_SETLK"))
_LOCK_TYPES = (0, 1, 2)
# Of the whole file, and of parts (W_LOCK_START and W_LOCK_LENGTH of vm/channel.h).
_LOCKS = (0, 1, 2, 1, 2, 8 << 16, 1 | 8 << 16, 2 | 8 << 16 | 4 << 2)

SPLICE_WAYS = (*[SPLICE["SPLICE"]] * 3, *[SPLICE["SPLICE_KEEP"]] * 2, SPLICE["SENDFILE"])
"""Ways to splice, those that are tried more often several times."""

URING_WAYS = (
    *(URING, URING, URING | URING_LEAVE, URING | URING_LEAVE),
    *(URING | URING_ASYNC, URING | URING_ASYNC | URING_LEAVE),
)
"""Modes of requests in a ring, those that are tried more often several times."""


@dataclass(frozen=True, slots=True)
class FieldChoice:
    """An operation with the values of ``cmd`` and ``arg`` to choose from."""

    op: Op
    cmds: Sequence[int] = (0,)
    args: Sequence[int] = (0,)
    weight: int = 1


FILE_CALLS: Mapping[PlainKind, tuple[FieldChoice, ...]] = {
    PlainKind.FASYNC: (
        FieldChoice(Op.FCNTL, _SET_FLAGS, (FCNTL["F_SETFL"],), 3),
        FieldChoice(Op.FCNTL, (0, 0, 1), _OWNER),
    ),
    PlainKind.LOCK: (
        FieldChoice(Op.FCNTL, _LOCKS, _LOCK_COMMANDS, 4),
        FieldChoice(Op.FCNTL, _LOCK_TYPES, (FCNTL["F_SETLEASE"],)),
    ),
    PlainKind.FLOCK: (FieldChoice(Op.FLOCK, tuple(FLOCK.values())),),
    PlainKind.FSYNC: (FieldChoice(Op.FSYNC, (0, 0, 1)),),
    PlainKind.GETDENTS: (FieldChoice(Op.GETDENTS, args=(4096, 4096, 64, 1)),),
    PlainKind.FDINFO: (FieldChoice(Op.FDINFO),),
    PlainKind.SPLICE_READ: (FieldChoice(Op.SPLICE_READ, SPLICE_WAYS, (1, 8, 64, 4096, 8192)),),
}
"""The choices for each kind of call that is made of numbers alone."""
