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
from typing import Protocol

from fuzzer.engine.buckets import deferred_of, features_of, repeated, without
from fuzzer.engine.shorten import shorten

# Programs that were queued and are not to be shortened again. Few wait at a time.
_AS_THEY_ARE = 64
# Times that a feature of deferred work is seen, without repeating, until it counts.
_MOST_LATE = 3


@dataclass(frozen=True, slots=True)
class TriageVerdict:
    """The decision about a program.

    ``counters`` are those that libFuzzer may see, one byte each. ``kept`` tells that the
    program will enter the corpus, ``flaky`` that none of its new coverage repeated.
    """

    counters: bytes
    kept: bool = False
    flaky: bool = False


class RunAgain(Protocol):
    """Runs a program under the conditions of the fuzzing loop, on cleared counters."""

    def __call__(self, program: bytes, /, *, settles: bool = False) -> bytes | None:
        """Return all counters; None if it crashed or its machine was lost, which was dealt with.

        If it ``settles``, the driver's deferred work is waited for.
        """


class Triage:
    """Decides which counters of a program libFuzzer sees.

    The first ``n_blocks`` counters are those of the blocks, any others are 0 or 1.

    Deferred work may come late, and is put down to a later program. It does not repeat with
    that one, which ``note_late`` is told. What came late some times is no longer new, although
    no program has it.
    """

    def __init__(
        self, run: RunAgain, n_blocks: int, note_late: Callable[[], None] = lambda: None
    ) -> None:
        self._run = run
        self._tell_late = note_late
        self._n_blocks = n_blocks
        self._blocks = (1 << 8 * n_blocks) - 1
        self._queue: deque[bytes] = deque()
        self._as_they_are: deque[bytes] = deque(maxlen=_AS_THEY_ARE)
        # Features of deferred work that did not repeat: some times, and others less often.
        self._late = [0] * (_MOST_LATE - 1)
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
        deferred = deferred_of(features_of(counters) & ~self.seen)
        settles = False
        if not repeated_already:
            again, settles = self._repeat(program, deferred)
            if again is None:
                return TriageVerdict(bytes(len(counters)))
            counters = repeated(counters, again)
        new = features_of(counters) & ~self.seen
        self._note_late(deferred & ~new)
        if not new:
            return TriageVerdict(counters, flaky=True)
        if shortened and program not in self._as_they_are:
            shorter = self._shorten(program, new, preloaded, settles=settles)
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

    def is_late(self, program: bytes, counters: memoryview | bytes) -> bool:
        """Tell whether all that is new is deferred work, and of an earlier program.

        Also if that cannot be told, as the program crashed.
        """
        new = features_of(counters, self._n_blocks) & ~self.seen
        if not new or deferred_of(new) != new:
            return False
        again, _ = self._repeat(program, new)
        if again is not None and new & features_of(again):
            return False
        if again is not None:
            self._note_late(new)
        return True

    def _repeat(self, program: bytes, deferred: int) -> tuple[bytes | None, bool]:
        """Run a program again; return its counters, and whether its work had to be waited for."""
        again = self._run(program)
        if again is None or not deferred & ~features_of(again):
            return again, False
        return self._run(program, settles=True), True

    def _note_late(self, features: int) -> None:
        if features:
            self._tell_late()
        for times, earlier in enumerate(self._late):
            self._late[times], features = earlier | features, earlier & features
        self.seen |= features

    def _shorten(self, program: bytes, new: int, preloaded: bytes, *, settles: bool) -> bytes:
        crashed = False

        def keeps(candidate: bytes) -> bool:
            nonlocal crashed
            counters = None if crashed else self._run(first + candidate, settles=settles)
            crashed = counters is None
            return counters is not None and not new & ~features_of(counters)

        rest = program.removeprefix(preloaded)
        first = program[: len(program) - len(rest)]
        shorter = shorten(rest, keeps)
        return program if shorter is rest else first + shorter
