# SPDX-License-Identifier: Apache-2.0
"""Calls of a description, of what a driver's source tells of its ioctls and writes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from fuzzer.driver.ioctls import IoctlMacro
from fuzzer.driver.source.interface import (
    DriverEntry,
    GivenMemory,
    GivenNumber,
    Interface,
    Ioctl,
    Operand,
)
from fuzzer.target.header import Header
from fuzzer.target.layout import Member, MemberKind, StructLayout
from fuzzer.target.traps import WORDS

IOCTL_MEMBERS = frozenset(("unlocked_ioctl", "ioctl", "proc_ioctl"))
COMPAT_MEMBERS = frozenset(("compat_ioctl", "compat_ioctl32", "proc_compat_ioctl"))
_ARG, _BUF, _COUNT, _OF = ("arg",), ("buf",), ("count",), "*"
_WHOLE = 0xFFFFFFFF
# MAX_FIXUPS of a call; what an address is of unless its length says more, in bytes and structs.
_MOST_POINTERS, _BUFFER, _STRUCTS = 8, 256, 4
_DEEPEST, _MOST_VALUES, _MOST_TEXTS, _MOST_UNREAD = 3, 24, 24, 24
_LARGEST = 4096
_IDENTIFIER = re.compile(r"[A-Za-z_]\w*\Z", re.ASCII)
_CONVERSION = re.compile(r"%(?:\d+)?(?:hh|h|ll|l|z|j)?([diuxXsc%n]|\[[^\]]*\])")
# Where a driver's thread waits, the source of the call does not tell; such a name does.
_TIME = re.compile(r"(?:^|[_.])(?:ms|us|ns|[mun]?secs?|timeout|delay|sleep|wait|interval)(?:_|\Z)")
_TEXT = re.compile(r"[\x20-\x7e\n\t]{1,64}\Z")


@dataclass(frozen=True, slots=True)
class SourceIoctl:
    """An ioctl that the driver's source handles; ``name`` is "" where no macro has its number."""

    number: int
    name: str
    operand: Operand
    compat: bool = False
    is_whole: bool = True

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
    found: dict[tuple[int, bool], SourceIoctl] = {}
    plain = {each.function for each in interface.entries if each.member in IOCTL_MEMBERS}
    for entry in interface.entries:
        compat = entry.member in COMPAT_MEMBERS
        if not compat and entry.member not in IOCTL_MEMBERS:
            continue
        if compat and entry.function in plain:
            continue
        for each in entry.ioctls:
            for number in _numbers(each, macros):
                name = each.name if known.constants.get(each.name) == number else ""
                name = name or names.get(number, "")
                made = SourceIoctl(number, name, each.operand, compat, entry.is_whole)
                found.setdefault((number, compat), made)
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


@dataclass(slots=True)
class _Fields:
    """Fields of a struct in the making: how many addresses there can still be, and remarks."""

    room: int = _MOST_POINTERS
    depth: int = 1
    made: dict[str, str] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)


class _Writer:
    """Writes what an operand is."""

    def __init__(self, operand: Operand, known: Header) -> None:
        self._memory = {each.path: each for each in operand.memory}
        self._numbers = {each.path: each for each in operand.numbers}
        self._known = known

    def layout(self, path: tuple[str, ...]) -> StructLayout | None:
        """Return the struct that memory is."""
        memory = self._memory.get(path)
        return self._known.structs.get(memory.record) if memory else None

    def memory(self, path: tuple[str, ...]) -> GivenMemory | None:
        """Return what is known of memory."""
        return self._memory.get(path)

    def number(self, path: tuple[str, ...]) -> GivenNumber | None:
        """Return what is known of a number."""
        return self._numbers.get(path)

    def has_below(self, path: tuple[str, ...]) -> bool:
        """Return True if anything is known of memory at a path, or of its members."""
        known = (*self._memory, *self._numbers)
        return any(each[: len(path)] == path for each in known)

    def fields(self, layout: StructLayout, path: tuple[str, ...], state: _Fields) -> dict[str, str]:
        """Return what is said of each member, in the flow style of YAML."""
        made = state.made
        for member in layout.members:
            at = self._path(layout, member, path)
            if member.holds_address and self.has_below((*at, _OF)):
                self._address(layout, member, at, path, state)
        for member in layout.members:
            if member.name in made:
                continue
            at = self._path(layout, member, path)
            if member.kind is MemberKind.INTEGER and (number := self._numbers.get(at)):
                if text := rule(number, member):
                    made[member.name] = text
                state.remarks += _handles(member.name, number)
            elif member.kind is MemberKind.BYTES and member.is_text:
                memory = self._memory.get(at)
                if memory is not None and (memory.is_text or memory.texts or memory.length):
                    made[member.name] = "{pool: word}"
                    self._length(layout, member, memory, path, made)
        order = [member.name for member in layout.members]
        return {name: made[name] for name in sorted(made, key=order.index)}

    @staticmethod
    def _length(
        layout: StructLayout,
        array: Member,
        memory: GivenMemory,
        path: tuple[str, ...],
        made: dict[str, str],
    ) -> None:
        """Say which member has the length of an array."""
        length = memory.length
        if length is None or length.factor != 1 or length.path[: len(path)] != path:
            return
        member = layout.member(".".join(length.path[len(path) :]))
        if member is not None and member.kind is MemberKind.INTEGER:
            made[member.name] = f"{{len: {_key(array.name)}}}"

    def _path(self, layout: StructLayout, member: Member, path: tuple[str, ...]) -> tuple[str, ...]:
        """Return where what is known of a member is: it may be that of a struct's beginning."""
        names = member.name.split(".")
        first, _, rest = layout.members[0].name.partition(".")
        if rest and names[0] == first and not self.has_below((*path, *names)):
            return (*path, *names[1:])
        return (*path, *names)

    def _address(
        self,
        layout: StructLayout,
        member: Member,
        at: tuple[str, ...],
        path: tuple[str, ...],
        state: _Fields,
    ) -> None:
        made, depth = state.made, state.depth
        below = (*at, _OF)
        memory, inner = self._memory.get(below), self.layout(below)
        length = memory.length if memory is not None else None
        counted = None
        if length is not None and length.path[: len(path)] == path:
            counted = layout.member(".".join(length.path[len(path) :]))
            if counted is not None and counted.kind is not MemberKind.INTEGER:
                counted = None
        if state.room < 1:
            return
        size = memory.size if memory is not None else 0
        if inner is not None and inner.size and depth < _DEEPEST:
            most = _STRUCTS if length is not None else 1
            own = _Fields((state.room - 1) // most, depth + 1)
            text = f"struct: {inner.name}"
            if fields := self.fields(inner, below, own):
                text += f", fields: {flow(fields)}"
            used = (state.room - 1) // most - own.room
            state.room -= 1 + most * used
            if most > 1:
                text += f", count: [1, {most}]"
            made[member.name] = f"{{{text}}}"
            if counted is not None and counted.name not in made and length is not None:
                rule_name = "count_of" if length.factor == inner.size else "len"
                made[counted.name] = f"{{{rule_name}: {_key(member.name)}}}"
            return
        state.room -= 1
        factor = length.factor if length is not None else 1
        bytes_ = min(max(factor * _STRUCTS, _BUFFER if factor == 1 else 0), _LARGEST)
        if length is None and 0 < size <= _LARGEST:
            bytes_ = size
        made[member.name] = f"{{pointer: {bytes_}}}"
        if counted is not None and counted.name not in made:
            if factor == 1:
                made[counted.name] = f"{{len: {_key(member.name)}}}"
            else:
                made[counted.name] = f"{{range: [0, {max(bytes_ // factor, 1)}]}}"


def _key(name: str) -> str:
    """Return a member's name, in quotes where YAML would take it for something else."""
    return json.dumps(name) if name.lower() in WORDS else name


def flow(fields: Mapping[str, str]) -> str:
    """Return fields as a mapping of YAML, on one line."""
    return "{" + ", ".join(f"{_key(name)}: {text}" for name, text in fields.items()) + "}"


def _handles(name: str, number: GivenNumber) -> Iterator[str]:
    for how, kind in (("takes", number.takes), ("gives", number.gives)):
        if kind:
            what = {"fd": "a descriptor", "id": "an id", "time": "a time"}.get(kind, f"a {kind}")
            yield f"{name} {how} {what}"


def rule(number: GivenNumber, member: Member) -> str:
    """Return what is said of an integer member, in the flow style of YAML; "" for nothing."""
    if number.takes == "time" or _TIME.search(member.name):
        # To wait as long as can be costs more than it shows.
        return ""
    values = allowed(number, member.size)
    if values:
        return f"{{values: {json.dumps(values)}}}"
    low, high = limits(number.bounds)
    most = (1 << 8 * member.size - 1) - 1
    if high is not None and 0 < high <= most and low < high:
        return f"{{range: [{low}, {high}]}}"
    return ""


# The least mask that is taken for the rest after a division, by 8.
_LOW_BITS = 7


def allowed(number: GivenNumber, size: int = 8) -> list[int]:
    """Return the values that a number is compared with, and some that flags can have."""
    bits = (1 << 8 * size) - 1
    required = [value for value, _ in number.required]
    if required:
        return _fitting(required, size)
    equal = [value for value, _ in number.values]
    flags = 0
    for mask in (mask & bits for mask, _ in number.masks):
        if mask >= _LOW_BITS and mask & (mask + 1) == 0 and mask != bits:
            # The rest after a division: an alignment, or a number in some bits of another.
            equal += [1, 2, 3, mask, *(times * (mask + 1) for times in (1, 2, 3, 16))]
            continue
        # The complement of what is allowed, or a flag, or some.
        flags |= mask if mask.bit_count() <= 4 * size else ~mask & bits
    each = [1 << bit for bit in range(8 * size) if flags >> bit & 1]
    if not each and (not any(equal)):
        return []
    found = {0, *equal, *each[:_MOST_VALUES]}
    if len(each) > 1:
        found.add(flags)
    return _fitting(sorted(found), size)


def _fitting(values: Iterable[int], size: int) -> list[int]:
    low, high = -(1 << 8 * size - 1), (1 << 8 * size) - 1
    return [each for each in values if low <= each <= high][:_MOST_VALUES]


def limits(bounds: Iterable[tuple[str, int]]) -> tuple[int, int | None]:
    """Return the range that comparisons leave: what is beyond it ends a call, mostly."""
    lows, highs = [0], []
    for operator, number in bounds:
        if operator == ">":
            highs.append(number)
        elif operator == ">=":
            highs.append(number - 1)
        elif operator == "<" and 0 < number < _WHOLE:
            lows.append(number)
    high = max((each for each in highs if each > 0), default=None)
    low = max(each for each in lows if high is None or each <= high)
    return low, high


def ioctl_text(ioctl: SourceIoctl, macro: IoctlMacro | None, known: Header) -> str:
    """Return the calls of an ioctl."""
    writer = _Writer(ioctl.operand, known)
    lines = [f"  - ioctl: {ioctl.title}"]
    if ioctl.compat:
        lines.append("    compat: true")
    whole = (*_ARG, _OF)
    remarks = ["returns a descriptor"] if ioctl.operand.gives == "fd" else []
    layout = writer.layout(whole)
    if layout is None and writer.has_below(whole) and macro is not None:
        layout = macro.struct
    if layout is not None and layout.size and layout.name:
        state = _Fields()
        fields = {} if layout.keyword == "union" else writer.fields(layout, whole, state)
        lines.append(f"    struct: {layout.name}")
        if fields:
            lines.append("    fields:")
            lines += [f"      {_key(name)}: {text}" for name, text in fields.items()]
        lines.append("    weight: 3")
        remarks += state.remarks
        return _with(lines, remarks)
    memory = writer.memory(whole)
    size = macro.size if macro is not None else ioctl.coded_size
    is_clear = ioctl.is_whole and not ioctl.operand.unclear
    number = writer.number(_ARG)
    # Whatever its number says of a size.
    is_number = number is not None and _is_compared(number)
    if writer.has_below(whole) or (size and not is_clear and not is_number):
        sizes = {memory.size if memory else 0, size} - {0}
        if memory is not None and memory.is_text:
            sizes |= {8, 64}
        listed = sorted(min(each, _LARGEST) for each in sizes) or [8, 64, 256]
        lines += [f"    payload: {listed}", "    weight: 2"]
        return _with(lines, remarks)
    values = _values(number) if number is not None else [0, 1, -1]
    lines.append(f"    value: {json.dumps(values)}")
    if number is None and not is_clear:
        lines += [f"  - ioctl: {ioctl.title}", *["    compat: true"] * ioctl.compat]
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
    return [each for each in dict.fromkeys(found) if low_most <= each <= high_most][:_MOST_VALUES]


def _with(lines: Sequence[str], remarks: Sequence[str]) -> str:
    first, *rest = lines
    if remarks:
        first += f"    # {'; '.join(dict.fromkeys(remarks))}"
    return "\n".join((first, *rest)) + "\n"


def write_forms(interface: Interface, known: Header) -> list[str]:
    """Return what is written to a driver, as items of a list in YAML."""
    items: dict[str, None] = {}
    for operand in _written(interface):
        writer = _Writer(operand, known)
        path = (*_BUF, _OF)
        layout = writer.layout(path)
        if layout is not None and layout.size and layout.keyword != "union":
            fields = writer.fields(layout, path, _Fields())
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
