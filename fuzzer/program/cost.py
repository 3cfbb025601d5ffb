# SPDX-License-Identifier: Apache-2.0
"""What running a program costs, estimated from its wire bytes.

An estimate and not a measurement, so that a campaign takes the same decisions
each time.
"""

from __future__ import annotations

from collections.abc import Sequence

from fuzzer.program.program import Op
from fuzzer.program.wire import HEADER_SIZE

_SLEEP, _UNLOAD, _LOAD = int(Op.SLEEP), int(Op.UNLOAD), int(Op.LOAD)
_SLOW = frozenset((_SLEEP, _UNLOAD, _LOAD))
# In calls. A module takes some 10 ms to be unloaded or loaded, and once more to be put
# back after the program; a call takes some 20 µs.
_MODULE = 500.0
_MILLISECOND = 50.0
# A payload of so many bytes costs the guest as much as one more call.
_PAYLOAD = 10.0


def cost_of(chunks: Sequence[bytes]) -> float:
    """Return about how many small calls a program takes as long as."""
    cost = 1.0
    for chunk in chunks:
        op = chunk[0]
        if op < _SLEEP:
            cost += 1 + (len(chunk) - HEADER_SIZE) / _PAYLOAD
        elif op == _SLEEP:
            cost += _MILLISECOND * min(2000, int.from_bytes(chunk[8:16], "little"))
        elif op in (_UNLOAD, _LOAD):
            cost += _MODULE
        else:
            cost += 1
    return cost


def cost_of_wait(milliseconds: float) -> float:
    """Return how many small calls a wait takes as long as."""
    return _MILLISECOND * milliseconds


def is_slow(chunks: Sequence[bytes]) -> bool:
    """Tell whether a program unloads, loads or waits: it takes as long as many others.

    One that is merely long does not.
    """
    return any(chunk[0] in _SLOW for chunk in chunks)
