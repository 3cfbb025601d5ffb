# SPDX-License-Identifier: Apache-2.0
"""Finds a pool's strings in calls, so that other calls can use them again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fuzzer.program.choices import NOTHING_SEEN, Seen
from fuzzer.program.program import Op
from fuzzer.program.wire import FIXUP_SIZE, HEADER_SIZE
from fuzzer.target.calls import IoctlSpec, PoolField, PoolRef, Template, WriteSpec
from fuzzer.target.target import Target

_LONGEST = 4096
_IOCTL = int(Op.IOCTL)
_Finder = Callable[[bytes, int], Seen]


@dataclass(frozen=True, slots=True)
class _Slot:
    """A pool's place in a template: it ends where ``end`` is next, or with the data."""

    pool: str
    end: bytes


class StringFinder:
    """Finds what a target's templates and struct members took from pools."""

    def __init__(self, target: Target) -> None:
        templates: dict[Op, list[Template]] = {Op.WRITE: [], Op.PWRITE: []}
        self._ioctls: dict[bytes, _Finder] = {}
        for spec in target.calls:
            if isinstance(spec, WriteSpec):
                templates[Op.PWRITE if spec.positioned else Op.WRITE] += spec.templates
            elif isinstance(spec, IoctlSpec) and (finder := _member_finder(spec)):
                self._ioctls.setdefault(spec.number.to_bytes(4, "little"), finder)
        self._writes: dict[int, _Finder | None] = {
            int(op): _template_finder(found) for op, found in templates.items()
        }

    def find(self, chunk: bytes) -> Seen:
        """Return the strings in one call's canonical wire bytes."""
        op = chunk[0]
        finder = self._ioctls.get(chunk[4:8]) if op == _IOCTL else self._writes.get(op)
        if finder is None:
            return NOTHING_SEEN
        return finder(chunk, HEADER_SIZE + FIXUP_SIZE * chunk[3])


def _member_finder(spec: IoctlSpec) -> _Finder | None:
    places: list[tuple[str, int, int]] = []
    for field in spec.fields:
        member = spec.struct.member(field.member) if spec.struct else None
        if isinstance(field, PoolField) and member is not None and member.size:
            places.append((field.pool, member.offset, member.offset + member.size))
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


def _template_finder(templates: Sequence[Template]) -> _Finder | None:
    shapes = list(dict.fromkeys(filter(None, map(_slots, templates))))
    if not shapes:
        return None

    def find(chunk: bytes, body: int) -> Seen:
        # The first template with all its literals in place explains the data.
        for first, slots in shapes:
            if not chunk.startswith(first, body):
                continue
            at = body + len(first)
            seen: dict[str, list[bytes]] = {}
            for slot in slots:
                end = chunk.find(slot.end, at) if slot.end else len(chunk)
                if end < 0:
                    break
                if end - at <= _LONGEST:
                    seen.setdefault(slot.pool, []).append(chunk[at:end])
                at = end + len(slot.end)
            else:
                return seen
        return NOTHING_SEEN

    return find


def _slots(template: Template) -> tuple[bytes, tuple[_Slot, ...]] | None:
    """Return a template's leading literal and its pools, None if they cannot be told apart."""
    parts = list(template.parts)
    first = parts.pop(0) if parts and isinstance(parts[0], bytes) else b""
    slots: list[_Slot] = []
    while parts:
        part = parts.pop(0)
        end = parts.pop(0) if parts else b""
        if not isinstance(part, PoolRef) or not isinstance(end, bytes):
            return None
        slots.append(_Slot(part.pool, end))
    return (first, tuple(slots)) if slots and isinstance(first, bytes) else None
