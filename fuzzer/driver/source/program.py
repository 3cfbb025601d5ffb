# SPDX-License-Identifier: Apache-2.0
"""A driver's source: all its functions, its tables, and who is called through which member."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from fuzzer.driver.source.tree import Kind, Sort, SourceFunction, SourceUnit, SyntaxNode
from fuzzer.driver.source.values import Constant, Functions, Path, SourceValue, Text

_MOST_ROWS = 1024
_SET = re.compile(r"[={,(?:]\s*&?\s*([A-Za-z_]\w*)")
_MOST_CALLED = 12


@dataclass(frozen=True, slots=True)
class Row:
    """One initialised struct: what its members are set to. ``index`` is its place in an array."""

    members: dict[Path, SourceValue]
    index: int
    place: tuple[str, int]


@dataclass(frozen=True, slots=True)
class Table:
    """A variable that is a struct, or an array of structs, and has a value."""

    name: str
    record: str
    rows: tuple[Row, ...]
    is_array: bool
    place: tuple[str, int]
    unit: int = 0


NUMBER = "pkvfuzz_number_"
"""With what the name of a variable begins that has the number of a macro."""


class SourceProgram:
    """All translation units of a driver."""

    def __init__(self, sources: Sequence[SourceUnit]) -> None:
        self._global: dict[str, SourceFunction] = {}
        self._local: dict[tuple[int, str], SourceFunction] = {}
        self.functions: list[SourceFunction] = []
        self.tables: dict[str, Table] = {}
        self.numbers: dict[str, int] = {}
        for unit, source in enumerate(sources):
            for function in source.functions:
                self.functions.append(function)
                self._local.setdefault((function.unit, function.name), function)
                self._global.setdefault(function.name, function)
            for variable in source.variables:
                if variable.name.startswith(NUMBER) and variable.parts:
                    number = variable.parts[0].value
                    if isinstance(number, int):
                        self.numbers[variable.name.removeprefix(NUMBER)] = number & 0xFFFFFFFF
                if (made := table(variable, variable.name)) is not None:
                    name = variable.name
                    if name in self.tables and variable.is_static:
                        name = _of_unit(name, unit)
                    self.tables.setdefault(name, replace(made, unit=unit))
        self._set: dict[str, dict[str, None]] = defaultdict(dict)
        for made in self.tables.values():
            self._note_members(made)
        names = {function.name for function in self.functions}
        for function in self.functions:
            # Most functions name none that way, and to walk them takes long.
            if not names.isdisjoint(_SET.findall(function.body.text)):
                for each in function.body.walk():
                    self._note_assignment(each)

    def function(self, name: str, unit: int) -> SourceFunction | None:
        """Return the function that a unit calls by a name."""
        return self._local.get((unit, name)) or self._global.get(name)

    def variable(self, name: str, unit: int) -> str:
        """Return what tells the variable that a unit calls by a name from others."""
        own = _of_unit(name, unit)
        return own if own in self.tables else name

    def called_through(self, member: str) -> tuple[str, ...]:
        """Return the functions that members of this name are set to; none if they are many."""
        found = [name for name in self._set[member] if name in self._global]
        return tuple(found) if len(found) <= _MOST_CALLED else ()

    def _note_members(self, made: Table) -> None:
        for row in made.rows:
            for path, value in row.members.items():
                if isinstance(value, Functions) and path:
                    self._set[path[-1]].update(dict.fromkeys(value.names))

    def _note_assignment(self, each: SyntaxNode) -> None:
        if each.kind is Kind.VARIABLE and (made := table(each, each.name)) is not None:
            self._note_members(made)
        if each.kind is not Kind.BINARY or each.operator != "=" or len(each.parts) != 2:
            return
        to, value = each.parts
        if to.kind is Kind.MEMBER and (named := function_of(value)):
            self._set[to.name][named] = None


def _of_unit(name: str, unit: int) -> str:
    return f"{name}#{unit}"


def function_of(value: SyntaxNode) -> str:
    """Return the name of the function that an expression is, or the address of one; or ""."""
    while value.kind in (Kind.CAST, Kind.UNARY) and len(value.parts) == 1:
        value = value.parts[0]
    if value.kind is Kind.NAME and value.declared is not None and value.declared.is_function:
        return value.declared.name
    return ""


def table(variable: SyntaxNode, name: str) -> Table | None:
    """Return the table that a variable is; None if it is none."""
    if variable.kind is not Kind.VARIABLE or not variable.parts:
        return None
    value, kind = variable.parts[0], variable.type
    if value.kind is not Kind.LIST:
        return None
    if kind.sort is Sort.RECORD:
        row = Row(dict(_members(value, ())), 0, value.place)
        return Table(name, kind.name, (row,), False, variable.place)
    if kind.sort is not Sort.ARRAY or kind.target is None or kind.target.sort is not Sort.RECORD:
        return None
    rows = []
    for number, part in enumerate(value.parts[:_MOST_ROWS]):
        index, inner = number, part
        if part.kind is Kind.OTHER and len(part.parts) == 2:
            # [INDEX] = VALUE
            where = part.parts[0].value
            index, inner = where if isinstance(where, int) else number, part.parts[1]
        rows.append(Row(dict(_members(inner, ())), index, inner.place))
    return Table(name, kind.target.name, tuple(rows), True, variable.place)


def _members(value: SyntaxNode, prefix: Path) -> Iterator[tuple[Path, SourceValue]]:
    """Yield what members are set to; those that are not named have their number as a name."""
    for number, part in enumerate(value.parts):
        name, inner = str(number), part
        if part.kind is Kind.DESIGNATED:
            if not part.parts:
                continue
            name, inner = part.name, part.parts[-1]
        elif number < len(value.members):
            name = value.members[number]
        if inner.kind is Kind.LIST:
            yield from _members(inner, (*prefix, *name.split(".")))
        else:
            yield (*prefix, *name.split(".")), simple_value(inner)


def simple_value(value: SyntaxNode) -> SourceValue:
    """Return what an initialiser is."""
    if named := function_of(value):
        return Functions((named,))
    found = value.value
    if isinstance(found, bytes):
        return Text(found)
    if isinstance(found, int):
        return Constant(found)
    inner = value
    while inner.kind in (Kind.CAST, Kind.UNARY) and inner.parts:
        inner = inner.parts[0]
    if inner.kind is Kind.NAME and inner.declared is not None and inner.declared.is_global:
        return Text(b"&" + inner.declared.name.encode())
    return None
