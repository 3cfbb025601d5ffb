# SPDX-License-Identifier: Apache-2.0
"""The functions of a driver that the kernel calls for its files, each followed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from fuzzer.driver.source.facts import MADE_FILE, RETURNED, Case, Fact, Notes, SourceFacts
from fuzzer.driver.source.interface import (
    DriverEntry,
    GivenMemory,
    GivenNumber,
    Interface,
    Ioctl,
    Length,
    Operand,
    Registered,
    Unread,
)
from fuzzer.driver.source.program import SourceProgram, Table, function_of
from fuzzer.driver.source.state import REQUEST
from fuzzer.driver.source.tree import CType, Kind, Sort, SyntaxNode
from fuzzer.driver.source.values import (
    OF,
    AddressOf,
    Constant,
    Functions,
    Given,
    IoctlNumber,
    Key,
    Path,
    Size,
    SourceValue,
    Text,
    User,
)
from fuzzer.driver.source.walk import Walker

_ARG, _BUF, _COUNT = ("arg",), ("buf",), ("count",)
# Tables that the kernel calls a driver's files through, and of their members the arguments that
# the caller gives: the ioctl's number, its argument, or text and its length.
_NUMBER, _ARGUMENT = IoctlNumber(), User(_ARG)
_TEXT, _LENGTH = User(_BUF), User(_COUNT)
_KERNEL_TEXT = AddressOf(Given((*_BUF, OF)))
_IOCTL: tuple[SourceValue, ...] = (None, _NUMBER, _ARGUMENT)
_WRITE: tuple[SourceValue, ...] = (None, _TEXT, _LENGTH, None)
_STORE: tuple[SourceValue, ...] = (None, None, _KERNEL_TEXT, _LENGTH)
_DRM: tuple[SourceValue, ...] = (None, AddressOf(Given((*_ARG, OF))), None)
_V4L2: tuple[SourceValue, ...] = (None, None, AddressOf(Given((*_ARG, OF))))
_URING: tuple[SourceValue, ...] = (AddressOf(REQUEST), None)
_ANY = "unlocked_ioctl"
_LEADS_TO_TABLES = (
    "is drm_ioctl(), which is not the driver's",
    "is video_ioctl2(), which is not the driver's",
)
_MEMBERS: Mapping[str, Mapping[str, tuple[SourceValue, ...]]] = {
    "file_operations": {
        "unlocked_ioctl": _IOCTL, "compat_ioctl": _IOCTL, "write": _WRITE, "read": (),
        "read_iter": (), "write_iter": (), "llseek": (), "poll": (), "mmap": (), "open": (),
        "release": (), "uring_cmd": _URING,
    },
    "proc_ops": {
        "proc_ioctl": _IOCTL, "proc_compat_ioctl": _IOCTL, "proc_write": _WRITE, "proc_read": (),
        "proc_read_iter": (), "proc_lseek": (), "proc_poll": (), "proc_mmap": (), "proc_open": (),
    },
    "v4l2_file_operations": {
        "unlocked_ioctl": _IOCTL, "compat_ioctl32": _IOCTL, "write": _WRITE, "read": (),
        "poll": (), "mmap": (), "open": (),
    },
    "block_device_operations": {
        "ioctl": (None, None, _NUMBER, _ARGUMENT), "compat_ioctl": (None, None, _NUMBER, _ARGUMENT),
        "open": (),
    },
    "tty_operations": {"ioctl": _IOCTL, "compat_ioctl": _IOCTL, "open": ()},
    "device_attribute": {"store": _STORE, "show": ()},
    "driver_attribute": {"store": (None, _KERNEL_TEXT, _LENGTH), "show": ()},
    "class_attribute": {"store": _STORE, "show": ()},
    "kobj_attribute": {"store": _STORE, "show": ()},
    "kernel_param_ops": {"set": (_KERNEL_TEXT, None), "get": ()},
}  # fmt: skip
_IOCTL_MEMBERS = frozenset(
    ("unlocked_ioctl", "compat_ioctl", "proc_ioctl", "proc_compat_ioctl", "compat_ioctl32",
     "ioctl")
)  # fmt: skip
_COMPAT = frozenset(("compat_ioctl", "proc_compat_ioctl", "compat_ioctl32"))
_PASSES_ON = "compat_ptr_ioctl"
# Calls that make files: the arguments with the name and with the table.
_REGISTER = {
    "register_chrdev": (1, 2), "__register_chrdev": (3, 4), "proc_create": (0, 3),
    "proc_create_data": (0, 3), "debugfs_create_file": (0, 4),
    "debugfs_create_file_unsafe": (0, 4), "debugfs_create_file_full": (0, 4),
}  # fmt: skip
_DEVICES = {"device_create": 4, "device_create_with_groups": 5, "cdev_init": -1}
_MOST, _MOST_CASES = 64, 256


def read(program: SourceProgram) -> Interface:
    """Return the interface of a driver."""
    entries: list[DriverEntry] = []
    unread: set[Unread] = set()
    for key, table in _tables(program):
        for member, values, named in _members(table):
            if not isinstance(named, Functions):
                continue
            name = named.names[0]
            function = program.function(name, table.unit)
            entry = DriverEntry(key, table.record, member, name)
            if values and function is not None:
                notes = Notes()
                Walker(program, notes).follow(function, values)
                entry = _entry(entry, notes)
                unread.update(Unread(each.file, each.line, each.text) for each in notes.problems)
            elif member in _IOCTL_MEMBERS and function is None:
                entry = DriverEntry(key, table.record, member, name, is_whole=False)
                if name != _PASSES_ON:
                    text = f"{table.name}.{member} is {name}(), which is not the driver's"
                    unread.add(Unread(*table.place, text))
            entries.append(entry)
    own = [*_rows(program), *_video(program)]
    if own:
        # What the kernel's own handler does with these is known.
        unread = {each for each in unread if not each.text.endswith(_LEADS_TO_TABLES)}
    entries += own
    return Interface(tuple(entries), tuple(_files(program)), tuple(sorted(unread, key=_place)))


def _members(table: Table) -> Iterator[tuple[str, tuple[SourceValue, ...], SourceValue]]:
    """Yield the members of a table that the kernel calls, with arguments and function."""
    for row in table.rows:
        for member, values in _MEMBERS[table.record].items():
            yield member, values, row.members.get((member,))


def _rows(program: SourceProgram) -> Iterator[DriverEntry]:
    """Yield the entries that are tables of DRM's, one for each."""
    for key, table in program.tables.items():
        if table.record != "drm_ioctl_desc":
            continue
        notes = Notes()
        for row in table.rows:
            number, named = row.members.get(("cmd",)), row.members.get(("func",))
            if isinstance(number, Constant) and isinstance(named, Functions):
                _follow(program, table, notes, number.number, (named.names[0], ""))
        yield replace(
            _entry(DriverEntry(key, table.record, _ANY, "drm_ioctl"), notes), is_whole=False
        )


def _video(program: SourceProgram) -> Iterator[DriverEntry]:
    """Yield the entries that are tables of V4L2's: a member is named after its ioctl."""
    for key, table in program.tables.items():
        if table.record != "v4l2_ioctl_ops":
            continue
        notes = Notes()
        for (member, *_), named in table.rows[0].members.items():
            name = _video_name(member, program)
            if name and isinstance(named, Functions):
                number, function = program.numbers[name], named.names[0]
                _follow(program, table, notes, number, (function, name))
        yield replace(
            _entry(DriverEntry(key, table.record, _ANY, "video_ioctl2"), notes), is_whole=False
        )


def _video_name(member: str, program: SourceProgram) -> str:
    """Return the ioctl of a member such as ``vidioc_s_fmt_vid_cap``; "" for none."""
    name = member.upper()
    while name:
        for each in (name, name.replace("ENUM_", "ENUM")):
            if each in program.numbers:
                return each
        name, _, _ = name.rpartition("_")
    return ""


def _follow(
    program: SourceProgram,
    table: Table,
    notes: Notes,
    number: int,
    named: tuple[str, str],
) -> None:
    """Follow a function that the kernel hands what an ioctl's argument is the address of."""
    function = program.function(named[0], table.unit)
    key = IoctlNumber().equal(number)
    notes.command(key, named[1], table.place if function is None else function.place)
    if function is not None:
        values = _DRM if table.record == "drm_ioctl_desc" else _V4L2
        Walker(program, notes).follow(function, values, frozenset((key,)))


def _place(unread: Unread) -> tuple[str, int, str]:
    return unread.file, unread.line, unread.text


def _tables(program: SourceProgram) -> Iterator[tuple[str, Table]]:
    """Yield the tables that the kernel calls the driver through."""
    for key, table in program.tables.items():
        if table.record in _MEMBERS:
            yield key, table


def _entry(entry: DriverEntry, notes: Notes) -> DriverEntry:
    keys = sorted(notes.commands, key=lambda key: (key.value, key.mask))
    ioctls = []
    for key in keys:
        # Of a part of a number that is known elsewhere as a whole nothing more is said.
        if not key.is_whole and any(key.covers(other) and key != other for other in keys):
            continue
        name, file, line = notes.commands[key]
        found = operand(notes.of(key), _coded_size(key), notes.cases(key))
        ioctls.append(Ioctl(key.value, key.mask, name, file, line, found))
    return DriverEntry(
        entry.table,
        entry.record,
        entry.member,
        entry.function,
        tuple(ioctls),
        operand(notes.of(None), cases=notes.cases(None)),
        notes.is_whole,
    )


def _coded_size(key: Key) -> int:
    """Return the bytes that a number tells of, as made by ``_IOW()``; 0 if of none."""
    return key.value >> 16 & 0x3FFF if key.is_whole and key.value >> 30 else 0


def operand(facts: SourceFacts, size: int = 0, cases: Iterable[Case] = ()) -> Operand:
    """Return what facts say of the operand of a call, which is said to have a ``size`` in bytes."""
    memory, numbers = [], []
    unclear: set[str] = set()
    for path, fact in sorted(facts.items()):
        unclear |= fact.passed_to
        if path in (RETURNED, MADE_FILE) or not _is_copied(path, facts):
            continue
        fact.gives = _descriptor(fact.gives, facts)
        if path[-1] == OF:
            memory.append(_memory(path, fact, size if path == (*_ARG, OF) else 0))
            if not memory[-1].record and _is_number(fact):
                numbers.append(_number(path, fact))
        else:
            numbers.append(_number(path, fact))
            if fact.texts or fact.formats or fact.is_text or fact.sizes:
                memory.append(_memory(path, fact))
    gives = _descriptor(facts[RETURNED].gives, facts) if RETURNED in facts else ""
    found = tuple(sorted(cases)[:_MOST_CASES])
    return Operand(tuple(memory), tuple(numbers), gives, tuple(sorted(unclear)), found)


def _descriptor(kind: str, facts: SourceFacts) -> str:
    """Return a kind of handle; of a descriptor with the table of the file that was made for it."""
    made = facts.get(MADE_FILE)
    return f"fd:{made.gives}" if kind == "fd" and made is not None else kind


def _is_copied(path: Path, facts: SourceFacts) -> bool:
    """Return whether memory that a number is in is looked at by the same calls.

    Otherwise it is what another ioctl left in a variable.
    """
    if OF not in path or path[-1] == OF:
        return True
    last = len(path) - path[::-1].index(OF)
    return path[:last] in facts


def _memory(path: Path, fact: Fact, coded: int = 0) -> GivenMemory:
    kind = _kind(fact, coded)
    length = next((each for each in fact.sizes if isinstance(each, Size)), None)
    constant = max((each for each in fact.sizes if isinstance(each, int)), default=0)
    record, size = "", constant
    if kind is not None:
        record = kind.name if kind.sort is Sort.RECORD else ""
        size = kind.size if kind.sort is Sort.RECORD else constant or kind.size
    return GivenMemory(
        path,
        record,
        size,
        Length(length.path, length.factor, length.more) if length else None,
        fact.is_read,
        fact.is_written,
        fact.is_text,
        _texts(fact.texts),
        _texts(fact.formats),
    )


def _kind(fact: Fact, coded: int) -> CType | None:
    """Return the type that memory most likely is of: a struct, and of the coded size."""
    ranked = sorted(
        fact.types.items(),
        key=lambda item: (
            item[0].sort is Sort.RECORD and bool(item[0].name),
            item[0].size == coded,
            item[1],
            item[0].size,
        ),
    )
    return ranked[-1][0] if ranked else None


def _is_number(fact: Fact) -> bool:
    """Return whether memory is looked at as a number is."""
    return bool(
        fact.values or fact.required or fact.masks or fact.bounds or fact.takes or fact.gives
    )


def _number(path: Path, fact: Fact) -> GivenNumber:
    return GivenNumber(
        path,
        tuple(sorted(fact.values.items())[:_MOST]),
        tuple(sorted(fact.required.items())[:_MOST]),
        tuple(sorted(fact.masks.items())[:_MOST]),
        tuple(sorted(fact.bounds)[:_MOST]),
        fact.takes,
        fact.gives,
    )


def _texts(texts: set[bytes]) -> tuple[str, ...]:
    return tuple(sorted(each.decode("latin-1") for each in texts if each)[:_MOST])


# Which file has which table.


def _files(program: SourceProgram) -> Iterator[Registered]:
    for table in program.tables.values():
        if table.record != "miscdevice":
            continue
        for row in table.rows:
            name, fops = row.members.get(("name",)), row.members.get(("fops",))
            if isinstance(name, Text):
                of = program.variable(_shown(fops).lstrip("&"), table.unit)
                yield Registered("misc_register", _shown(name), of)
    for function in program.functions:
        text = function.body.text
        if not any(name in text for name in (*_REGISTER, *_DEVICES)):
            continue
        for node in function.body.walk():
            if node.kind is Kind.CALL and node.parts:
                for each in _registered(node):
                    yield replace(each, table=program.variable(each.table, function.unit))


def _registered(node: SyntaxNode) -> Iterator[Registered]:
    name = function_of(node.parts[0])
    arguments = node.parts[1:]
    if name in _REGISTER:
        named, table = _REGISTER[name]
        if table < len(arguments):
            yield Registered(name, _text(arguments[named]), _variable(arguments[table]))
    elif name in _DEVICES:
        number = _DEVICES[name]
        if number < 0 and len(arguments) > 1:
            yield Registered(name, "", _variable(arguments[1]))
        elif number < len(arguments):
            yield Registered(name, _text(arguments[number]), "")


def _shown(value: SourceValue) -> str:
    return value.text.decode("latin-1") if isinstance(value, Text) else ""


def _text(node: SyntaxNode) -> str:
    value = node.value
    return value.decode("latin-1") if isinstance(value, bytes) else ""


def _variable(node: SyntaxNode) -> str:
    while node.kind in (Kind.UNARY, Kind.CAST) and node.parts:
        node = node.parts[-1]
    return node.declared.name if node.kind is Kind.NAME and node.declared else ""
