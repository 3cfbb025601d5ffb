# SPDX-License-Identifier: Apache-2.0
"""The ``calls`` of a description, from YAML nodes to specifications."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import yaml

from fuzzer.target.calls import (
    AnyIoctlSpec,
    CallSpec,
    CallTemplate,
    CreateSpec,
    FileKind,
    IoctlSpec,
    PlainKind,
    PlainSpec,
    ReadSpec,
    RecordSpec,
    ReloadSpec,
    SleepSpec,
    WriteSpec,
)
from fuzzer.target.document import Document, one_of
from fuzzer.target.field_parser import RECORD_KEYS, FieldParser, most_pointers
from fuzzer.target.layout import StructLayout
from fuzzer.target.symbols import HeaderSymbols
from fuzzer.target.templates import MAX_PAYLOAD, TemplateParser
from fuzzer.target.traps import in_braces

_PLAIN = tuple(kind.value for kind in PlainKind)
_CREATED = {kind.name.lower(): kind for kind in FileKind}
IOCTLS = ("ioctl", "uring_cmd")
CALLS = ("write", "read", "pwrite", "pread", *_PLAIN, "create", *IOCTLS, "sleep", "reload")
CALL_KEYS = ("weight", "file")
IOCTL_KEYS = ("struct", "fields", "value", "payload", "compat", "returns", "takes")
_URING_KEYS = tuple(key for key in IOCTL_KEYS if key != "compat")
# Calls that are made on no file, or on a new one.
_WITHOUT_FILE = ("open", "reload", "sleep", "create", "child", "uring")
# Stands for an ioctl number that nobody knows.
_ANY = "any"
_MAX_WEIGHT = 100
# W_MAX_FIXUPS of vm/channel.h: addresses in one call.
_MAX_POINTERS = 32
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
        self._fields = FieldParser(document, symbols, self._templates)

    def calls(self, node: yaml.Node) -> tuple[CallSpec, ...]:
        """Return the specifications of the list ``calls``."""
        return tuple(self._call(item) for item in self._document.sequence(node, "calls"))

    def _call(self, node: yaml.Node) -> CallSpec:
        document = self._document
        entries = document.mapping(node, "a call", allowed=None)
        operations = [name for name in entries if name in CALLS]
        if len(operations) != 1:
            for name in entries:
                if name not in (*CALLS, *CALL_KEYS, *IOCTL_KEYS):
                    raise document.error(node, f"no call {name!r}; {one_of(name, CALLS)}")
            given = " and ".join(operations) or "nothing to call"
            raise document.error(node, f"a call has {given}; exactly one of {', '.join(CALLS)}")
        operation = operations[0]
        keys = {"ioctl": IOCTL_KEYS, "uring_cmd": _URING_KEYS, "mmap": ("takes",)}
        extra = keys.get(operation, ())
        document.mapping(node, f"a {operation} call", allowed=(operation, *CALL_KEYS, *extra))
        weight = 1
        if "weight" in entries:
            weight = document.integer(entries["weight"], "weight", 1, _MAX_WEIGHT)
        value = entries[operation]
        file = self._kind(entries, "file")
        if file and operation in _WITHOUT_FILE:
            raise document.error(entries["file"], f"{operation} is made on no file")
        if operation in IOCTLS:
            made = self._ioctl(entries, operation, weight)
            return dataclasses.replace(made, file=file, uring=operation == "uring_cmd")
        if operation in _PLAIN:
            document.true(value, operation)
            return PlainSpec(PlainKind(operation), weight, file, self._kind(entries, "takes"))
        if operation == "create":
            items = document.sequence(value, operation)
            return CreateSpec(tuple(map(self._created, items)), weight)
        if operation == "reload":
            return ReloadSpec(self._reload(value), weight)
        positioned = operation.startswith("p")
        if operation.endswith("write"):
            return dataclasses.replace(self._write(value, operation, weight), file=file)
        items = document.sequence(value, operation)
        if operation == "sleep":
            times = (document.integer(item, "milliseconds", 1, _MAX_SLEEP) for item in items)
            return SleepSpec(tuple(times), weight)
        counts = tuple(document.integer(item, "a count", 0, _U64) for item in items)
        return ReadSpec(counts, positioned, weight, file)

    def _kind(self, entries: Mapping[str, yaml.Node], key: str) -> str:
        """Return a kind of handles; empty if there is none."""
        return self._fields.kind(entries[key], key) if key in entries else ""

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
            least, most = self._fields.count(entries["count"])
        layout, fields = self._fields.layout(entries)
        if layout is None:
            return RecordSpec(StructLayout(str(entries["struct"].value), 0, ()))
        self._fields.limit(entries["struct"], layout, fields, most)
        n_pointers = most_pointers(fields)
        if most * n_pointers > _MAX_POINTERS:
            raise document.error(
                node,
                f"{most} of {layout.c_type} have {most * n_pointers} pointers; "
                f"{_MAX_POINTERS} are allowed in a call",
            )
        return RecordSpec(layout, fields, least, most)

    def _ioctl(
        self, entries: Mapping[str, yaml.Node], operation: str, weight: int
    ) -> IoctlSpec | AnyIoctlSpec:
        document, node = self._document, entries[operation]
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
                raise document.error(
                    node, f"{operation}: any needs a payload: a list of sizes in bytes"
                )
            return AnyIoctlSpec(sizes, weight, compat)
        number = self._symbols.integer(node, operation, 0, _U32)
        name = None if document.is_integer(node) else str(node.value)
        takes, returns = self._kind(entries, "takes"), self._kind(entries, "returns")
        for other in ("struct", "value", "payload"):
            if takes and other in entries:
                raise document.error(
                    entries["takes"], f"takes beside {other}; an ioctl takes one of them"
                )
        if "struct" not in entries:
            if "fields" in entries:
                raise document.error(
                    entries["fields"], "fields without a struct; name it with 'struct'"
                )
            values: tuple[int, ...] = (0,)
            if "value" in entries:
                items = document.sequence(entries["value"], "value")
                values = tuple(self._symbols.integer(i, "a value", _I64, _U64) for i in items)
            spec = IoctlSpec(name, number, values=values, sizes=sizes, weight=weight, compat=compat)
            return dataclasses.replace(spec, takes=takes, returns=returns)
        if "value" in entries:
            raise document.error(
                entries["value"], "value beside struct; an ioctl takes one or the other"
            )
        layout, fields = self._fields.layout(entries, compat=compat)
        if layout is None:
            return IoctlSpec(name, number, weight=weight, compat=compat)
        self._fields.limit(entries["struct"], layout, fields)
        spec = IoctlSpec(name, number, layout, fields, weight=weight, compat=compat)
        return dataclasses.replace(spec, takes=takes, returns=returns)
