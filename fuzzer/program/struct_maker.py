# SPDX-License-Identifier: Apache-2.0
"""Maker of structs for a driver, member by member."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence

from fuzzer.program.choices import Seen, integer_chooser, pool_chooser
from fuzzer.program.guesses import Guesser
from fuzzer.program.links import Address
from fuzzer.program.program import MAX_FIXUPS, MAX_PAYLOAD
from fuzzer.program.wire import FIXUP
from fuzzer.target.calls import (
    CountField,
    Field,
    LenField,
    PointerField,
    PoolField,
    RangeField,
    StructsField,
    ValuesField,
)
from fuzzer.target.layout import Member, MemberKind, StructLayout

_UNSPECIFIED = 0.3
"""Share of members without a description that are not zero."""

_GUESSED = 0.2
"""Share of members without a description, and of an address's size, that get an address."""

_LOW_SIZE, _SIZE = 4, 8
"""Bytes of an address in 32-bit programs and in others."""

_OUT_OF_RANGE = 0.05
"""Share of numbers outside of the range that the description has for them."""

_FOREIGN = 0.05
"""Share of strings that come from any pool: a string of another pool may not be expected."""


class _State:
    """A payload in the making.

    ``lengths`` are the lengths of the members' content, by index; ``counts`` the numbers of
    structs that members point to. ``addresses`` are those in the payload, ``room`` is the
    number of further ones. The buffers that they point to begin at ``end``.
    """

    __slots__ = ("addresses", "counts", "data", "end", "lengths", "room")

    def __init__(self, data: bytearray, lengths: list[int], room: int = MAX_FIXUPS) -> None:
        self.data = data
        self.lengths = lengths
        self.counts: dict[int, int] = {}
        self.end = 0
        self.addresses: list[Address] = []
        self.room = room


_Setter = Callable[[_State, Seen], None]


class StructMaker:
    """Makes and changes payloads of one struct as its description says.

    With ``guesses`` a member without a description may get an address; in ``compat`` calls
    addresses have 4 bytes.
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
    ) -> None:
        self._rng = rng
        self._all_pools = pools
        self._guesser = Guesser(rng, low=compat) if guesses else None
        self._address_size = _LOW_SIZE if compat else _SIZE
        self._random = rng.random
        self._integer = integer_chooser(rng)
        self._pools = {name: pool_chooser(rng, name, found) for name, found in pools.items()}
        self._any_string = tuple(string for found in pools.values() for string in found)
        self._size = layout.size
        self._no_lengths = [0] * len(layout.members)
        self._layout = layout
        self._pointers: list[_Setter] = []
        self._members: list[_Setter] = []
        guessed: list[_Setter] = []
        fields = {field.member: field for field in given}
        contents: list[_Setter] = []
        others: list[_Setter] = []
        for index, member in enumerate(layout.members):
            field = fields.get(member.name)
            if isinstance(field, PointerField):
                if len(self._pointers) < MAX_FIXUPS:
                    self._pointers.append(self._pointer(index, member, field))
            elif isinstance(field, StructsField):
                self._pointers.append(self._structs(index, member, field))
            elif member.kind is MemberKind.BYTES:
                contents.append(self._bytes(index, member, field))
            else:
                others.append(self._number(member, field))
                if self._guesser and field is None and member.size == self._address_size:
                    guessed.append(self._guess(member, self._guesser))
        # Lengths are set after the content that they belong to; buffers go behind the struct.
        self._contents = contents
        self._others = (*self._pointers, *others, *guessed)
        self._members = [*contents, *others]

    def payload(self, seen: Seen) -> tuple[int, bytes]:
        """Return the number of fixups, and fixups and payload in the wire form."""
        state = self._made(seen, MAX_FIXUPS)
        made = [address.fixup() for address in state.addresses]
        fixups = [FIXUP.pack(each.at, each.to) for each in made]
        del state.data[MAX_PAYLOAD:]
        return len(fixups), b"".join((*fixups, state.data))

    def parts(self, seen: Seen, room: int = MAX_FIXUPS) -> tuple[bytes, bytes, list[Address]]:
        """Return a struct, the buffers that it points to, and up to ``room`` addresses in both.

        Offsets of the addresses count from the start of the struct, with the buffers behind it.
        """
        state = self._made(seen, room)
        end = state.end
        return bytes(state.data[:end]), bytes(state.data[end:]), state.addresses

    def _made(self, seen: Seen, room: int) -> _State:
        state = _State(bytearray(self._size), self._no_lengths.copy(), room)
        for setter in self._contents:
            setter(state, seen)
        state.end = len(state.data)
        for setter in self._others:
            setter(state, seen)
        return state

    def change_member(self, payload: bytes, seen: Seen) -> bytes:
        """Return a payload with one member set anew; its length stays."""
        if not self._members or len(payload) < self._size:
            return payload
        data = bytearray(payload)
        lengths = self._no_lengths.copy()
        for index, member in enumerate(self._layout.members):
            if member.kind is MemberKind.BYTES:
                end = member.offset + member.size
                lengths[index] = len(payload[member.offset : end].rstrip(b"\0"))
            else:
                lengths[index] = len(payload) - self._size
        setters = self._members
        setters[int(self._random() * len(setters))](_State(data, lengths), seen)
        return bytes(data[: len(payload)])

    def wrong_member(self, payload: bytes) -> bytes:
        """Return a payload with an interesting integer at a place where it may not belong."""
        members = self._layout.members
        member = members[int(self._random() * len(members))] if members else None
        if member is None or member.size == 0 or len(payload) < self._size:
            return payload
        width = min(member.size, 8)
        end = member.offset + width
        value = self._integer().to_bytes(8, "little")[:width]
        return payload[: member.offset] + value + payload[end:]

    def _bytes(self, index: int, member: Member, field: Field | None) -> _Setter:
        rand = self._random
        offset, size, flexible = member.offset, member.size, member.count == 0
        strings = self._any_string or (b"\1", b"\xff")
        if isinstance(field, PoolField):
            own = self._pools[field.pool]
            present = 1.0

            def choose(seen: Seen) -> bytes:
                return own(seen) if rand() > _FOREIGN else strings[int(rand() * len(strings))]
        else:
            present = _UNSPECIFIED

            def choose(seen: Seen) -> bytes:
                return strings[int(rand() * len(strings))]

        def put(state: _State, seen: Seen) -> None:
            string = choose(seen) if present == 1.0 or rand() < present else b""
            if flexible:
                state.data += string
            else:
                string = string[:size]
                state.data[offset : offset + size] = string.ljust(size, b"\0")
            state.lengths[index] = len(string)

        return put

    def _pointer(self, index: int, member: Member, field: PointerField) -> _Setter:
        rand, largest, offset = self._random, field.size, member.offset
        low = member.size == _LOW_SIZE
        strings = self._any_string

        def put(state: _State, seen: Seen) -> None:
            if not state.room:
                return
            kind = rand()
            size = largest if kind < 0.5 else int(rand() * (largest + 1))
            state.addresses.append(Address(offset, len(state.data), is_low=low))
            state.room -= 1
            state.lengths[index] = size
            if kind < 0.75 or not strings:
                state.data += bytes(size)
            else:
                string = strings[int(rand() * len(strings))]
                state.data += string[:size].ljust(size, b"\0")

        return put

    def _structs(self, index: int, member: Member, field: StructsField) -> _Setter:
        rand, offset, low = self._random, member.offset, member.size == _LOW_SIZE
        least, span, size = field.least, field.most - field.least + 1, field.struct.size
        maker = StructMaker(self._rng, field.struct, field.fields, self._all_pools)

        def put(state: _State, seen: Seen) -> None:
            if not state.room:
                return
            n = least + int(rand() * span)
            start = len(state.data)
            state.addresses.append(Address(offset, start, is_low=low))
            state.room -= 1
            state.lengths[index], state.counts[index] = n * size, n
            made = []
            for _ in range(n):
                made.append(maker.parts(seen, state.room))
                state.room -= len(made[-1][2])
            place, to = start, start + sum(len(struct) for struct, _, _ in made)
            state.data += b"".join([struct for struct, _, _ in made])
            for struct, pointed, addresses in made:
                end = len(struct)
                state.addresses += [moved(each, end, place, to) for each in addresses]
                state.data += pointed
                place += end
                to += len(pointed)

        return put

    def _guess(self, member: Member, guesser: Guesser) -> _Setter:
        rand, offset, size = self._random, member.offset, member.size
        low = size == _LOW_SIZE

        def put(state: _State, seen: Seen) -> None:
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

    def _number(self, member: Member, field: Field | None) -> _Setter:
        rand, choose = self._random, self._integer
        start, size = member.offset, member.size
        end, mask = start + size, (1 << (8 * size)) - 1
        if isinstance(field, LenField | CountField):
            return self._length(member, field)
        if isinstance(field, ValuesField):
            values = [(value & mask).to_bytes(size, "little") for value in field.values]

            def put_value(state: _State, seen: Seen) -> None:
                state.data[start:end] = values[int(rand() * len(values))]

            return put_value
        if isinstance(field, RangeField):
            low, span = field.low, field.high - field.low + 1

            def put_range(state: _State, seen: Seen) -> None:
                value = low + min(int(rand() * span), span - 1)
                if rand() < _OUT_OF_RANGE:
                    value = choose()
                state.data[start:end] = (value & mask).to_bytes(size, "little")

            return put_range

        def put_any(state: _State, seen: Seen) -> None:
            value = choose() if rand() < _UNSPECIFIED else 0
            state.data[start:end] = (value & mask).to_bytes(size, "little")

        return put_any

    def _length(self, member: Member, field: LenField | CountField) -> _Setter:
        rand, choose = self._random, self._integer
        start, size = member.offset, member.size
        end, mask = start + size, (1 << (8 * size)) - 1
        index = [m.name for m in self._layout.members].index(field.of)
        capacity, counts = self._layout.members[index].size, isinstance(field, CountField)

        def put(state: _State, seen: Seen) -> None:
            value = state.counts.get(index, 0) if counts else state.lengths[index]
            kind = rand()
            if kind < 0.06:
                lies = (value + 1, value - 1, 0, capacity, capacity + 1, choose())
                value = lies[int(kind * 100)]
            state.data[start:end] = (value & mask).to_bytes(size, "little")

        return put


def moved(address: Address, end: int, place: int, to: int) -> Address:
    """Return an address of a struct that is moved to ``place`` and its buffers to ``to``."""
    at = address.at + (place if address.at < end else to - end)
    return Address(at, address.to + (place if address.to < end else to - end), address.is_low)
