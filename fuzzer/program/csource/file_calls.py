# SPDX-License-Identifier: Apache-2.0
"""Calls in C that neither read nor write a file, that splice, and that create other files.

They do what vm/executor/file.c, splice.c and create.c do.
"""

from __future__ import annotations

from dataclasses import dataclass

from fuzzer.program.csource.literals import c_integer, c_string, flag_names
from fuzzer.program.csource.memory import ROOM
from fuzzer.program.ops import Op
from fuzzer.program.program import Call
from fuzzer.program.syntax import CREATED, FCNTL, FLOCK, LOCK_TYPES, SPLICE

LOCK_START, LOCK_LENGTH = 2, 16
"""The first bits of a lock's start and length in ``cmd`` of fcntl (W_LOCK_START, ...)."""

MEMFD_SIZE = 0x10000
"""Bytes of a memfd that a program creates (W_MEMFD_SIZE)."""

FILE_CALLS = frozenset(
    (Op.FCNTL, Op.FLOCK, Op.FSYNC, Op.GETDENTS, Op.FDINFO, Op.SPLICE_READ, Op.SPLICE_WRITE)
)
"""The operations that :func:`file_call` writes."""

_FCNTL = {number: name for name, number in FCNTL.items()}
_LOCK_TYPES = {number: name for name, number in LOCK_TYPES.items()}
_CREATED = {number: name for name, number in CREATED.items()}
_KEEP, _SENDFILE = SPLICE["SPLICE_KEEP"], SPLICE["SENDFILE"]


@dataclass(frozen=True, slots=True)
class FileCall:
    """The statements of a call, with its helpers and headers, and bytes of ``buffer``."""

    lines: list[str]
    helpers: tuple[str, ...] = ()
    includes: tuple[str, ...] = ()
    buffer: int = 0


def file_call(call: Call, file: str) -> FileCall:
    """Return a call of ``FILE_CALLS`` on the variable ``file``."""
    match call.op:
        case Op.FCNTL:
            return _fcntl(call, file)
        case Op.FLOCK:
            names = [name for name, bit in FLOCK.items() if call.cmd & bit]
            rest = call.cmd & ~sum(FLOCK.values()) & ~4
            operation = " | ".join([*names, *([f"{rest:#x}"] if rest else []), "LOCK_NB"])
            return FileCall([f"flock({file}, {operation});"])
        case Op.FSYNC:
            return FileCall([f"{'fdatasync' if call.cmd == 1 else 'fsync'}({file});"])
        case Op.GETDENTS:
            room = _room(call)
            line = f"syscall(SYS_getdents64, {file}, buffer, {room});"
            return FileCall([line], buffer=max(room, 1))
        case Op.FDINFO:
            return FileCall([f"read_fdinfo({file});"], ("read_fdinfo",))
        case Op.SPLICE_READ:
            count, way = c_integer(call.arg), call.cmd % len(SPLICE)
            if way == _SENDFILE:
                return FileCall([f"sendfile_from({file}, {count});"], ("sendfile_from",))
            empty = [] if way == _KEEP else ["empty_pipe();"]
            return FileCall([f"splice_from({file}, {count});", *empty], ("splice_from",))
        case _:
            return _splice_write(call, file)


def created_file(call: Call) -> tuple[str, FileCall]:
    """Return the expression that creates a file, and what it needs."""
    match _CREATED[call.cmd % len(CREATED)]:
        case "EVENTFD":
            return "eventfd(0, EFD_NONBLOCK)", FileCall([], includes=("sys/eventfd.h",))
        case "TIMERFD":
            made = "timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK)"
            return made, FileCall([], includes=("sys/timerfd.h", "time.h"))
        case "NULL_DEVICE":
            return 'open("/dev/null", O_RDWR)', FileCall([])
        case name:
            helper = f"make_{name.lower()}"
            return f"{helper}()", FileCall([], (helper,))


def _room(call: Call) -> int:
    return max(0, min(call.arg, ROOM) - call.cut)


def _fcntl(call: Call, file: str) -> FileCall:
    command, value = _FCNTL[call.arg % len(FCNTL)], call.cmd
    start, kind = f"fcntl({file}, {command}", value % (1 << LOCK_START)
    lock_type = _LOCK_TYPES.get(kind, str(kind))
    match command:
        case "F_GETFL":
            return FileCall([f"{start});"])
        case "F_SETFL":
            return FileCall([f"{start}, {flag_names(value)});"])
        case "F_SETOWN":
            lines = ["signal(SIGIO, SIG_IGN);", f"{start}, getpid());"]
            return FileCall(lines, includes=("signal.h", "unistd.h"))
        case "F_SETSIG":
            return FileCall([f"{start}, {'SIGURG' if value else '0'});"], includes=("signal.h",))
        case "F_SETLEASE":
            return FileCall([f"{start}, {lock_type});"])
    members = [f".l_type = {lock_type}"]
    if begins := value % (1 << LOCK_LENGTH) >> LOCK_START:
        members.append(f".l_start = {begins}")
    if length := value >> LOCK_LENGTH:
        members.append(f".l_len = {length}")
    return FileCall([f"{start}, &(struct flock){{ {', '.join(members)} }});"])


def _splice_write(call: Call, file: str) -> FileCall:
    way = call.cmd % len(SPLICE)
    helper = "sendfile_to" if way == _SENDFILE else "splice_to"
    data = c_string(call.data)
    end = f", {len(call.data)});"
    lines = [f"{helper}({file}, {data[0]}{end}"]
    if len(data) > 1:
        middle = [f"\t{each}" for each in data[:-1]]
        lines = [f"{helper}({file},", *middle, f"\t{data[-1]}{end}"]
    if way not in (_KEEP, _SENDFILE):
        lines.append("empty_pipe();")
    return FileCall(lines, (helper,))
