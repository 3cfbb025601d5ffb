# SPDX-License-Identifier: Apache-2.0
r"""Programs as readable text, one call a line, without loss.

::

    # comments and blank lines are allowed
    write(f0, "a=1\n")
    read(f0, 64)                      count
    pread(f0, 64, 128)                count, offset; above 32 bits with a count of 32 at most
    pwrite(f0, "a=1\n", 8)            bytes, offset
    open(f1, O_RDONLY|O_NONBLOCK)     O_RDWR when left out
    open(f1, "/proc/pkv", O_RDONLY)   another of the description's devices
    close(f1)
    dup(f1, f0)                       f1 becomes a dup of f0
    lseek(f0, -1, SEEK_END)
    poll(f0, 0x5)                     events
    mmap(f0, 4096, 0)                 bytes, page offset: mapped, touched and unmapped
    map(f0, 8192, 0)                  the same, untouched: f0's mapping, which stays
    unmap(f0, 4096, 1)                of it, bytes and first page
    map(f0, 8192, 0, PROT_READ)       with another protection, or MAP_PRIVATE
    store(f0, 7, 0)                   read 8 bytes and write 7, at the start of its page 0
    store(f0, 0, 0) readonly          read them only
    remap(f0, 8192, 1)                page 1 and those behind become 8192 bytes, in place
    remap(f0, 8192, 0, REMAP_MOVE)    or elsewhere
    protect(f0, 4096, 1, PROT_READ)   bytes and first page; PROT_WRITE, PROT_EXEC, PROT_NONE
    advise(f0, 4096, 1, MADV_DONTNEED)  and others of madvise()
    fork()                            a process with all of these, which ends at once
    epoll(f0, EPOLL_ADD, 0x1)         events; EPOLL_MODIFY, EPOLL_DELETE, EPOLL_WAIT
    fcntl(f0, F_SETFL, O_ASYNC)       F_GETFL, F_SETOWN (the program), F_SETSIG (0: SIGIO)
    fcntl(f0, F_SETLK, F_WRLCK)       F_GETLK, F_OFD_SETLK, F_SETLEASE; start << 2, length << 16
    flock(f0, LOCK_EX)                LOCK_SH, LOCK_UN; never waits
    fsync(f0, 0)                      1: fdatasync
    getdents(f0, 4096)                bytes
    fdinfo(f0)                        what /proc/self/fdinfo has of it is read
    splice_read(f0, 64, SPLICE)       bytes, into the program's pipe, which is read then;
    splice_write(f0, "a", SPLICE)     SPLICE_KEEP: the pipe keeps what is in it; SENDFILE
    create(f1, EVENTFD)               f1 becomes a file of this kind: PIPE, MEMFD, TIMERFD, ...
    child()                           the calls up to exit() are made by another process, which
    exit()                            ends with its files open before the program goes on
    uring_close()                     of the program's ring, with the requests in flight
    flip(8, 80)                       while the next call runs, the 4 bytes at 8 of its buffer
    flip(8:2, 80)                     become 80 and back, again and again; 2 bytes; 1, 8
    ioctl(f0, PKV_IOC_CLEAR)          the value 0
    ioctl(f0, PKV_IOC_CLEAR, 7)       a value
    ioctl(f0, PKV_IOC_DELETE, {key_len: 1, key: "a"})
    ioctl(f0, PKV_IOC_LIST, {buf: &[64], room: 1})
    ioctl(f0, X_SUBMIT, {count: 2, segs: &[seg {len: 8, data: &[8]}, seg {}]})
    write(f0, pkv_entry {size: 8, buf: &[8]})
    write(f0, [pkv_entry {size: 8}, pkv_entry {}])      one after the other
    ioctl(f0, HND_MAKE, {id: ->h0})   the handle h0 is what is there after the call
    ioctl(f0, HND_USE, {id: h0})      and here it is put in; 0 if no call has given it
    ioctl(f0, HND_FREE, next(h0))     a number beside it; last(h0)
    ioctl(f0, X_DRAW, {kind: 1, u.line.x: 3, flags: [{on: 1}, {}], ids: [7, 8]})
    h1 = ioctl(f0, HND_EXPORT)        h1 is what the call returned
    adopt(f1, h1)                     f1 becomes the descriptor that a call handed out
    ioctl(f0, HND_IMPORT, {fd: f1})   the descriptor of a file
    ioctl(f0, 0x4008b001, "\x00\x00\x00\x00\x00\x00\x00\x00raw") @0->8
    sleep(100)                        milliseconds, at most 2000
    unload()                          the target's module; its files must be closed
    load("ttl_ms=50")                 it again, with these parameters
    write(f0, "a=1\n") fail=3         its third allocation or user copy fails
    read(f0, 64) cut=4                the last 4 bytes of its buffer are not mapped
    read(f0, 64) null                 its buffer's address is NULL
    read(f0, 64) readonly             its buffer can be read only
    write(f0, "a=1\n") split=2        writev, in parts of 2 bytes; 0 is one part
    write(f0, "...") count=8 @0->8    of these bytes 8 are written; the rest is pointed to
    ioctl(f0, PKV_IOC_CLEAR) compat   as a 32-bit program makes it
    read(f0, 64) in=f1                its buffer is the start of f1's mapping
    write(f0, "\x00\x00") in=f1       with what is there; other bytes are stored there before
    write(f0, "...") points=f1 @0->8  the address at 0 is 8 bytes behind the start of f1's mapping
    read(f0, 64) uring                a request of io_uring in the program's ring
    poll(f0, 0x1) uring=LEAVE         it is not waited for; ASYNC: a thread of the kernel makes it
    ioctl(f0, X_RUN, {id: 1}) uring   a command of the file's own: IORING_OP_URING_CMD
    read(f0, 64) waits                it was seen to wait while the next calls were made
    [1] read(f0, 64)                  these two threads start together,
    [2] close(f0)                     and the next call waits for both
    [1] wait(1600)                    thread 1 goes on 1600 ticks after their start

A struct's members that are left out are zero; ``&[64]`` is the address of 64
zero bytes, ``&"..."`` of these bytes. What structs that are written point to is
not written. ``&seg {...}`` is the address of a struct, ``&[seg {...}, ...]`` of several
one after the other. A bit-field is a member by its name, members of a union are
``union.member``, or as the struct's own if it has no name; an array of structs or numbers is
``[{...}, ...]`` or ``[1, 2]``, where zeros at the end are left out if it has a fixed size.
``@at->to`` is a fixup, ``@at->to:4`` one of 4 bytes, ``@at=h0`` one that takes 4 bytes,
``@at=h0:8`` 8, ``@arg=h0`` the argument; ``h0=@at``, ``h0=@at:8`` and ``h0=ret`` give. A run of
calls with threads, 1 to 3, is made in parallel, those of one thread in order. Waits in it
are its schedule; on an exact machine a tick is one instruction of the others.

What follows a call may be in any order. ``fail=`` and ``cut=`` go with every
call, ``null`` and ``readonly`` with a read, write, pread, pwrite or an ioctl
that has a buffer, ``split=`` with a read or write, ``count=`` with a
write or pwrite, ``compat`` with an ioctl. ``in=`` goes with all that have a buffer, but
neither with ``null`` nor with ``compat``; ``cut=`` and ``readonly`` say nothing then.
``points=`` goes with all that may have addresses, and is of those of 8 bytes.
``uring`` goes with a read, write, pread, pwrite, poll or ioctl, and then of the others only
``count=``, ``fail=``, fixups and handles say something. A request that is not complete soon
fails with EINPROGRESS; a command has the first 80 bytes of the payload, or the value.
``waits`` goes with all of these, open and close; a call waits or not whatever it says,
but the program in C needs it. A split buffer has 16 parts at most, of which the last
takes the rest. ``null``
goes neither with ``readonly`` nor with ``cut=``. Without a target, a device has a
number, ``!arg=1`` for the second one. What a call carries beyond all
that follows as ``!flags=``, ``!cmd=``, ``!arg=``, ``!mode=``, ``!data=`` or, where no file
is shown, ``!file=``.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from fuzzer.errors import BadInputError
from fuzzer.program.flips import FLIP_SIZES, flip_cmd, flip_place
from fuzzer.program.links import CALL, Link, LinkKind, link_of
from fuzzer.program.ops import (
    FLAG_COUNT,
    FLAG_VALUE,
    FLAG_WIDE,
    MAP_PRIVATE,
    MAP_TURNED,
    MAPPING,
    OPERATIONS,
    OPTIONAL_MODES,
    REMAP_MOVE,
    Number,
    Op,
    Operation,
    Payload,
)
from fuzzer.program.payload import (
    Elements,
    Structs,
    Value,
    is_number,
    unpack_records,
    unpack_struct,
)
from fuzzer.program.program import (
    HALF,
    N_FILES,
    Call,
    Program,
    at_position,
    count,
    position,
)
from fuzzer.program.suffixes import format_suffixes, show_taken
from fuzzer.program.syntax import (
    ACCESS,
    ADVICE,
    CREATED,
    EPOLL,
    FCNTL,
    FLOCK,
    LOCK_TYPES,
    OPEN_FLAGS,
    PROTECTION,
    SPLICE,
    WHENCE,
    TextError,
    quote,
    show_integer,
)
from fuzzer.program.text_parser import (
    LineParser,
    parse_program,
    record_layouts,
    struct_layouts,
)
from fuzzer.program.wire import decode
from fuzzer.target.calls import IoctlSpec
from fuzzer.target.layout import StructLayout
from fuzzer.target.target import Target
from fuzzer.untrusted import read_bytes

__all__ = ["format_program", "load_program", "parse_program", "reset_program"]

_TEXT = re.compile(rb"[\t\n\r\x20-\x7e]*")
_NAMED = {
    kind: {number: name for name, number in numbers.items()}
    for kind, numbers in {
        Number.WHENCE: WHENCE,
        Number.CONTROL: EPOLL,
        Number.FCNTL: FCNTL,
        Number.LOCKING: FLOCK,
        Number.SPLICING: SPLICE,
        Number.KIND: CREATED,
        Number.ADVICE: ADVICE,
    }.items()
}
_LOCK_NAMES = {number: name for name, number in LOCK_TYPES.items()}
_TAKES_LOCK = frozenset(FCNTL[name] for name in ("F_GETLK", "F_SETLK", "F_OFD_SETLK", "F_SETLEASE"))
_ACCESS_NAMES = {number: name for name, number in ACCESS.items()}


def format_program(program: Program, target: Target | None) -> str:
    """Return a program as text, one line for each call."""
    names: dict[int, str] = {}
    for spec in target.calls if target else ():
        if isinstance(spec, IoctlSpec) and spec.name is not None:
            names.setdefault(spec.number, spec.name)
    layouts, records = struct_layouts(target), record_layouts(target)
    devices = [device.path for device in target.devices] if target else []
    return "".join(
        [_format_call(call, names, layouts, records, devices) + "\n" for call in program]
    )


def load_program(path: Path, target: Target | None) -> Program:
    """Read a program: text from a ``.prog`` file, the wire form from any other.

    Raises BadInputError when the file cannot be read or its text is wrong.
    """
    try:
        data = read_bytes(path)
    except OSError as error:
        raise BadInputError(f"{path}: cannot read it: {error.strerror}") from None
    if path.suffix != ".prog":
        return decode(data)
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise BadInputError(f"{path}:{line}: not UTF-8: {error.reason}") from None
    return parse_program(text, target, str(path))


def reset_program(target: Target) -> Program:
    """Return the calls that reset the target, none if it is not reset by calls.

    Raises BadInputError with the place in the target's description.
    """
    parser = LineParser(target)
    calls: list[Call] = []
    for text, number in zip(target.reset.lines, target.reset.line_numbers, strict=True):
        try:
            call = parser.call(text)
        except TextError as error:
            raise BadInputError(f"{target.path}:{number}: reset call: {error}") from None
        if call is not None:
            calls.append(call)
    return tuple(calls)


def _format_call(
    call: Call,
    names: Mapping[int, str],
    layouts: Mapping[int, StructLayout],
    records: Mapping[Op, Sequence[StructLayout]],
    devices: Sequence[str],
) -> str:
    """Return the line of a call; fields that its arguments do not show go into suffixes."""
    operation = OPERATIONS[call.op]
    file = call.file if operation.uses_file else 0
    told = Call(call.op, file)
    given, call = _given(call)
    match call.op:
        case Op.OPEN:
            told, arguments = _open(call, told, devices)
        case Op.PREAD:
            place = position(call)
            at = at_position(call, place)
            told = replace(told, flags=at.flags & FLAG_WIDE, arg=at.arg, cmd=at.cmd)
            arguments = [show_integer(count(at)), _offset(place)]
        case Op.WRITE | Op.PWRITE:
            told, arguments = _write(call, told, records)
        case Op.IOCTL:
            told, arguments = _ioctl(call, told, names, layouts)
        case Op.FLIP:
            told, arguments = _flip(call, told)
        case Op.FCNTL:
            told, arguments = _fcntl(call, told)
        case _:
            told, arguments = _plain(call, told, operation)
    if operation.uses_file:
        arguments = [f"f{file}", *arguments]
    thread = f"[{call.thread}] " if call.thread else ""
    suffixes = format_suffixes(call, told)
    return f"{thread}{given}{operation.name}({', '.join(arguments)}){suffixes}"


def _given(call: Call) -> tuple[str, Call]:
    """Return the text of the handle that a call's result gives, and the call without it."""
    link = link_of(call.fixups[-1]) if call.fixups else None
    if link is None or link.kind is not LinkKind.GIVE or link.at != CALL:
        return "", call
    if link.fixup() != call.fixups[-1]:
        return "", call
    return f"h{link.number} = ", replace(call, fixups=call.fixups[:-1])


def _taken(call: Call, number: int) -> str:
    """Return the text of the handle that a call's argument takes, empty if it is a ``number``."""
    link = link_of(call.fixups[0]) if call.fixups and not number else None
    if link is None or link.kind is LinkKind.GIVE or link.at != CALL:
        return ""
    return show_taken(link) if link.fixup() == call.fixups[0] else ""


def _plain(call: Call, told: Call, operation: Operation) -> tuple[Call, list[str]]:
    """Return the call as its arguments show it, and the arguments: its numbers and payload."""
    arguments: list[str] = []
    if operation.arg is not Number.NONE:
        taken = "" if call.op in MAPPING else _taken(call, call.arg)
        told = replace(told, arg=call.arg, fixups=call.fixups[:1] if taken else ())
        arguments.append(taken or _number(operation.arg, call.arg))
    if operation.payload is not Payload.NONE:
        told = replace(told, data=call.data)
        arguments.append(quote(call.data))
    if operation.cmd is not Number.NONE:
        cmd = call.cmd % N_FILES if operation.cmd is Number.FILE else call.cmd
        taken = _taken(call, cmd) if call.op in MAPPING else ""
        told = replace(told, cmd=cmd, fixups=call.fixups[:1] if taken else told.fixups)
        arguments.append(taken or _number(operation.cmd, cmd))
    if operation.mode is not Number.NONE:
        told = replace(told, mode=call.mode)
        if call.mode or operation.mode not in OPTIONAL_MODES:
            arguments.append(_mode(operation.mode, call.mode))
    return told, arguments


def _mode(kind: Number, value: int) -> str:
    match kind:
        case Number.ADVICE:
            return _number(kind, value)
        case Number.MOVED:
            return "REMAP_MOVE" if value == REMAP_MOVE else show_integer(value)
    bits = dict(PROTECTION)
    if kind is Number.MAPPED:
        value ^= MAP_TURNED
        bits["MAP_PRIVATE"] = MAP_PRIVATE
    names = [name for name, bit in bits.items() if value & bit]
    rest = value & ~sum(bits.values())
    return "|".join([*names, *([f"{rest:#x}"] if rest else [])]) or "PROT_NONE"


def _number(kind: Number, value: int) -> str:
    match kind:
        case Number.FILE:
            return f"f{value}"
        case Number.OFFSET:
            return str(_signed(value))
        case Number.EVENTS:
            return f"{value:#x}"
        case Number.TICKS:
            return str(value)
        case _:
            return _NAMED.get(kind, {}).get(value) or show_integer(value)


def _fcntl(call: Call, told: Call) -> tuple[Call, list[str]]:
    told = replace(told, cmd=call.cmd, arg=call.arg)
    shown = show_integer(call.cmd)
    if call.arg == FCNTL["F_SETFL"]:
        shown = _flag_names(call.cmd)
    elif call.arg in _TAKES_LOCK and call.cmd & 3 in _LOCK_NAMES:
        rest = f"|{call.cmd & ~3:#x}" if call.cmd & ~3 else ""
        shown = _LOCK_NAMES[call.cmd & 3] + rest
    return told, [_number(Number.FCNTL, call.arg), shown]


def _flip(call: Call, told: Call) -> tuple[Call, list[str]]:
    at, size = flip_place(call.cmd)
    width = "" if size == FLIP_SIZES[0] else f":{size}"
    told = replace(told, cmd=flip_cmd(at, size), arg=call.arg)
    return told, [f"{at}{width}", show_integer(call.arg)]


def _open(call: Call, told: Call, devices: Sequence[str]) -> tuple[Call, list[str]]:
    arguments: list[str] = []
    if 0 < call.arg < len(devices):
        told = replace(told, arg=call.arg)
        arguments.append(quote(devices[call.arg].encode()))
    if call.cmd != ACCESS["O_RDWR"]:
        arguments.append(_open_flags(call.cmd))
    return replace(told, cmd=call.cmd), arguments


def _write(
    call: Call, told: Call, layouts: Mapping[Op, Sequence[StructLayout]]
) -> tuple[Call, list[str]]:
    flags = arg = 0
    place: list[str] = []
    if OPERATIONS[call.op].cmd is Number.POSITION:
        told = replace(told, cmd=call.cmd)
        place = [_offset(position(call))]
        if position(call) > HALF:
            flags, arg = FLAG_WIDE, call.arg & ~HALF
    shown = _records(call, layouts)
    if shown:
        told = replace(told, fixups=call.fixups)
        if call.flags & FLAG_COUNT:
            flags, arg = flags | FLAG_COUNT, arg | call.arg & HALF
    told = replace(told, flags=flags, arg=arg, data=call.data)
    return told, [shown or quote(call.data), *place]


def _ioctl(
    call: Call, told: Call, names: Mapping[int, str], layouts: Mapping[int, StructLayout]
) -> tuple[Call, list[str]]:
    told = replace(told, cmd=call.cmd)
    arguments = [names.get(call.cmd, f"{call.cmd:#x}")]
    if call.flags & FLAG_VALUE:
        taken = _taken(call, call.arg)
        fixups = call.fixups[:1] if taken else ()
        told = replace(told, flags=FLAG_VALUE, arg=call.arg, fixups=fixups)
        value = taken or (show_integer(call.arg) if call.arg else "")
        return told, [*arguments, *([value] if value else [])]
    told = replace(told, data=call.data)
    layout = layouts.get(call.cmd)
    # Fixups of the buffer come before those of the call itself.
    fixups = tuple(itertools.takewhile(lambda fixup: fixup.at != CALL, call.fixups))
    values = unpack_struct(layout, call.data, fixups) if layout else None
    if values is None:
        return told, [*arguments, quote(call.data)]
    return replace(told, fixups=fixups), [*arguments, _struct(values)]


def _records(call: Call, layouts: Mapping[Op, Sequence[StructLayout]]) -> str:
    """Return the text of the structs that a call writes, empty if it writes bytes or text."""
    counted = bool(call.flags & FLAG_COUNT)
    written = call.arg & HALF if counted else len(call.data)
    if counted != (written < len(call.data)) or _TEXT.fullmatch(call.data):
        return ""
    for layout in layouts.get(call.op, ()):
        records = unpack_records(layout, call.data, call.fixups, written)
        if records:
            shown = [f"{layout.name} {_struct(values)}" for values in records]
            return shown[0] if len(shown) == 1 else f"[{', '.join(shown)}]"
    return ""


def _signed(offset: int) -> int:
    return offset - (1 << 64) if offset >> 63 else offset


def _offset(offset: int) -> str:
    return show_integer(_signed(offset))


def _open_flags(flags: int) -> str:
    access = _ACCESS_NAMES.get(flags & 3, "0x3")
    return f"{access}|{_flag_names(flags & ~3)}" if flags & ~3 else access


def _flag_names(flags: int) -> str:
    names = [name for name, bit in OPEN_FLAGS.items() if flags & bit]
    rest = flags & ~sum(OPEN_FLAGS.values())
    return "|".join([*names, f"{rest:#x}"] if rest else names) or "0"


def _struct(values: Mapping[str, Value]) -> str:
    if [*values] == [""]:
        return _shown(values[""])
    return "{" + ", ".join([f"{name}: {_shown(value)}" for name, value in values.items()]) + "}"


def _shown(value: Value) -> str:
    if isinstance(value, bytes):
        return quote(value)
    if isinstance(value, int):
        return show_integer(value)
    if isinstance(value, Link):
        return f"->h{value.number}" if value.kind is LinkKind.GIVE else show_taken(value)
    if isinstance(value, Structs):
        shown = [f"{value.layout.name} {_struct(values)}" for values in value.each]
        return f"&{shown[0]}" if len(shown) == 1 else f"&[{', '.join(shown)}]"
    if isinstance(value, Elements):
        zero = "0" if is_number(value.layout) else "{}"
        return f"[{', '.join([_struct(each) if each else zero for each in value.each])}]"
    if any(value.data):
        return "&" + quote(value.data)
    return f"&[{len(value.data)}]"
