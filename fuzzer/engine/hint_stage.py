# SPDX-License-Identifier: Apache-2.0
"""Hint stage: candidates made of the values that the driver compares the corpus with."""

from __future__ import annotations

import errno
import heapq
import itertools
import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import TypeAlias

from fuzzer.engine.executor import WorkerExecutor
from fuzzer.engine.libfuzzer import LibFuzzer
from fuzzer.engine.seed_scheduler import LONG, SeedScheduler
from fuzzer.engine.value_profile import ValueProfile
from fuzzer.errors import DEFECT, PkvfuzzError
from fuzzer.machine.channel import CallResult, Comparisons
from fuzzer.machine.channel_layout import PROGRAM_SIZE
from fuzzer.program.address_search import AddressSearch
from fuzzer.program.conditions import fitted
from fuzzer.program.cost import cost_of, is_slow
from fuzzer.program.hints import NO_BIT_FIELDS, BitFields, Hints
from fuzzer.program.linking import Result, linked
from fuzzer.program.operands import MatchKind
from fuzzer.program.ops import Op
from fuzzer.program.pointing import pointed
from fuzzer.program.wire import split

# Programs of the corpus that wait to run with comparisons recorded; the oldest are dropped.
_WAITING = 256
# Programs made of hints that wait to be run, the most promising ones of each parent first.
_READY = 50_000
# Slow ones are taken in one of so many turns in which there is time for one: there are hundreds
# for each slow program of the corpus, and its mutants need time as well.
_SLOW_TURNS = 3
_LONGEST = PROGRAM_SIZE // 8
# So many programs with links rank like one program with another number.
_LINKS_FIRST = 8
# Runs of an address search at a time, plus one.
_SEARCHED = 9

_Heap: TypeAlias = list[tuple[int, int, bytes]]


class HintStage:
    """Queues of programs whose comparisons are wanted, and of programs made of comparisons.

    ``note_compared`` is given each call with a payload that is compared, and the call with the
    other operand there. ``created`` are the kinds of files of which the driver takes descriptors,
    ``bit_fields`` are as for :class:`Hints`. A ``profile`` chooses further programs to run. All
    comparisons are given to ``record``.
    """

    def __init__(
        self,
        fuzzer: LibFuzzer,
        max_calls: int,
        note_compared: Callable[[bytes, bytes], None] = lambda chunk, other: None,
        created: Sequence[int] = (),
        bit_fields: BitFields = NO_BIT_FIELDS,
        *,
        profile: ValueProfile | None = None,
        record: Callable[[Comparisons], None] = lambda comparisons: None,
    ) -> None:
        self._profile = profile
        self._record = record
        self._fuzzer = fuzzer
        self._bit_fields = bit_fields
        self._note_compared = note_compared
        self._max_calls = max_calls
        self._created = created
        self._wanted: deque[bytes] = deque(maxlen=_WAITING)
        self._ready: tuple[_Heap, _Heap, _Heap] = ([], [], [])
        self._seen: set[int] = set()
        self._turn = False
        self._slow_turns = itertools.cycle(range(_SLOW_TURNS))
        self._able = True
        self._search = AddressSearch()
        self._searched = 0
        self._unread: deque[tuple[bytes, Comparisons, list[Result]]] = deque()

    def want(self, program: bytes) -> None:
        """Enqueue a program to run with comparisons recorded."""
        if self._able:
            self._wanted.append(program)

    def wanted(self, *, climbs: bool = False) -> bytes | None:
        """Return the next program to run with :meth:`Channel.post_comparing`, or None.

        Those of the value profile are returned only if it ``climbs``.
        """
        if self._wanted:
            return self._wanted.popleft()
        # The address search gets a few runs at a time: each takes as long as several programs.
        self._searched = (self._searched + 1) % _SEARCHED
        program = self._search.take() if self._searched else None
        if program is None and climbs and self._profile is not None:
            program = self._profile.take()
        return program

    @property
    def is_profile_due(self) -> bool:
        """True if it is time for runs of the value profile."""
        return self._able and self._profile is not None and self._profile.is_due

    def ran(self, programs: int) -> None:
        """Take note that so many programs ran as usual."""
        if self._profile is not None:
            self._profile.allow(programs)

    def note(
        self, program: bytes, comparisons: Comparisons, results: Sequence[CallResult] = ()
    ) -> None:
        """Keep the comparisons and the results of a program's run, for :meth:`learn`."""
        if comparisons.able:
            returned = [Result(each.ret, each.output, each.handed, each.error) for each in results]
            self._unread.append((program, comparisons, returned))
        else:
            self._able = False
            self._wanted.clear()

    def learn(self) -> set[int]:
        """Make programs of the comparisons noted since; return ioctl numbers of the driver.

        Those are the values that the number of an ioctl was compared with. This takes
        milliseconds, and is best called while the guest is busy.
        """
        found: set[int] = set()
        while self._unread:
            program, comparisons, results = self._unread.popleft()
            self._record(comparisons)
            chunks = split(program)
            is_searching = self._search.has_asked_for(program)
            for made in self._search.learn(chunks, results, comparisons.found):
                self._add(0, made, soon=True)
            if is_searching or self._climb(program, comparisons):
                continue
            self._make(program, comparisons)
            programs = linked(chunks, results, comparisons.found, self._created)
            for rank, made in enumerate(programs):
                self._add(rank // _LINKS_FIRST, made)
            errors = [result.error if result.ret == -1 else 0 for result in results]
            if errno.EFAULT in errors:
                for rank, made in enumerate(pointed(chunks, errors, comparisons.found)):
                    self._add(rank // _LINKS_FIRST, made)
            found |= _numbers(program, comparisons)
        return found

    def _climb(self, program: bytes, comparisons: Comparisons) -> bool:
        """Have the value profile learn; tell whether it asked for the run."""
        if self._profile is None:
            return False
        has_asked = self._profile.has_asked_for(program)
        for made in self._profile.learn(program, comparisons):
            self._add(0, split(made), soon=True)
        return has_asked

    def _make(self, program: bytes, comparisons: Comparisons) -> None:
        hints = Hints(
            program,
            comparisons.found,
            max_size=_LONGEST,
            max_calls=self._max_calls,
            bit_fields=self._bit_fields,
        )
        own = split(program)
        for number, substitution in enumerate(hints.substitutions):
            if substitution.kind is MatchKind.BYTES:
                self._note_compared(own[substitution.call], substitution.wire)
            chunks = split(hints.apply(number))
            self._add(number, chunks)
            # An ioctl number that was put there encodes the size of the buffer.
            self._add(number, list(map(fitted, chunks)))
        for found in comparisons.found:
            self._fuzzer.note_comparison(found.a, found.b, found.size)

    def _add(self, rank: int, chunks: list[bytes], *, soon: bool = False) -> None:
        made = b"".join(chunks)
        ready = self._ready[2 if is_slow(chunks) else not soon and cost_of(chunks) > LONG]
        key = hash(made)
        if key not in self._seen and len(ready) < _READY and len(made) <= _LONGEST:
            self._seen.add(key)
            heapq.heappush(ready, (rank, len(self._seen), made))

    def take(self, scheduler: SeedScheduler) -> bytes | None:
        """Return a program made of hints, every other time that there is one.

        Long and slow ones are taken when ``scheduler`` has time for them.
        """
        self._turn = not self._turn
        if not self._turn:
            return None
        short, long, slow = self._ready
        if slow and scheduler.may_be_slow and next(self._slow_turns) == 0:
            ready = slow
        elif long and scheduler.may_be_long:
            ready = long
        else:
            ready = short
        return heapq.heappop(ready)[2] if ready else None


class ComparisonRuns:
    """Runs programs again to record what the driver compares, and makes hints of that.

    ``passed`` waits for a program, and tells whether the machine goes on after it.
    """

    def __init__(
        self, executor: WorkerExecutor, stage: HintStage, passed: Callable[[bytes], bool]
    ) -> None:
        self._executor = executor
        self._stage = stage
        self._passed = passed
        # Batches until coverage is counted for the ioctl numbers that were found.
        self._equip_after = 0
        # Whether the guest was to be at rest for the value profile. It may be for other reasons,
        # also as the host was late, on which nothing must depend.
        self._climbs = False

    def run(self) -> None:
        """Run the programs whose comparisons the stage wants; the guest has to be at rest."""
        channel = self._executor.channel
        climbs, self._climbs = self._climbs, False
        # Its programs were made for a machine with the usual parameters.
        climbs = climbs and not self._executor.preloaded
        while (program := self._stage.wanted(climbs=climbs)) is not None:
            channel.post_comparing(program)
            if self._passed(program):
                self._stage.note(program, channel.comparisons(), channel.results())

    def learn(self) -> None:
        """Make hints of the recorded comparisons, while the guest works.

        A defect here costs a program's hints, not the worker, which would meet it again.
        """
        try:
            numbers = self._stage.learn()
        except (PkvfuzzError, OSError):
            raise
        except Exception:
            logging.exception("%s: a program has no hints", DEFECT)
            return
        if self._executor.learn_contexts(sorted(numbers)):
            # The next batch may have begun or not: its coverage must not depend on that.
            self._equip_after = 2

    def asks_for_rest(self) -> bool:
        """Tell whether the guest is to be at rest after the running batch."""
        self._climbs = self._stage.is_profile_due and not self._executor.preloaded
        return self._climbs or self._equip_after == 1

    def end_batch(self, programs: int) -> None:
        """Take note of a batch's end, and count coverage for new ioctl numbers if it is time."""
        self._stage.ran(programs)
        if self._equip_after:
            self._equip_after -= 1
            if not self._equip_after:
                self._executor.equip()


def _numbers(program: bytes, comparisons: Comparisons) -> set[int]:
    chunks = split(program)
    numbers = {
        call: int.from_bytes(chunk[4:8], "little")
        for call, chunk in enumerate(chunks)
        if chunk[0] == Op.IOCTL
    }
    return {
        found.a
        for found in comparisons.found
        if found.constant and found.size >= 4 and found.b == numbers.get(found.call)
    }
