# SPDX-License-Identifier: Apache-2.0
"""Repetition of a call, as a table that fills or a counter that is to get high takes it."""

from __future__ import annotations

from collections.abc import Callable

from fuzzer.program.ops import ops_with
from fuzzer.program.payload_metrics import counted_up, numbered_alike
from fuzzer.program.wire import FIXUP_SIZE, HEADER_SIZE

_REPEATED = ops_with(lambda each: each.reaches_driver and not each.is_slow)
# The shares of repeated calls whose names get other numbers, and whose first word counts up.
_NUMBERED, _COUNTED = 0.25, 0.25


def repeat(rand: Callable[[], float], chunks: list[bytes], most: int) -> bool:
    """Repeat a call behind itself, mostly a few times; False if none can be.

    It is one that reaches the driver, and does not take long. The copies are all the same, or
    numbered. There are at most ``most`` calls then.
    """
    room = most - len(chunks)
    fit = [at for at, chunk in enumerate(chunks) if chunk[0] in _REPEATED]
    if room < 1 or not fit:
        return False
    at = fit[int(rand() * len(fit))]
    times = 1 + int(rand() ** 3 * room)
    chunk = chunks[at]
    body = HEADER_SIZE + FIXUP_SIZE * chunk[3]
    kind, data = rand(), chunk[body:]
    if kind < _NUMBERED:
        copies = numbered_alike(data, times)
    elif kind < _NUMBERED + _COUNTED:
        copies = counted_up(data, times, 0)
    else:
        copies = [data] * times
    chunks[at + 1 : at + 1] = [chunk[:body] + copy for copy in copies]
    return True
