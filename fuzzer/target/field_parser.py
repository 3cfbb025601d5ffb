# SPDX-License-Identifier: Apache-2.0
"""The ``fields`` of a struct in a description, from YAML nodes to rules."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence

import yaml

from fuzzer.target.calls import (
    CountField,
    ElementsField,
    Field,
    FlagsField,
    GivesField,
    LenField,
    PointerField,
    PoolField,
    RangeField,
    StructsField,
    TakesField,
    UnionField,
    ValuesField,
)
from fuzzer.target.document import Document, one_of
from fuzzer.target.layout import Member, MemberKind, StructLayout, UnionChoice
from fuzzer.target.symbols import HeaderSymbols
from fuzzer.target.templates import MAX_PAYLOAD, TemplateParser

RECORD_KEYS = ("struct", "fields", "count")
FIELD_RULES = (
    *("pool", "len", "pointer", "values", "range", "flags", "struct", "count_of"),
    *("gives", "takes", "union", "elements"),
)
FIELD_KEYS = ("fields", "count", "unit", "align")
"""Keys that stand beside the rule of a member."""

PARENT = "parent"
"""The struct itself, of which a member has the length."""

# The rule that each of the other keys goes with.
_BESIDE = {"unit": ("len",), "align": ("range",), "count": ("elements", "struct")}
_BESIDE |= {"fields": ("struct",)}
_UNION_KEYS = ("by", "of")
_KIND = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_MAX_RECORDS = 1024
# Elements of an array without a size, unless their number is given.
_FLEXIBLE = 4
# Bytes of a 32-bit program's address, and of a handle.
_LOW_SIZE, _HANDLE_SIZES = 4, (4, 8)
_U64 = 0xFFFFFFFFFFFFFFFF
_I64 = -(1 << 63)


class FieldParser:
    """Turns nodes into rules for the members of structs."""

    def __init__(
        self, document: Document, symbols: HeaderSymbols, templates: TemplateParser
    ) -> None:
        self._document = document
        self._symbols = symbols
        self._templates = templates

    def kind(self, node: yaml.Node, what: str) -> str:
        """Return the name of a kind of handles."""
        return self._document.matching(node, what, _KIND, "a name of letters, digits and _")

    def count(self, node: yaml.Node, least: int = 1) -> tuple[int, int]:
        """Return how many structs there are: a number, or lowest and highest."""
        document, what = self._document, "count"
        if document.is_integer(node):
            number = document.integer(node, what, 1, _MAX_RECORDS)
            return number, number
        items = document.sequence(node, what, least=2)
        numbers = [document.integer(item, what, least, _MAX_RECORDS) for item in items]
        if len(numbers) != 2 or numbers[0] > numbers[1]:
            raise document.error(node, "count is a number, or [lowest, highest]")
        return numbers[0], numbers[1]

    def layout(
        self,
        entries: Mapping[str, yaml.Node],
        *,
        compat: bool = False,
        scope: Sequence[StructLayout | None] = (),
    ) -> tuple[StructLayout | None, tuple[Field, ...]]:
        """Return the struct that is named and the fields that are given for it.

        With ``compat`` it is one of 32-bit programs, whose addresses have 4 bytes. ``scope`` are
        the structs that it is in or pointed to by.
        """
        layout = self._symbols.struct(entries["struct"])
        if "fields" not in entries:
            return layout, ()
        return self._given(entries["fields"], layout, compat=compat, scope=scope)

    def _given(
        self,
        node: yaml.Node,
        layout: StructLayout | None,
        *,
        compat: bool,
        scope: Sequence[StructLayout | None],
    ) -> tuple[StructLayout | None, tuple[Field, ...]]:
        given = self._document.mapping(node, "fields", allowed=None)
        within = (layout, *scope)
        fields = tuple(
            self._field(key, value, layout, compat=compat, scope=within)
            for key, value in given.items()
        )
        rules = {field.member: field for field in fields}
        for field in fields:
            if not isinstance(field, CountField):
                continue
            is_own = not scope if layout is None else layout.member(field.of) is not None
            if is_own and not isinstance(rules.get(field.of), StructsField | ElementsField):
                raise self._document.error(
                    given[field.member],
                    f"field {field.member!r}: count_of is of a member with a struct or elements; "
                    f"{field.of!r} has none",
                )
        return (told(layout, fields) if layout is not None else None), fields

    def limit(
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

    def _field(
        self,
        name: str,
        node: yaml.Node,
        layout: StructLayout | None,
        *,
        compat: bool,
        scope: Sequence[StructLayout | None],
    ) -> Field:
        document = self._document
        what = f"field {name!r}"
        entries = document.mapping(node, what, allowed=(*FIELD_RULES, *FIELD_KEYS))
        found = [key for key in entries if key in FIELD_RULES]
        if len(found) != 1:
            raise document.error(node, f"{what} needs exactly one of {', '.join(FIELD_RULES)}")
        rule, value = found[0], entries[found[0]]
        for key in entries:
            if key != rule and rule not in _BESIDE[key]:
                raise document.error(
                    entries[key], f"{what}: {key} goes with {' or '.join(_BESIDE[key])} only"
                )
        member = None if layout is None else self._member(layout, name, node)
        match rule:
            case "struct":
                return self._structs(name, entries, member, compat=compat, scope=scope)
            case "elements":
                return self._elements(name, entries, member, compat=compat, scope=scope)
            case "union":
                return self._union(name, value, layout, member)
            case "gives" | "takes":
                self._check_handle(value, member, rule)
                kind = self.kind(value, rule)
                return GivesField(name, kind) if rule == "gives" else TakesField(name, kind)
            case "pool":
                if member is not None and member.kind is not MemberKind.BYTES:
                    raise self._wrong_kind(value, member, rule, "an array")
                return PoolField(name, self._templates.pool(value, document.string(value, "pool")))
            case "pointer":
                self._check_address(value, member, rule, compat=compat)
                return PointerField(name, document.integer(value, "pointer", 0, MAX_PAYLOAD))
        if member is not None and member.kind is not MemberKind.INTEGER:
            raise self._wrong_kind(value, member, rule, "an integer")
        if rule in ("len", "count_of"):
            return self._length(name, rule, entries, scope)
        return self._numbers(name, rule, entries, member)

    def _length(
        self,
        name: str,
        rule: str,
        entries: Mapping[str, yaml.Node],
        scope: Sequence[StructLayout | None],
    ) -> Field:
        document, value = self._document, entries[rule]
        of = document.string(value, rule)
        if of != PARENT or rule != "len":
            known = [each for each in scope if each is not None]
            holder = next((each for each in known if each.member(of) is not None), None)
            if known and holder is None:
                self._member(known[0], of, value)
            if known and holder is known[0] and of == name:
                raise document.error(value, f"field {name!r} cannot be the length of itself")
        if rule == "count_of":
            return CountField(name, of)
        unit = 1
        if "unit" in entries:
            unit = document.integer(entries["unit"], "unit", 1, MAX_PAYLOAD)
        return LenField(name, of, unit)

    def _numbers(
        self, name: str, rule: str, entries: Mapping[str, yaml.Node], member: Member | None
    ) -> Field:
        document, value, what = self._document, entries[rule], f"field {name!r}"
        low, high = (_I64, _U64) if member is None else _bounds(member)
        items = document.sequence(value, rule)
        numbers = tuple(self._symbols.integer(item, what, low, high) for item in items)
        if rule == "values":
            return ValuesField(name, numbers)
        if rule == "flags":
            return FlagsField(name, numbers)
        if len(numbers) != 2 or (member is not None and numbers[0] > numbers[1]):
            raise document.error(value, f"{what}: range is [lowest, highest]")
        align = 1
        if "align" in entries:
            align = self._symbols.integer(entries["align"], "align", 1, 1 << 32)
        return RangeField(name, *numbers, max(align, 1))

    def _structs(
        self,
        name: str,
        entries: Mapping[str, yaml.Node],
        member: Member | None,
        *,
        compat: bool,
        scope: Sequence[StructLayout | None],
    ) -> StructsField:
        """Return a member that has the address of a struct, or of several of them."""
        self._check_address(entries["struct"], member, "struct", compat=compat)
        least, most = self.count(entries["count"]) if "count" in entries else (1, 1)
        inner, fields = self.layout(entries, compat=compat, scope=scope)
        if inner is None:
            inner = StructLayout(str(entries["struct"].value), 0, ())
        return StructsField(name, inner, fields, least, most)

    def _elements(
        self,
        name: str,
        entries: Mapping[str, yaml.Node],
        member: Member | None,
        *,
        compat: bool,
        scope: Sequence[StructLayout | None],
    ) -> ElementsField:
        """Return an array in a struct: the fields of an element, or the rule of a number."""
        document, node = self._document, entries["elements"]
        element = member.element if member is not None else None
        if member is not None and element is None:
            raise self._wrong_kind(node, member, "elements", "an array of structs or numbers")
        given = document.mapping(node, "elements", allowed=None)
        is_rule = not all(isinstance(each, yaml.MappingNode) for each in given.values())
        least, most = (1, _FLEXIBLE) if member is None or not member.count else (0, member.count)
        if "count" in entries:
            least, most = self.count(entries["count"], 0)
            if member is not None and 0 < member.count < most:
                problem = f"count is {most}; {member.name!r} has {member.count} elements"
                raise document.error(entries["count"], problem)
        if is_rule:
            field = self._field("", node, element, compat=compat, scope=(element, *scope))
            return ElementsField(name, element or StructLayout("", 0, ()), (field,), least, most)
        inner, fields = self._given(node, element, compat=compat, scope=scope)
        return ElementsField(name, inner or StructLayout("", 0, ()), fields, least, most)

    def _union(
        self, name: str, node: yaml.Node, layout: StructLayout | None, member: Member | None
    ) -> UnionField:
        """Return a union with the choice for each value of another member."""
        document = self._document
        if member is not None and not member.is_union:
            raise self._wrong_kind(node, member, "union", "a union")
        entries = document.mapping(node, "union", allowed=_UNION_KEYS, required=_UNION_KEYS)
        by = document.string(entries["by"], "by")
        teller = None if layout is None else self._member(layout, by, entries["by"])
        if teller is not None and teller.kind is not MemberKind.INTEGER:
            raise self._wrong_kind(entries["by"], teller, "by", "an integer")
        if not isinstance(entries["of"], yaml.MappingNode):
            document.mapping(entries["of"], "of")
        low, high = (_I64, _U64) if teller is None else _bounds(teller)
        names = [each.name for each in member.choices] if member is not None else []
        cases: list[tuple[int, str]] = []
        for key, value in entries["of"].value:
            number = self._symbols.integer(key, f"a value of {by}", low, high)
            choice = document.string(value, "a member of the union")
            if names and choice not in names:
                raise document.error(
                    value, f"{name} has no member {choice!r}; {one_of(choice, names)}"
                )
            cases.append((number, choice))
        if not cases:
            raise document.error(entries["of"], "of has no value with a member of the union")
        return UnionField(name, by, tuple(cases))

    def _check_handle(self, node: yaml.Node, member: Member | None, rule: str) -> None:
        if member is None or (
            member.kind is not MemberKind.BYTES
            and not member.bits
            and member.size in _HANDLE_SIZES
            and not member.is_big
        ):
            return
        raise self._wrong_kind(node, member, rule, "an integer of 4 or 8 bytes")

    def _check_address(
        self, node: yaml.Node, member: Member | None, rule: str, *, compat: bool
    ) -> None:
        if member is None or (member.holds_address and not member.bits):
            return
        is_low = member.kind is not MemberKind.BYTES and member.size == _LOW_SIZE
        if compat and is_low and not member.bits:
            return
        bits = "32- or 64-bit" if compat else "64-bit"
        raise self._wrong_kind(node, member, rule, f"a pointer or a {bits} integer")

    def _member(self, layout: StructLayout, name: str, node: yaml.Node) -> Member:
        member = layout.member(name)
        if member is None:
            names = [m.name for m in layout.every()]
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
        kind = f"a bit-field of {member.bits} bits" if member.bits else kinds[member.kind]
        return self._document.error(
            node, f"{rule!r} is for {expected}; member {member.name!r} is {kind}"
        )


def most_pointers(fields: Sequence[Field]) -> int:
    """Return how many addresses and handles a struct with such fields has at most."""
    own = (PointerField, GivesField, TakesField)
    return sum(isinstance(field, own) for field in fields) + sum(
        isinstance(each, StructsField) + each.most * most_pointers(each.fields)
        for each in fields
        if isinstance(each, StructsField | ElementsField)
    )


def _pointed(fields: Sequence[Field]) -> int:
    """Return the bytes that addresses in a struct with such fields are of at most."""
    total = sum(field.size for field in fields if isinstance(field, PointerField))
    for each in fields:
        if isinstance(each, StructsField | ElementsField):
            own = each.struct.size if isinstance(each, StructsField) else 0
            total += each.most * (own + _pointed(each.fields))
    return total


def told(layout: StructLayout, fields: Sequence[Field]) -> StructLayout:
    """Return a struct whose members tell what is said of them: pointers, unions, elements."""
    rules = {field.member: field for field in fields}

    def of(member: Member) -> Member:
        rule = rules.get(member.name)
        if isinstance(rule, StructsField):
            return dataclasses.replace(member, of=rule.struct)
        if isinstance(rule, ElementsField):
            return dataclasses.replace(member, element=rule.struct)
        if isinstance(rule, UnionField):
            member = dataclasses.replace(member, by=rule.by, cases=rule.cases)
        choices = tuple(UnionChoice(c.name, tuple(map(of, c.members))) for c in member.choices)
        return dataclasses.replace(member, choices=choices) if choices else member

    return dataclasses.replace(layout, members=tuple(map(of, layout.members)))


def _bounds(member: Member) -> tuple[int, int]:
    """Return what fits the member, whether it is written signed or unsigned."""
    return -(1 << (member.width - 1)), (1 << member.width) - 1
