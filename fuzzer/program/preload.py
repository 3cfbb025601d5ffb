# SPDX-License-Identifier: Apache-2.0
"""Preloads: the first calls of a program, if they load the module anew.

A machine on which they ran once is preloaded: programs that begin with them skip them there.
"""

from __future__ import annotations

from collections.abc import Sequence

from fuzzer.program.ops import Op
from fuzzer.program.program import MAX_PRELOAD
from fuzzer.program.wire import split

_CLOSE, _UNLOAD, _LOAD, _OPEN = map(int, (Op.CLOSE, Op.UNLOAD, Op.LOAD, Op.OPEN))


def preload_of(program: bytes) -> bytes:
    """Return the first calls of a program if they load the module anew and open files, else b""."""
    calls = split(program)
    n = 0
    for ops, most in (((_CLOSE,), len(calls)), ((_UNLOAD,), 1), ((_LOAD,), 1), ((_OPEN,), 1)):
        start = n
        while n < min(len(calls), start + most) and calls[n][0] in ops:
            n += 1
        if n == start and ops != (_CLOSE,):
            return b""
    found = b"".join(calls[:n])
    return found if len(found) <= MAX_PRELOAD else b""


def shared_preload(programs: Sequence[bytes]) -> bytes:
    """Return the preload that all of the programs begin with, or b""."""
    calls = preload_of(programs[0]) if programs else b""
    return calls if all(program.startswith(calls) for program in programs) else b""
