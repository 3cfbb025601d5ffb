# SPDX-License-Identifier: Apache-2.0
"""Parser of program text; ``text`` describes the format."""

from __future__ import annotations

import dataclasses
import difflib

from fuzzer.errors import BadInputError
from fuzzer.program.flips import FLIP_SIZES, flip_cmd
from fuzzer.program.links import CALL, Link, LinkKind
from fuzzer.program.ops import (
    FLAG_COUNT,
    FLAG_VALUE,
    MAP_TURNED,
    MAPPING,
    OP_NAMES,
    OPERATIONS,
    OPTIONAL_MODES,
    Number,
    Op,
    Payload,
)
from fuzzer.program.payload import (
    Buffer,
    Elements,
    Structs,
    Value,
    is_number,
    pack_records,
    pack_struct,
)
from fuzzer.program.program import (
    HALF,
    MAX_CALLS,
    MAX_FIXUPS,
    MAX_PAYLOAD,
    MAX_PROGRAM_SIZE,
    N_FILES,
    N_THREADS,
    Call,
    Fixup,
    Program,
    at_position,
)
from fuzzer.program.suffixes import HANDLES, TAKEN, parse_suffixes, parse_taken
from fuzzer.program.syntax import ACCESS, TextError, TokenLine
from fuzzer.program.wire import FIXUP_SIZE, HEADER_SIZE
from fuzzer.target.calls import IoctlSpec, WriteSpec
from fuzzer.target.layout import NUMBERS, StructLayout
from fuzzer.target.target import Target

_FILES = {f"f{number}": number for number in range(N_FILES)}


def parse_program(text: str, target: Target | None, name: str) -> Program:
    """Return the program that ``text`` describes.

    ``name`` is the name of the text in messages. Raises BadInputError with name and line.
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
    """Parses lines with the names of one target, or without a target with numbers only."""

    def __init__(self, target: Target | None) -> None:
        self._constants = target.constants if target else {}
        self._layouts = struct_layouts(target)
        self._devices = [device.path for device in target.devices] if target else []
        self._structs = {**NUMBERS, **(target.structs if target else {})}

    def call(self, text: str) -> Call | None:
        """Return the call on a line, None for a blank one; TextError for a mistake."""
        line = TokenLine(text, self._constants)
        if line.at_end():
            return None
        thread = _thread(line)
        name = line.name("a call")
        given: tuple[Fixup, ...] = ()
        if name in HANDLES:
            line.expect("=")
            given = (Link(LinkKind.GIVE, CALL, HANDLES[name]).fixup(),)
            name = line.name("a call")
        if name not in OP_NAMES:
            close = difflib.get_close_matches(name, OP_NAMES, n=1)
            guess = f"did you mean {close[0]}? " if close else ""
            raise TextError(f"no call {name!r}; {guess}allowed: {', '.join(OP_NAMES)}")
        line.expect("(")
        op = OP_NAMES[name]
        file = _file(line) if OPERATIONS[op].uses_file else 0
        call = self._arguments(line, Call(op, file, thread=thread))
        line.expect(")")
        call = parse_suffixes(line, call)
        call = dataclasses.replace(call, fixups=call.fixups + given)
        if len(call.data) > MAX_PAYLOAD:
            raise TextError(f"a payload of {len(call.data)} bytes; {MAX_PAYLOAD} is allowed")
        if len(call.fixups) > MAX_FIXUPS:
            raise TextError(f"{len(call.fixups)} fixups; {MAX_FIXUPS} are allowed")
        return call

    def _arguments(self, line: TokenLine, call: Call) -> Call:
        match call.op:
            case Op.OPEN:
                return self._open(line, call)
            case Op.PREAD:
                line.expect(",")
                count = line.integer(Number.COUNT.value, 64)
                line.expect(",")
                offset = line.integer(Number.OFFSET.value, 64)
                if offset > HALF < count:
                    raise TextError(
                        f"a count of {count}; {HALF} fits beside an offset above 32 bits"
                    )
                return at_position(dataclasses.replace(call, arg=count), offset)
            case Op.WRITE | Op.PWRITE:
                line.expect(",")
                call = self._written(line, call)
                if OPERATIONS[call.op].cmd is Number.POSITION:
                    line.expect(",")
                    call = at_position(call, line.integer(Number.OFFSET.value, 64))
                return call
            case Op.IOCTL:
                line.expect(",")
                return self._ioctl(line, call)
            case Op.FLIP:
                return _flip(line, call)
            case _:
                return _plain(line, call)

    def _open(self, line: TokenLine, call: Call) -> Call:
        arg, cmd = 0, ACCESS["O_RDWR"]
        more = line.accept(",")
        if more and line.peek().kind == "string":
            arg = self._device(line)
            more = line.accept(",")
        if more:
            cmd = line.integer(Number.FLAGS.value, 32)
        return dataclasses.replace(call, cmd=cmd, arg=arg)

    def _device(self, line: TokenLine) -> int:
        path = line.string("a device").decode(errors="replace")
        if path not in self._devices:
            known = f"the description's are {', '.join(self._devices)}"
            raise TextError(
                f"no device {path!r}; "
                + (known if self._devices else "without a target, give its number, as !arg=1")
            )
        return self._devices.index(path)

    def _written(self, line: TokenLine, call: Call) -> Call:
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

    def _list(self, line: TokenLine) -> list[tuple[StructLayout, dict[str, Value]]]:
        records = [self._record(line)]
        while not line.accept("]"):
            line.expect(",")
            records.append(self._record(line))
        return records

    def _record(self, line: TokenLine) -> tuple[StructLayout, dict[str, Value]]:
        name = line.name("a struct")
        if name not in self._structs:
            known = ", ".join(each for each in self._structs if each not in NUMBERS) or "none"
            raise TextError(f"no struct {name!r}; the description's are: {known}")
        line.expect("{")
        return self._structs[name], self._members(line, self._structs[name])

    def _ioctl(self, line: TokenLine, call: Call) -> Call:
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
                    data, fixups = pack_struct(layout, self._members(line, layout))
                except ValueError as error:
                    raise TextError(str(error)) from None
            elif taken := _taken(line):
                fixups = taken
            else:
                arg = line.integer("a value", 64)
        return dataclasses.replace(call, flags=flags, cmd=number, arg=arg, data=data, fixups=fixups)

    def _members(self, line: TokenLine, layout: StructLayout) -> dict[str, Value]:
        values: dict[str, Value] = {}
        while not line.accept("}"):
            if values:
                line.expect(",")
            name = line.name("a member")
            if name in values:
                raise TextError(f"{name} is given twice")
            line.expect(":")
            if line.accept("["):
                values[name] = self._elements(line, layout, name)
            else:
                values[name] = self._value(line, name)
        return values

    def _elements(self, line: TokenLine, layout: StructLayout, name: str) -> Elements:
        """Return the elements of an array that is a member."""
        member = layout.member(name)
        element = member.element if member is not None else None
        if element is None:
            raise TextError(f"{name} is no array of structs or numbers in {layout.c_type}")
        each: list[dict[str, Value]] = []
        while not line.accept("]"):
            if each:
                line.expect(",")
            if is_number(element):
                each.append({"": self._value(line, name)})
            else:
                line.expect("{")
                each.append(self._members(line, element))
        return Elements(element, tuple(each))

    def _value(self, line: TokenLine, name: str) -> Value:
        if line.peek().kind == "string":
            return line.string(name)
        if line.accept("->"):
            return Link(LinkKind.GIVE, 0, _handle(line))
        if line.peek().kind == "name" and line.peek().text in TAKEN:
            return parse_taken(line, 0)
        if not line.accept("&"):
            return line.plain_integer(name)
        if line.peek().kind == "name":
            return _pointed([self._record(line)])
        if not line.accept("["):
            return Buffer(line.string("a buffer"))
        if line.peek().kind == "name" and line.peek().text in self._structs:
            return _pointed(self._list(line))
        size = line.integer("the size of a buffer", 64)
        line.expect("]")
        if size > MAX_PAYLOAD:
            raise TextError(f"a buffer of {size} bytes; {MAX_PAYLOAD} is allowed")
        return Buffer(bytes(size))


def _pointed(records: list[tuple[StructLayout, dict[str, Value]]]) -> Structs:
    layout = records[0][0]
    other = next((each.name for each, _ in records if each != layout), None)
    if other:
        raise TextError(f"{other} in an array of {layout.name}; elements are of one struct")
    return Structs(layout, tuple(values for _, values in records))


def _plain(line: TokenLine, call: Call) -> Call:
    """Return a call with its arguments read: its numbers and its payload."""
    operation = OPERATIONS[call.op]
    begun = operation.uses_file

    def expect_next() -> None:
        nonlocal begun
        if begun:
            line.expect(",")
        begun = True

    if operation.arg is not Number.NONE:
        expect_next()
        taken = () if call.op in MAPPING else _taken(line)
        arg = 0 if taken else line.integer(operation.arg.value, 64)
        call = dataclasses.replace(call, arg=arg, fixups=taken)
    if operation.payload is not Payload.NONE:
        expect_next()
        call = dataclasses.replace(call, data=line.string(operation.payload.value))
    if operation.cmd is not Number.NONE:
        expect_next()
        is_file = operation.cmd is Number.FILE
        if taken := _taken(line) if call.op in MAPPING else ():
            call = dataclasses.replace(call, fixups=taken)
        else:
            cmd = _file(line) if is_file else line.integer(operation.cmd.value, 32)
            call = dataclasses.replace(call, cmd=cmd)
    return dataclasses.replace(call, mode=_mode(line, operation.mode))


def _mode(line: TokenLine, kind: Number) -> int:
    if kind in OPTIONAL_MODES and not line.accept(","):
        return 0
    if kind is Number.NONE:
        return 0
    if kind not in OPTIONAL_MODES:
        line.expect(",")
    mode = line.counted(kind.value, 0, 0xFF)
    return mode ^ MAP_TURNED if kind is Number.MAPPED else mode


def _flip(line: TokenLine, call: Call) -> Call:
    at = line.integer(Number.PLACE.value, 16)
    size = FLIP_SIZES[0]
    if line.accept(":"):
        size = line.counted("the bytes of a flip", 1, max(FLIP_SIZES))
        if size not in FLIP_SIZES:
            raise TextError(f"a flip of {size} bytes; 1, 2, 4 or 8 are allowed")
    line.expect(",")
    arg = line.integer(Number.FLIPPED.value, 64)
    return dataclasses.replace(call, cmd=flip_cmd(at, size), arg=arg)


def _taken(line: TokenLine) -> tuple[Fixup, ...]:
    """Return the link that a call's argument takes, if the next word is one."""
    if line.peek().kind != "name" or line.peek().text not in TAKEN:
        return ()
    return (parse_taken(line, CALL).fixup(),)


def _thread(line: TokenLine) -> int:
    if not line.accept("["):
        return 0
    thread = line.counted("the thread", 1, N_THREADS)
    line.expect("]")
    return thread


def _file(line: TokenLine) -> int:
    file = line.name("a file, f0 to f7,")
    if file not in _FILES:
        raise TextError(f"no file {file!r}; allowed: f0 to f{N_FILES - 1}")
    return _FILES[file]


def struct_layouts(target: Target | None) -> dict[int, StructLayout]:
    """Return the struct in which the argument of each ioctl number is shown."""
    layouts: dict[int, StructLayout] = {}
    for spec in target.calls if target else ():
        if isinstance(spec, IoctlSpec) and spec.struct is not None:
            layouts.setdefault(spec.number, spec.struct)
    return layouts


def record_layouts(target: Target | None) -> dict[Op, list[StructLayout]]:
    """Return the structs in which writes are shown, by operation."""
    layouts: dict[Op, list[StructLayout]] = {}
    for spec in target.calls if target else ():
        if isinstance(spec, WriteSpec):
            found = layouts.setdefault(Op.PWRITE if spec.positioned else Op.WRITE, [])
            found += [record.struct for record in spec.records]
    return layouts


def _handle(line: TokenLine) -> int:
    name = line.name("a handle, h0 to h7,")
    if name not in HANDLES:
        raise TextError(f"no handle {name!r}; allowed: h0 to h7")
    return HANDLES[name]
