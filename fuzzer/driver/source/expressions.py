# SPDX-License-Identifier: Apache-2.0
"""Expressions of a driver's source: what they are of what its caller gives, and say of it."""

from __future__ import annotations

import operator as operators
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from fuzzer.driver.source.facts import Notes, Problem
from fuzzer.driver.source.labels import Keys, is_error, name_of
from fuzzer.driver.source.models import Models
from fuzzer.driver.source.program import SourceProgram
from fuzzer.driver.source.state import SourceState, global_place
from fuzzer.driver.source.tree import CType, Kind, Sort, SourceFunction, SyntaxNode
from fuzzer.driver.source.values import (
    ELEMENT,
    OF,
    AddressOf,
    Constant,
    Context,
    Functions,
    Given,
    Handle,
    IoctlNumber,
    Key,
    Path,
    Rows,
    Size,
    SourcePlace,
    SourceValue,
    Text,
    User,
    address_of,
    narrowed,
    size_of,
)

_MOST_STEPS = 400_000
_HANDLE_SIZES = (4, 8)
_COMPARISONS = frozenset(("==", "!=", "<", ">", "<=", ">="))
_FOLDED: Mapping[str, Callable[[int, int], int]] = {
    "+": operators.add, "-": operators.sub, "*": operators.mul,
}  # fmt: skip
_TURNED = {"<": ">", ">": "<", "<=": ">=", ">=": "<="}


@dataclass(slots=True)
class CallFrame:
    """A call that is followed. ``selected`` is the member of a table that was compared."""

    function: SourceFunction
    number: int
    context: Context
    returned: SourceValue = None
    selected: tuple[str, tuple[str, ...]] | None = None

    @property
    def unit(self) -> int:
        """The translation unit that it is of."""
        return self.function.unit


class Expressions(ABC):
    """Follows expressions; what it finds is in its notes."""

    def __init__(self, program: SourceProgram, notes: Notes) -> None:
        self._program = program
        self._notes = notes
        self._state = SourceState(program)
        self._models = Models(self._state, notes)
        self._frames: list[CallFrame] = []
        self._n_frames = 0
        self._steps = 0
        self._known: dict[tuple[object, ...], SourceValue] = {}
        self._cases: list[tuple[Path, int]] = []

    @abstractmethod
    def statement(self, node: SyntaxNode) -> bool:
        """Follow a statement; return whether what follows it is reached only by a jump."""

    @abstractmethod
    def call(self, node: SyntaxNode) -> SourceValue:
        """Follow a call; return what it returns."""

    @abstractmethod
    def keys(self, node: SyntaxNode) -> tuple[Keys, Keys]:
        """Return what is known of the ioctl's number if a condition is true, and if it is not."""

    @abstractmethod
    def command(self, value: IoctlNumber, number: int, operand: SyntaxNode) -> list[Key]:
        """Note an ioctl that is compared with; return what is then known of its number."""

    @property
    def _frame(self) -> CallFrame:
        return self._frames[-1]

    def _step(self) -> bool:
        """Count a step; return False once there were too many."""
        self._steps += 1
        return self._steps <= _MOST_STEPS

    def value(self, node: SyntaxNode) -> SourceValue:
        """Follow an expression; return what it is."""
        if not self._step():
            return None
        kind = node.kind
        if kind is Kind.CALL:
            return self.call(node)
        if kind is Kind.NAME:
            return self._named(node)
        if kind in (Kind.MEMBER, Kind.INDEX):
            place = self.place(node)
            if isinstance(place, Rows):
                return place
            self._note_case(place)
            return None if place is None else self._state.load(place, node.type)
        if kind is Kind.UNARY:
            return self._unary(node)
        if kind is Kind.BINARY:
            return self._binary(node)
        if kind is Kind.CAST:
            value = self.value(node.parts[-1]) if node.parts else None
            self._cast(value, node.type)
            return value
        if kind is Kind.CONDITIONAL:
            return self._conditional(node)
        if kind is Kind.STATEMENTS:
            return self._statements(node)
        found = node.value
        if isinstance(found, int):
            return Constant(found)
        if isinstance(found, bytes):
            return Text(found)
        for part in node.parts:
            self.statement(part)
        return None

    def _statements(self, node: SyntaxNode) -> SourceValue:
        value: SourceValue = None
        for part in node.parts:
            parts = part.parts if part.kind is Kind.BLOCK else (part,)
            for number, each in enumerate(parts):
                if number == len(parts) - 1 and each.kind not in _PLAIN:
                    value = self.value(each)
                else:
                    self.statement(each)
        return value

    def _conditional(self, node: SyntaxNode) -> SourceValue:
        condition, *branches = node.parts
        if condition.operator == "==" and branches and is_error(branches[-1]):
            left, right = condition.parts
            self._comparison("!=", (left, self.value(left)), (right, self.value(right)))
        else:
            self.value(condition)
        yes, no = self.keys(condition)
        before = self._frame.context
        values = []
        for branch, keys in zip(branches, (yes, no), strict=False):
            self._frame.context = narrowed(before, keys)
            values.append(self.value(branch))
        self._frame.context = before
        useful = [each for each in values if each is not None and not isinstance(each, Constant)]
        return useful[0] if useful else None

    def _named(self, node: SyntaxNode) -> SourceValue:
        found = node.declared
        if found is None:
            return None
        if found.is_function:
            return Functions((found.name,))
        if found.is_constant:
            return Constant(node.value) if isinstance(node.value, int) else None
        place = self.place(node)
        return (
            None if place is None or isinstance(place, Rows) else self._state.load(place, node.type)
        )

    def _unary(self, node: SyntaxNode) -> SourceValue:
        if not node.parts:
            return Constant(node.value) if isinstance(node.value, int) else None
        if node.operator == "&":
            part = node.parts[0]
            if part.kind is Kind.NAME and part.declared and part.declared.is_function:
                return Functions((part.declared.name,))
            place = self.place(part)
            if isinstance(place, Rows):
                return place
            self._note_case(place)
            return None if place is None else AddressOf(place)
        if node.operator == "*":
            place = self.place(node)
            if isinstance(place, Rows):
                return place
            return None if place is None else self._state.load(place, node.type)
        value = self.value(node.parts[0])
        if node.operator in ("++", "--"):
            return value
        if node.operator == "!" and isinstance(value, User):
            self._compare(value, "==", [0], "")
        return Constant(node.value) if isinstance(node.value, int) else None

    def _binary(self, node: SyntaxNode) -> SourceValue:
        if len(node.parts) != 2:
            return None
        left, right = node.parts
        operator = node.operator
        if operator == "=":
            place = self.place(left)
            # A byte of a text, as the zero behind it, leaves the others what they are.
            is_byte = left.type.size == 1 and left.kind is not Kind.MEMBER
            if isinstance(place, SourcePlace) and is_byte and self._state.copied(place):
                return self.value(right)
            if isinstance(place, SourcePlace):
                return self._assign(place, left.type, right)
            return self.value(right)
        if operator == ",":
            self.value(left)
            return self.value(right)
        a = self.value(left)
        with self.case(self.told_by(left) if operator == "&&" else ()):
            b = self.value(right)
        if isinstance(node.value, int):
            return Constant(node.value)
        if operator in ("&&", "||"):
            # Neither of them alone decides.
            return None
        if operator in _COMPARISONS:
            self._comparison(operator, (left, a), (right, b))
            return None
        if operator == "&":
            self._mask(a, right)
            self._mask(b, left)
            if isinstance(b, IoctlNumber | User) and isinstance(a, Constant):
                a, b = b, a
            if isinstance(a, IoctlNumber) and isinstance(b, Constant):
                return IoctlNumber(a.shift, a.mask & b.number & 0xFFFFFFFF)
            return a if isinstance(a, User) else None
        if operator == ">>" and isinstance(a, IoctlNumber) and isinstance(b, Constant):
            return IoctlNumber(a.shift + b.number, a.mask >> b.number)
        return _arithmetic(operator, a, b, node.type)

    def _comparison(
        self,
        operator: str,
        left: tuple[SyntaxNode, SourceValue],
        right: tuple[SyntaxNode, SourceValue],
    ) -> None:
        for (node, value), (other, found), turned in (
            (left, right, operator),
            (right, left, _TURNED.get(operator, operator)),
        ):
            is_equal = operator in ("==", "!=")
            if is_equal and isinstance(found, Handle | None):
                self._look_up(node, value, other)
            if isinstance(found, Constant):
                if isinstance(value, IoctlNumber) and operator in ("==", "!="):
                    self.command(value, found.number, other)
                self._compare(value, turned, [found.number], name_of(other.text))

    def _look_up(self, node: SyntaxNode, value: SourceValue, other: SyntaxNode) -> None:
        """Note a number that the driver compares with one of its own."""
        if not is_stored(other):
            return
        path = value.path if isinstance(value, User) else None
        if isinstance(value, Handle) and is_stored(node):
            # What another ioctl gives there is the caller's in this one.
            place = self.place(node)
            if isinstance(place, SourcePlace):
                path = self._state.copied(place)
        for fact in self._notes.facts(self._frame.context, path) if path else ():
            fact.takes = fact.takes or f"found:{other.name}"

    @contextmanager
    def case(self, told: Iterable[tuple[Path, int]]) -> Iterator[None]:
        """Follow what is done only where a number of the caller's has one of some values."""
        n = len(self._cases)
        self._cases += told
        try:
            yield
        finally:
            del self._cases[n:]

    def told_by(self, condition: SyntaxNode) -> list[tuple[Path, int]]:
        """Return the numbers of the caller's that have a value where a condition is true."""
        if condition.kind is not Kind.BINARY or len(condition.parts) != 2:
            return []
        left, right = condition.parts
        if condition.operator == "&&":
            return [*self.told_by(left), *self.told_by(right)]
        if condition.operator != "==":
            return []
        for one, other in ((left, right), (right, left)):
            if isinstance(other.value, int) and isinstance(value := self.value(one), User):
                return [(value.path, other.value)]
        return []

    def _note_case(self, place: SourcePlace | Given | None) -> None:
        """Note what of the caller's memory is looked at in a case."""
        if not self._cases or place is None:
            return
        path = self._state.copied(place)
        for by, number in self._cases if path is not None else ():
            if path is not None and path != by:
                self._notes.case(self._frame.context, (path, by, number))

    def _compare(
        self, value: SourceValue, operator: str, numbers: Iterable[int], name: str
    ) -> None:
        if not isinstance(value, User):
            return
        for fact in self._notes.facts(self._frame.context, value.path):
            for number in numbers:
                if operator == "==":
                    fact.values.setdefault(number, name)
                elif operator == "!=" and number:
                    fact.required.setdefault(number, name)
                else:
                    fact.bounds.add((operator, number))

    def _mask(self, value: SourceValue, other: SyntaxNode) -> None:
        if isinstance(value, User) and isinstance(other.value, int):
            for fact in self._notes.facts(self._frame.context, value.path):
                fact.masks.setdefault(other.value, name_of(other.text))

    def _cast(self, value: SourceValue, kind: CType) -> None:
        """Note the type that memory of the caller's is taken to be of."""
        if not isinstance(value, User | AddressOf) or kind.sort is not Sort.POINTER:
            return
        place = address_of(value)
        path = None if place is None else self._state.copied(place)
        if path is not None and path[-1] == OF and kind.target is not None and kind.target.size:
            for fact in self._notes.facts(self._frame.context, path):
                fact.types[kind.target] = fact.types.get(kind.target, 0) + 1

    def _assign(self, place: SourcePlace, kind: CType, right: SyntaxNode) -> SourceValue:
        if kind.sort is Sort.RECORD:
            source = self.place(right)
            if isinstance(source, SourcePlace | Given):
                self._state.move(place, source)
            else:
                self.value(right)
            return None
        value = self.value(right)
        if isinstance(value, IoctlNumber) and (place.path or not place.root[0].isdigit()):
            self._unclear(right, "the ioctl's number is stored")
        if isinstance(value, Constant) and isinstance(self._state.load(place, kind), IoctlNumber):
            # It goes on as another ioctl; that it is one of its own stays known.
            self._notes.same(self._frame.context, value.number)
            return value
        is_number = kind.sort is Sort.INTEGER and kind.size in _HANDLE_SIZES
        if value is None and is_number and self._state.copied(place) is not None:
            # The caller may get a number of the driver's own there.
            value = Handle(f"made:{right.name if is_stored(right) else ''}")
        self._state.store(place, value)
        self._cast(value, kind)
        return value

    def place(self, node: SyntaxNode) -> SourcePlace | Given | Rows | None:
        """Return where an expression is."""
        kind = node.kind
        if kind is Kind.NAME:
            found = node.declared
            if found is None:
                return None
            if found.is_global:
                return global_place(self._program.variable(found.name, self._frame.unit))
            return SourcePlace(f"{self._frame.number}:{found.key}")
        if kind is Kind.MEMBER and node.parts:
            base = node.parts[0]
            if base.type.sort is not Sort.POINTER:
                return _part(self.place(base), node.name)
            return _part(self._target(base), node.name)
        if kind is Kind.INDEX and len(node.parts) == 2:
            base, index = node.parts
            self.value(index)
            if base.type.sort is Sort.POINTER:
                return self._target(base)
            place = self.place(base)
            return _part(place, ELEMENT) if base.kind is Kind.MEMBER else place
        if kind is Kind.UNARY and node.operator == "*" and node.parts:
            return self._target(node.parts[0])
        if kind in (Kind.CAST, Kind.STATEMENTS, Kind.CALL, Kind.CONDITIONAL):
            self.value(node)
        return None

    def _target(self, pointer: SyntaxNode) -> SourcePlace | Given | Rows | None:
        """Return what a pointer points to."""
        value = self.value(pointer)
        if isinstance(value, Rows):
            return value
        return address_of(value)

    def _unclear(self, node: SyntaxNode, text: str) -> None:
        file, line = node.place
        self._notes.problems.add(Problem(file, line, text))
        self._notes.is_whole = False


def is_stored(node: SyntaxNode) -> bool:
    """Tell whether an expression is a number that is a member of a struct."""
    return node.kind is Kind.MEMBER and node.type.sort is Sort.INTEGER


_PLAIN = frozenset(
    (Kind.BLOCK, Kind.IF, Kind.SWITCH, Kind.LOOP, Kind.DECLARATIONS, Kind.RETURN, Kind.JUMP)
)


def _part(place: SourcePlace | Given | Rows | None, name: str) -> SourcePlace | Given | Rows | None:
    if isinstance(place, Rows):
        return Rows(place.table, (*place.path, name))
    return None if place is None else place.part(name)


def _arithmetic(operator: str, a: SourceValue, b: SourceValue, kind: CType) -> SourceValue:
    if kind.sort is Sort.POINTER:
        # Some element is as good as the first.
        return a if isinstance(a, AddressOf | User | Rows) else b
    if isinstance(a, AddressOf | Rows):
        return a
    if isinstance(a, Constant) and isinstance(b, Constant) and operator in _FOLDED:
        return Constant(_FOLDED[operator](a.number, b.number))
    if isinstance(a, Constant) and operator in ("+", "*"):
        a, b = b, a
    size = size_of(a)
    if size is None or not isinstance(b, Constant):
        return a if isinstance(a, User | Size) else (b if isinstance(b, User | Size) else None)
    if operator in ("+", "-"):
        more = b.number if operator == "+" else -b.number
        return Size(size.path, size.factor, size.more + more)
    if operator == "*":
        return Size(size.path, size.factor * b.number, size.more * b.number)
    if operator == "<<" and 0 <= b.number < 32:
        return Size(size.path, size.factor << b.number, size.more << b.number)
    return a
