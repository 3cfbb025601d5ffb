# SPDX-License-Identifier: Apache-2.0
"""Triage of programs: new coverage has to repeat, and programs with it are shortened.

libFuzzer owns the corpus and keeps an input as soon as its counters show something new.
So a program that does is run again before libFuzzer sees its counters, and coverage that
did not repeat is taken out of them. If fewer of its calls cover the same, all new coverage
is taken out, and the shorter program is handed to libFuzzer as one of its next inputs.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from fuzzer.engine.buckets import features_of, repeated, without
from fuzzer.engine.shorten import shorten

# Programs that were queued and are not to be shortened again. Few wait at a time.
_AS_THEY_ARE = 64


@dataclass(frozen=True, slots=True)
class TriageVerdict:
    """The decision about a program.

    ``counters`` are those that libFuzzer may see, one byte each. ``kept`` tells that the
    program will enter the corpus, ``flaky`` that none of its new coverage repeated.
    """

    counters: bytes
    kept: bool = False
    flaky: bool = False


class Triage:
    """Decides which counters of a program libFuzzer sees.

    ``run`` runs a program under the same conditions as the fuzzing loop does,
    on cleared counters, and returns all of them; None when the program crashed
    or its machine was lost, which the loop has dealt with. The first
    ``n_blocks`` counters are those of the blocks, any others are 0 or 1.
    """

    def __init__(self, run: Callable[[bytes], bytes | None], n_blocks: int) -> None:
        self._run = run
        self._n_blocks = n_blocks
        self._blocks = (1 << 8 * n_blocks) - 1
        self._queue: deque[bytes] = deque()
        self._as_they_are: deque[bytes] = deque(maxlen=_AS_THEY_ARE)
        self.seen = 0
        """The features seen so far, all of which repeated."""

    @property
    def covered(self) -> int:
        """The features of the blocks alone; a byte is not 0 if its block is covered."""
        return self.seen & self._blocks

    def is_new(self, counters: memoryview | bytes) -> bool:
        """Tell whether the counters have a feature that was not seen before."""
        seen = self.seen
        return features_of(counters, self._n_blocks) | seen != seen

    def consider(
        self,
        program: bytes,
        counters: bytes,
        *,
        shortened: bool,
        preloaded: bytes = b"",
        repeated_already: bool = False,
    ) -> TriageVerdict:
        """Return the decision about a program whose counters show something new.

        If it is to be ``shortened``, calls that it does not need are left out first, but none
        of the ``preloaded`` calls of the machine. With ``repeated_already`` it is not run
        again, as that would take too long.
        """
        if not program:
            # libFuzzer runs the empty program once at its start, and ignores its counters.
            return TriageVerdict(counters)
        again = counters if repeated_already else self._run(program)
        if again is None:
            return TriageVerdict(bytes(len(counters)))
        counters = repeated(counters, again)
        new = features_of(counters) & ~self.seen
        if not new:
            return TriageVerdict(counters, flaky=True)
        if shortened and program not in self._as_they_are:
            shorter = self._shorten(program, new, preloaded)
            if shorter is not program:
                # If the shorter one does not show it again, the whole one that follows does;
                # otherwise the whole one shows nothing new by then.
                self._queue += (shorter, program)
                self._as_they_are += (shorter, program)
                return TriageVerdict(without(counters, new))
        self.seen |= new
        return TriageVerdict(counters, kept=True)

    @property
    def waiting(self) -> bool:
        """True if a program waits for :meth:`take`."""
        return bool(self._queue)

    def take(self) -> bytes | None:
        """Return the next program that libFuzzer is to run, or None."""
        return self._queue.popleft() if self._queue else None

    def _shorten(self, program: bytes, new: int, preloaded: bytes) -> bytes:
        crashed = False

        def keeps(candidate: bytes) -> bool:
            nonlocal crashed
            counters = None if crashed else self._run(first + candidate)
            crashed = counters is None
            return counters is not None and not new & ~features_of(counters)

        rest = program.removeprefix(preloaded)
        first = program[: len(program) - len(rest)]
        shorter = shorten(rest, keeps)
        return program if shorter is rest else first + shorter
