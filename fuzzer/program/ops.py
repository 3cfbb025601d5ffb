# SPDX-License-Identifier: Apache-2.0
"""The operations of programs, with one record of each that everything else reads.

They are those of ``enum w_op`` in vm/channel.h, which has the rules; a test compares the two.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass

FLAG_VALUE = 0x01
"""Call flag: an ioctl passes ``arg``, not the address of its payload (W_VALUE)."""

FLAG_VECTOR = 0x02
"""Call flag: readv or writev, in parts of ``cmd`` bytes, or for 0 in one part (W_VECTOR)."""

FLAG_NULL = 0x04
"""Call flag: the buffer's address is NULL, whatever the other flags are (W_NULL)."""

FLAG_READONLY = 0x08
"""Call flag: the kernel can read the buffer but not write to it; a store reads (W_READONLY)."""

FLAG_COMPAT = 0x10
"""Call flag: an ioctl as a 32-bit program makes it (W_COMPAT)."""

FLAG_WIDE = 0x20
"""Call flag: the upper half of ``arg`` is that of a pread's or pwrite's offset (W_WIDE)."""

FLAG_COUNT = 0x40
"""Call flag: the lower half of ``arg`` is the number of bytes that are written (W_COUNT)."""

FLAG_WAITS = 0x80
"""Call flag: the call was seen to wait while the next ones were made (W_WAITS)."""

CONDITIONS = FLAG_VECTOR | FLAG_NULL | FLAG_READONLY | FLAG_COMPAT
"""Flags that change how a call is made. The others tell the place of a number, or were observed."""

_BUFFER = FLAG_NULL | FLAG_READONLY


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
    ADOPT = 15
    MAP = 16
    UNMAP = 17
    STORE = 18
    FORK = 19
    EPOLL = 20
    FLIP = 21
    REMAP = 22
    PROTECT = 23
    ADVISE = 24
    FCNTL = 25
    FLOCK = 26
    FSYNC = 27
    GETDENTS = 28
    FDINFO = 29
    SPLICE_READ = 30
    SPLICE_WRITE = 31
    CREATE = 32
    CHILD = 33
    EXIT = 34
    URING_CLOSE = 35


class Number(enum.Enum):
    """The meaning of ``cmd`` or ``arg``; the value is what messages call it."""

    NONE = "nothing"
    DEVICE = "a device"
    FILE = "a file"
    FLAGS = "flags"
    COUNT = "a count of bytes"
    SIZE = "a size in bytes"
    PAGES = "an offset in pages"
    POSITION = "a position"  # with FLAG_WIDE in both fields
    OFFSET = "an offset"  # signed
    WHENCE = "whence"
    COMMAND = "an ioctl number"
    VALUE = "a value"  # signed, and with FLAG_VALUE only
    EVENTS = "events"
    CONTROL = "an operation of epoll"
    WORD = "what to store"
    PLACE = "a place in the buffer"  # with its bytes, see flips
    FLIPPED = "what is there in turn"
    FCNTL = "a command of fcntl"
    SETTING = "what fcntl is given"
    LOCKING = "an operation of flock"
    ONLY_DATA = "1 for fdatasync"
    SPLICING = "a way to splice"
    KIND = "a kind of file"
    DESCRIPTOR = "a descriptor"
    MILLISECONDS = "milliseconds"
    TICKS = "ticks"
    MAPPED = "protection and kind of a mapping"  # W_MAP_TURNED
    MOVED = "where a mapping goes"
    PROTECTION = "a protection"
    ADVICE = "an advice"


SEEN = frozenset(Number) - {
    *(Number.NONE, Number.DEVICE, Number.FILE, Number.DESCRIPTOR),
    *(Number.MILLISECONDS, Number.TICKS, Number.PLACE, Number.FLIPPED),
    *(Number.SPLICING, Number.KIND),
}
"""Kinds of numbers that the driver sees; the others are for the executor."""

POINTS = 0x40
"""Bit of the mode of a call: what its buffer points to lies in a mapping (W_POINTS)."""

MAP_TURNED = 0x03
"""Bits of the mode of a map that are turned over: it can be read and written (W_MAP_TURNED)."""

MAP_PRIVATE = 0x08
"""Bit of the mode of a map: the mapping is not shared (W_MAP_PRIVATE)."""

REMAP_MOVE = 0x01
"""Mode of a remap: the pages go elsewhere (W_REMAP_MOVE)."""

MOST_ADVICE = 0x3F
"""The highest advice in the mode of an advise (W_MOST_ADVICE)."""

URING = 0x80
"""Bit of the mode of a call: it is a request in the program's ring of io_uring (W_URING)."""

URING_ASYNC = 0x01
"""Bit of the mode of a request: a thread of the kernel makes it from the start (W_URING_ASYNC)."""

URING_LEAVE = 0x02
"""Bit of the mode of a request: its completion is not waited for (W_URING_LEAVE)."""

URING_COMMAND = 80
"""The bytes of an ioctl's payload that are in the request itself (W_URING_COMMAND)."""

REQUEST_FLAGS = FLAG_VALUE | FLAG_WIDE | FLAG_COUNT
"""Flags that a request looks at, as far as its operation does."""

REQUESTS = frozenset({Op.READ, Op.WRITE, Op.PREAD, Op.PWRITE, Op.POLL, Op.IOCTL})
"""Operations of which a call can be a request in a ring."""

MAPPING = frozenset({Op.MMAP, Op.MAP})
"""Operations that map a file: the handle that they take is the offset (W_LINK_CALL)."""

TIMES = frozenset({Number.MILLISECONDS, Number.TICKS})
"""Kinds of numbers that are times."""


OPTIONAL_MODES = frozenset({Number.MAPPED, Number.MOVED})
"""Kinds of modes of which 0 is the usual one, and not written."""


class File(enum.Enum):
    """The use of ``file``."""

    NONE = enum.auto()
    OPENED = enum.auto()
    CLOSED = enum.auto()
    USED = enum.auto()  # and has to be open


class Payload(enum.Enum):
    """The meaning of the payload; the value is what messages call it."""

    NONE = "nothing"
    WRITTEN = "what to write"
    ARGUMENT = "a payload"
    PARAMETERS = "the module's parameters"
    SPLICED = "what to splice"


@dataclass(frozen=True, slots=True)
class Operation:
    """The record of one operation.

    ``mode`` is the meaning of that field where it does not tell the place of a buffer.
    ``name`` is its name in program text. ``reaches_driver`` tells whether the driver's own
    code runs for it, ``can_fail`` whether it may allocate or copy, so that faults can be
    injected. ``flags`` are those that it uses. ``cost`` is in small calls; for an operation
    that waits, for each millisecond. ``plainer`` is the operation that does the same without
    a position. ``headers`` are the C headers, ``syscalls`` the numbers on x86-64.
    """

    name: str
    file: File = File.NONE
    cmd: Number = Number.NONE
    arg: Number = Number.NONE
    mode: Number = Number.NONE
    payload: Payload = Payload.NONE
    reaches_driver: bool = False
    can_fail: bool = False
    flags: int = 0
    cost: float = 1.0
    plainer: Op | None = None
    headers: tuple[str, ...] = ()
    syscalls: tuple[int, ...] = ()

    @property
    def uses_file(self) -> bool:
        """True if the operation uses ``file``."""
        return self.file is not File.NONE

    @property
    def is_slow(self) -> bool:
        """True if the operation takes as long as many others."""
        return self.cost > 1


# Unloading or loading a module takes some 10 ms, and as long again to restore it after the
# program; a call takes some 20 µs.
_MODULE_COST, _MILLISECOND_COST, _FORK_COST = 500.0, 50.0, 60.0

OPERATIONS: Mapping[int, Operation] = {
    Op.OPEN: Operation(
        "open",
        file=File.OPENED,
        cmd=Number.FLAGS,
        arg=Number.DEVICE,
        reaches_driver=True,
        can_fail=True,
        flags=FLAG_WAITS,
        headers=("fcntl.h",),
        syscalls=(2, 257),
    ),
    Op.CLOSE: Operation(
        "close",
        file=File.CLOSED,
        reaches_driver=True,
        flags=FLAG_WAITS,
        headers=("unistd.h",),
        syscalls=(3,),
    ),
    Op.READ: Operation(
        "read",
        file=File.USED,
        arg=Number.COUNT,
        reaches_driver=True,
        can_fail=True,
        flags=_BUFFER | FLAG_VECTOR | FLAG_WAITS,
        headers=("unistd.h",),
        syscalls=(0, 19),
    ),
    Op.WRITE: Operation(
        "write",
        file=File.USED,
        payload=Payload.WRITTEN,
        reaches_driver=True,
        can_fail=True,
        flags=_BUFFER | FLAG_VECTOR | FLAG_COUNT | FLAG_WAITS,
        headers=("unistd.h",),
        syscalls=(1, 20),
    ),
    Op.PREAD: Operation(
        "pread",
        file=File.USED,
        cmd=Number.POSITION,
        arg=Number.COUNT,
        reaches_driver=True,
        can_fail=True,
        flags=_BUFFER | FLAG_WIDE | FLAG_WAITS,
        plainer=Op.READ,
        headers=("unistd.h",),
        syscalls=(17,),
    ),
    Op.PWRITE: Operation(
        "pwrite",
        file=File.USED,
        cmd=Number.POSITION,
        payload=Payload.WRITTEN,
        reaches_driver=True,
        can_fail=True,
        flags=_BUFFER | FLAG_WIDE | FLAG_COUNT | FLAG_WAITS,
        plainer=Op.WRITE,
        headers=("unistd.h",),
        syscalls=(18,),
    ),
    Op.LSEEK: Operation(
        "lseek",
        file=File.USED,
        cmd=Number.WHENCE,
        arg=Number.OFFSET,
        reaches_driver=True,
        headers=("unistd.h",),
        syscalls=(8,),
    ),
    Op.IOCTL: Operation(
        "ioctl",
        file=File.USED,
        cmd=Number.COMMAND,
        arg=Number.VALUE,
        payload=Payload.ARGUMENT,
        reaches_driver=True,
        can_fail=True,
        flags=_BUFFER | FLAG_COMPAT | FLAG_VALUE | FLAG_WAITS,
        headers=("sys/ioctl.h",),
        syscalls=(16,),
    ),
    Op.POLL: Operation(
        "poll",
        file=File.USED,
        cmd=Number.EVENTS,
        reaches_driver=True,
        can_fail=True,
        headers=("poll.h",),
        syscalls=(7,),
    ),
    Op.MMAP: Operation(
        "mmap",
        file=File.USED,
        cmd=Number.PAGES,
        arg=Number.SIZE,
        reaches_driver=True,
        can_fail=True,
        syscalls=(9,),
    ),
    Op.SLEEP: Operation(
        "sleep", arg=Number.MILLISECONDS, cost=_MILLISECOND_COST, headers=("unistd.h",)
    ),
    Op.UNLOAD: Operation("unload", cost=_MODULE_COST, syscalls=(176,)),
    Op.LOAD: Operation(
        "load",
        payload=Payload.PARAMETERS,
        can_fail=True,
        cost=_MODULE_COST,
        syscalls=(175, 313),
    ),
    Op.DUP: Operation(
        "dup",
        file=File.OPENED,
        cmd=Number.FILE,
        headers=("unistd.h",),
        syscalls=(32, 33, 292),
    ),
    Op.WAIT: Operation("wait", arg=Number.TICKS),
    Op.ADOPT: Operation("adopt", file=File.OPENED, arg=Number.DESCRIPTOR),
    Op.MAP: Operation(
        "map",
        file=File.USED,
        cmd=Number.PAGES,
        arg=Number.SIZE,
        mode=Number.MAPPED,
        reaches_driver=True,
        can_fail=True,
    ),
    Op.UNMAP: Operation(
        "unmap",
        file=File.USED,
        cmd=Number.PAGES,
        arg=Number.SIZE,
        reaches_driver=True,
        syscalls=(11,),
    ),
    Op.STORE: Operation(
        "store",
        file=File.USED,
        cmd=Number.PAGES,
        arg=Number.WORD,
        reaches_driver=True,
        can_fail=True,
        flags=FLAG_READONLY,
    ),
    Op.FORK: Operation("fork", reaches_driver=True, cost=_FORK_COST, syscalls=(56, 57)),
    Op.EPOLL: Operation(
        "epoll",
        file=File.USED,
        cmd=Number.EVENTS,
        arg=Number.CONTROL,
        reaches_driver=True,
        can_fail=True,
        syscalls=(233,),
    ),
    Op.FLIP: Operation("flip", cmd=Number.PLACE, arg=Number.FLIPPED),
    Op.REMAP: Operation(
        "remap",
        file=File.USED,
        cmd=Number.PAGES,
        arg=Number.SIZE,
        mode=Number.MOVED,
        reaches_driver=True,
        can_fail=True,
        syscalls=(25,),
    ),
    Op.PROTECT: Operation(
        "protect",
        file=File.USED,
        cmd=Number.PAGES,
        arg=Number.SIZE,
        mode=Number.PROTECTION,
        reaches_driver=True,
        can_fail=True,
        headers=("sys/mman.h",),
        syscalls=(10,),
    ),
    Op.ADVISE: Operation(
        "advise",
        file=File.USED,
        cmd=Number.PAGES,
        arg=Number.SIZE,
        mode=Number.ADVICE,
        reaches_driver=True,
        can_fail=True,
        headers=("sys/mman.h",),
        syscalls=(28,),
    ),
    Op.FCNTL: Operation(
        "fcntl",
        file=File.USED,
        cmd=Number.SETTING,
        arg=Number.FCNTL,
        reaches_driver=True,
        can_fail=True,
        headers=("fcntl.h",),
        syscalls=(72,),
    ),
    Op.FLOCK: Operation(
        "flock",
        file=File.USED,
        cmd=Number.LOCKING,
        reaches_driver=True,
        can_fail=True,
        headers=("sys/file.h",),
        syscalls=(73,),
    ),
    Op.FSYNC: Operation(
        "fsync",
        file=File.USED,
        cmd=Number.ONLY_DATA,
        reaches_driver=True,
        can_fail=True,
        headers=("unistd.h",),
        syscalls=(74, 75),
    ),
    Op.GETDENTS: Operation(
        "getdents",
        file=File.USED,
        arg=Number.COUNT,
        reaches_driver=True,
        can_fail=True,
        headers=("sys/syscall.h", "unistd.h"),
        syscalls=(78, 217),
    ),
    Op.FDINFO: Operation("fdinfo", file=File.USED, reaches_driver=True, can_fail=True),
    Op.SPLICE_READ: Operation(
        "splice_read",
        file=File.USED,
        cmd=Number.SPLICING,
        arg=Number.COUNT,
        reaches_driver=True,
        can_fail=True,
        syscalls=(275,),
    ),
    Op.SPLICE_WRITE: Operation(
        "splice_write",
        file=File.USED,
        cmd=Number.SPLICING,
        payload=Payload.SPLICED,
        reaches_driver=True,
        can_fail=True,
        syscalls=(40,),
    ),
    Op.CREATE: Operation("create", file=File.OPENED, cmd=Number.KIND),
    Op.CHILD: Operation("child", cost=_FORK_COST, headers=("sys/wait.h", "unistd.h")),
    Op.EXIT: Operation("exit", reaches_driver=True, headers=("unistd.h",), syscalls=(60, 231)),
    Op.URING_CLOSE: Operation("uring_close", reaches_driver=True),
}
"""The records by operation; the number of an operation may be used as a key as well."""

_WITH_BUFFER = frozenset({Op.READ, Op.PREAD, Op.WRITE, Op.PWRITE})
_WITH_ADDRESSES = frozenset({Op.IOCTL, Op.WRITE, Op.PWRITE})

OP_NAMES: Mapping[str, Op] = {OPERATIONS[op].name: op for op in Op}
"""The operations by their names in program text."""


def ops_with(is_one: Callable[[Operation], bool]) -> frozenset[int]:
    """Return the numbers of the operations whose records meet a condition."""
    return frozenset(int(op) for op in Op if is_one(OPERATIONS[op]))


def is_request(op: int, mode: int) -> bool:
    """Tell whether a call of this mode is a request in the program's ring."""
    return bool(mode & URING) and op in REQUESTS


def can_lie_in_mapping(op: int, flags: int) -> bool:
    """Tell whether the buffer of a call with these flags can be in the mapping of a file."""
    if op == Op.IOCTL:
        return not flags & (FLAG_VALUE | FLAG_COMPAT | FLAG_NULL)
    return op in _WITH_BUFFER and not flags & FLAG_NULL


def can_point(op: int, flags: int) -> bool:
    """Tell whether the buffer of a call with these flags can have addresses."""
    return op in _WITH_ADDRESSES and not (op == Op.IOCTL and flags & FLAG_VALUE)


def uses_arg(op: Op, flags: int) -> bool:
    """Tell whether a call with these flags uses ``arg``."""
    if OPERATIONS[op].arg not in {Number.NONE, Number.VALUE}:
        return True
    return bool(flags & flags_used(op, flags) & (FLAG_VALUE | FLAG_WIDE | FLAG_COUNT))


def flags_used(op: Op, flags: int) -> int:
    """Return all flags that a call uses: with FLAG_VALUE an ioctl has no buffer."""
    used = OPERATIONS[op].flags
    return used & ~_BUFFER if used & flags & FLAG_VALUE else used
