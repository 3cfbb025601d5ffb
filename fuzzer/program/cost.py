# SPDX-License-Identifier: Apache-2.0
"""The cost of running a program, estimated from its wire bytes.

It is estimated and not measured, so that a campaign takes the same decisions each time.
"""

from __future__ import annotations

from collections.abc import Sequence

from fuzzer.program.ops import OPERATIONS, Op, ops_with
from fuzzer.program.wire import HEADER_SIZE

_SLEEP = int(Op.SLEEP)
_SLOW = ops_with(lambda each: each.is_slow)
_REACHES_DRIVER = ops_with(lambda each: each.reaches_driver)
_COSTS = tuple(OPERATIONS[op].cost for op in Op)
# A payload of so many bytes costs the guest as much as one more call.
_PAYLOAD = 10.0
# W_MAX_SLEEP of vm/channel.h.
_MAX_SLEEP = 2000


def cost_of(chunks: Sequence[bytes]) -> float:
    """Return the estimated cost of a program, in small calls."""
    cost = 1.0
    for chunk in chunks:
        op = chunk[0]
        if op in _REACHES_DRIVER:
            cost += _COSTS[op] + (len(chunk) - HEADER_SIZE) / _PAYLOAD
        elif op == _SLEEP:
            cost += cost_of_wait(min(_MAX_SLEEP, int.from_bytes(chunk[8:16], "little")))
        else:
            cost += _COSTS[op]
    return cost


def cost_of_wait(milliseconds: float) -> float:
    """Return the cost of a wait, in small calls."""
    return _COSTS[_SLEEP] * milliseconds


def is_slow(chunks: Sequence[bytes]) -> bool:
    """Tell whether a program unloads or loads the module, or waits.

    Such a program takes as long as many others. One that merely has many calls is not slow.
    """
    return any(chunk[0] in _SLOW for chunk in chunks)
