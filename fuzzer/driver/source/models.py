# SPDX-License-Identifier: Apache-2.0
"""Models of the kernel's functions: their effects on variables, and the facts they tell."""

from __future__ import annotations

from collections.abc import Sequence

from fuzzer.driver.source import kernel_calls
from fuzzer.driver.source.facts import MADE_FILE, Fact, Notes
from fuzzer.driver.source.kernel_calls import CopyIn, CopyOut
from fuzzer.driver.source.state import COMMAND, SourceState, global_name
from fuzzer.driver.source.tree import CType, Kind, Sort, SyntaxNode
from fuzzer.driver.source.values import (
    AddressOf,
    Constant,
    Context,
    Given,
    Handle,
    Path,
    Size,
    SourcePlace,
    SourceValue,
    Text,
    address_of,
    size_of,
)

_COPY_WEIGHT = 4
_HANDLE_SIZES = (4, 8)


class Models:
    """The kernel's functions that the reading knows."""

    def __init__(self, state: SourceState, notes: Notes) -> None:
        self._state = state
        self._notes = notes
        self._n_allocated = 0

    def call(
        self,
        name: str,
        arguments: Sequence[SyntaxNode],
        values: Sequence[SourceValue],
        context: Context,
    ) -> tuple[bool, SourceValue]:
        """Return whether a function is known, and what it returns."""
        self._context = context
        if (copy_in := kernel_calls.COPIES_IN.get(name)) is not None:
            return True, self._copy_in(copy_in, values, arguments)
        if (copy_out := kernel_calls.COPIES_OUT.get(name)) is not None:
            self._copy_out(copy_out, values, arguments)
            return True, None
        if name in kernel_calls.MULTIPLIES and len(values) >= 2:
            return True, _times(values[0], values[1])
        if name in kernel_calls.ALLOCATES:
            return True, AddressOf(self._allocated())
        if name in kernel_calls.COPIES and len(values) >= 2:
            self._copy(values[0], values[1])
            return True, values[0]
        if name in kernel_calls.COMMANDS:
            return True, COMMAND
        if name in kernel_calls.COMPARES_TEXT and len(values) >= 2:
            self._compare_texts(values)
            return True, None
        if name in ("sscanf", "vsscanf") and len(values) >= 2:
            if isinstance(values[1], Text):
                for fact in self._of(values[0]):
                    fact.formats.add(values[1].text)
            return True, None
        if name in kernel_calls.TEXT_TO_NUMBER and values:
            for fact in self._of(values[0]):
                fact.formats.add(b"%i")
            return True, None
        if name in kernel_calls.TAKES:
            number, kind = kernel_calls.TAKES[name]
            if number < len(values) and (size := size_of(values[number])) is not None:
                for fact in self._notes.facts(context, size.path):
                    fact.takes = _named(kind, arguments)
            return True, None
        if name in kernel_calls.GIVES:
            kind = kernel_calls.GIVES[name]
            table = self._table(kernel_calls.FILES.get(name, -1), values)
            return True, Handle(f"fd:{table}" if table else _named(kind, arguments))
        if name in kernel_calls.FILES:
            if table := self._table(kernel_calls.FILES[name], values):
                for fact in self._notes.facts(context, MADE_FILE):
                    fact.gives = table
            return True, None
        if name in kernel_calls.GIVES_AT:
            number = kernel_calls.GIVES_AT[name]
            at = address_of(values[number]) if number < len(values) else None
            if isinstance(at, SourcePlace):
                self._state.store(at, Handle(_named("id", arguments)))
            return True, None
        return False, None

    @staticmethod
    def _table(number: int, values: Sequence[SourceValue]) -> str:
        """Return the table of a file that is made, an argument; empty if it is not known."""
        place = address_of(values[number]) if 0 <= number < len(values) else None
        return global_name(place) if isinstance(place, SourcePlace) and not place.path else ""

    def _allocated(self) -> SourcePlace:
        self._n_allocated += 1
        return SourcePlace(f"allocated:{self._n_allocated}")

    def _of(self, value: SourceValue) -> list[Fact]:
        """Return the facts of the caller's memory that a value is the address of, or a copy of."""
        place = address_of(value)
        path = None if place is None else self._state.copied(place)
        return [] if path is None else self._notes.facts(self._context, path)

    def _copy_in(
        self,
        known: CopyIn,
        values: Sequence[SourceValue],
        arguments: Sequence[SyntaxNode],
    ) -> SourceValue:
        if max(known.to, known.source, known.size, known.times) >= len(values):
            return None
        source = address_of(values[known.source])
        to = address_of(values[known.to]) if known.to >= 0 else self._allocated()
        if isinstance(source, Given):
            kind = _pointed(arguments[known.to]) if known.to >= 0 else None
            size = _times(values[known.size], values[known.times] if known.times >= 0 else None)
            for fact in self._notes.facts(self._context, source.path):
                fact.is_read = True
                fact.is_text |= known.is_text
                self._note_size(fact, size, kind, arguments[known.source])
            if isinstance(to, SourcePlace):
                self._state.copy(to, source.path)
        return AddressOf(to) if known.to < 0 and to is not None else None

    def _copy_out(
        self, known: CopyOut, values: Sequence[SourceValue], arguments: Sequence[SyntaxNode]
    ) -> None:
        if max(known.to, known.source, known.size) >= len(values):
            return
        to = address_of(values[known.to])
        if not isinstance(to, Given):
            return
        kind = _pointed(arguments[known.source]) if known.source >= 0 else None
        for fact in self._notes.facts(self._context, to.path):
            fact.is_written = True
            self._note_size(fact, values[known.size], kind, arguments[known.to])
        value = values[known.source] if known.source >= 0 else None
        if isinstance(value, Handle):
            self._give(to.path, value)
        elif value is None and known.source >= 0 and _is_handle(arguments[known.source]):
            self._give(to.path, Handle("made:"))
        source = address_of(value)
        if isinstance(source, SourcePlace):
            for path, handle in self._state.handles(source):
                self._give((*to.path, *path), handle)

    def _give(self, path: Path, handle: Handle) -> None:
        for fact in self._notes.facts(self._context, path):
            fact.gives = handle.kind

    def _note_size(
        self, fact: Fact, size: SourceValue, kind: CType | None, pointer: SyntaxNode
    ) -> None:
        if isinstance(size, Constant):
            fact.sizes.add(size.number)
        elif (found := size_of(size)) is not None:
            fact.sizes.add(found)
        unit = size.number if isinstance(size, Constant) else 0
        if isinstance(size, Size):
            unit = size.factor
        for each, weight in ((kind, _COPY_WEIGHT), (_pointed(pointer), 1)):
            if each is None or not each.size:
                continue
            # Of a part of a struct, of as many bytes as the caller says, the struct is known.
            is_part = not unit and weight == _COPY_WEIGHT and each.sort is Sort.RECORD
            if each.size == unit or is_part:
                fact.types[each] = fact.types.get(each, 0) + weight

    def _copy(self, to: SourceValue, source: SourceValue) -> None:
        at, of = address_of(to), address_of(source)
        if isinstance(at, SourcePlace) and of is not None:
            self._state.move(at, of)

    def _compare_texts(self, values: Sequence[SourceValue]) -> None:
        for value, other in (values[:2], values[1::-1]):
            if isinstance(other, Text) and not isinstance(value, Text):
                for fact in self._of(value):
                    fact.texts.add(other.text)


def _is_handle(node: SyntaxNode) -> bool:
    """Tell whether an expression is a number that may be a handle."""
    return node.type.sort is Sort.INTEGER and node.type.size in _HANDLE_SIZES


def _named(kind: str, arguments: Sequence[SyntaxNode]) -> str:
    """Return the kind of an id with the name of what it is looked up in, the first argument."""
    node = arguments[0]
    while node.kind in (Kind.UNARY, Kind.CAST) and node.parts:
        node = node.parts[-1]
    return f"{kind}:{node.name}" if kind == "id" and node.name else kind


def _pointed(pointer: SyntaxNode) -> CType | None:
    """Return what an address is of, as its author had it before a cast to ``void *``."""
    while pointer.kind is Kind.CAST and pointer.parts:
        kind = pointer.type
        if kind.sort is Sort.POINTER and kind.target is not None and kind.target.size:
            return kind.target
        pointer = pointer.parts[-1]
    kind = pointer.type
    if kind.sort is Sort.ARRAY:
        return kind
    return kind.target if kind.sort is Sort.POINTER else None


def _times(size: SourceValue, times: SourceValue) -> SourceValue:
    if times is None:
        return size
    numbers = [each for each in (size, times) if isinstance(each, Constant)]
    others = [found for each in (size, times) if (found := size_of(each)) is not None]
    if len(numbers) == 1 and len(others) == 1:
        number = numbers[0].number
        return Size(others[0].path, others[0].factor * number, others[0].more * number)
    return None
