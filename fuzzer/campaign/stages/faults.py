# SPDX-License-Identifier: Apache-2.0
"""Stages in which allocations and user copies of corpus programs fail, one in each run."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator

from fuzzer.campaign.looked import FAULTS, LOADS
from fuzzer.campaign.stages.corpus_stage import CorpusStage
from fuzzer.campaign.stages.sweeps import Sweeps
from fuzzer.campaign.stages.workbench import Workbench, is_as_it_was
from fuzzer.program.conditions import can_fail, with_fault
from fuzzer.program.cost import is_slow
from fuzzer.program.ops import Op
from fuzzer.program.wire import split

MAX_FAULTS = 40
"""Allocations and user copies of a call that fail in turn."""

MAX_LOAD_FAULTS = 400
"""Allocations of a load of the module that fail in turn."""

# Faults of one program's load before another program's load has a turn.
_LOAD_TURN = 16
_LOAD, _UNLOAD = int(Op.LOAD), int(Op.UNLOAD)


def failing(chunks: list[bytes], index: int, nth: int) -> bytes:
    """Return a program one of whose calls fails at its n-th allocation or copy."""
    return b"".join([*chunks[:index], with_fault(chunks[index], nth), *chunks[index + 1 :]])


class Faults(CorpusStage):
    """Sweeps over quick programs, the newest first: every allocation and copy fails in turn."""

    name = "faults"

    def __init__(self, bench: Workbench) -> None:
        super().__init__(bench)
        self._sweeps = Sweeps(bench)

    def note(self, program: bytes) -> None:
        """Take note of a program of the corpus."""
        chunks = split(program)
        if not is_slow(chunks) and is_as_it_was(chunks):
            self._sweeps.prepend(self._fail_all(chunks))

    def step(self) -> bool:
        """Go on with the sweeps for a slice of time; tell whether there were any."""
        return self._sweeps.step()

    def _fail_all(self, chunks: list[bytes]) -> Iterator[bool]:
        bench = self._bench
        for index, chunk in enumerate(chunks):
            for nth in range(1, MAX_FAULTS + 1 if can_fail(chunk) else 0):
                outcome = bench.run(bench.plain, failing(chunks, index, nth))
                bench.record_look(FAULTS)
                is_last = not outcome.splat and not bench.has_failed(index)
                yield True
                if is_last:
                    break


class LoadFaults(CorpusStage):
    """Sweeps over loads of the module: every allocation fails in turn.

    Loads are much alike, whatever their parameters are. So allocations come first
    that failed least often in any load so far, and neighbours, which mostly belong to
    one step of loading, do not follow each other.
    """

    name = "faults of loads"

    def __init__(self, bench: Workbench) -> None:
        super().__init__(bench)
        self._sweeps = Sweeps(bench)
        self._loads: set[bytes] = set()
        self._failed: Counter[int] = Counter()

    def note(self, program: bytes) -> None:
        """Take note of a program of the corpus."""
        chunks = split(program)
        if is_slow(chunks) and is_as_it_was(chunks):
            self._sweeps.append(self._fail_all(chunks))

    def step(self) -> bool:
        """Go on with the sweeps for a slice of time; tell whether there were any."""
        return self._sweeps.step()

    def _fail_all(self, chunks: list[bytes]) -> Iterator[bool]:
        """Make each load fail; other calls fail at less cost in quick programs."""
        for index, chunk in enumerate(chunks):
            if chunk[0] != _LOAD or not can_fail(chunk):
                continue
            # A load ends early while the module is loaded already.
            before = [each[0] for each in chunks[:index] if each[0] in (_LOAD, _UNLOAD)]
            if before[-1:] != [_UNLOAD] or chunk in self._loads:
                continue
            self._loads.add(chunk)
            yield from self._fail_each(chunks, index)

    def _fail_each(self, chunks: list[bytes], index: int) -> Iterator[bool]:
        bench = self._bench
        left = set(range(1, MAX_LOAD_FAULTS + 1))
        for turn in itertools.count(1):
            if not left:
                return
            nth = min(left, key=self._order)
            left.remove(nth)
            outcome = bench.run(bench.plain, failing(chunks, index, nth))
            bench.record_look(LOADS)
            if not outcome.splat and not bench.has_failed(index):
                left = {other for other in left if other < nth}
            else:
                self._failed[nth] += 1
            yield turn % _LOAD_TURN != 0

    def _order(self, nth: int) -> tuple[int, int]:
        """Return a sort key of a load's allocations: seldom failed ones first, neighbours apart."""
        return self._failed[nth], int(f"{nth:09b}"[::-1], 2)
