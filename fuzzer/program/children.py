# SPDX-License-Identifier: Apache-2.0
"""Programs of which another process makes some calls, and exits with its files open."""

from __future__ import annotations

from collections.abc import Callable

from fuzzer.program.ops import Op
from fuzzer.program.wire import PLAIN_HEADER

_CHILD, _EXIT = int(Op.CHILD), int(Op.EXIT)
# The share of changes after which no other process makes any calls.
_TAKE_BACK = 0.1


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
