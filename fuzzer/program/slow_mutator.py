# SPDX-License-Identifier: Apache-2.0
"""Mutation that makes programs slow: it adds waits, and calls that load the module anew."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from fuzzer.program.cost import is_slow
from fuzzer.program.generate import Generator
from fuzzer.program.ops import Op

_OPEN, _LOAD = int(Op.OPEN), int(Op.LOAD)

# Shares of added loads at the program's end, and anywhere; the others are at its start.
_AT_END, _ANYWHERE = 0.25, 0.2
# The share of programs that also wait somewhere after an added load.
_WAIT = 0.5
# The share of added waits that are followed by a new call.
_LOOK = 0.5
# The probability with which one more program is appended to a slow one, again and again.
_FILL = 0.7


class SlowMutator:
    """Makes programs slow; ``new_call(chunks)`` returns a new call for a program.

    The module is loaded anew only if it ``reloads``.
    """

    def __init__(
        self,
        rng: random.Random,
        generator: Generator,
        new_call: Callable[[list[bytes]], bytes],
        *,
        reloads: bool,
    ) -> None:
        self._random = rng.random
        self._generator = generator
        self._new_call = new_call
        self._reloads = reloads

    def slow_down(self, chunks: list[bytes]) -> None:
        """Add a wait, or calls that load the module anew."""
        rand = self._random
        wait = self._generator.wait()
        if wait and (not self._reloads or (is_slow(chunks) and rand() < 0.7)):
            loads = [i for i, chunk in enumerate(chunks) if chunk[0] == _LOAD]
            self._wait(chunks, wait, loads[-1] + 2 if loads else 0)
            return
        if not self._reloads:
            return
        # Effects of parameters show in calls after the load, and what unloading forgets to clean
        # up shows if the load comes last.
        place = rand()
        at = len(chunks) if place < _AT_END else 0
        if place > 1 - _ANYWHERE:
            at = int(rand() * (len(chunks) + 1))
        files = {0, *(chunk[1] for chunk in chunks[:at] if chunk[0] == _OPEN)}
        first = [chunk for chunk in chunks[:at] if chunk[0] == _OPEN and not chunk[1]]
        device = int.from_bytes(first[-1][8:16], "little") if first else 0
        calls = self._generator.reload(sorted(files), device)
        chunks[at:at] = calls
        # Some effects of a parameter show only later.
        if wait and rand() < _WAIT:
            self._wait(chunks, wait, at + len(calls))

    def _wait(self, chunks: list[bytes], wait: bytes, first: int) -> None:
        """Insert a wait after a call from ``first`` on, and often a new call after the wait."""
        rand, n = self._random, len(chunks)
        at = min(n, first + 1 + int(rand() * (n - first)))
        chunks.insert(at, wait)
        if rand() < _LOOK:
            chunks.insert(at + 1, self._new_call(chunks))

    def fill(self, chunks: list[bytes], noted: Sequence[list[bytes]], most: int) -> None:
        """Append ``noted`` quick programs: compared with a wait or a load they cost nothing."""
        rand = self._random
        while noted and len(chunks) < most and rand() < _FILL:
            chunks += noted[int(rand() * len(noted))]
