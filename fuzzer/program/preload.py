# SPDX-License-Identifier: Apache-2.0
"""The calls that a machine is settled by: a program's first ones, if they load the module anew."""

from __future__ import annotations

from collections.abc import Sequence

from fuzzer.program.ops import Op
from fuzzer.program.program import MAX_SETTLEMENT
from fuzzer.program.wire import split

_CLOSE, _UNLOAD, _LOAD, _OPEN = map(int, (Op.CLOSE, Op.UNLOAD, Op.LOAD, Op.OPEN))


def settlement_of(program: bytes) -> bytes:
    """Return the first calls if they unload and load the module, and open files; else nothing."""
    calls = split(program)
    n = 0
    for ops, most in (((_CLOSE,), len(calls)), ((_UNLOAD,), 1), ((_LOAD,), 1), ((_OPEN,), 1)):
        start = n
        while n < min(len(calls), start + most) and calls[n][0] in ops:
            n += 1
        if n == start and ops != (_CLOSE,):
            return b""
    found = b"".join(calls[:n])
    return found if len(found) <= MAX_SETTLEMENT else b""


def shared_settlement(programs: Sequence[bytes]) -> bytes:
    """Return the settlement that all of some programs begin with; else nothing."""
    calls = settlement_of(programs[0]) if programs else b""
    return calls if all(program.startswith(calls) for program in programs) else b""
