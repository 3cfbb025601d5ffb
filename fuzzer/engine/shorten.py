# SPDX-License-Identifier: Apache-2.0
"""Shortening of programs: leaves out calls as long as a condition holds."""

from __future__ import annotations

from collections.abc import Callable

from fuzzer.program.wire import split


def shorten(program: bytes, keeps: Callable[[bytes], bool]) -> bytes:
    """Return a wire program without the calls that it does not need for ``keeps`` to hold.

    Calls are left out one at a time, from the last to the first, if ``keeps`` holds for
    the rest; if any was left out, there is a second round. So ``keeps`` is called for at
    most twice as many programs as there are calls.
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
