# SPDX-License-Identifier: Apache-2.0
"""Calls on the mappings of files that stay, in C, as vm/executor/mapping.c makes them."""

from __future__ import annotations

from fuzzer.program.csource.literals import advice, c_integer, protection
from fuzzer.program.ops import (
    FLAG_READONLY,
    MAP_PRIVATE,
    MAP_TURNED,
    MOST_ADVICE,
    REMAP_MOVE,
    Op,
)
from fuzzer.program.program import Call

PAGE = 4096
"""Bytes of a page."""

KEPT_PAGES = 8
"""The most pages of a mapping that stays."""

ON_MAPPING = frozenset({Op.UNMAP, Op.STORE, Op.REMAP, Op.PROTECT, Op.ADVISE})
"""Operations on a mapping that is there."""


def map_statement(call: Call, file: str, offset: str) -> str:
    """Return the statement that maps a file, by its name, at an offset in bytes."""
    kind = "MAP_PRIVATE" if call.mode & MAP_PRIVATE else "MAP_SHARED"
    allowed = protection(call.mode ^ MAP_TURNED)
    return f"map({call.file}, {file}, {_pages(call)}, {offset}, {allowed}, {kind});"


def mapping_statement(call: Call) -> tuple[str, str]:
    """Return the statement of a call on a mapping, and the helper that it needs."""
    number, pages = call.file, _pages(call)
    page = f"maps[{number}].base"
    if call.cmd:
        page += f" + {c_integer(call.cmd * PAGE)}"
    match call.op:
        case Op.STORE if call.flags & FLAG_READONLY:
            return f"fetch({number}, {call.cmd});", "fetch"
        case Op.STORE:
            return f"store({number}, {call.cmd}, {c_integer(call.arg)});", "store"
        case Op.UNMAP:
            return f"unmap({number}, {call.cmd}, {pages});", "unmap"
        case Op.REMAP:
            first, moves = min(call.cmd, KEPT_PAGES), call.mode & REMAP_MOVE
            return f"remap({number}, {first}, {pages}, {moves});", "remap"
        case Op.PROTECT:
            return f"mprotect({page}, {pages * PAGE}, {protection(call.mode)});", "maps"
        case _:
            return f"madvise({page}, {pages * PAGE}, {advice(call.mode & MOST_ADVICE)});", "maps"


def populating(call: Call) -> list[str]:
    """Return the statements that have the kernel touch the page of a store.

    So nothing fails while it is stored to: a signal's frame must not be what that hits.
    """
    page = f"maps[{call.file}].base + {c_integer(call.cmd * PAGE)}"
    kinds = ("READ",) if call.flags & FLAG_READONLY else ("READ", "WRITE")
    return [f"madvise({page}, {PAGE}, MADV_POPULATE_{kind});" for kind in kinds]


def _pages(call: Call) -> int:
    return min(-(-call.arg // PAGE), KEPT_PAGES)
