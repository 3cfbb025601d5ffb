# SPDX-License-Identifier: Apache-2.0
"""The ways of a call through a driver's source, from the function that the kernel calls.

Statements are followed in order, each branch once. What is known of the ioctl's number on the
way to a statement is its context: what is found there is true of these ioctls.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

from fuzzer.driver.source import kernel_calls
from fuzzer.driver.source.expressions import CallFrame, Expressions, is_stored
from fuzzer.driver.source.facts import RETURNED
from fuzzer.driver.source.labels import (
    Keys,
    inside_of,
    is_error,
    labels_of,
    name_of,
    numbers_of,
    part_of,
    refuses_others,
)
from fuzzer.driver.source.program import Row, Table, table
from fuzzer.driver.source.state import called
from fuzzer.driver.source.tree import CType, Kind, SourceFunction, SyntaxNode
from fuzzer.driver.source.values import (
    ELEMENT,
    OF,
    AddressOf,
    Constant,
    Context,
    Given,
    Handle,
    IoctlNumber,
    Key,
    Rows,
    SourcePlace,
    SourceValue,
    User,
    narrowed,
    size_of,
)

_DEEPEST = 24
# Beyond what any _IO() without a type has.
_LEAST_CODED = 0x100


class Walker(Expressions):
    """Follows calls; what it finds is in its notes."""

    def follow(
        self, function: SourceFunction, values: Sequence[SourceValue], context: Context = None
    ) -> SourceValue:
        """Follow a call of a function with these arguments; return what it returns."""
        key = (function.name, function.unit, *values, *self._copies(values), context)
        if key in self._known:
            return self._known[key]
        depth = sum(each.function is function for each in self._frames)
        if depth or len(self._frames) >= _DEEPEST:
            return None
        self._known[key] = None
        self._n_frames += 1
        frame = CallFrame(function, self._n_frames, context)
        self._frames.append(frame)
        try:
            for parameter, value in zip(function.parameters, values, strict=False):
                self._bind(frame, parameter.key, parameter.type, value)
            self.statement(function.body)
        finally:
            self._frames.pop()
        self._known[key] = frame.returned
        return frame.returned

    def _copies(self, values: Sequence[SourceValue]) -> list[object]:
        return [
            self._state.copied(each.of) if isinstance(each, AddressOf) else None for each in values
        ]

    def _bind(self, frame: CallFrame, key: str, kind: CType, value: SourceValue) -> None:
        place = SourcePlace(f"{frame.number}:{key}")
        if value is not None:
            self._state.store(place, value)
        self._cast(value, kind)

    # Statements.

    def statement(self, node: SyntaxNode) -> bool:
        if not self._step():
            if self._notes.is_whole:
                self._unclear(node, "too much to follow: what comes after it was not read")
            return True
        frame = self._frame
        if frame.context is not None and not frame.context:
            return False
        kind = node.kind
        if kind is Kind.BLOCK:
            return self._block(node.parts)
        if kind is Kind.IF:
            return self._if(node)
        if kind is Kind.SWITCH:
            return self._switch(node)
        if kind is Kind.LOOP:
            before = frame.context
            for part in node.parts:
                self.statement(part)
            frame.context = before
            return False
        if kind is Kind.RETURN:
            for part in node.parts:
                value = self.value(part)
                if value is None and is_stored(part):
                    value = Handle(f"made:{part.name}")
                if value is not None and not isinstance(value, Constant):
                    frame.returned = value
                if isinstance(value, Handle) and len(self._frames) == 1:
                    for fact in self._notes.facts(frame.context, RETURNED):
                        fact.gives = value.kind
            return True
        if kind is Kind.JUMP:
            return True
        if kind in (Kind.LABEL, Kind.CASE, Kind.DEFAULT):
            return self.statement(node.parts[-1]) if node.parts else False
        if kind is Kind.DECLARATIONS:
            for part in node.parts:
                self._declaration(part)
            return False
        self.value(node)
        return False

    def _block(self, parts: Sequence[SyntaxNode]) -> bool:
        frame = self._frame
        before, over = frame.context, False
        for part in parts:
            if part.kind is Kind.LABEL:
                # Reached from anywhere in it.
                frame.context, over = before, False
            if not over:
                over = self.statement(part)
        if not over and frame.context is not before:
            # What is known only as others left by a return stays known.
            return False
        frame.context = before
        return over

    def _if(self, node: SyntaxNode) -> bool:
        frame = self._frame
        condition, *branches = node.parts
        value = self.value(condition)
        if branches and is_error(branches[0]):
            self._refuse(condition, value)
        yes, no = self.keys(condition)
        before = frame.context
        frame.context = narrowed(before, yes)
        with self.case(self.told_by(condition)):
            ended = self.statement(branches[0]) if branches else False
        after = narrowed(before, no)
        if len(branches) < 2:
            frame.context = after if ended else before
            return False
        frame.context = after
        also = self.statement(branches[1])
        frame.context = narrowed(before, yes) if also and not ended else before
        if ended and not also:
            frame.context = after
        return ended and also

    def _refuse(self, condition: SyntaxNode, value: SourceValue) -> None:
        """Note the numbers of the caller's that have to be 0 for a condition to be false."""
        operator = condition.operator if condition.kind is Kind.BINARY else ""
        if operator == "||":
            for part in condition.parts:
                self._refuse(part, self.value(part))
        # Of a number in a mask other bits may be set.
        elif isinstance(value, User) and operator != "&":
            for fact in self._notes.facts(self._frame.context, value.path):
                fact.required.setdefault(0, "")

    def _switch(self, node: SyntaxNode) -> bool:
        frame = self._frame
        on, *rest = node.parts
        value = self.value(on)
        before = frame.context
        body = rest[-1] if rest else node
        parts = body.parts if body.kind is Kind.BLOCK else (body,)
        keys: list[Key] = []
        numbers: set[int] = set()
        is_any = False
        over = True
        equal = "!=" if refuses_others(parts) else "=="
        for part in parts:
            labels, inner = labels_of(part)
            if labels:
                frame.context = before
                if over:
                    keys, is_any = [], False
                    numbers = set()
                for label in labels:
                    if label.kind is Kind.DEFAULT:
                        is_any = True
                        continue
                    keys += self._case(value, label, equal)
                    numbers.update(numbers_of(label))
                over = False
            if over or inner is None:
                continue
            if isinstance(value, Constant) and not is_any and value.number not in numbers:
                over = True
                continue
            is_on_number = isinstance(value, IoctlNumber | Rows)
            narrow = is_on_number and not is_any
            frame.context = narrowed(before, keys) if narrow else before
            is_case = isinstance(value, User) and not is_any
            told = [(value.path, each) for each in numbers] if isinstance(value, User) else []
            with self.case(told if is_case else ()):
                over = self.statement(inner)
        frame.context = before
        return False

    def _case(self, value: SourceValue, label: SyntaxNode, equal: str) -> list[Key]:
        """Note what a label compares with; return what is then known of the ioctl's number."""
        first, found = label.parts[0], numbers_of(label)
        if not found:
            if isinstance(value, IoctlNumber):
                self._unclear(label, "a label whose number is not known")
            return []
        if isinstance(value, IoctlNumber):
            return [key for each in found for key in self.command(value, each, first)]
        self._compare(value, equal, found, name_of(first.text))
        return []

    def command(self, value: IoctlNumber, number: int, operand: SyntaxNode) -> list[Key]:
        """Note an ioctl that is compared with; return what is then known of its number."""
        key = value.equal(number)
        name = name_of(operand.text)
        if value != IoctlNumber() and (named := part_of(operand.text)):
            # A part of an ioctl that is known.
            whole = inside_of(operand)
            if whole is not None:
                key, name = Key(0xFFFFFFFF, whole & 0xFFFFFFFF), named
        for each in narrowed(self._frame.context, (key,)) or ():
            self._notes.command(each, name, operand.place)
        return [key]

    def keys(self, node: SyntaxNode) -> tuple[Keys, Keys]:
        """Return what is known of the ioctl's number if a condition is true, and if it is not."""
        if node.kind is Kind.UNARY and node.operator == "!":
            yes, no = self.keys(node.parts[0])
            return no, yes
        if node.kind is Kind.CALL and len(node.parts) > 1:
            if kernel_calls.plain_name(node.parts[0].name) in kernel_calls.SAME:
                return self.keys(node.parts[1])
            return None, None
        if node.kind is not Kind.BINARY or len(node.parts) != 2:
            return None, None
        left, right = node.parts
        if node.operator in ("||", "&&"):
            (a, b), (c, d) = self.keys(left), self.keys(right)
            union = a + c if a is not None and c is not None else None
            neither = b + d if b is not None and d is not None else None
            if node.operator == "||":
                return union, b if b is not None else d
            return a if a is not None else c, neither
        if node.operator not in ("==", "!="):
            return None, None
        found = self._compared(left, right) or self._compared(right, left)
        return (found, None) if node.operator == "==" else (None, found)

    def _compared(self, left: SyntaxNode, right: SyntaxNode) -> Keys:
        value = self.value(left)
        if not isinstance(value, IoctlNumber):
            return None
        if isinstance(right.value, int):
            return self.command(value, right.value, right)
        other = self.value(right)
        rows = self._state.table(other.table) if isinstance(other, Rows) else None
        if rows is None or not isinstance(other, Rows):
            return None
        self._frame.selected = (other.table, other.path)
        keys = []
        for row in rows.rows:
            number = row.members.get(other.path)
            if isinstance(number, Constant):
                key = value.equal(number.number)
                keys.append(key)
                self._notes.command(key, "", row.place)
        return keys

    def _declaration(self, node: SyntaxNode) -> None:
        if node.kind is not Kind.VARIABLE or not node.parts:
            return
        root = f"{self._frame.number}:{node.key}"
        if (made := table(node, root)) is not None and made.is_array:
            self._state.add_table(root, made)
            return
        self._assign(SourcePlace(root), node.type, node.parts[0])

    # Calls.

    def call(self, node: SyntaxNode) -> SourceValue:
        if not node.parts:
            return None
        callee, *arguments = node.parts
        through = callee.kind is not Kind.NAME
        target = self.value(callee)
        values = [self.value(each) for each in arguments]
        self._note_lengths(values)
        if isinstance(target, Rows):
            return self._call_rows(target, node, values)
        names = called(target)
        if not names and through:
            names = self._program.called_through(callee.name)
        if not names:
            if self._matters(values):
                self._unclear(node, f"a call through {callee.text or callee.name}")
            return None
        result: SourceValue = None
        for name in names:
            found = self._call_named(name, node, values, arguments)
            result = result if found is None else found
        return result

    def _note_lengths(self, values: Sequence[SourceValue]) -> None:
        """Note an array of the caller's and a number beside it in a call: that is its length."""
        for pointer, number in pairwise(values):
            size = size_of(number)
            place = pointer.of if isinstance(pointer, AddressOf) else None
            path = None if place is None else self._state.copied(place)
            if size is not None and path is not None and path[-1] not in (OF, ELEMENT):
                for fact in self._notes.facts(self._frame.context, path):
                    fact.sizes.add(size)

    def _call_named(
        self,
        name: str,
        node: SyntaxNode,
        values: list[SourceValue],
        arguments: Sequence[SyntaxNode],
    ) -> SourceValue:
        function = self._program.function(name, self._frame.unit)
        if function is not None:
            return self.follow(function, values, self._frame.context)
        plain = kernel_calls.plain_name(name)
        if plain in kernel_calls.SAME:
            return values[0] if values else None
        known, value = self._models.call(plain, arguments, values, self._frame.context)
        if known or plain in kernel_calls.HARMLESS:
            return value
        for each in values:
            if isinstance(each, IoctlNumber):
                self._unclear(node, f"the ioctl's number is given to {name}()")
                self._notes.is_whole = False
            path = each.path if isinstance(each, User) else None
            if isinstance(each, AddressOf) and isinstance(each.of, Given):
                path = each.of.path
            if path is not None:
                for fact in self._notes.facts(self._frame.context, path):
                    fact.passed_to.add(name)
        return None

    def _call_rows(self, target: Rows, node: SyntaxNode, values: list[SourceValue]) -> SourceValue:
        """Follow what a table's rows name, each for the ioctl that its row is of."""
        found = self._state.table(target.table)
        frame = self._frame
        if found is None:
            return None
        before, selected = frame.context, frame.selected
        column = selected[1] if selected and selected[0] == target.table else _numbers(found)
        result: SourceValue = None
        for row in found.rows:
            names = called(row.members.get(target.path))
            number = row.members.get(column) if column is not None else None
            keys = None
            if isinstance(number, Constant):
                keys = [IoctlNumber().equal(number.number)]
            elif column is None and found.is_array:
                keys = [Key(0xFF, row.index & 0xFF)]
            frame.context = narrowed(before, keys)
            if frame.context is not None:
                for key in frame.context if names else ():
                    self._notes.command(key, "", row.place)
                if not frame.context:
                    continue
            for name in names:
                value = self._call_named(name, node, values, node.parts[1:])
                result = result if value is None else value
        frame.context = before
        return result

    def _matters(self, values: Iterable[SourceValue]) -> bool:
        return any(isinstance(each, IoctlNumber | User) for each in values)


def _numbers(found: Table) -> tuple[str, ...] | None:
    """Return the member of a table's rows that has ioctl numbers; None if none has."""
    rows: Sequence[Row] = found.rows
    for path in dict.fromkeys(path for row in rows for path in row.members):
        numbers = [each.number for row in rows
                   if isinstance(each := row.members.get(path), Constant)]  # fmt: skip
        if numbers and len(set(numbers)) == len(numbers) and min(numbers) >= _LEAST_CODED:
            return path
    return None
