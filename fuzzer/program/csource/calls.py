# SPDX-License-Identifier: Apache-2.0
"""Single calls in C, each as vm/executor/call.c makes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from fuzzer.program.csource.file_calls import FILE_CALLS, FileCall, created_file, file_call
from fuzzer.program.csource.literals import (
    c_integer,
    c_string,
    open_flags,
    poll_events,
    whence,
)
from fuzzer.program.csource.mappings import (
    ON_MAPPING,
    PAGE,
    map_statement,
    mapping_statement,
    populating,
)
from fuzzer.program.csource.memory import (
    ROOM,
    Memory,
    bytes_memory,
    is_special,
    mapped_size,
    mapping_memory,
    placed,
    struct_memory,
    taken,
)
from fuzzer.program.csource.uring_helpers import request_arguments
from fuzzer.program.flips import flip_place
from fuzzer.program.links import CALL, LinkKind, links, of_call
from fuzzer.program.ops import (
    FLAG_COMPAT,
    FLAG_NULL,
    FLAG_READONLY,
    FLAG_VALUE,
    FLAG_VECTOR,
    OPERATIONS,
    REQUEST_FLAGS,
    Op,
)
from fuzzer.program.program import (
    MAX_PARTS,
    N_FILES,
    Call,
    count,
    is_request_call,
    mapping_of,
    position,
)
from fuzzer.target.device import Device
from fuzzer.target.layout import StructLayout

_GIVING = frozenset({Op.IOCTL, Op.READ, Op.PREAD, Op.WRITE, Op.PWRITE, Op.LSEEK})
_EPOLL = ("EPOLL_CTL_ADD", "EPOLL_CTL_MOD", "EPOLL_CTL_DEL", "0")
_MAX_SLEEP = 2000
# The most bytes that a request says.
_MOST_REQUESTED = 0xFFFFFFFF
# How members of a struct are written, by the address of its first byte.
_ACCESS = {"(char *)&arg": "arg.", "(char *)arg": "arg->"}
MAX_PAGES = 16
"""The most pages of a mapping."""


@dataclass(frozen=True, slots=True)
class Printed:
    """The output about a call: ``ranges`` of bytes that it was handed, else its result."""

    call: int
    ranges: tuple[range, ...] = ()


@dataclass(slots=True)
class SourceNeeds:
    """Needs of the calls written so far.

    They are helpers, headers, files, handles, devices by number, bytes of ``buffer``.
    """

    helpers: set[str] = field(default_factory=set)
    includes: set[str] = field(default_factory=set)
    files: set[int] = field(default_factory=set)
    handles: set[int] = field(default_factory=set)
    devices: set[int] = field(default_factory=set)
    buffer: int = 0

    def take(self, memory: Memory) -> None:
        """Add the needs of a buffer."""
        self.helpers |= set(memory.needs)
        self.includes |= set(memory.includes)

    def take_call(self, made: FileCall) -> None:
        """Add the needs of a call."""
        self.helpers |= set(made.helpers)
        self.includes |= set(made.includes)
        self.buffer = max(self.buffer, made.buffer)


class CallWriter:
    """Writes calls with the names of a target's ioctls and structs.

    ``open_files`` are those that may be open where the next call stands, each with
    the number of its device; ``mapped`` are those that may have a mapping. ``flips`` are those
    of the next call, by the thread.
    """

    def __init__(
        self,
        names: Mapping[int, str],
        layouts: Mapping[int, StructLayout],
        devices: Sequence[Device],
    ) -> None:
        self._names = names
        self._layouts = layouts
        self._devices = devices
        self._makes_nodes = any(device.major is not None for device in devices)
        self.needs = SourceNeeds()
        self.open_files: dict[int, int] = {}
        self.mapped: set[int] = set()
        self.flips: dict[int, Call] = {}
        self._names_memory = False

    @property
    def uses_ring(self) -> bool:
        """True if a call so far is about the program's ring."""
        return not {"ring_request", "ring_command", "close_ring"}.isdisjoint(self.needs.helpers)

    def first_file(self) -> list[str]:
        """Return the lines that open file 0 before the first call, in place of any other."""
        self.needs.files.add(0)
        self.needs.devices.add(0)
        known = 0 in self.open_files
        self.open_files[0] = 0
        opened = "open(DEVICE, O_RDWR)"
        if self._devices[0].path.startswith("/sys/"):
            self.needs.helpers.add("open_either")
            opened = "open_either(DEVICE)"
        return [*(["close(f0);"] if known else []), f"f0 = {opened};"]

    def lines(self, call: Call, printed: Printed | None = None) -> list[str]:
        """Return a call's lines, without indentation, with those that print what it did."""
        self._names_memory = printed is not None and bool(printed.ranges)
        needs = self.needs
        needs.includes |= set(OPERATIONS[call.op].headers)
        if call.op is Op.FLIP:
            self.flips[call.thread] = call
            return []
        flip = self.flips.pop(call.thread, None)
        statement, memory = self._statement(call, named=flip is not None or self._names_memory)
        if not statement:
            return []
        if memory:
            needs.take(memory)
        for link in links(call.fixups):
            (needs.files if link.is_file else needs.handles).add(link.number)
        if printed:
            statement = self._printing(printed, statement, memory)
        else:
            statement = self._giving(call, statement, memory)
        before: list[str] = []
        after: list[str] = []
        if flip and memory and (place := self._flipped(call, flip, memory)):
            needs.helpers.add("flip")
            before, after = [f"flip({place}, {c_integer(flip.arg)});"], ["end_flip();"]
        if call.fault:
            needs.helpers.add("fail_nth")
            before, after = [*before, f"fail_nth({call.fault});"], ["fail_nth(0);", *after]
        if call.op is Op.MMAP:
            after = []  # This statement closes the file itself.
        if call.op is Op.STORE and call.fault:
            statement, after = [*populating(call), *after, *statement], []
        if call.op is Op.LOAD:
            if call.fault:
                needs.helpers.add("shift")
                before = [f"fail_nth({call.fault} + shift);"]
            nodes = ["make_nodes();"] if self._makes_nodes else []
            after = [*after, *nodes, "await_device();"]
        setup = memory.setup if memory else []
        before = [*(memory.before if memory else []), *before]
        cleanup = memory.cleanup if memory else []
        if not setup:
            return [*before, *statement, *after]
        # A blank line follows the declarations, if there is none yet.
        gap = [] if "" in setup else [""]
        inside = [*setup, *gap, *before, *statement, *after, *cleanup]
        return ["{", *(f"\t{line}" if line else "" for line in inside), "}"]

    def _printing(self, printed: Printed, statement: list[str], memory: Memory | None) -> list[str]:
        """Return the statement that makes a call, with what prints bytes or else its result."""
        if not printed.ranges:
            self.needs.includes.add("stdio.h")
            start, end = f'printf("it returned %ld\\n", (long){statement[0]}', statement[1:]
            lines = [start, *end]
            lines[-1] = f"{lines[-1][:-1]});"
            return lines
        if memory is None or not memory.base:
            return statement
        self.needs.helpers.add("show")
        shown = (f"show({memory.base}, {each.start}, {each.stop - 1});" for each in printed.ranges)
        return [*statement, *shown]

    def _giving(self, call: Call, statement: list[str], memory: Memory | None) -> list[str]:
        """Return a call's statement with assignments to the handles that it gives."""
        given = [link for link in links(call.fixups) if link.kind is LinkKind.GIVE]
        if call.op not in _GIVING or not given:
            return statement
        needs = self.needs.helpers
        lines: list[str] = []
        for link in given:
            if link.at == CALL:
                needs.add("give")
                statement = [f"give(&h{link.number}, {statement[0]}", *statement[1:]]
                statement[-1] = f"{statement[-1][:-1]});"
            elif memory and memory.base and link.at + link.size <= _output_size(call):
                value = memory.members.get(link.at)
                if value is None:
                    needs.add("number_at")
                    value = f"number_at({memory.base} + {link.at}, {link.size})"
                lines.append(f"h{link.number} = {value};")
        if not lines:
            return statement
        condition = [f"if ({statement[0]}", *statement[1:]]
        condition[-1] = f"{condition[-1][:-1]} != -1)"
        if len(lines) > 1:
            condition[-1] += " {"
        return [*condition, *(f"\t{line}" for line in lines), *(["}"] if len(lines) > 1 else [])]

    def _flipped(self, call: Call, flip: Call, memory: Memory) -> str:
        """Return the address and the size of what a flip changes; empty if that is not there.

        What the kernel is not to write to, nobody here can.
        """
        at, size = flip_place(flip.cmd)
        end = mapped_size(call, len(call.data))
        if not memory.base or at + size > end or call.flags & FLAG_READONLY:
            return ""
        layout = self._layouts.get(call.cmd) if call.op is Op.IOCTL else None
        access = _ACCESS.get(memory.base)
        for member in layout.members if layout and access else ():
            if (member.offset, member.size, member.count) == (at, size, 1):
                return f"&{access}{member.name}, sizeof({access}{member.name})"
        return f"{memory.base} + {at}, {size}" if at else f"{memory.base}, {size}"

    def _argument(self, call: Call, number: str) -> str:
        """Return the argument of a call: the handle that it takes, or ``number``."""
        found = [link for link in links(of_call(call.fixups)) if link.kind is not LinkKind.GIVE]
        return taken(found[-1]) if found else number

    def _map(self, call: Call) -> list[str]:
        self.needs.helpers.add("map")
        self.mapped.add(call.file)
        return [map_statement(call, self._file(call.file), self._offset_of(call))]

    def _on_mapping(self, call: Call) -> list[str]:
        statement, helper = mapping_statement(call)
        self.needs.helpers.add(helper)
        return [statement]

    def _lying(self, call: Call, file: int, data: bytes = b"") -> Memory:
        """Return a buffer in the mapping of a file."""
        layout = self._layouts.get(call.cmd) if call.op is Op.IOCTL else None
        return mapping_memory(call, file, data, layout)

    def _offset_of(self, call: Call) -> str:
        """Return the offset of a mapping, in bytes."""
        number = c_integer(call.cmd * PAGE)
        taken = self._argument(call, number)
        return number if taken == number else f"({taken}) / {PAGE} * {PAGE}"

    def _adopt(self, call: Call) -> list[str]:
        file = self._file(call.file)
        self.needs.helpers.add("adopt")
        self.open_files[call.file] = -1
        return [f"adopt(&{file}, {self._argument(call, c_integer(call.arg))});"]

    def _create(self, call: Call) -> list[str]:
        file = self._file(call.file)
        expression, made = created_file(call)
        self.needs.take_call(made)
        known = call.file in self.open_files
        self.open_files[call.file] = -1
        if call.thread or known:
            self.needs.helpers.add("replace")
            return [f"replace(&{file}, {expression});"]
        return [f"{file} = {expression};"]

    def _file(self, number: int) -> str:
        self.needs.files.add(number)
        return f"f{number}"

    def _statement(self, call: Call, *, named: bool = False) -> tuple[list[str], Memory | None]:
        """Return the statement that makes a call, and its buffer if it has one.

        With ``named``, what is written and an ioctl's argument have a name.
        """
        if is_request_call(call):
            return self._request(call, named=named)
        match call.op:
            case Op.OPEN:
                return self._open(call), None
            case Op.CLOSE:
                return self._close(call), None
            case Op.DUP:
                return self._dup(call), None
            case Op.READ | Op.PREAD:
                return self._read(call)
            case Op.WRITE | Op.PWRITE:
                return self._write(call, named=named)
            case Op.IOCTL:
                return self._ioctl(call, named=named)
            case Op.LSEEK:
                file, signed = self._file(call.file), _signed(call.arg)
                offset = self._argument(call, c_integer(signed))
                return [f"lseek({file}, {offset}, {whence(call.cmd)});"], None
            case Op.POLL:
                events = poll_events(call.cmd)
                pollfd = f"&(struct pollfd){{ .fd = {self._file(call.file)}, .events = {events} }}"
                return [f"poll({pollfd}, 1, 0);"], None
            case Op.MMAP:
                touch = "touch_failing" if call.fault else "touch"
                self.needs.helpers.add(touch)
                pages = min(-(-call.arg // PAGE), MAX_PAGES)
                offset = self._offset_of(call)
                return [f"{touch}({self._file(call.file)}, {pages}, {offset});"], None
            case Op.MAP:
                return self._map(call), None
            case op if op in ON_MAPPING:
                return self._on_mapping(call), None
            case Op.FORK:
                self.needs.helpers.add("fork_once")
                return ["fork_once();"], None
            case Op.EPOLL:
                self.needs.helpers.add("control_epoll")
                control = _EPOLL[call.arg % len(_EPOLL)]
                events = poll_events(call.cmd).replace("POLL", "EPOLL")
                return [f"control_epoll({self._file(call.file)}, {control}, {events});"], None
            case Op.SLEEP:
                return [f"usleep({min(call.arg, _MAX_SLEEP)} * 1000);"], None
            case Op.UNLOAD:
                self.needs.helpers.add("unload")
                return ["unload();"], None
            case Op.LOAD:
                self.needs.helpers.add("load")
                literal = c_string(call.data.split(b"\0")[0])
                return _arguments("load(", "", literal, ");"), None
            case Op.ADOPT:
                return self._adopt(call), None
            case Op.CREATE:
                return self._create(call), None
            case op if op in FILE_CALLS:
                made = file_call(call, self._file(call.file))
                self.needs.take_call(made)
                return made.lines, None
            case Op.URING_CLOSE:
                self.needs.helpers.add("close_ring")
                return ["close_ring();"], None
            case Op.WAIT if call.thread:
                self.needs.helpers.add("hold")
                return [f"hold({call.arg});"], None
            case _:
                return [], None

    def _open(self, call: Call) -> list[str]:
        file = self._file(call.file)
        number = call.arg % len(self._devices)
        self.needs.devices.add(number)
        path = c_string(self._devices[number].path.encode(), width=None)[0] if number else "DEVICE"
        opened = f"open({path}, {open_flags(call.cmd)})"
        known = call.file in self.open_files
        self.open_files[call.file] = number
        if call.thread:
            self.needs.helpers |= {"take", "replace"}
            return [f"close(take(&{file}));", f"replace(&{file}, {opened});"]
        return [*([f"close({file});"] if known else []), f"{file} = {opened};"]

    def _close(self, call: Call) -> list[str]:
        file = self._file(call.file)
        if call.thread:
            self.needs.helpers.add("take")
            return [f"close(take(&{file}));"]
        self.open_files.pop(call.file, None)
        return [f"close({file});", f"{file} = -1;"]

    def _dup(self, call: Call) -> list[str]:
        file, source = self._file(call.file), self._file(call.cmd % N_FILES)
        known = call.file in self.open_files
        self.open_files[call.file] = self.open_files.get(call.cmd % N_FILES, 0)
        if call.thread or known:
            self.needs.helpers.add("replace")
            return [f"replace(&{file}, dup({source}));"]
        return [f"{file} = dup({source});"]

    def _read(self, call: Call) -> tuple[list[str], Memory | None]:
        file = self._file(call.file)
        vector = call.op is Op.READ and call.flags & FLAG_VECTOR
        asked = count(call)
        size = mapped_size(call, asked)
        if call.flags & FLAG_NULL:
            memory = Memory(["null"], needs=("null",))
            size = 0
        elif (mapping := mapping_of(call)) is not None:
            memory = self._lying(call, mapping)
        elif call.cut or call.flags & FLAG_READONLY or asked > ROOM:
            memory = placed(call, size, [], "char *data")
            if not (vector or memory.cleanup or call.fixups or self._names_memory):
                memory = Memory([f"before_gap({size})"], needs=memory.needs)
        else:
            memory = Memory(["buffer"], base="buffer")
            self.needs.buffer = max(self.needs.buffer, asked, 1)
        if vector:
            return self._vector("readv", call, length=asked, size=size, memory=memory)
        start, end = f"{file}, ", f", {c_integer(asked)});"
        if call.op is Op.PREAD:
            end = f", {c_integer(asked)}, {_offset(call)});"
        if asked > ROOM:
            # The compiler warns of counts beyond what any object can have.
            self.needs.includes.add("sys/syscall.h")
            name = "SYS_pread64" if call.op is Op.PREAD else "SYS_read"
            return _arguments(f"syscall({name}, ", start, memory.expression, end), memory
        return _arguments(f"{OPERATIONS[call.op].name}(", start, memory.expression, end), memory

    def _write(self, call: Call, *, named: bool) -> tuple[list[str], Memory | None]:
        file = self._file(call.file)
        vector = call.op is Op.WRITE and call.flags & FLAG_VECTOR
        size = mapped_size(call, len(call.data))
        if call.flags & FLAG_NULL:
            memory = Memory(["null"], needs=("null",))
            size = 0
        elif (mapping := mapping_of(call)) is not None:
            memory = self._lying(call, mapping, call.data[:ROOM])
        elif is_special(call):
            memory = bytes_memory(call, named=named or bool(vector))
        elif vector or named:
            literal = c_string(call.data)
            setup = _arguments("char data[] = ", "", literal, ";")
            memory = Memory(["data"], [*setup, ""], base="data")
        else:
            memory = Memory(c_string(call.data))
        if vector:
            return self._vector("writev", call, length=count(call), size=size, memory=memory)
        end = f", {count(call)});"
        if call.op is Op.PWRITE:
            end = f", {count(call)}, {_offset(call)});"
        start = f"{OPERATIONS[call.op].name}("
        return _arguments(start, f"{file}, ", memory.expression, end), memory

    def _vector(
        self, name: str, call: Call, *, length: int, size: int, memory: Memory
    ) -> tuple[list[str], Memory]:
        """Split a buffer of which ``size`` bytes are mapped, as buffer_split() does."""
        self.needs.includes.add("sys/uio.h")
        file = self._file(call.file)
        base = memory.expression[0]
        parts: list[str] = []
        at = 0
        while not parts or at < length:
            part = length - at
            if call.cmd and len(parts) < MAX_PARTS - 1:
                part = min(part, call.cmd)
            start = min(at, size)
            parts.append(f"{{ {f'{base} + {start}' if start else base}, {c_integer(part)} }}")
            at += part
        if len(parts) == 1:
            return [f"{name}({file}, &(struct iovec){parts[0]}, 1);"], memory
        lines = [f"{name}({file}, (struct iovec[]){{", *(f"\t{part}," for part in parts)]
        return [*lines, f"}}, {len(parts)});"], memory

    def _ioctl(self, call: Call, *, named: bool) -> tuple[list[str], Memory | None]:
        file = self._file(call.file)
        number = self._names.get(call.cmd, f"{call.cmd:#x}")
        compat = call.flags & FLAG_COMPAT
        start = "ioctl("
        if compat:
            self.needs.helpers.add("compat_ioctl")
            start = "compat_ioctl("
        if call.flags & FLAG_VALUE:
            value = c_integer(call.arg & 0xFFFFFFFF if compat else call.arg)
            value = self._argument(call, value)
            return [f"{start}{file}, {number}, {value});"], None
        if compat and not call.flags & FLAG_NULL:
            memory = self._low_memory(call, named=named)
        elif (mapping := mapping_of(call)) is not None:
            memory = self._lying(call, mapping, call.data[:ROOM])
        else:
            memory = struct_memory(call, self._layouts.get(call.cmd), named=named)
        expression = memory.expression
        if compat:
            expression = ["0" if call.flags & FLAG_NULL else f"(uintptr_t){expression[0]}"]
        return _arguments(start, f"{file}, {number}, ", expression, ");"), memory

    def _request(self, call: Call, *, named: bool) -> tuple[list[str], Memory | None]:
        """Return a request in the program's ring, with all that it does not look at left out."""
        call = replace(call, cut=0, flags=call.flags & REQUEST_FLAGS)
        file, memory = self._file(call.file), None
        self.needs.helpers.add("ring_command" if call.op is Op.IOCTL else "ring_request")
        if call.op is Op.IOCTL and call.flags & FLAG_VALUE:
            value = self._argument(call, c_integer(call.arg))
            middle, size = [f"&(uint64_t){{ {value} }}"], 8
        elif call.op is Op.IOCTL:
            memory = struct_memory(call, self._layouts.get(call.cmd), named=named)
            middle, size = memory.expression, mapped_size(call, len(call.data))
        elif call.op is Op.POLL:
            middle, size = ["NULL"], 0
        elif call.op in {Op.READ, Op.PREAD}:
            size = min(count(call), _MOST_REQUESTED)
            memory = Memory(["buffer"], base="buffer")
            if size > ROOM:
                memory = placed(call, ROOM, [], "char *data")
            else:
                self.needs.buffer = max(self.needs.buffer, size, 1)
            middle = memory.expression
        else:
            memory = bytes_memory(call, named=named) if is_special(call) else None
            memory = memory or Memory(c_string(call.data[:ROOM]))
            middle, size = memory.expression, min(count(call), ROOM)
        number = self._names.get(call.cmd, f"{call.cmd:#x}")
        start, end = request_arguments(call, number, c_integer(size))
        name = "ring_command(" if call.op is Op.IOCTL else "ring_request("
        return _arguments(name, f"{file}, {start}", middle, end), memory

    def _low_memory(self, call: Call, *, named: bool) -> Memory:
        """Return a buffer that a 32-bit program could have: a struct is copied there."""
        memory = struct_memory(call, self._layouts.get(call.cmd), named=named)
        if "before_gap" in memory.needs:
            return memory
        return bytes_memory(call, named=named)


def _output_size(call: Call) -> int:
    """Return the size of the buffer of a call that may give handles from it."""
    asked = count(call) if call.op in {Op.READ, Op.PREAD} else len(call.data)
    return mapped_size(call, asked)


def _offset(call: Call) -> str:
    return c_integer(_signed(position(call)))


def _signed(number: int) -> int:
    return number - (1 << 64) if number >> 63 else number


def _arguments(name: str, start: str, middle: list[str], end: str) -> list[str]:
    """Return a C call whose argument in the middle may have several lines."""
    if len(middle) == 1:
        return [f"{name}{start}{middle[0]}{end}"]
    if middle[0].startswith("&("):
        return [f"{name}{start}{middle[0]}", *middle[1:-1], f"{middle[-1]}{end}"]
    return [
        f"{name}{start}".rstrip(),
        *(f"\t{each}" for each in middle[:-1]),
        f"\t{middle[-1]}{end}",
    ]
