# SPDX-License-Identifier: Apache-2.0
"""Lint of descriptions: text that is valid but probably not meant, with its place."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import yaml

from fuzzer.target.calls import (
    FD,
    AnyIoctlSpec,
    CallSpec,
    CallTemplate,
    ElementsField,
    Field,
    IoctlSpec,
    LenField,
    PlainKind,
    PlainSpec,
    PointerField,
    PoolField,
    PoolRef,
    RecordSpec,
    ReloadSpec,
    StructsField,
    UnionField,
    WriteSpec,
    kinds_of,
)
from fuzzer.target.check import Diagnostic, DiagnosticSeverity, Reading
from fuzzer.target.document import Document
from fuzzer.target.field_parser import most_pointers
from fuzzer.target.layout import Member, MemberKind, StructLayout, every_member
from fuzzer.target.target import Target
from fuzzer.untrusted import read_text

# W_MAX_FIXUPS of vm/channel.h.
_MAX_POINTERS = 32
_SHOWN = 6
_DIRECTIONS = ("_IO", "_IOW", "_IOR", "_IOWR")
_DEFINED = re.compile(r"^[ \t]*#[ \t]*define[ \t]+(\w+)[ \t]+_IO(?:R|W|WR)?[ \t]*\(", re.MULTILINE)
# Values of a member that a description does not mention; docs/descriptions.md has them in full.
_GETS = {
    MemberKind.INTEGER: "mostly 0, else numbers at limits",
    MemberKind.POINTER: "mostly NULL, else such numbers",
    MemberKind.BYTES: "mostly zeros, else strings of any pool; of a union any member",
}
_KINDS = {
    MemberKind.INTEGER: "integers",
    MemberKind.POINTER: "pointers",
    MemberKind.BYTES: "bytes",
}


def ioctl_parts(number: int) -> tuple[str, int]:
    """Return the macro that makes such ioctl numbers, and the bytes that this one tells."""
    return _DIRECTIONS[number >> 30], number >> 16 & 0x3FFF


def lint(reading: Reading) -> tuple[Diagnostic, ...]:
    """Return warnings and notes on a description, in the order of its lines."""
    if reading.target is None or reading.document is None:
        return ()
    found = [*_Lint(reading, reading.target, reading.document).findings()]
    return tuple(sorted(found, key=lambda finding: (finding.line, finding.column)))


class _Lint:
    def __init__(self, reading: Reading, target: Target, document: Document) -> None:
        self._document = document
        self._target = target
        self._is_resolved = reading.is_resolved
        # Parts with errors are left out, and with them the names that they define and use.
        self._is_whole = not reading.errors
        self._root = _entries(reading.root)
        nodes = self._root["calls"].value
        self._calls: list[tuple[CallSpec, Mapping[str, yaml.Node]]] = [
            (spec, _entries(node)) for spec, node in zip(target.calls, nodes, strict=True)
        ]

    def findings(self) -> Iterator[Diagnostic]:
        """Yield the findings, by kind."""
        yield from self._anchors()
        yield from self._never_made()
        yield from self._structs()
        yield from self._handles()
        if self._is_resolved:
            yield from self._numbers()
        if self._is_whole:
            yield from self._unused()

    def _at(self, where: yaml.Node, severity: DiagnosticSeverity, message: str) -> Diagnostic:
        return Diagnostic(severity, *self._document.place(where), message)

    def _note(self, where: yaml.Node, message: str) -> Diagnostic:
        return self._at(where, DiagnosticSeverity.NOTE, message)

    def _warning(self, where: yaml.Node, message: str) -> Diagnostic:
        return self._at(where, DiagnosticSeverity.WARNING, message)

    def _anchors(self) -> Iterator[Diagnostic]:
        for name, line, column in self._document.unused_anchors():
            problem = f"&{name} is an anchor to YAML, and not text: nothing refers to it"
            yield Diagnostic(
                DiagnosticSeverity.WARNING, line, column, f"{problem}; put it in quotes"
            )

    def _never_made(self) -> Iterator[Diagnostic]:
        opens = any(isinstance(s, PlainSpec) and s.kind is PlainKind.OPEN for s, _ in self._calls)
        for spec, entries in self._calls:
            if isinstance(spec, ReloadSpec) and self._target.module.builtin:
                yield self._warning(
                    entries["reload"],
                    "never made: a driver that is built in is not loaded again",
                )
            if isinstance(spec, PlainSpec) and spec.kind is PlainKind.CLOSE and not opens:
                yield self._note(
                    entries["close"], "only the first file is ever open without 'open: true'"
                )

    def _structs(self) -> Iterator[Diagnostic]:
        for spec, entries in self._calls:
            if isinstance(spec, IoctlSpec) and spec.struct is not None:
                only_read = ioctl_parts(spec.number)[0] == "_IOR"
                yield from self._struct(entries, spec.struct, spec.fields, only_read=only_read)
                pointers = most_pointers(spec.fields)
                if pointers > _MAX_POINTERS:
                    yield self._warning(
                        entries["fields"],
                        f"{pointers} pointers; the first {_MAX_POINTERS} are filled, "
                        "others stay NULL",
                    )
            elif isinstance(spec, WriteSpec):
                for record, node in self._records(spec, entries):
                    yield from self._struct(node, record.struct, record.fields)

    def _handles(self) -> Iterator[Diagnostic]:
        if not self._is_whole:
            return
        given = {kind for spec, _ in self._calls for kind in kinds_of(spec)[0]}
        taken = {kind for spec, _ in self._calls for kind in kinds_of(spec)[1]}
        taken |= {str(each["file"].value) for _, each in self._calls if "file" in each}
        for spec, entries in self._calls:
            node = next(iter(entries.values()))
            if "file" in entries and (kind := str(entries["file"].value)) not in given:
                yield self._warning(entries["file"], f"no call gives a {kind}: none is ever open")
            for kind in kinds_of(spec)[1]:
                if kind not in given | {FD}:
                    yield self._warning(node, f"no call gives the {kind} that this one takes")
            for kind in kinds_of(spec)[0]:
                if kind not in taken | {FD}:
                    yield self._note(node, f"no call takes the {kind} that this one gives")

    def _records(
        self, spec: WriteSpec, entries: Mapping[str, yaml.Node]
    ) -> Iterator[tuple[RecordSpec, Mapping[str, yaml.Node]]]:
        node = entries["pwrite" if spec.positioned else "write"]
        items = [node] if isinstance(node, yaml.MappingNode) else node.value
        nodes = [item for item in items if isinstance(item, yaml.MappingNode)]
        for record, item in zip(spec.records, nodes, strict=True):
            yield record, _entries(item)

    def _struct(
        self,
        entries: Mapping[str, yaml.Node],
        layout: StructLayout,
        fields: Sequence[Field],
        *,
        only_read: bool = False,
    ) -> Iterator[Diagnostic]:
        if not self._is_resolved:
            return
        rules = {field.member: field for field in fields}
        nodes = _entries(entries["fields"]) if "fields" in entries else {}
        for field in fields:
            of = layout.member(field.of) if isinstance(field, LenField) else None
            if of is not None and (problem := _empty(of, rules.get(of.name))):
                yield self._warning(nodes[field.member], f"len of {of.name!r}, {problem}")
        left = [member for member in _said_apart(layout) if not _is_said(member, rules)]
        if left and self._is_whole and not only_read:
            yield self._note(entries["struct"], f"{layout.c_type}: {_left(left)}")

    def _numbers(self) -> Iterator[Diagnostic]:
        seen: dict[tuple[int, bool], tuple[IoctlSpec, yaml.Node]] = {}
        for spec, entries in self._calls:
            if not isinstance(spec, IoctlSpec):
                continue
            call = "uring_cmd" if spec.uring else "ioctl"
            node = entries[call]
            if (spec.number, spec.uring) in seen:
                first, other = seen[spec.number, spec.uring]
                line = self._document.line(other)
                severity = DiagnosticSeverity.NOTE
                same = "with another argument"
                if (first.struct, first.values, first.sizes, first.compat) == (
                    spec.struct,
                    spec.values,
                    spec.sizes,
                    spec.compat,
                ):
                    severity, same = DiagnosticSeverity.WARNING, "with the same argument"
                message = f"{call} {spec.number:#x} is on line {line} too, {same}"
                yield self._at(node, severity, message)
            seen.setdefault((spec.number, spec.uring), (spec, node))
            if not spec.uring:
                yield from self._size(spec, entries)

    def _size(self, spec: IoctlSpec, entries: Mapping[str, yaml.Node]) -> Iterator[Diagnostic]:
        macro, size = ioctl_parts(spec.number)
        name = spec.name or f"{spec.number:#x}"
        if spec.struct is not None:
            what = f"{spec.struct.c_type} has {spec.struct.size}"
            if size and size != spec.struct.size:
                message = f"{name} tells {size} bytes ({macro}), {what}"
                yield self._warning(entries["struct"], message)
            elif not size and spec.number >> 8:
                yield self._note(entries["struct"], f"{name} tells no argument ({macro}), {what}")
        elif spec.sizes:
            if size and size not in spec.sizes:
                yield self._note(
                    entries["payload"],
                    f"{name} tells {size} bytes ({macro}), which is none of these",
                )
        elif size and spec.number >> 30 and "value" not in entries:
            yield self._note(
                entries["ioctl"],
                f"{name} tells {size} bytes ({macro}), and a mere value is passed; "
                "name its 'struct', or give a 'payload'",
            )

    def _unused(self) -> Iterator[Diagnostic]:
        used = {name for spec, _ in self._calls for name in _pools(spec)}
        pools = _keys(self._root["pools"]) if "pools" in self._root else {}
        for name, node in pools.items():
            if name not in used:
                yield self._note(
                    node,
                    f"pool {name!r} is used by no template and no field; its strings only turn up "
                    "in buffers, and in members of which nothing is said",
                )
        if self._is_resolved and "header" in self._root:
            described = {spec.name for spec, _ in self._calls if isinstance(spec, IoctlSpec)}
            numbers = {spec.number for spec, _ in self._calls if isinstance(spec, IoctlSpec)}
            if any(isinstance(spec, AnyIoctlSpec) for spec, _ in self._calls):
                return
            for path in self._target.headers:
                others = [
                    name
                    for name in _defined(path)
                    if name not in described and self._target.constants.get(name) not in numbers
                ]
                if others:
                    yield self._note(
                        self._root["header"],
                        f"{path.name} has ioctls that no call makes: {', '.join(others)}",
                    )


def _empty(member: Member, rule: Field | None) -> str:
    """Return why a length of a member is that of nothing, empty if it is not."""
    if isinstance(rule, PoolField | PointerField | StructsField | ElementsField):
        return ""
    if rule is not None or member.kind is not MemberKind.BYTES:
        return f"which is {_KINDS[member.kind].rstrip('s')} and no array or pointer: it is 0"
    return "of which nothing is said: it is mostly 0"


def _said_apart(layout: StructLayout) -> Iterator[Member]:
    """Yield the members of which something can be said, bit-fields each by its name."""
    for member in layout.members:
        if member.choices and not member.is_union:
            yield from member.choices[0].members
        else:
            yield member


def _is_said(member: Member, rules: Mapping[str, Field]) -> bool:
    """Tell whether anything is said of a member, or of what is in a union."""
    inner = (each.name for choice in member.choices for each in every_member(choice.members))
    tells = any(isinstance(each, UnionField) and each.by == member.name for each in rules.values())
    return tells or member.name in rules or any(name in rules for name in inner)


def _left(members: Sequence[Member]) -> str:
    """Return which members nothing is said of, and what they get."""
    parts = []
    for kind, gets in _GETS.items():
        names = [member.name for member in members if member.kind is kind]
        if names:
            more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
            parts.append(f"{', '.join(names[:_SHOWN])}{more} ({_KINDS[kind]}: {gets})")
    return "nothing is said of " + "; ".join(parts)


def _pools(spec: CallSpec) -> Iterator[str]:
    """Yield the pools that a call uses."""
    templates: Sequence[CallTemplate] = ()
    fields: list[Field] = []
    if isinstance(spec, WriteSpec | ReloadSpec):
        templates = spec.templates
    if isinstance(spec, WriteSpec):
        fields += [field for record in spec.records for field in record.fields]
    if isinstance(spec, IoctlSpec):
        fields += spec.fields
    for template in templates:
        yield from (part.pool for part in template.parts if isinstance(part, PoolRef))
    yield from _pools_of(fields)


def _pools_of(fields: Sequence[Field]) -> Iterator[str]:
    for field in fields:
        if isinstance(field, PoolField):
            yield field.pool
        elif isinstance(field, StructsField | ElementsField):
            yield from _pools_of(field.fields)


def _defined(header: Path) -> list[str]:
    """Return the names of ioctl numbers that a header defines."""
    return _DEFINED.findall(read_text(header, errors="replace"))


def _entries(node: yaml.Node) -> dict[str, yaml.Node]:
    return {str(key.value): value for key, value in node.value}


def _keys(node: yaml.Node) -> dict[str, yaml.Node]:
    return {str(key.value): key for key, _ in node.value}
