# SPDX-License-Identifier: Apache-2.0
"""Finder of strings of pools in calls, so that other calls can use them again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from fuzzer.program.choices import NOTHING_SEEN, Seen
from fuzzer.program.ops import Op
from fuzzer.program.wire import FIXUP_SIZE, HEADER_SIZE, written_of
from fuzzer.target.calls import (
    CallTemplate,
    Field,
    IoctlSpec,
    LengthOf,
    NumberRef,
    PoolField,
    PoolRef,
    RecordSpec,
    WriteSpec,
)
from fuzzer.target.layout import StructLayout
from fuzzer.target.target import Target

_LONGEST = 4096
_IOCTL = int(Op.IOCTL)
_Finder = Callable[[bytes, int], Seen]


@dataclass(frozen=True, slots=True)
class _Slot:
    """A place in a template, followed by ``end`` or with the data at its end.

    For a pool or a number written as text, ``size`` is 0: it ends at the next ``end``. For a
    pool without an ``end``, the slot ``length_at`` may have the length.
    """

    pool: str | None
    end: bytes
    size: int = 0
    order: Literal["little", "big"] = "little"
    length_at: int | None = None


class StringFinder:
    """Finds the strings that a target's templates and struct members took from pools."""

    def __init__(self, target: Target) -> None:
        templates: dict[Op, list[CallTemplate]] = {Op.WRITE: [], Op.PWRITE: []}
        records: dict[Op, list[RecordSpec]] = {Op.WRITE: [], Op.PWRITE: []}
        self._ioctls: dict[bytes, _Finder] = {}
        for spec in target.calls:
            if isinstance(spec, WriteSpec):
                op = Op.PWRITE if spec.positioned else Op.WRITE
                templates[op] += spec.templates
                records[op] += spec.records
            elif isinstance(spec, IoctlSpec) and (finder := _ioctl_finder(spec)):
                self._ioctls.setdefault(spec.number.to_bytes(4, "little"), finder)
        self._writes: dict[int, _Finder | None] = {
            int(op): _first_of((_template_finder(templates[op]), *map(_record_finder, records[op])))
            for op in templates
        }

    def find(self, chunk: bytes) -> Seen:
        """Return the strings in one call's canonical wire bytes."""
        op = chunk[0]
        finder = self._ioctls.get(chunk[4:8]) if op == _IOCTL else self._writes.get(op)
        if finder is None:
            return NOTHING_SEEN
        return finder(chunk, HEADER_SIZE + FIXUP_SIZE * chunk[3])


def _first_of(finders: Sequence[_Finder | None]) -> _Finder | None:
    """Return a finder that returns the strings of the first of some finders that finds any."""
    known = [finder for finder in finders if finder]
    if len(known) < 2:
        return known[0] if known else None

    def find(chunk: bytes, body: int) -> Seen:
        return next(filter(None, (finder(chunk, body) for finder in known)), NOTHING_SEEN)

    return find


def _record_finder(spec: RecordSpec) -> _Finder | None:
    places = _pool_places(spec.struct, spec.fields)
    size = spec.struct.size
    if not places:
        return None

    def find(chunk: bytes, body: int) -> Seen:
        length = written_of(chunk)
        if not length or length % size:
            return NOTHING_SEEN
        seen: dict[str, list[bytes]] = {}
        for at in range(body, body + length, size):
            for pool, start, end in places:
                string = chunk[at + start : at + end].rstrip(b"\0")
                seen.setdefault(pool, []).append(string)
        return seen

    return find


def _pool_places(layout: StructLayout, fields: Sequence[Field]) -> list[tuple[str, int, int]]:
    """Return pool, start and end of each member that a pool fills."""
    places: list[tuple[str, int, int]] = []
    for field in fields:
        member = layout.member(field.member)
        if isinstance(field, PoolField) and member is not None and member.size:
            places.append((field.pool, member.offset, member.offset + member.size))
    return places


def _ioctl_finder(spec: IoctlSpec) -> _Finder | None:
    places = _pool_places(spec.struct, spec.fields) if spec.struct else []
    if not places:
        return None

    def find(chunk: bytes, body: int) -> Seen:
        seen: dict[str, list[bytes]] = {}
        for pool, start, end in places:
            if body + end <= len(chunk):
                string = chunk[body + start : body + end].rstrip(b"\0")
                seen.setdefault(pool, []).append(string)
        return seen

    return find


def _template_finder(templates: Sequence[CallTemplate]) -> _Finder | None:
    shapes = list(dict.fromkeys(filter(None, map(_slots, templates))))
    if not shapes:
        return None

    def find(chunk: bytes, body: int) -> Seen:
        # The first template with all its literals in place explains the data.
        for first, slots in shapes:
            if chunk.startswith(first, body):
                seen = _explained(chunk, body + len(first), slots)
                if seen is not None:
                    return seen
        return NOTHING_SEEN

    return find


def _explained(chunk: bytes, at: int, slots: Sequence[_Slot]) -> dict[str, list[bytes]] | None:
    """Return the strings in a template's slots from ``at`` on, None if the data does not match."""
    seen: dict[str, list[bytes]] = {}
    numbers: list[int] = []
    for slot in slots:
        number = 0
        if slot.size:
            end = at + slot.size
            number = int.from_bytes(chunk[at:end], slot.order)
        elif slot.length_at is not None:
            end = at + numbers[slot.length_at]
        else:
            end = chunk.find(slot.end, at) if slot.end else len(chunk)
        if end < 0 or end > len(chunk) or not chunk.startswith(slot.end, end):
            return None
        numbers.append(number)
        if slot.pool is not None and end - at <= _LONGEST:
            seen.setdefault(slot.pool, []).append(chunk[at:end])
        at = end + len(slot.end)
    return seen


def _slots(template: CallTemplate) -> tuple[bytes, tuple[_Slot, ...]] | None:
    """Return a template's leading literal and its slots, None if they cannot be told apart."""
    parts = template.parts
    first = parts[0] if parts and isinstance(parts[0], bytes) else b""
    slots: list[_Slot] = []
    by_part: dict[int, int] = {}
    for index, part in enumerate(parts):
        if isinstance(part, bytes):
            continue
        follows = parts[index + 1] if index + 1 < len(parts) else b""
        end = follows if isinstance(follows, bytes) else b""
        pool = part.pool if isinstance(part, PoolRef) else None
        size = part.form.size if isinstance(part, NumberRef) else 0
        big = isinstance(part, NumberRef) and part.form.value.startswith("be")
        length_at = None
        if not size and not isinstance(follows, bytes):
            # Only a length before the slot can tell its end.
            length_at = _length_before(parts[:index], index, by_part)
            if length_at is None:
                return None
        by_part[index] = len(slots)
        slots.append(_Slot(pool, end, size, "big" if big else "little", length_at))
    return (first, tuple(slots)) if any(slot.pool for slot in slots) else None


def _length_before(
    parts: Sequence[bytes | PoolRef | NumberRef], index: int, by_part: Mapping[int, int]
) -> int | None:
    """Return the index of the slot with a binary number that is the length of a part."""
    for at, part in enumerate(parts):
        if isinstance(part, NumberRef) and part.form.size and part.choices == (LengthOf(index),):
            return by_part[at]
    return None
