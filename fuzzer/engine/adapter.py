# SPDX-License-Identifier: Apache-2.0
"""Adapter to libFuzzer: its callbacks, in terms of the fuzzing loop."""

from __future__ import annotations

from fuzzer.engine.candidate import Candidate
from fuzzer.engine.loop import Loop
from fuzzer.machine.channel_layout import PROGRAM_SIZE


class LibFuzzerAdapter:
    """Gives libFuzzer a batch for a program.

    libFuzzer asks for a mutant of a program, gets the last program of a batch, and then
    has it run: that runs the batch, and libFuzzer sees the coverage of the last program.
    Programs of the corpus run alone; libFuzzer does not ask for a mutant before those.
    """

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        # The program that libFuzzer asked to have mutated, and the batch that it is about to run.
        self._asked: bytes | None = None
        self._batch: list[Candidate] = []

    def mutate(self, data: bytes, max_size: int, seed: int) -> bytes:
        """libFuzzer's custom mutator. ``seed`` is not used: the loop's own is."""
        self._asked = data
        self._batch = self._loop.next_batch(data)
        return self._batch[-1].program[:max_size]

    def run_one(self, data: bytes) -> None:
        """libFuzzer's callback: run a program, or the batch that it ends."""
        batch, self._batch = self._batch, []
        asked, self._asked = self._asked, None
        self._loop.run(batch or [Candidate(data[:PROGRAM_SIZE])], asked)
