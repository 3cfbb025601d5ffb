# SPDX-License-Identifier: Apache-2.0
"""A program with fewer calls that still does what matters."""

from __future__ import annotations

from collections.abc import Callable

from fuzzer.program.wire import split


def shorten(program: bytes, keeps: Callable[[bytes], bool]) -> bytes:
    """Return a program without calls that it can do without, in wire form.

    Calls are dropped one at a time, from the last to the first, as long as
    ``keeps`` says that the rest still does it; if any went, once more. So
    ``keeps`` is asked about at most twice as many programs as there are calls.
    """
    chunks = split(program)
    for _ in range(2):
        before = len(chunks)
        for number in reversed(range(before)):
            rest = chunks[:number] + chunks[number + 1 :]
            if rest and keeps(b"".join(rest)):
                chunks = rest
        if len(chunks) == before:
            break
    return b"".join(chunks) if len(chunks) < len(split(program)) else program
