# SPDX-License-Identifier: Apache-2.0
"""Trials of programs that lose memory: whole batches on machines that exist only here."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from fuzzer.crash.oracles.deterministic import LeakTrials, Shown, matches
from fuzzer.crash.outcome import Outcome
from fuzzer.crash.reproducer import Reproducer
from fuzzer.splat.find import bare_splat
from tests.fakes import FakeGuest, FakeSetups

LEAK = bare_splat("memory leak in drv_write", "leak", "drv_write")
OTHER = bare_splat("memory leak in drv_open", "leak", "drv_open")


class LetterSetups(FakeSetups):
    """Runs programs of one letter: L loses memory, O some of its own.

    K gets memory that only a V after it loses, W has a worker get what it loses.
    """

    def __init__(self) -> None:
        super().__init__(FakeGuest(lambda ran: None), leaks=self._lost)
        self.batches: list[bytes] = []

    def _lost(self, programs: Sequence[bytes]) -> tuple[Outcome, int | None]:
        ran = b"".join(programs)
        self.batches.append(ran)
        if b"W" in ran:
            return Outcome(LEAK, b""), None
        for at, letter in enumerate(ran):
            if letter in b"LO" or (letter in b"K" and b"V" in ran[at:]):
                return Outcome(OTHER if letter in b"O" else LEAK, b""), at
        return Outcome(None, b""), None


def first(programs: bytes, *, careful: bool) -> tuple[Shown | None, list[bytes]]:
    setups = LetterSetups()
    trials = LeakTrials(setups, matches(LEAK), careful=careful)
    search = trials.first([Reproducer(bytes([letter])) for letter in programs])
    try:
        while True:
            next(search)
    except StopIteration as found:
        assert trials.effort.runs == sum(map(len, setups.batches))
        assert trials.effort.restores == len(setups.batches)
        return found.value, setups.batches


@pytest.mark.parametrize(
    ("programs", "careful", "index", "batches"),
    [
        (b"xxx", False, None, [b"xxx"]),
        (b"xxLxL", False, 2, [b"xxLxL"]),
        (b"xxLxL", True, 2, [b"xxLxL", b"L"]),
        # Another leak is in the way, and what comes after it is looked at by itself.
        (b"xOxL", False, 3, [b"xOxL", b"xL"]),
        (b"xO", True, None, [b"xO"]),
        # Memory that another program lost.
        (b"KxV", False, 0, [b"KxV"]),
        (b"KxVL", True, 3, [b"KxVL", b"K", b"xVL", b"L"]),
        (b"KV", True, None, [b"KV", b"K", b"V"]),
        # Memory of which it is not known whose it was.
        (b"xWx", False, 1, [b"xWx", b"x", b"W"]),
        (b"W", True, 0, [b"W", b"W"]),
    ],
)
def test_a_batch_is_looked_at_as_a_whole(
    programs: bytes, careful: bool, index: int | None, batches: list[bytes]
) -> None:
    shown, ran = first(programs, careful=careful)
    assert (shown.index if shown else None) == index
    assert ran == batches
    if shown:
        assert shown.reproducer == Reproducer(programs[shown.index : shown.index + 1])
        assert shown.splat == LEAK
