# SPDX-License-Identifier: Apache-2.0
"""Calls of a description, of what a driver's source tells of its ioctls and writes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from fuzzer.campaign.source_fields import (
    LARGEST,
    MOST_VALUES,
    OF,
    Fields,
    FieldWriter,
    allowed,
    flow,
    key_text,
    limits,
)
from fuzzer.campaign.source_handles import HandleKinds
from fuzzer.driver.ioctls import IoctlMacro
from fuzzer.driver.source.interface import (
    DriverEntry,
    GivenNumber,
    Interface,
    Ioctl,
    Operand,
)
from fuzzer.target.calls import FD
from fuzzer.target.header import Header

IOCTL_MEMBERS = frozenset(("unlocked_ioctl", "ioctl", "proc_ioctl"))
COMPAT_MEMBERS = frozenset(("compat_ioctl", "compat_ioctl32", "proc_compat_ioctl"))
URING_MEMBERS = frozenset(("uring_cmd",))
_ARG, _BUF, _COUNT = ("arg",), ("buf",), ("count",)
_WHOLE = 0xFFFFFFFF
_MOST_TEXTS, _MOST_UNREAD = 24, 24
_IDENTIFIER = re.compile(r"[A-Za-z_]\w*\Z", re.ASCII)
_CONVERSION = re.compile(r"%(?:\d+)?(?:hh|h|ll|l|z|j)?([diuxXsc%n]|\[[^\]]*\])")
_TEXT = re.compile(r"[\x20-\x7e\n\t]{1,64}\Z")


@dataclass(frozen=True, slots=True)
class SourceIoctl:
    """An ioctl that the driver's source handles; ``name`` is "" where no macro has its number.

    ``file`` is the kind of file that it is made on, "" for the driver's own. With ``uring`` it
    is a command in a ring of io_uring.
    """

    number: int
    name: str
    operand: Operand
    compat: bool = False
    is_whole: bool = True
    file: str = ""
    uring: bool = False

    @property
    def coded_size(self) -> int:
        """Bytes of the argument as the number tells it, 0 if it tells of none."""
        return self.number >> 16 & 0x3FFF if self.number >> 30 else 0

    @property
    def title(self) -> str:
        """Its name, or else its number."""
        return self.name or f"{self.number:#x}"


def record_names(interface: Interface) -> list[str]:
    """Return the structs, unions and typedefs that operands have."""
    found = {
        memory.record
        for operand in _operands(interface)
        for memory in operand.memory
        if _IDENTIFIER.match(memory.record)
    }
    return sorted(found)


def constant_names(interface: Interface) -> list[str]:
    """Return the macros and enumerators that ioctls have as names."""
    names = {each.name for entry in interface.entries for each in entry.ioctls}
    return sorted(name for name in names if _IDENTIFIER.match(name))


def _operands(interface: Interface) -> Iterator[Operand]:
    for entry in interface.entries:
        yield entry.operand
        yield from (each.operand for each in entry.ioctls)


def source_ioctls(
    interface: Interface, macros: Sequence[IoctlMacro], known: Header
) -> tuple[SourceIoctl, ...]:
    """Return the ioctls of a driver's source, those of 32-bit programs as well.

    ``macros`` are those that may name them.
    """
    names = {each.number: each.name for each in reversed(macros)}
    found: dict[tuple[int, bool, str, bool], SourceIoctl] = {}
    kinds = HandleKinds(interface)
    plain = {each.function for each in interface.entries if each.member in IOCTL_MEMBERS}
    for entry in interface.entries:
        compat, uring = entry.member in COMPAT_MEMBERS, entry.member in URING_MEMBERS
        if not compat and not uring and entry.member not in IOCTL_MEMBERS:
            continue
        if compat and entry.function in plain:
            continue
        for each in entry.ioctls:
            for number in _numbers(each, macros):
                name = each.name if known.constants.get(each.name) == number else ""
                name = name or names.get(number, "")
                file = kinds.file_of(entry)
                whole = entry.is_whole
                made = SourceIoctl(number, name, each.operand, compat, whole, file, uring)
                found.setdefault((number, compat, file, uring), made)
    return tuple(found.values())


def _numbers(ioctl: Ioctl, macros: Sequence[IoctlMacro]) -> list[int]:
    """Return the numbers that an ioctl may have, of which a part may be all that is known."""
    if ioctl.mask == _WHOLE:
        return [ioctl.number]
    found = [each.number for each in macros if each.number & ioctl.mask == ioctl.number]
    return sorted(set(found)) or [ioctl.number]


def is_complete(interface: Interface) -> bool:
    """Return True if the source told all ioctls, so that there are no others."""
    handlers = [each for each in interface.entries if each.member in IOCTL_MEMBERS | COMPAT_MEMBERS]
    own = [each for each in handlers if each.function != "compat_ptr_ioctl"]
    return bool(own) and all(each.is_whole for each in own) and any(each.ioctls for each in own)


def has_commands(interface: Interface) -> bool:
    """Return True if the source told all commands in rings of io_uring."""
    own = [each for each in interface.entries if each.member in URING_MEMBERS]
    return any(each.ioctls for each in own) and all(each.is_whole for each in own)


def ioctl_text(
    ioctl: SourceIoctl, macro: IoctlMacro | None, known: Header, kinds: HandleKinds
) -> str:
    """Return the calls of an ioctl."""
    writer = FieldWriter(ioctl.operand, known, kinds)
    lines = [f"  - {'uring_cmd' if ioctl.uring else 'ioctl'}: {ioctl.title}"]
    if ioctl.file:
        lines.append(f"    file: {ioctl.file}")
    if ioctl.compat:
        lines.append("    compat: true")
    if returned := kinds.returned(ioctl.operand):
        lines.append(f"    returns: {returned}")
    whole = (*_ARG, OF)
    is_file = ioctl.operand.gives.partition(":")[0] == FD
    remarks = ["returns a descriptor"] if is_file and not returned else []
    layout = writer.layout(whole)
    if layout is None and writer.has_below(whole) and macro is not None:
        layout = macro.struct
    state, fields = Fields(), dict[str, str]()
    if layout is None and (found := writer.pointed_number(whole)) is not None:
        layout, fields = found
    elif layout is not None and layout.keyword != "union":
        fields = writer.fields(layout, whole, state)
    if layout is not None and layout.size and layout.name:
        lines.append(f"    struct: {layout.name}")
        if fields:
            lines.append("    fields:")
            lines += [f"      {key_text(name)}: {text}" for name, text in fields.items()]
        lines.append("    weight: 3")
        remarks += state.remarks
        return _with(lines, remarks)
    memory = writer.memory(whole)
    size = macro.size if macro is not None else ioctl.coded_size
    is_clear = ioctl.is_whole and not ioctl.operand.unclear
    number = writer.number(_ARG)
    kind = kinds.taken(_ARG, number.takes, number.gives) if number is not None else ""
    # Whatever its number says of a size.
    is_number = bool(kind) or (number is not None and _is_compared(number))
    if writer.has_below(whole) or (size and not is_clear and not is_number):
        sizes = {memory.size if memory else 0, size} - {0}
        if memory is not None and memory.is_text:
            sizes |= {8, 64}
        listed = sorted(min(each, LARGEST) for each in sizes) or [8, 64, 256]
        lines += [f"    payload: {listed}", "    weight: 2"]
        return _with(lines, remarks)
    if kind:
        lines.append(f"    takes: {kind}")
        return _with(lines, remarks)
    if ioctl.uring:
        return _with(lines, remarks)
    values = _values(number) if number is not None else [0, 1, -1]
    lines.append(f"    value: {json.dumps(values)}")
    if number is None and not is_clear:
        lines += [f"  - ioctl: {ioctl.title}", *[f"    file: {ioctl.file}"] * bool(ioctl.file)]
        lines += ["    compat: true"] * ioctl.compat
        lines.append("    payload: [8, 64]")
    return _with(lines, remarks)


def _is_compared(number: GivenNumber) -> bool:
    """Return True if a driver looks at a number itself: it is no address."""
    bounds = any(limit for _, limit in number.bounds)
    return bounds or bool(number.masks) or any(each for each, _ in number.values + number.required)


def _values(number: GivenNumber) -> list[int]:
    """Return the values of an operand that is a number."""
    low, high = limits(number.bounds)
    found = [0, 1, -1, *allowed(number), *(each for each, _ in number.values)]
    if high is not None:
        found += [low, high, high + 1]
    low_most, high_most = -(1 << 63), (1 << 64) - 1
    return [each for each in dict.fromkeys(found) if low_most <= each <= high_most][:MOST_VALUES]


def _with(lines: Sequence[str], remarks: Sequence[str]) -> str:
    first, *rest = lines
    if remarks:
        first += f"    # {'; '.join(dict.fromkeys(remarks))}"
    return "\n".join((first, *rest)) + "\n"


def write_forms(interface: Interface, known: Header) -> list[str]:
    """Return what is written to a driver, as items of a list in YAML."""
    items: dict[str, None] = {}
    for operand in _written(interface):
        writer = FieldWriter(operand, known, HandleKinds(interface))
        path = (*_BUF, OF)
        layout = writer.layout(path)
        if layout is not None and layout.size and layout.keyword != "union":
            fields = writer.fields(layout, path, Fields())
            text = f"struct: {layout.name}"
            text += f", fields: {flow(fields)}" if fields else ""
            items[f"{{{text}}}"] = None
        memory = writer.memory(path)
        for each in memory.formats if memory is not None else ():
            if template := _template(each):
                items[json.dumps(template)] = None
        count = writer.number(_COUNT)
        for value, _ in count.required if count is not None else ():
            if value in (2, 4, 8):
                items[json.dumps(f"{{le{8 * value}:0..4|255|65536}}")] = None
    return [*items][:_MOST_TEXTS]


def words(interface: Interface) -> list[str]:
    """Return the texts that a driver compares with."""
    found = {
        text
        for operand in _operands(interface)
        for memory in operand.memory
        for text in memory.texts
        if _TEXT.match(text)
    }
    return sorted(found)[:_MOST_TEXTS]


def _written(interface: Interface) -> Iterator[Operand]:
    return (each.operand for each in interface.entries if each.member in _WRITES)


_WRITES = frozenset(("write", "proc_write", "store"))


def _template(text: str) -> str:
    """Return the template of what a format scans; "" if it is none that can be written."""
    made, at = "", 0
    for match in _CONVERSION.finditer(text):
        made += _braced(text[at : match.start()])
        at = match.end()
        kind = match[1]
        if kind in "di":
            made += "{int:-1..4|255|65536}"
        elif kind == "u":
            made += "{int:0..4|255|65536}"
        elif kind in "xX":
            made += "{hex:0..255|65536}"
        elif kind == "%":
            made += "%"
        elif kind != "n":
            made += "{word}"
    made += _braced(text[at:])
    return made if all(each.isprintable() or each in "\n\t" for each in made) else ""


def _braced(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")


def remarks_text(interface: Interface, root: str) -> str:
    """Return comments: which files have which operations, and what was not read.

    ``root`` is the directory that places are named from.
    """
    lines = []
    for name, entries in _by_table(interface.entries).items():
        files = [each.name or each.how for each in interface.files if each.table == name]
        of = f" ({', '.join(dict.fromkeys(files))})" if files else ""
        members = ", ".join(each.member for each in entries)
        lines.append(f"# {entries[0].record} {name}{of}: {members}")
    if interface.unread:
        lines.append("# Not read from the source:")
        for unread in interface.unread[:_MOST_UNREAD]:
            place = unread.file.removeprefix(f"{root}/")
            lines.append(f"#   {place}:{unread.line}: {unread.text}")
        if (more := len(interface.unread) - _MOST_UNREAD) > 0:
            lines.append(f"#   and {more} more")
    return "".join(f"{_printable(line)}\n" for line in lines)


def _by_table(entries: Iterable[DriverEntry]) -> dict[str, list[DriverEntry]]:
    found: dict[str, list[DriverEntry]] = {}
    for each in entries:
        found.setdefault(each.table, []).append(each)
    return found


def _printable(line: str) -> str:
    return "".join(char if char.isprintable() else " " for char in line)[:200]


_PLAIN = {"mmap": "mmap", "poll": "poll", "llseek": "lseek"}


def file_calls(interface: Interface) -> str:
    """Return the calls on descriptors that the driver hands out, but for their ioctls."""
    kinds, lines = HandleKinds(interface), dict[str, None]()
    for entry in interface.entries:
        kind = kinds.file_of(entry)
        if not kind:
            continue
        if entry.member in ("read", "read_iter"):
            lines[f"  - read: [0, 1, 8, 64, 4096]\n    file: {kind}"] = None
        elif entry.member in ("write", "write_iter"):
            lines[f'  - write: ["{{word}}", "{{le64:0..4|65536}}"]\n    file: {kind}'] = None
        elif entry.member in _PLAIN:
            lines[f"  - {_PLAIN[entry.member]}: true\n    file: {kind}"] = None
    for kind in dict.fromkeys(filter(None, map(kinds.file_of, interface.entries))):
        lines[f"  - close: true\n    file: {kind}"] = None
    return "".join(f"{line}\n" for line in lines)
