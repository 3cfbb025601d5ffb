# SPDX-License-Identifier: Apache-2.0
"""The ``calls`` of a description, from YAML nodes to specifications."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import yaml

from fuzzer.target.calls import (
    AnyIoctlSpec,
    CallSpec,
    CallTemplate,
    CountField,
    CreateSpec,
    Field,
    FileKind,
    IoctlSpec,
    LenField,
    PlainKind,
    PlainSpec,
    PointerField,
    PoolField,
    RangeField,
    ReadSpec,
    RecordSpec,
    ReloadSpec,
    SleepSpec,
    StructsField,
    ValuesField,
    WriteSpec,
)
from fuzzer.target.document import Document, one_of
from fuzzer.target.layout import Member, MemberKind, StructLayout
from fuzzer.target.symbols import HeaderSymbols
from fuzzer.target.templates import MAX_PAYLOAD, TemplateParser
from fuzzer.target.traps import in_braces

_PLAIN = tuple(kind.value for kind in PlainKind)
_CREATED = {kind.name.lower(): kind for kind in FileKind}
CALLS = ("write", "read", "pwrite", "pread", *_PLAIN, "create", "ioctl", "sleep", "reload")
IOCTL_KEYS = ("struct", "fields", "value", "payload", "compat")
RECORD_KEYS = ("struct", "fields", "count")
FIELD_RULES = ("pool", "len", "pointer", "values", "range", "struct", "count_of")
# Stands for an ioctl number that nobody knows.
_ANY = "any"
_MAX_WEIGHT = 100
# W_MAX_FIXUPS of vm/channel.h: addresses in one call.
_MAX_POINTERS = 8
_MAX_RECORDS = 1024
# Bytes of a 32-bit program's address.
_LOW_SIZE = 4
# W_MAX_SLEEP of vm/channel.h.
_MAX_SLEEP = 2000
_U32 = 0xFFFFFFFF
_U64 = 0xFFFFFFFFFFFFFFFF
_I64 = -(1 << 63)


class CallParser:
    """Turns nodes into call specifications, given the pools and the header's symbols."""

    def __init__(
        self, document: Document, symbols: HeaderSymbols, pools: Mapping[str, tuple[bytes, ...]]
    ) -> None:
        self._document = document
        self._symbols = symbols
        self._templates = TemplateParser(document, symbols, pools)

    def calls(self, node: yaml.Node) -> tuple[CallSpec, ...]:
        """Return the specifications of the list ``calls``."""
        return tuple(self._call(item) for item in self._document.sequence(node, "calls"))

    def _call(self, node: yaml.Node) -> CallSpec:
        document = self._document
        entries = document.mapping(node, "a call", allowed=None)
        operations = [name for name in entries if name in CALLS]
        if len(operations) != 1:
            for name in entries:
                if name not in (*CALLS, "weight", *IOCTL_KEYS):
                    raise document.error(node, f"no call {name!r}; {one_of(name, CALLS)}")
            given = " and ".join(operations) or "nothing to call"
            raise document.error(node, f"a call has {given}; exactly one of {', '.join(CALLS)}")
        operation = operations[0]
        extra = IOCTL_KEYS if operation == "ioctl" else ()
        document.mapping(node, f"a {operation} call", allowed=(operation, "weight", *extra))
        weight = 1
        if "weight" in entries:
            weight = document.integer(entries["weight"], "weight", 1, _MAX_WEIGHT)
        value = entries[operation]
        if operation == "ioctl":
            return self._ioctl(entries, weight)
        if operation in _PLAIN:
            document.true(value, operation)
            return PlainSpec(PlainKind(operation), weight)
        if operation == "create":
            items = document.sequence(value, operation)
            return CreateSpec(tuple(map(self._created, items)), weight)
        if operation == "reload":
            return ReloadSpec(self._reload(value), weight)
        positioned = operation.startswith("p")
        if operation.endswith("write"):
            return self._write(value, operation, weight)
        items = document.sequence(value, operation)
        if operation == "sleep":
            times = (document.integer(item, "milliseconds", 1, _MAX_SLEEP) for item in items)
            return SleepSpec(tuple(times), weight)
        counts = tuple(document.integer(item, "a count", 0, _U64) for item in items)
        return ReadSpec(counts, positioned, weight)

    def _created(self, node: yaml.Node) -> FileKind:
        name = str(node.value)
        if name not in _CREATED:
            problem = f"no kind of file {name!r}; {one_of(name, tuple(_CREATED))}"
            raise self._document.error(node, problem)
        return _CREATED[name]

    def _reload(self, node: yaml.Node) -> tuple[CallTemplate, ...]:
        """Return the parameters to load the module with: a list, or ``true`` for none."""
        if isinstance(node, yaml.SequenceNode):
            items = self._document.sequence(node, "reload")
            return tuple(map(self._templates.parameters, items))
        self._document.true(node, "reload", otherwise="a list of parameters")
        return (CallTemplate(()),)

    def _write(self, node: yaml.Node, operation: str, weight: int) -> WriteSpec:
        single = isinstance(node, yaml.MappingNode)
        items = [node] if single else self._document.sequence(node, operation)
        templates: list[CallTemplate] = []
        records: list[RecordSpec] = []
        for item in items:
            if text := in_braces(item):
                problem = f'{text} without quotes is a mapping to YAML: write "{text}"'
                raise self._document.error(item, problem)
            if isinstance(item, yaml.MappingNode):
                records.append(self._record(item))
            else:
                templates.append(self._templates.template(item))
        return WriteSpec(tuple(templates), operation == "pwrite", weight, tuple(records))

    def _record(self, node: yaml.Node) -> RecordSpec:
        """Return a struct that is written, or several of them."""
        document = self._document
        entries = document.mapping(
            node, "a struct to write", allowed=RECORD_KEYS, required=("struct",)
        )
        least, most = 1, 1
        if "count" in entries:
            least, most = self._count(entries["count"])
        layout, fields = self._layout(entries)
        if layout is None:
            return RecordSpec(StructLayout(str(entries["struct"].value), 0, ()))
        self._limit(entries["struct"], layout, fields, most)
        n_pointers = most_pointers(fields)
        if most * n_pointers > _MAX_POINTERS:
            raise document.error(
                node,
                f"{most} of {layout.c_type} have {most * n_pointers} pointers; "
                f"{_MAX_POINTERS} are allowed in a call",
            )
        return RecordSpec(layout, fields, least, most)

    def _count(self, node: yaml.Node) -> tuple[int, int]:
        document, what = self._document, "count"
        if document.is_integer(node):
            number = document.integer(node, what, 1, _MAX_RECORDS)
            return number, number
        items = document.sequence(node, what, least=2)
        numbers = [document.integer(item, what, 1, _MAX_RECORDS) for item in items]
        if len(numbers) != 2 or numbers[0] > numbers[1]:
            raise document.error(node, "count is a number, or [lowest, highest]")
        return numbers[0], numbers[1]

    def _layout(
        self, entries: Mapping[str, yaml.Node], *, compat: bool = False
    ) -> tuple[StructLayout | None, tuple[Field, ...]]:
        """Return the struct that is named and the fields that are given for it.

        With ``compat`` it is one of 32-bit programs, whose addresses have 4 bytes.
        """
        layout = self._symbols.struct(entries["struct"])
        fields: tuple[Field, ...] = ()
        if "fields" in entries:
            given = self._document.mapping(entries["fields"], "fields", allowed=None)
            fields = tuple(
                self._field(key, value, layout, compat=compat) for key, value in given.items()
            )
            structs = {field.member: field for field in fields if isinstance(field, StructsField)}
            for field in fields:
                if isinstance(field, CountField) and field.of not in structs:
                    raise self._document.error(
                        given[field.member],
                        f"field {field.member!r}: count_of is of a member with a struct; "
                        f"{field.of!r} has none",
                    )
            if layout is not None:
                layout = _pointing(layout, structs)
        return layout, fields

    def _limit(
        self, node: yaml.Node, layout: StructLayout, fields: tuple[Field, ...], most: int = 1
    ) -> None:
        """Refuse what is longer than a payload may be."""
        total = most * (layout.size + _pointed(fields))
        if total > MAX_PAYLOAD:
            several = f"{most} of " if most > 1 else ""
            owner = "their" if most > 1 else "its"
            raise self._document.error(
                node,
                f"{several}{layout.c_type} and {owner} buffers are {total} bytes; "
                f"{MAX_PAYLOAD} is allowed",
            )

    def _ioctl(self, entries: Mapping[str, yaml.Node], weight: int) -> IoctlSpec | AnyIoctlSpec:
        document, node = self._document, entries["ioctl"]
        sizes: tuple[int, ...] = ()
        compat = "compat" in entries
        if compat:
            document.true(entries["compat"], "compat")
        if "payload" in entries:
            for other in ("struct", "fields", "value"):
                if other in entries:
                    raise document.error(
                        entries["payload"], f"payload beside {other}; an ioctl takes one of them"
                    )
            items = document.sequence(entries["payload"], "payload")
            sizes = tuple(document.integer(i, "bytes", 0, MAX_PAYLOAD) for i in items)
        if node.value == _ANY:
            if not sizes:
                raise document.error(node, "ioctl: any needs a payload: a list of sizes in bytes")
            return AnyIoctlSpec(sizes, weight, compat)
        number = self._symbols.integer(node, "ioctl", 0, _U32)
        name = None if document.is_integer(node) else str(node.value)
        if "struct" not in entries:
            if "fields" in entries:
                raise document.error(
                    entries["fields"], "fields without a struct; name it with 'struct'"
                )
            values: tuple[int, ...] = (0,)
            if "value" in entries:
                items = document.sequence(entries["value"], "value")
                values = tuple(self._symbols.integer(i, "a value", _I64, _U64) for i in items)
            return IoctlSpec(name, number, values=values, sizes=sizes, weight=weight, compat=compat)
        if "value" in entries:
            raise document.error(
                entries["value"], "value beside struct; an ioctl takes one or the other"
            )
        layout, fields = self._layout(entries, compat=compat)
        if layout is None:
            return IoctlSpec(name, number, weight=weight, compat=compat)
        self._limit(entries["struct"], layout, fields)
        return IoctlSpec(name, number, layout, fields, weight=weight, compat=compat)

    def _field(
        self, name: str, node: yaml.Node, layout: StructLayout | None, *, compat: bool
    ) -> Field:
        document = self._document
        what = f"field {name!r}"
        given = document.mapping(node, what, allowed=None)
        if "struct" in given:
            return self._structs(name, node, layout, compat=compat)
        entries = document.mapping(node, what, allowed=FIELD_RULES)
        if len(entries) != 1:
            raise document.error(node, f"{what} needs exactly one of {', '.join(FIELD_RULES)}")
        ((rule, value),) = entries.items()
        member = None if layout is None else self._member(layout, name, node)
        if rule == "pool":
            if member is not None and member.kind is not MemberKind.BYTES:
                raise self._wrong_kind(value, member, rule, "an array")
            return PoolField(name, self._templates.pool(value, document.string(value, "pool")))
        if rule == "pointer":
            self._check_address(value, member, rule, compat=compat)
            return PointerField(name, document.integer(value, "pointer", 0, MAX_PAYLOAD))
        if member is not None and member.kind is not MemberKind.INTEGER:
            raise self._wrong_kind(value, member, rule, "an integer")
        low, high = (_I64, _U64) if member is None else _bounds(member)
        if rule in ("len", "count_of"):
            of = document.string(value, rule)
            if layout is not None and self._member(layout, of, value).name == name:
                raise document.error(value, f"{what} cannot be the length of itself")
            return LenField(name, of) if rule == "len" else CountField(name, of)
        items = document.sequence(value, rule)
        numbers = tuple(self._symbols.integer(item, what, low, high) for item in items)
        if rule == "values":
            return ValuesField(name, numbers)
        if len(numbers) != 2 or (layout is not None and numbers[0] > numbers[1]):
            raise document.error(value, f"{what}: range is [lowest, highest]")
        return RangeField(name, *numbers)

    def _structs(
        self, name: str, node: yaml.Node, layout: StructLayout | None, *, compat: bool
    ) -> StructsField:
        """Return a member that has the address of a struct, or of several of them."""
        document = self._document
        entries = document.mapping(node, f"field {name!r}", allowed=RECORD_KEYS)
        member = None if layout is None else self._member(layout, name, node)
        self._check_address(entries["struct"], member, "struct", compat=compat)
        least, most = self._count(entries["count"]) if "count" in entries else (1, 1)
        inner, fields = self._layout(entries, compat=compat)
        if inner is None:
            inner = StructLayout(str(entries["struct"].value), 0, ())
        return StructsField(name, inner, fields, least, most)

    def _check_address(
        self, node: yaml.Node, member: Member | None, rule: str, *, compat: bool
    ) -> None:
        if member is None or member.holds_address:
            return
        if compat and member.kind is not MemberKind.BYTES and member.size == _LOW_SIZE:
            return
        bits = "32- or 64-bit" if compat else "64-bit"
        raise self._wrong_kind(node, member, rule, f"a pointer or a {bits} integer")

    def _member(self, layout: StructLayout, name: str, node: yaml.Node) -> Member:
        member = layout.member(name)
        if member is None:
            names = [m.name for m in layout.members]
            raise self._document.error(
                node, f"{layout.c_type} has no member {name!r}; {one_of(name, names)}"
            )
        return member

    def _wrong_kind(self, node: yaml.Node, member: Member, rule: str, expected: str) -> Exception:
        kinds = {
            MemberKind.INTEGER: f"an integer of {member.size} bytes",
            MemberKind.POINTER: "a pointer",
            MemberKind.BYTES: "an array, a union or a bit-field",
        }
        return self._document.error(
            node, f"{rule!r} is for {expected}; member {member.name!r} is {kinds[member.kind]}"
        )


def most_pointers(fields: Sequence[Field]) -> int:
    """Return how many addresses a struct with such fields has at most."""
    structs = (field for field in fields if isinstance(field, StructsField))
    return sum(isinstance(field, PointerField) for field in fields) + sum(
        1 + each.most * most_pointers(each.fields) for each in structs
    )


def _pointed(fields: Sequence[Field]) -> int:
    """Return the bytes that addresses in a struct with such fields are of at most."""
    structs = (field for field in fields if isinstance(field, StructsField))
    return sum(field.size for field in fields if isinstance(field, PointerField)) + sum(
        each.most * (each.struct.size + _pointed(each.fields)) for each in structs
    )


def _pointing(layout: StructLayout, structs: Mapping[str, StructsField]) -> StructLayout:
    """Return a struct whose members tell what they have the address of."""
    members = tuple(
        dataclasses.replace(member, of=structs[member.name].struct)
        if member.name in structs
        else member
        for member in layout.members
    )
    return dataclasses.replace(layout, members=members)


def _bounds(member: Member) -> tuple[int, int]:
    """Return what fits the member, whether it is written signed or unsigned."""
    bits = member.size * 8
    return -(1 << (bits - 1)), (1 << bits) - 1
