# SPDX-License-Identifier: Apache-2.0
"""Program text to programs; ``text`` describes the format."""

from __future__ import annotations

import dataclasses
import difflib

from fuzzer.errors import BadInputError
from fuzzer.program.payload import Buffer, Value, pack_records, pack_struct
from fuzzer.program.program import (
    FLAG_COUNT,
    FLAG_VALUE,
    HALF,
    MAX_CALLS,
    MAX_FIXUPS,
    MAX_PAYLOAD,
    MAX_PROGRAM_SIZE,
    N_FILES,
    N_THREADS,
    WITHOUT_FILE,
    Call,
    Fixup,
    Op,
    Program,
    at_position,
)
from fuzzer.program.suffixes import parse_suffixes
from fuzzer.program.syntax import ACCESS, Line, TextError
from fuzzer.program.wire import FIXUP_SIZE, HEADER_SIZE
from fuzzer.target.calls import IoctlSpec, WriteSpec
from fuzzer.target.layout import StructLayout
from fuzzer.target.target import Target

_OPS = {op.name.lower(): op for op in Op}
_FILES = {f"f{number}": number for number in range(N_FILES)}


def parse_program(text: str, target: Target | None, name: str) -> Program:
    """Return the program that ``text`` describes.

    ``name`` is for messages. Raises BadInputError with name and line.
    """
    parser = LineParser(target)
    calls: list[Call] = []
    size = 0
    for number, line in enumerate(text.split("\n"), 1):
        try:
            call = parser.call(line)
            if call is None:
                continue
            calls.append(call)
            size += HEADER_SIZE + FIXUP_SIZE * len(call.fixups) + len(call.data)
            if len(calls) > MAX_CALLS or size > MAX_PROGRAM_SIZE:
                raise TextError(
                    f"the program is too long; {MAX_CALLS} calls in {MAX_PROGRAM_SIZE} bytes fit"
                )
        except TextError as error:
            raise BadInputError(f"{name}:{number}: {error}") from None
    return tuple(calls)


class LineParser:
    """Parses lines with the names of one target, or with numbers alone."""

    def __init__(self, target: Target | None) -> None:
        self._constants = target.constants if target else {}
        self._layouts = struct_layouts(target)
        self._devices = [device.path for device in target.devices] if target else []
        self._structs = target.structs if target else {}

    def call(self, text: str) -> Call | None:
        """Return the call on a line, None for a blank one; TextError for a mistake."""
        line = Line(text, self._constants)
        if line.at_end():
            return None
        thread = _thread(line)
        name = line.name("a call")
        if name not in _OPS:
            close = difflib.get_close_matches(name, _OPS, n=1)
            guess = f"did you mean {close[0]}? " if close else ""
            raise TextError(f"no call {name!r}; {guess}allowed: {', '.join(_OPS)}")
        line.expect("(")
        op = _OPS[name]
        file = 0 if op in WITHOUT_FILE else _file(line)
        call = self._arguments(line, Call(op, file, thread=thread))
        line.expect(")")
        call = parse_suffixes(line, call)
        if len(call.data) > MAX_PAYLOAD:
            raise TextError(f"a payload of {len(call.data)} bytes; {MAX_PAYLOAD} is allowed")
        if len(call.fixups) > MAX_FIXUPS:
            raise TextError(f"{len(call.fixups)} fixups; {MAX_FIXUPS} are allowed")
        return call

    def _arguments(self, line: Line, call: Call) -> Call:
        cmd, arg, data = call.cmd, call.arg, call.data
        match call.op:
            case Op.OPEN:
                cmd = ACCESS["O_RDWR"]
                more = line.accept(",")
                if more and line.peek().kind == "string":
                    arg = self._device(line)
                    more = line.accept(",")
                if more:
                    cmd = line.integer("flags", 32)
            case Op.READ | Op.MMAP:
                line.expect(",")
                arg = line.integer("a count of bytes", 64)
                if call.op is Op.MMAP:
                    line.expect(",")
                    cmd = line.integer("an offset", 32)
            case Op.PREAD:
                line.expect(",")
                arg = line.integer("a count of bytes", 64)
                line.expect(",")
                offset = line.integer("an offset", 64)
                if offset > HALF < arg:
                    raise TextError(f"a count of {arg}; {HALF} fits beside an offset above 32 bits")
                return at_position(dataclasses.replace(call, arg=arg), offset)
            case Op.WRITE | Op.PWRITE:
                line.expect(",")
                call = self._written(line, call)
                if call.op is Op.PWRITE:
                    line.expect(",")
                    call = at_position(call, line.integer("an offset", 64))
                return call
            case Op.LSEEK:
                line.expect(",")
                arg = line.integer("an offset", 64)
                line.expect(",")
                cmd = line.integer("whence", 32)
            case Op.POLL:
                line.expect(",")
                cmd = line.integer("events", 32)
            case Op.IOCTL:
                line.expect(",")
                return self._ioctl(line, call)
            case Op.SLEEP:
                arg = line.integer("milliseconds", 64)
            case Op.WAIT:
                arg = line.integer("ticks", 64)
            case Op.LOAD:
                data = line.string("the module's parameters")
            case Op.DUP:
                line.expect(",")
                cmd = _file(line)
        return dataclasses.replace(call, cmd=cmd, arg=arg, data=data)

    def _device(self, line: Line) -> int:
        path = line.string("a device").decode(errors="replace")
        if path not in self._devices:
            known = f"the description's are {', '.join(self._devices)}"
            raise TextError(
                f"no device {path!r}; "
                + (known if self._devices else "without a target, give its number, as !arg=1")
            )
        return self._devices.index(path)

    def _written(self, line: Line, call: Call) -> Call:
        """Return a write of a string, of a struct, or of a list of structs."""
        if line.peek().kind == "name" or line.peek().text == "[":
            records = [self._record(line)] if not line.accept("[") else self._list(line)
            try:
                data, fixups, count = pack_records(records)
            except ValueError as error:
                raise TextError(str(error)) from None
            call = dataclasses.replace(call, data=data, fixups=fixups)
            if count < len(data):
                call = dataclasses.replace(call, flags=FLAG_COUNT, arg=count)
            return call
        return dataclasses.replace(call, data=line.string("what to write"))

    def _list(self, line: Line) -> list[tuple[StructLayout, dict[str, Value]]]:
        records = [self._record(line)]
        while not line.accept("]"):
            line.expect(",")
            records.append(self._record(line))
        return records

    def _record(self, line: Line) -> tuple[StructLayout, dict[str, Value]]:
        name = line.name("a struct")
        if name not in self._structs:
            known = ", ".join(self._structs) or "none"
            raise TextError(f"no struct {name!r}; the description's are: {known}")
        line.expect("{")
        return self._structs[name], _members(line)

    def _ioctl(self, line: Line, call: Call) -> Call:
        number = line.integer("an ioctl number", 32)
        arg, flags, data = 0, FLAG_VALUE, b""
        fixups: tuple[Fixup, ...] = ()
        if line.accept(","):
            if line.peek().kind == "string":
                flags, data = 0, line.string("a payload")
            elif line.accept("{"):
                layout = self._layouts.get(number)
                if layout is None:
                    raise TextError(f"no struct is described for ioctl {number:#x}; use a string")
                flags = 0
                try:
                    data, fixups = pack_struct(layout, _members(line))
                except ValueError as error:
                    raise TextError(str(error)) from None
            else:
                arg = line.integer("a value", 64)
        return dataclasses.replace(call, flags=flags, cmd=number, arg=arg, data=data, fixups=fixups)


def _thread(line: Line) -> int:
    if not line.accept("["):
        return 0
    thread = line.counted("the thread", 1, N_THREADS)
    line.expect("]")
    return thread


def _file(line: Line) -> int:
    file = line.name("a file, f0 to f7,")
    if file not in _FILES:
        raise TextError(f"no file {file!r}; allowed: f0 to f{N_FILES - 1}")
    return _FILES[file]


def struct_layouts(target: Target | None) -> dict[int, StructLayout]:
    """Return the struct that each ioctl number's argument is shown as."""
    layouts: dict[int, StructLayout] = {}
    for spec in target.calls if target else ():
        if isinstance(spec, IoctlSpec) and spec.struct is not None:
            layouts.setdefault(spec.number, spec.struct)
    return layouts


def record_layouts(target: Target | None) -> dict[Op, list[StructLayout]]:
    """Return the structs that writes are shown as, by the operation."""
    layouts: dict[Op, list[StructLayout]] = {}
    for spec in target.calls if target else ():
        if isinstance(spec, WriteSpec):
            found = layouts.setdefault(Op.PWRITE if spec.positioned else Op.WRITE, [])
            found += [record.struct for record in spec.records]
    return layouts


def _members(line: Line) -> dict[str, Value]:
    values: dict[str, Value] = {}
    while not line.accept("}"):
        if values:
            line.expect(",")
        name = line.name("a member")
        if name in values:
            raise TextError(f"{name} is given twice")
        line.expect(":")
        values[name] = _value(line, name)
    return values


def _value(line: Line, name: str) -> Value:
    if line.peek().kind == "string":
        return line.string(name)
    if not line.accept("&"):
        return line.plain_integer(name)
    if not line.accept("["):
        return Buffer(line.string("a buffer"))
    size = line.integer("the size of a buffer", 64)
    line.expect("]")
    if size > MAX_PAYLOAD:
        raise TextError(f"a buffer of {size} bytes; {MAX_PAYLOAD} is allowed")
    return Buffer(bytes(size))
