# SPDX-License-Identifier: Apache-2.0
"""Maker of structs for a driver, member by member."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from fuzzer.program.choices import Seen, integer_chooser, pool_chooser
from fuzzer.program.guesses import Guesser
from fuzzer.program.kinds import Kinds
from fuzzer.program.links import Address, Link, LinkKind
from fuzzer.program.made_struct import Made, StructSetter, StructState
from fuzzer.program.number_setters import UNSPECIFIED, NumberSetters
from fuzzer.program.program import MAX_FIXUPS, MAX_PAYLOAD
from fuzzer.program.wire import FIXUP
from fuzzer.target.calls import (
    ElementsField,
    Field,
    GivesField,
    LenField,
    PointerField,
    PoolField,
    StructsField,
    TakesField,
    UnionField,
    ValuesField,
)
from fuzzer.target.layout import Member, MemberKind, StructLayout

_GUESSED = 0.2
"""Share of members without a description, and of an address's size, that get an address."""

_LOW_SIZE, _SIZE = 4, 8
"""Bytes of an address in 32-bit programs and in others."""

_FOREIGN = 0.05
"""Share of strings that come from any pool: a string of another pool may not be expected."""


_MISTOLD = 0.04
"""Share of unions whose member that tells the choice tells something else."""

_WIDE = 8
"""Bytes of the wider handles."""


@dataclass(slots=True)
class _SetterTable:
    """Setters of members, in the order in which they are called.

    Lengths are set after the content that they belong to; buffers go behind the struct.
    """

    contents: list[StructSetter] = field(default_factory=list)
    pointers: list[StructSetter] = field(default_factory=list)
    others: list[StructSetter] = field(default_factory=list)
    guessed: list[StructSetter] = field(default_factory=list)


class StructMaker:
    """Makes and changes payloads of one struct as its description says.

    With ``guesses`` a member without a description may get an address; in ``compat`` calls
    addresses have 4 bytes. ``kinds`` are those of handles, if there are any.
    """

    def __init__(
        self,
        rng: random.Random,
        layout: StructLayout,
        given: Sequence[Field],
        pools: Mapping[str, Sequence[bytes]],
        *,
        guesses: bool = False,
        compat: bool = False,
        kinds: Kinds | None = None,
    ) -> None:
        self._rng = rng
        self._all_pools = pools
        self._kinds = kinds
        self._guesser = Guesser(rng, low=compat) if guesses else None
        self._address_size = _LOW_SIZE if compat else _SIZE
        self._random = rng.random
        self._integer = integer_chooser(rng)
        self._pools = {name: pool_chooser(rng, name, found) for name, found in pools.items()}
        self._any_string = tuple(string for found in pools.values() for string in found)
        self._size = layout.size
        self._numbers = NumberSetters(rng, layout)
        self._layout = layout
        self._rules = {field.member: field for field in given}
        measured = {each.of for each in given if isinstance(each, LenField)}
        self._measured = [each for each in layout.every() if each.name in measured]
        self._told = {each.by for each in given if isinstance(each, UnionField)}
        # A number in place of a bit-field or a word; bytes of a union are in those of its choices.
        self._leaves = [each for each in layout.every() if not each.choices]
        setters = self._setters(layout.members)
        self._contents = setters.contents
        self._others = (*setters.pointers, *setters.others, *setters.guessed)
        addressing = PointerField | StructsField
        self._members = [
            *setters.contents,
            *self._setters(
                each
                for each in layout.members
                if not isinstance(self._rules.get(each.name), addressing)
            ).pointers,
            *setters.others,
        ]

    def _setters(self, members: Iterable[Member]) -> _SetterTable:
        """Return what sets some members."""
        made = _SetterTable()
        for member in members:
            rule = self._rules.get(member.name)
            if member.name in self._told:
                continue
            match rule:
                case PointerField():
                    made.pointers.append(self._pointer(member, rule))
                case StructsField():
                    made.pointers.append(self._structs(member, rule))
                case ElementsField() if member.count == 0:
                    made.contents.append(self._elements(member, rule))
                case ElementsField():
                    made.pointers.append(self._elements(member, rule))
                case GivesField() | TakesField():
                    made.others.append(self._handle(member, rule))
                case _ if member.is_union and not isinstance(rule, PoolField):
                    known = rule if isinstance(rule, UnionField) else None
                    made.pointers.append(self._union(member, known))
                case _ if member.choices and rule is None:
                    made.others += self._setters(member.choices[0].members).others
                case _ if member.kind is MemberKind.BYTES:
                    made.contents.append(self._bytes(member, rule))
                case _:
                    made.others.append(self._numbers.setter(member, rule))
                    is_whole = member.size == self._address_size and not member.bits
                    if self._guesser and rule is None and is_whole:
                        made.guessed.append(self._guess(member, self._guesser))
        return made

    def payload(self, seen: Seen) -> tuple[int, bytes]:
        """Return the number of fixups, and fixups and payload in the wire form."""
        state = self.made(seen, MAX_FIXUPS)
        fixups = [address.fixup() for address in state.addresses]
        if state.links:
            fixups += [each.fixup() for each in sorted(state.links, key=lambda each: each.at)]
        packed = [FIXUP.pack(each.at, each.to) for each in fixups]
        del state.data[MAX_PAYLOAD:]
        return len(fixups), b"".join((*packed, state.data))

    def made(self, seen: Seen, room: int = MAX_FIXUPS) -> Made:
        """Return a struct and what it points to, with up to ``room`` fixups."""
        state = StructState(bytearray(self._size), {}, room)
        for setter in self._contents:
            setter(state, seen)
        state.end = len(state.data)
        for setter in self._others:
            setter(state, seen)
        for add in state.later:
            add()
        if state.wanted:
            wanted, state.wanted = state.wanted, []
            for one in wanted:
                self._numbers.settle(state, one)
        return state

    def change_member(self, payload: bytes, seen: Seen) -> bytes:
        """Return a payload with one member set anew; its length stays."""
        if not self._members or len(payload) < self._size:
            return payload
        lengths: dict[str, int] = {}
        for member in self._measured:
            if member.kind is MemberKind.BYTES:
                end = member.offset + member.size
                lengths[member.name] = len(payload[member.offset : end].rstrip(b"\0"))
            else:
                lengths[member.name] = len(payload) - self._size
        setters = self._members
        state = StructState(bytearray(payload), lengths, 0)
        state.end = len(payload)
        setters[int(self._random() * len(setters))](state, seen)
        return bytes(state.data[: len(payload)])

    def wrong_member(self, payload: bytes) -> bytes:
        """Return a payload with an interesting integer at a place where it may not belong."""
        members = self._leaves
        member = members[int(self._random() * len(members))] if members else None
        if member is None or member.size == 0 or len(payload) < self._size:
            return payload
        if member.bits:
            data = bytearray(payload)
            member.write(data, self._integer())
            return bytes(data)
        width = min(member.size, 8)
        end = member.offset + width
        value = self._integer().to_bytes(8, "little")[:width]
        return payload[: member.offset] + value + payload[end:]

    def _bytes(self, member: Member, rule: Field | None) -> StructSetter:
        rand, name = self._random, member.name
        offset, size, flexible = member.offset, member.size, member.count == 0
        strings = self._any_string or (b"\1", b"\xff")
        if isinstance(rule, PoolField):
            own = self._pools[rule.pool]
            present = 1.0

            def choose(seen: Seen) -> bytes:
                return own(seen) if rand() > _FOREIGN else strings[int(rand() * len(strings))]
        else:
            present = UNSPECIFIED

            def choose(seen: Seen) -> bytes:
                return strings[int(rand() * len(strings))]

        def put(state: StructState, seen: Seen) -> None:
            string = choose(seen) if present == 1.0 or rand() < present else b""
            if flexible:
                state.data += string
            else:
                string = string[:size]
                state.data[offset : offset + size] = string.ljust(size, b"\0")
            state.lengths[name] = len(string)

        return put

    def _pointer(self, member: Member, rule: PointerField) -> StructSetter:
        rand, largest, offset, name = self._random, rule.size, member.offset, member.name
        low = member.size == _LOW_SIZE
        strings = self._any_string

        def put(state: StructState, seen: Seen) -> None:
            if not state.room:
                return
            kind = rand()
            size = largest if kind < 0.5 else int(rand() * (largest + 1))
            state.addresses.append(Address(offset, len(state.data), is_low=low))
            state.room -= 1
            state.lengths[name] = size
            if kind < 0.75 or not strings:
                state.data += bytes(size)
            else:
                string = strings[int(rand() * len(strings))]
                state.data += string[:size].ljust(size, b"\0")

        return put

    def _inner(self, layout: StructLayout, fields: Sequence[Field]) -> StructMaker:
        return StructMaker(self._rng, layout, fields, self._all_pools, kinds=self._kinds)

    def _structs(self, member: Member, rule: StructsField) -> StructSetter:
        rand, offset, name = self._random, member.offset, member.name
        low = member.size == _LOW_SIZE
        least, span, size = rule.least, rule.most - rule.least + 1, rule.struct.size
        maker = self._inner(rule.struct, rule.fields)

        def put(state: StructState, seen: Seen) -> None:
            if not state.room:
                return
            n = least + int(rand() * span)
            start = len(state.data)
            state.addresses.append(Address(offset, start, is_low=low))
            state.room -= 1
            state.lengths[name], state.counts[name] = n * size, n
            made = []
            for _ in range(n):
                made.append(maker.made(seen, state.room))
                state.room -= made[-1].n_fixups
            place, to = start, start + sum(each.end for each in made)
            state.data += b"".join([each.data[: each.end] for each in made])
            for each in made:
                state.take(each, place, to)
                state.data += each.data[each.end :]
                place += each.end
                to += len(each.data) - each.end

        return put

    def _elements(self, member: Member, rule: ElementsField) -> StructSetter:
        rand, offset, name, count = self._random, member.offset, member.name, member.count
        least, span, size = rule.least, rule.most - rule.least + 1, rule.struct.size
        maker = self._inner(rule.struct, rule.fields)

        def add(state: StructState, made: list[Made]) -> None:
            place = offset
            for each in made:
                state.take(each, place, len(state.data))
                state.data += each.data[each.end :]
                place += size

        def put(state: StructState, seen: Seen) -> None:
            n = least + int(rand() * span)
            made = []
            for _ in range(n):
                made.append(maker.made(seen, state.room))
                state.room -= made[-1].n_fixups
            state.lengths[name], state.counts[name] = n * size, n
            content = b"".join([each.data[: each.end] for each in made])
            if count:
                state.data[offset : offset + count * size] = content.ljust(count * size, b"\0")
                add(state, made)
            else:
                state.data += content
                state.later.append(lambda: add(state, made))

        return put

    def _union(self, member: Member, rule: UnionField | None) -> StructSetter:
        """Return what fills one member of a union, as another member tells or as it likes."""
        rand, integer, start, end = (
            self._random,
            self._integer,
            member.offset,
            member.offset + member.size,
        )
        choices: dict[str, list[StructSetter]] = {}
        for choice in member.choices:
            found = self._setters(choice.members)
            choices[choice.name] = [
                *found.contents,
                *found.pointers,
                *found.others,
                *found.guessed,
            ]
        names = [*choices]
        cases = dict(rule.cases) if rule else {}
        told = self._rules.get(rule.by) if rule else None
        # Values that the member has besides say nothing of the union.
        values = [*cases]
        if isinstance(told, ValuesField):
            values += [each for each in told.values if each not in cases]
        by = self._layout.member(rule.by) if rule else None

        def put(state: StructState, seen: Seen) -> None:
            name = names[int(rand() * len(names))] if names else ""
            if by is not None:
                value = values[int(rand() * len(values))]
                value = state.cases.setdefault(by.name, value)
                name = cases.get(value, name)
                by.write(state.data, integer() if rand() < _MISTOLD else value)
            state.data[start:end] = bytes(end - start)
            for setter in choices.get(name, ()):
                setter(state, seen)

        return put

    def _handle(self, member: Member, rule: GivesField | TakesField) -> StructSetter:
        kinds, offset, wide = self._kinds, member.offset, member.size == _WIDE
        gives = isinstance(rule, GivesField)

        def put(state: StructState, seen: Seen) -> None:
            if kinds is None or not state.room:
                return
            if gives:
                link = Link(LinkKind.GIVE, offset, kinds.given(rule.kind), wide)
            else:
                taken = kinds.taken(rule.kind)
                if isinstance(taken, int):
                    member.write(state.data, taken)
                    return
                link = replace(taken, at=offset, is_wide=wide)
            state.links.append(link)
            state.room -= 1

        return put

    def _guess(self, member: Member, guesser: Guesser) -> StructSetter:
        rand, offset, size = self._random, member.offset, member.size
        low = size == _LOW_SIZE

        def put(state: StructState, seen: Seen) -> None:
            if not state.room or rand() > _GUESSED:
                return
            content = guesser.content(state.room - 1)
            start = len(state.data)
            state.data[offset : offset + size] = bytes(size)
            state.addresses.append(Address(offset, start, is_low=low))
            state.addresses += [
                Address(start + each.at, start + each.to, is_low=each.is_low)
                for each in content.addresses
            ]
            state.room -= 1 + len(content.addresses)
            state.data += content.data

        return put
