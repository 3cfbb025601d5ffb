# SPDX-License-Identifier: Apache-2.0
"""Buffers of calls that lie in the mapping of a file, so that copying them faults there.

These work on calls' canonical wire bytes, as ``struct w_call`` has them.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from fuzzer.program.ops import (
    MAP_PRIVATE,
    POINTS,
    REMAP_MOVE,
    Op,
    Payload,
    can_lie_in_mapping,
    can_point,
    is_request,
    ops_with,
)
from fuzzer.program.syntax import ADVICE
from fuzzer.program.wire import FIXUP_SIZE, HEADER_SIZE

_MODE = 23
_MAP = int(Op.MAP)
_PAYLOADS = ops_with(lambda each: each.payload is not Payload.NONE)
# Shares of changes that take a buffer out of a mapping again, and that put nothing there: then
# its pages need not be there when the call begins.
_TAKE_OUT, _NOTHING = 0.2, 0.6
# The share of calls with fixups of which not the buffer lies there, but what that points to.
_POINTED = 0.6
# The share of calls on a mapping that are a change of a page between two uses of it; the most of
# the others that are inserted at a time.
_BETWEEN, _VISITS = 0.6, 4
_PAGE, _PAGES = 4096, 8
_DROPS = (*["MADV_DONTNEED"] * 5, "MADV_REMOVE", "MADV_FREE")
_OTHERS = ("MADV_DONTFORK", "MADV_WILLNEED", "MADV_POPULATE_READ", "MADV_POPULATE_WRITE")

MODES: Mapping[int, tuple[int, ...]] = {
    # Mostly shared, to read and write; then one of these less, to execute, and none.
    Op.MAP: (0, 0, 0, 0, 0, 0, 2, 2, MAP_PRIVATE, 2 | MAP_PRIVATE, 1, 4, 6, 3),
    Op.REMAP: (0, REMAP_MOVE),
    Op.PROTECT: (0, 1, 1, 1, 2, 3, 3, 5, 7),
    Op.ADVISE: tuple(ADVICE[name] for name in (*_DROPS, *_OTHERS)),
}
"""The modes of calls on mappings, some more often than others."""


def with_mode(chunk: bytes, mode: int) -> bytes:
    """Return a call with another mode."""
    return chunk[:_MODE] + bytes((mode,)) + chunk[HEADER_SIZE:]


@dataclass(frozen=True, slots=True)
class MappingCalls:
    """Makers of calls: one that maps a file, one that uses a mapping, one that changes it."""

    map: Callable[[], bytes]
    use: Callable[[], bytes]
    change: Callable[[], bytes]


class Placer:
    """Changes where buffers lie, and what becomes of mappings.

    The same ``rng`` state gives the same choices. Programs have at most ``limit`` calls.
    """

    def __init__(self, rng: random.Random, calls: MappingCalls, limit: int) -> None:
        self._random = rng.random
        self._calls = calls
        self._limit = limit

    def visit(self, chunks: list[bytes], room: int) -> None:
        """Insert calls on the mapping of a file, often a change of a page between two uses.

        If nothing is mapped in the program, a file is.
        """
        rand, calls = self._random, self._calls
        maps = [at for at, each in enumerate(chunks) if each[0] == _MAP]
        if not maps and len(chunks) < self._limit and room >= HEADER_SIZE:
            maps = [int(rand() * (len(chunks) + 1))]
            chunks.insert(maps[0], calls.map())
            room -= HEADER_SIZE
        if not maps:
            return
        first = maps[int(rand() * len(maps))]
        mapping = chunks[first]
        at = first + 1 + int(rand() * (len(chunks) - first))
        if rand() < _BETWEEN:
            pages = min(_PAGES, -(-int.from_bytes(mapping[8:16], "little") // _PAGE))
            page = int(rand() ** 2 * pages).to_bytes(4, "little")
            made = [calls.use(), calls.change(), calls.use()]
            made = [each[:4] + page + each[8:] for each in made]
        else:
            made = [calls.use() if rand() < 0.5 else calls.change() for _ in range(_VISITS)]
            del made[1 + int(rand() * _VISITS) :]
        del made[max(0, min(self._limit - len(chunks), room // HEADER_SIZE)) :]
        chunks[at:at] = [each[:1] + mapping[1:2] + each[2:] for each in made]

    def place(self, chunks: list[bytes], room: int) -> None:
        """Have the buffer of a call lie in the mapping of a file, or no longer.

        If nothing is mapped before the call, a file is.
        """
        rand = self._random
        able = [
            at
            for at, each in enumerate(chunks)
            if can_lie_in_mapping(each[0], each[2]) and not is_request(each[0], each[_MODE])
        ]
        if not able:
            return
        at = able[int(rand() * len(able))]
        chunk = chunks[at]
        if chunk[_MODE] and rand() < _TAKE_OUT:
            chunks[at] = with_mode(chunk, 0)
            return
        files = self._mapped(chunks[:at])
        if not files and len(chunks) < self._limit and room >= HEADER_SIZE:
            chunks.insert(at, self._calls.map())
            files = [chunks[at][1]]
            at += 1
        if not files:
            return
        mode = 1 + files[int(rand() * len(files))]
        if chunk[3] and can_point(chunk[0], chunk[2]) and rand() < _POINTED:
            mode |= POINTS
        elif rand() < _NOTHING and chunk[0] in _PAYLOADS:
            length = len(chunk) - HEADER_SIZE - FIXUP_SIZE * chunk[3]
            chunk = chunk[:3] + bytes(1) + chunk[4:HEADER_SIZE] + bytes(length)
        chunks[at] = with_mode(chunk, mode)

    def _mapped(self, chunks: Sequence[bytes]) -> list[int]:
        return [each[1] for each in chunks if each[0] == _MAP]
