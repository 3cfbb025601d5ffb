# SPDX-License-Identifier: Apache-2.0
"""Stage that looks for memory which was never set in what programs are handed."""

from __future__ import annotations

import logging
from collections import Counter, deque
from typing import TypeAlias

from fuzzer.campaign.looked import INFO_LEAKS
from fuzzer.campaign.stages.corpus_stage import CorpusStage
from fuzzer.campaign.stages.workbench import NAME, Workbench, is_as_it_was
from fuzzer.crash.dedup import Wanted
from fuzzer.crash.poison import POISONS, Leak
from fuzzer.crash.sighting import Sighting
from fuzzer.errors import PkvfuzzError
from fuzzer.machine.machine import LostMachineError
from fuzzer.program.cost import is_slow
from fuzzer.program.wire import decode, split

_LOG = logging.getLogger(__name__)

# Programs that run on a machine of each poison before these are compared.
_BATCH = 64
# Reports of leaks of one kind of call: there may be several, of which the first hides the others.
_MOST_REPORTS = 3

_Kind: TypeAlias = tuple[int, int, int, bool]


class InfoLeaks(CorpusStage):
    """Runs programs of the corpus, then mutants, under each poison of free memory.

    Of each kind of call that leaks one program is reported: that with most bytes of it, or
    the fewest calls.
    """

    name = "info leaks"

    def __init__(self, bench: Workbench) -> None:
        super().__init__(bench)
        self._waiting: deque[bytes] = deque()
        self._begun = bench.clock()
        # What a campaign begins with is to be judged first: the guests take seconds to boot.
        self._at = self._begun + 3 * bench.times.leak_pause
        self._unbooted = deque(POISONS)
        self._took = 0.0
        self._reports: Counter[_Kind] = Counter()
        self._is_possible = True

    def note(self, program: bytes) -> None:
        """Take note of a program of the corpus."""
        if _is_plain(split(program)):
            self._waiting.append(program)

    def step(self) -> bool:
        """Look at some programs; tell whether it was time for that."""
        bench, start = self._bench, self._bench.clock()
        allowed = bench.times.leak_credit + bench.times.leak_share * (start - self._begun)
        is_time = self._at <= start and self._took <= allowed
        if not (self._is_possible and bench.quick and is_time):
            return False
        try:
            while self._unbooted:
                bench.setups.poisoned(self._unbooted.popleft())
                if self._unbooted:
                    # There may be something to judge meanwhile.
                    return True
            # What is made once does not count.
            start = bench.clock()
            self._look(self._next())
        except LostMachineError:
            raise
        except PkvfuzzError as error:
            # Nothing else depends on it: a kernel may have no module built for it.
            _LOG.warning("memory that was never set is not looked for: %s", error)
            self._is_possible = False
        self._at = bench.clock() + bench.times.leak_pause
        self._took += bench.clock() - start
        return True

    def _next(self) -> list[bytes]:
        n = min(_BATCH, len(self._waiting))
        if n:
            return [self._waiting.popleft() for _ in range(n)]
        made = (self._bench.mutant(self._bench.quick) for _ in range(_BATCH))
        return [mutant for mutant in made if _is_plain(split(mutant))]

    def _look(self, programs: list[bytes]) -> None:
        """Run programs under each poison, and report one leak of each kind of call."""
        leaks_of = self._bench.setups.leaks.leaks_of(programs)
        self._bench.record_look(INFO_LEAKS)
        found: dict[_Kind, tuple[int, Leak]] = {}
        for number, leaks in enumerate(leaks_of):
            for leak in leaks:
                kind = _kind_of(leak, programs[number])
                if self._reports[kind] < _MOST_REPORTS:
                    found[kind] = min(found.get(kind, (number, leak)), (number, leak), key=_rank)
        self._reports.update(found.keys())
        for number, leak in found.values():
            self._report(leak, programs[number], tuple(programs[:number]))

    def _report(self, leak: Leak, program: bytes, history: tuple[bytes, ...]) -> None:
        """Report a leak of a program that ran after others, unless its bug is known."""
        bench = self._bench
        program = b"".join(split(program)[: leak.call + 1])
        splat = bench.setups.leaks.report(leak, history, program, None)
        if leak.results and not bench.setups.leaks.look((), program, Wanted(splat)).splat:
            # By chance.
            return
        if bench.unknown is None or bench.unknown(splat):
            log = splat.text.encode()
            bench.sight(Sighting(splat.title, splat.kind, program, history, log, NAME))


def _rank(found: tuple[int, Leak]) -> tuple[int, int]:
    """Return a sort key of the leak of a program: that which shows most, in fewest calls."""
    _, leak = found
    return -leak.total, leak.call


def _is_plain(chunks: list[bytes]) -> bool:
    return is_as_it_was(chunks) and not is_slow(chunks)


def _kind_of(leak: Leak, program: bytes) -> _Kind:
    """Return what tells leaks of different calls apart."""
    call = decode(program)[leak.call]
    return call.op, call.file, call.cmd, bool(leak.results)
