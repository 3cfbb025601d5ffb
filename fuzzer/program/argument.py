# SPDX-License-Identifier: Apache-2.0
"""An ioctl's argument: a struct and the parts that its addresses point to, and changes to it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from fuzzer.program.links import CALL, Address, addresses, fixups_of, link_of, links
from fuzzer.program.ops import FLAG_COMPAT, FLAG_NULL, FLAG_VALUE, Op
from fuzzer.program.program import MAX_FIXUPS, MAX_PAYLOAD, Fixup
from fuzzer.program.wire import FIXUP, FIXUP_SIZE, HEADER_SIZE

SMALL, LARGE, OF_ELEMENT = 64, 512, 32
"""Sizes of a part that a new address points to: at first, later, and for an array's elements."""

# The bytes from the start of a part in which places for an address are looked for.
_SEARCHED = 1024
# The most words that may be the number of an array's elements, and the largest such number.
_COUNT_WORDS, _MOST_COUNTED = 4, 64


@dataclass(frozen=True, slots=True)
class Argument:
    """An ioctl's argument: the header of the call, its payload, its fixups and addresses.

    The payload is the struct, and then parts that addresses in it point to.
    """

    header: bytes
    data: bytes
    fixups: tuple[Fixup, ...]
    addresses: tuple[Address, ...]

    @property
    def is_compat(self) -> bool:
        return bool(self.header[2] & FLAG_COMPAT)

    @property
    def width(self) -> int:
        """The size of an address in bytes."""
        return 4 if self.is_compat else 8

    @property
    def room(self) -> int:
        """The number of further addresses that it can have."""
        return MAX_FIXUPS - len(self.fixups)

    @property
    def starts(self) -> tuple[int, ...]:
        """The offsets of the parts that addresses point to, the last one first."""
        return tuple(sorted({address.to for address in self.addresses}, reverse=True))

    def end_of(self, start: int) -> int:
        """Return the end of the part that begins at ``start``."""
        # An address may point behind the data.
        return min((len(self.data), *(other for other in self.starts if other > start)))

    def is_taken(self, at: int, width: int) -> bool:
        """Tell whether an address or a link overlaps ``width`` bytes at an offset."""
        return any(each.at - width < at < each.at + each.size for each in self.addresses) or any(
            each.at - width < at < each.at + each.size for each in links(self.fixups)
        )

    def wire(self) -> bytes | None:
        """Return the wire form of the call; None if it is too long."""
        if len(self.data) > MAX_PAYLOAD or len(self.fixups) > MAX_FIXUPS:
            return None
        packed = b"".join([FIXUP.pack(each.at, each.to) for each in self.fixups])
        length = len(self.data).to_bytes(2, "little")
        start = self.header[:3] + bytes((len(self.fixups),)) + self.header[4:16]
        return start + length + self.header[18:] + packed + self.data

    def pointing(self, places: Iterable[int], content: bytes) -> Argument:
        """Return the argument with ``content`` as one more part, and its address at some places."""
        width = self.width
        data = bytearray(self.data.ljust(-(-len(self.data) // 8) * 8, b"\0"))
        to, added = len(data), []
        for at in places:
            data[at : at + width] = bytes(width)
            added.append(Address(at, to, is_low=self.is_compat))
        fixups = _before_links((address.fixup() for address in added), self.fixups)
        return replace(
            self,
            data=bytes(data) + content,
            fixups=fixups,
            addresses=(*self.addresses, *added),
        )

    def with_word(self, at: int, value: int, size: int = 4) -> Argument:
        """Return the argument with another number at an offset."""
        word = (value & (1 << 8 * size) - 1).to_bytes(size, "little")
        return replace(self, data=self.data[:at] + word + self.data[at + size :])

    def as_array(self, start: int, stride: int, pointer: int | None, most: int) -> Argument:
        """Return the argument with an array in place of the part from ``start`` on.

        It has up to ``most`` elements, each a copy of the first ``stride`` bytes of that part.
        With ``pointer`` each also has an address at that offset.
        """
        end = self.end_of(start)
        element = self.data[start : min(end, start + stride)].ljust(stride, b"\0")
        own = [each for each in self.addresses if start <= each.at < min(end, start + stride)]
        rest = [each for each in self.addresses if not start <= each.at < end]
        room = MAX_FIXUPS - len(self.fixups) + len(self.addresses) - len(rest)
        n_own = len(own) + (pointer is not None)
        n = min(most, room // n_own) if n_own else most
        # Long payloads cost much, so an array made of the last part replaces that part.
        base = start if end == len(self.data) else -(-len(self.data) // 8) * 8
        data = self.data[:base].ljust(base, b"\0") + element * n
        moved = [replace(each, to=base) if each.to == start else each for each in rest]
        at = [base + stride * number for number in range(n)]
        moved += [replace(each, at=place + each.at - start) for place in at for each in own]
        made = replace(self, data=data)
        links = [each for each in self.fixups if link_of(each)]
        kept = _before_links((each.fixup() for each in moved), links)
        made = replace(made, fixups=kept, addresses=tuple(moved))
        if pointer is None:
            return made.compact(self.starts)
        made = made.pointing([place + pointer for place in at], bytes(OF_ELEMENT))
        return made.compact(self.starts)

    def compact(self, parts: Iterable[int]) -> Argument:
        """Return the argument without the parts that no address points to any more.

        The starts of ``parts`` are those before a change; present addresses tell the others.
        """
        starts = sorted({0, *self.starts, *parts})
        ends = dict(zip(starts, [*starts[1:], len(self.data)], strict=True))
        part_of = {at: max(each for each in starts if each <= at) for at in range(len(self.data))}
        kept, found = {0}, [0]
        while found:
            part = found.pop()
            for each in self.addresses:
                if part_of.get(each.at) == part and each.to not in kept:
                    kept.add(each.to)
                    found.append(each.to)
        data, moved = b"", {}
        for start in sorted(kept):
            data = data.ljust(-(-len(data) // 8) * 8, b"\0")
            moved[start] = len(data) - start
            data += self.data[start : ends[start]]
        own = {at: at + moved[part] for at, part in part_of.items() if part in kept}
        placed = tuple(
            replace(each, at=own[each.at], to=each.to + moved[each.to])
            for each in self.addresses
            if each.at in own
        )
        linked = [
            replace(link, at=own.get(link.at, link.at)).fixup()
            for link in links(self.fixups)
            if link.at in own or link.at == CALL
        ]
        fixups = (*(each.fixup() for each in placed), *linked)
        return replace(self, data=data, fixups=fixups, addresses=placed)


def _before_links(added: Iterable[Fixup], fixups: Sequence[Fixup]) -> tuple[Fixup, ...]:
    """Return fixups with further addresses, behind the other addresses and before the links."""
    known = [each for each in fixups if not link_of(each)]
    return (*known, *added, *(each for each in fixups if link_of(each)))


def argument_of(chunk: bytes) -> Argument | None:
    """Return the argument of an ioctl with a buffer; None for another call."""
    if chunk[0] != Op.IOCTL or chunk[2] & (FLAG_VALUE | FLAG_NULL):
        return None
    body = HEADER_SIZE + FIXUP_SIZE * chunk[3]
    fixups = tuple(fixups_of(chunk))
    return Argument(chunk[:HEADER_SIZE], chunk[body:], fixups, addresses(fixups))


def places_in(argument: Argument) -> Iterator[int]:
    """Yield offsets where an address may be, those in the last part first."""
    width, data = argument.width, argument.data
    for start in (*argument.starts, 0):
        end = min(argument.end_of(start), start + _SEARCHED)
        for at in range(-(-start // width) * width, end - width + 1, width):
            if not argument.is_taken(at, width):
                yield at
    # In a packed struct addresses need not be aligned; there are few such structs.
    if len(data) % width:
        for at in range(width // 2, len(data) - width + 1, width):
            if not argument.is_taken(at, width):
                yield at


def count_words(argument: Argument, start: int) -> list[int]:
    """Return offsets of words that may be the number of elements of the array at ``start``."""
    parents = [address.at for address in argument.addresses if address.to == start]
    first = max((other for other in argument.starts if other <= min(parents, default=0)), default=0)
    end = min(argument.end_of(first), first + _SEARCHED)
    found = []
    for at in range(first, end - 3, 4):
        value = int.from_bytes(argument.data[at : at + 4], "little")
        if 0 < value <= _MOST_COUNTED and not argument.is_taken(at, 4):
            found.append(at)
    return found[:_COUNT_WORDS]
