# SPDX-License-Identifier: Apache-2.0
"""Fields of a struct in a description, of what a driver's source tells of its members."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from fuzzer.campaign.source_handles import HandleKinds, is_said_otherwise
from fuzzer.driver.source.interface import GivenMemory, GivenNumber, Operand
from fuzzer.target.header import Header
from fuzzer.target.layout import NUMBERS, Member, MemberKind, StructLayout, every_member
from fuzzer.target.traps import WORDS

OF = "*"
"""Step of a path from an address to what it is of."""

_WHOLE = 0xFFFFFFFF
_ELEMENT = "[]"
# MAX_FIXUPS of a call; what an address is of unless its length says more, in bytes and structs.
_MOST_POINTERS, _BUFFER, _STRUCTS = 32, 256, 4
_DEEPEST = 3
_HANDLE_SIZES = (4, 8)
MOST_VALUES = 24
"""The most values that are said of a number."""

LARGEST = 4096
"""The most bytes of a buffer."""

# Where a driver's thread waits, the source of the call does not tell; such a name does.
_TIME = re.compile(r"(?:^|[_.])(?:ms|us|ns|[mun]?secs?|timeout|delay|sleep|wait|interval)(?:_|\Z)")


@dataclass(slots=True)
class Fields:
    """Fields of a struct in the making: how many addresses there can still be, and remarks."""

    room: int = _MOST_POINTERS
    depth: int = 1
    made: dict[str, str] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)


class FieldWriter:
    """Writes what an operand is."""

    def __init__(self, operand: Operand, known: Header, kinds: HandleKinds) -> None:
        self._kinds = kinds
        self._cases = operand.cases
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

    @staticmethod
    def _pointed_numbers(memory: GivenMemory | None) -> StructLayout | None:
        """Return the number of which memory is an array, None if it is of bytes or not known."""
        if memory is None or memory.length is None or memory.length.factor == 1:
            return None
        return NUMBERS.get(f"__u{8 * memory.length.factor}") if not memory.record else None

    def _value_of(self, layout: StructLayout, path: tuple[str, ...]) -> dict[str, str]:
        """Return what is said of a number, in the flow style of YAML."""
        (member,), number = layout.members, self._numbers.get(path)
        text = number and (self._handle(number, member) or rule(number, member))
        return {member.name: text} if text else {}

    def pointed_number(self, path: tuple[str, ...]) -> tuple[StructLayout, dict[str, str]] | None:
        """Return the number that memory is, and what is said of it; None if it is not one."""
        number, memory = self._numbers.get(path), self._memory.get(path)
        if number is None or memory is None or memory.is_text or self._is_more(path):
            return None
        layout = NUMBERS.get(f"__u{8 * memory.size}")
        return None if layout is None else (layout, self._value_of(layout, path))

    def _is_more(self, path: tuple[str, ...]) -> bool:
        """Return True if anything is known of members of memory."""
        known = (*self._memory, *self._numbers)
        return any(each[: len(path)] == path and len(each) > len(path) for each in known)

    def has_below(self, path: tuple[str, ...]) -> bool:
        """Return True if anything is known of memory at a path, or of its members."""
        known = (*self._memory, *self._numbers)
        return any(each[: len(path)] == path for each in known)

    def fields(self, layout: StructLayout, path: tuple[str, ...], state: Fields) -> dict[str, str]:
        """Return what is said of each member, in the flow style of YAML."""
        made = state.made
        for member in layout.every():
            at = self._path(layout, member, path)
            if member.holds_address and not member.bits and self.has_below((*at, OF)):
                self._address(layout, member, at, path, state)
        for member in layout.every():
            if member.name in made:
                continue
            at = self._path(layout, member, path)
            if member.is_union:
                if text := self._union(layout, member, path):
                    made[member.name] = text
            elif member.element is not None:
                self._elements(layout, member, path, state)
            elif member.kind is MemberKind.INTEGER and (number := self._numbers.get(at)):
                if text := self._handle(number, member) or rule(number, member):
                    made[member.name] = text
                state.remarks += self._remarks(member.name, number)
            elif member.kind is MemberKind.BYTES and member.is_text:
                memory = self._memory.get(at)
                if memory is not None and (memory.is_text or memory.texts or memory.length):
                    made[member.name] = "{pool: word}"
                    self._length(layout, member, memory, path, made)
        order = [member.name for member in layout.every()]
        return {name: made[name] for name in sorted(made, key=order.index)}

    def _handle(self, number: GivenNumber, member: Member) -> str:
        """Return that a member is a handle; empty if it is none."""
        if member.bits or member.is_big or member.size not in _HANDLE_SIZES:
            return ""
        weak = (number.gives or number.takes).startswith(("made:", "found:"))
        if weak and is_said_otherwise(number):
            return ""
        if kind := self._kinds.given(number.path, number.gives):
            return f"{{gives: {kind}}}"
        kind = self._kinds.taken(number.path, number.takes)
        return f"{{takes: {kind}}}" if kind else ""

    def _remarks(self, name: str, number: GivenNumber) -> Iterator[str]:
        """Yield what a member takes or gives that the description cannot say."""
        given = self._kinds.given(number.path, number.gives)
        taken = self._kinds.taken(number.path, number.takes)
        for how, told, known in (("takes", number.takes, taken), ("gives", number.gives, given)):
            kind = told.partition(":")[0]
            if kind and not known and kind not in ("found", "made"):
                what = {"fd": "a descriptor", "id": "an id", "time": "a time"}.get(
                    kind, f"a {kind}"
                )
                yield f"{name} {how} {what}"

    def _union(self, layout: StructLayout, union: Member, path: tuple[str, ...]) -> str:
        """Return which member tells the choice of a union; empty if that is not known."""
        found: dict[str, dict[int, set[str]]] = {}
        own = {each.name for choice in union.choices for each in every_member(choice.members)}
        for what, by, number in self._cases:
            if what[: len(path)] != path or by[: len(path)] != path:
                continue
            name, teller = ".".join(what[len(path) :]), ".".join(by[len(path) :])
            known = layout.member(teller)
            if known is None or known.kind is not MemberKind.INTEGER or teller in own:
                continue
            for choice in union.choices:
                members = [each.name for each in every_member(choice.members)]
                if any(_is_part(name, each) or _is_part(each, name) for each in members):
                    found.setdefault(teller, {}).setdefault(number, set()).add(choice.name)
        for teller, cases in found.items():
            clear = {n: min(names) for n, names in sorted(cases.items()) if len(names) == 1}
            if clear:
                of = ", ".join(f"{n}: {key_text(name)}" for n, name in clear.items())
                return f"{{union: {{by: {key_text(teller)}, of: {{{of}}}}}}}"
        return ""

    def _elements(
        self, layout: StructLayout, array: Member, path: tuple[str, ...], state: Fields
    ) -> None:
        """Say what the elements of an array in a struct are, and how many there are."""
        element, at = array.element, (*self._path(layout, array, path), _ELEMENT)
        if element is None or state.depth >= _DEEPEST:
            return
        most = array.count or _STRUCTS
        own = Fields(state.room // most, state.depth + 1)
        text = ""
        if element.members and element.members[0].name:
            if fields := self.fields(element, at, own):
                text = flow(fields)
        elif number := self._numbers.get(at):
            text = self._handle(number, element.members[0]) or rule(number, element.members[0])
        counter = self._counter(layout, array, element, path)
        if not text and (counter is None or not element.members[0].name):
            return
        state.room -= most * (state.room // most - own.room)
        state.remarks += own.remarks
        least = 0 if array.count else 1
        state.made[array.name] = f"{{elements: {text or '{}'}, count: [{least}, {most}]}}"
        if counter is not None:
            state.made[counter] = f"{{count_of: {key_text(array.name)}}}"

    def _counter(
        self, layout: StructLayout, array: Member, element: StructLayout, path: tuple[str, ...]
    ) -> str | None:
        """Return the member that has the number of elements of an array, if it is known."""
        memory = self._memory.get(path)
        length = memory.length if memory is not None else None
        if not array.count:
            if length is None or length.factor != element.size or length.path[:-1] != path:
                return None
            return length.path[-1] if layout.member(length.path[-1]) else None
        for member in layout.every():
            number = self._numbers.get((*path, *member.name.split(".")))
            if number is None or member.kind is not MemberKind.INTEGER:
                continue
            if limits(number.bounds)[1] == array.count:
                return member.name
        return None

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
            made[member.name] = f"{{len: {key_text(array.name)}}}"

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
        state: Fields,
    ) -> None:
        made, depth = state.made, state.depth
        below = (*at, OF)
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
        inner = inner or self._pointed_numbers(memory)
        if inner is not None and inner.size and depth < _DEEPEST:
            most = _STRUCTS if length is not None else 1
            own = Fields((state.room - 1) // most, depth + 1)
            text = f"struct: {inner.name}"
            if inner.is_number:
                fields = self._value_of(inner, below)
            else:
                fields = self.fields(inner, below, own)
            if fields:
                text += f", fields: {flow(fields)}"
            used = (state.room - 1) // most - own.room
            state.room -= 1 + most * used
            if most > 1:
                text += f", count: [1, {most}]"
            made[member.name] = f"{{{text}}}"
            if counted is not None and counted.name not in made and length is not None:
                rule_name = "count_of" if length.factor == inner.size else "len"
                made[counted.name] = f"{{{rule_name}: {key_text(member.name)}}}"
            return
        state.room -= 1
        factor = length.factor if length is not None else 1
        bytes_ = min(max(factor * _STRUCTS, _BUFFER if factor == 1 else 0), LARGEST)
        if length is None and 0 < size <= LARGEST:
            bytes_ = size
        made[member.name] = f"{{pointer: {bytes_}}}"
        if counted is not None and counted.name not in made:
            if factor == 1:
                made[counted.name] = f"{{len: {key_text(member.name)}}}"
            else:
                made[counted.name] = f"{{range: [0, {max(bytes_ // factor, 1)}]}}"


def key_text(name: str) -> str:
    """Return a member's name, in quotes where YAML would take it for something else."""
    return json.dumps(name) if name.lower() in WORDS else name


def flow(fields: Mapping[str, str]) -> str:
    """Return fields as a mapping of YAML, on one line."""
    return "{" + ", ".join(f"{key_text(name)}: {text}" for name, text in fields.items()) + "}"


def _is_part(name: str, of: str) -> bool:
    """Tell whether a member is another one, or a part of it."""
    return name == of or name.startswith(f"{of}.")


def rule(number: GivenNumber, member: Member) -> str:
    """Return what is said of an integer member, in the flow style of YAML; "" for nothing."""
    if number.takes == "time" or _TIME.search(member.name):
        # To wait as long as can be costs more than it shows.
        return ""
    values = allowed(number, member.size)
    if member.bits:
        values = [each for each in values if 0 <= each < 1 << member.bits]
    if values:
        return f"{{values: {json.dumps(values)}}}"
    low, high = limits(number.bounds)
    most = (1 << (member.bits or 8 * member.size - 1)) - 1
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
    found = {0, *equal, *each[:MOST_VALUES]}
    if len(each) > 1:
        found.add(flags)
    return _fitting(sorted(found), size)


def _fitting(values: Iterable[int], size: int) -> list[int]:
    low, high = -(1 << 8 * size - 1), (1 << 8 * size) - 1
    return [each for each in values if low <= each <= high][:MOST_VALUES]


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
