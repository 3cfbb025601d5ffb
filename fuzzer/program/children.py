# SPDX-License-Identifier: Apache-2.0
"""Programs of which another process makes some calls, and exits with its files open."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from fuzzer.program.ops import FLAG_WAITS, Op
from fuzzer.program.program import Call, Program
from fuzzer.program.wire import PLAIN_HEADER

_CHILD, _EXIT = int(Op.CHILD), int(Op.EXIT)
# The share of changes after which no other process makes any calls.
_TAKE_BACK = 0.1

# What the executor does not do in a child.
_LEFT_OUT = frozenset({Op.CHILD, Op.LOAD, Op.UNLOAD, Op.WAIT, Op.FLIP})


def end_of_child(program: Sequence[Call], start: int) -> int:
    """Return the index behind the calls of the child that call number ``start`` begins."""
    ends = (at + 1 for at in range(start, len(program)) if program[at].op is Op.EXIT)
    return next(ends, len(program))


def as_made(program: Program) -> Program:
    """Return a program with the calls of its children as the executor makes them.

    They are serial and not left waiting. Those that it does not make are waits of no time.
    """
    made: list[Call] = []
    while len(made) < len(program):
        call = program[len(made)]
        made.append(call)
        if call.op is Op.CHILD and not call.thread:
            inside = program[len(made) : end_of_child(program, len(made))]
            made += [
                Call(Op.WAIT)
                if each.op in _LEFT_OUT
                else replace(each, thread=0, flags=each.flags & ~FLAG_WAITS)
                for each in inside
            ]
    return tuple(made)


def change_child(rand: Callable[[], float], chunks: list[bytes], least: int, most: int) -> None:
    """Have another process make some of a program's calls, or others of them, or no more.

    The program has ``least`` to ``most`` calls. ``rand`` returns numbers from 0 to 1.
    """
    n = len(chunks)
    ends = [index for index, chunk in enumerate(chunks) if chunk[0] in (_CHILD, _EXIT)]
    if ends and n - len(ends) >= least and rand() < _TAKE_BACK:
        chunks[:] = [chunk for chunk in chunks if chunk[0] not in (_CHILD, _EXIT)]
    elif ends:
        # Where its calls begin or end is moved.
        moved = chunks.pop(ends[int(rand() * len(ends))])
        chunks.insert(int(rand() * n), moved)
    elif n + 2 <= most:
        end = int(rand() * n) + 1
        chunks.insert(end, PLAIN_HEADER.pack(_EXIT, 0, 0, 0, 0, 0, 0))
        chunks.insert(int(rand() * end), PLAIN_HEADER.pack(_CHILD, 0, 0, 0, 0, 0, 0))
