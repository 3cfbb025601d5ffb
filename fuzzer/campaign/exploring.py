# SPDX-License-Identifier: Apache-2.0
"""What the judge does while nothing waits: the corpus under other conditions, on ``full``.

First of all, what was sighted and did not reproduce is tried with other
allocations failing, as kernels do not make the same ones, and with the module
loaded with other parameters, as it takes ``full`` longer to unload it, and what
was to go off after that goes off before. Then in turn:
every allocation and user copy of a corpus program fails, one after
the other; corpus programs are mutated, for bugs that only ``full`` can see
need not come with new coverage; parts of them run at the same time; and
programs run on a guest that looks for lost memory.
"""

from __future__ import annotations

import itertools
import random
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

from fuzzer.campaign.exact_races import ExactRaces
from fuzzer.campaign.looked import FAULTS, LEAKS, LOADS, RACES
from fuzzer.crash.dedup import Wanted
from fuzzer.crash.executor import ObservingExecutor
from fuzzer.crash.leaks import LEAK
from fuzzer.crash.outcome import Outcome
from fuzzer.crash.setups import Setups
from fuzzer.crash.sighting import Sighting
from fuzzer.engine.seed_scheduler import SeedScheduler
from fuzzer.machine.machine import Machine
from fuzzer.program.cost import is_slow
from fuzzer.program.mechanisms import Mechanisms
from fuzzer.program.mutate import Mutator
from fuzzer.program.ops import Op
from fuzzer.program.program import MAX_PROGRAM_SIZE
from fuzzer.program.stress import can_fail, fault_of, is_parallel, with_fault
from fuzzer.program.wire import decode, encode, split
from fuzzer.target.target import Target

NAME = "explorer"
# Allocations and copies of a call that fail in turn. Loading a module has many.
_MAX_FAULTS, _MAX_LOAD_FAULTS = 40, 400
# Programs that are to run a little differently; older ones give way.
_MOST_RETUNING = 8
# What goes off later was set up by one of so many programs.
_SUSPECTS = 8
# So many that were tried are remembered: each is up to some kilobytes.
_MOST_RELOADED = 1000
# Of a load's, so many fail before another program's load may go on.
_LOAD_TURN = 16
# A machine is replaced after so many programs, which bounds a crash's history.
_RESTORE_EVERY = 2000
# Programs that run before leaks are looked for: some of the corpus, the rest mutants, which
# may lose memory and cover nothing new.
_LEAK_BATCH, _FROM_CORPUS = 400, 64
_RACE_REPEATS = 5
# So many of the machines for races have the module loaded with other parameters from the start.
_SETTLED_RACES = 0.5
# Of the programs of other settled machines, so many may wait or load it once more.
_SETTLED_SLOW = 0.05
_LOAD, _UNLOAD = int(Op.LOAD), int(Op.UNLOAD)


@dataclass(frozen=True, slots=True)
class Times:
    """The explorer's times, in seconds: ``slice_seconds`` of work between two looks at the spool.

    There is ``leak_pause`` of other work between two looks for leaks, and thrice as much
    before the first. They take ``leak_share`` of a judge's time, and ``leak_credit``
    beyond that at the start, when most is new.
    """

    slice_seconds: float = 0.5
    leak_pause: float = 10.0
    leak_share: float = 0.1
    leak_credit: float = 60.0


class Explorer:
    """Runs variants of corpus programs; what splats goes to ``sight``.

    ``missing`` are the kinds of runs of which there was none yet. With ``exact`` its
    races are on exact machines, see :class:`ExactRaces`. Reports of bugs
    that are not ``unknown`` are passed over where they hide nothing.
    """

    def __init__(
        self,
        setups: Setups,
        target: Target,
        mechanisms: Mechanisms,
        seed: int,
        sight: Callable[[Sighting], None],
        *,
        exact: bool = False,
        unknown: Wanted | None = None,
        times: Times = Times(),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._times = times
        self._clock = clock
        self._setups = setups
        self._unknown = unknown
        self._mechanisms = mechanisms
        self._sight = sight
        rng = random.Random(seed)
        self._random = rng
        self._mutator = Mutator(
            target, rng, lambda data, size: data[:size], max_calls=40, mechanisms=mechanisms
        )
        self._corpus: list[bytes] = []
        self._quick: list[bytes] = []
        self._slow: list[bytes] = []
        self._sweeps: deque[Iterator[bool]] = deque()
        self._load_sweeps: deque[Iterator[bool]] = deque()
        self._failed_loads: set[bytes] = set()
        self._load_faults: Counter[int] = Counter()
        self._retuning: deque[Iterator[bool]] = deque(maxlen=_MOST_RETUNING)
        self._retunes = False
        self._reloaded: set[bytes] = set()
        self._to_leak: deque[bytes] = deque()
        self._begun = self._clock()
        self._leaks_at = self._begun + 3 * self._times.leak_pause
        self._leaks_took = 0.0
        self._pinning: Iterator[None] | None = None
        self._scheduler = SeedScheduler(rng)
        self._settlements: Counter[bytes] = Counter()
        self._raced_settlements: Counter[bytes] = Counter()
        executor = partial(ObservingExecutor, most=_RESTORE_EVERY, wanted=unknown)
        self._plain = executor(setups.plain.restore)
        self._preloaded = executor(
            setups.plain.restore,
            preload=lambda: self._mutator.settlement(self._settlements),
        )
        self._raced = executor(self._restore_racing, preload=self._settlement_to_race)
        self.missing = _kinds_of_runs(mechanisms)
        work: list[Callable[[], bool]] = [self._mutated]
        if mechanisms.lifecycle:
            work.append(self._slow_mutated)
        if self._mutator.settlement(Counter()):
            work.append(self._settled_mutated)
        if mechanisms.faults:
            work += [lambda: self._sweep(self._sweeps), lambda: self._sweep(self._load_sweeps)]
        if mechanisms.leaks:
            work.append(self._leaking)
        if mechanisms.races and exact:
            races = ExactRaces(setups, self._mutator, rng, sight)
            # They are what exact mode is for.

            def race() -> bool:
                self._note_looked(RACES)
                return races.step(self._corpus)

            work = [each for other in work for each in (race, other)]
        elif mechanisms.races:
            work.append(self._racing)
        self._work = itertools.cycle(work)
        self._n_work = len(work)

    def _note_looked(self, kind: str) -> None:
        self.missing.pop(kind, None)

    def note(self, program: bytes) -> None:
        """Take note of a program of the corpus."""
        self._mutator.note(program)
        self._scheduler.note(program)
        self._corpus.append(program)
        chunks = split(program)
        slow = is_slow(chunks)
        (self._slow if slow else self._quick).append(program)
        if is_parallel(chunks) or any(map(fault_of, chunks)):
            return
        if slow:
            self._load_sweeps.append(self._fail_all(program))
        else:
            self._sweeps.appendleft(self._fail_all(program))
        self._to_leak.append(program)

    def retune(self, program: bytes, history: Sequence[bytes] = ()) -> None:
        """Run a program which did not reproduce, and those before it, a little differently."""
        if parameters := self._mutator.load_parameters():
            self._retuning.append(self._load_otherwise([*history, program], parameters))
        if not self._mechanisms.faults or is_parallel(chunks := split(program)):
            return
        for index, chunk in enumerate(chunks):
            if can_fail(chunk) and fault_of(chunk):
                self._retuning.append(self._fail_near(chunks, index))

    def step(self) -> bool:
        """Do a piece of work; tell whether there was any."""
        # Many sightings that do not reproduce must not keep all else waiting.
        self._retunes = not self._retunes
        if self._retunes and self._sweep(self._retuning):
            return True
        return any(next(self._work)() for _ in range(self._n_work)) or self._sweep(self._retuning)

    def close(self) -> None:
        """End the machines, and report what is not pinned down yet."""
        if isinstance(self._pinning, Generator):
            self._pinning.close()
        self.drop_machines()

    def drop_machines(self) -> None:
        """End the machines; the next step takes fresh ones."""
        for executor in (self._plain, self._preloaded, self._raced):
            executor.close()

    def _run(self, executor: ObservingExecutor, program: bytes) -> Outcome:
        outcome = executor.run(program)
        if outcome.splat and outcome.is_harmless:
            return Outcome(None, outcome.log)
        if sighting := executor.sighting(outcome, NAME):
            self._sight(sighting)
        return outcome

    def _mutated(self) -> bool:
        """Run mutants of corpus programs, or programs of their own without coverage."""
        if not self._corpus:
            return False
        end = self._clock() + self._times.slice_seconds
        while self._clock() < end:
            self._run(self._plain, self._mutant(self._quick))
        return True

    def _slow_mutated(self) -> bool:
        """Run mutants that wait or load the module: there is more time for them than in a loop."""
        if not self._corpus:
            return False
        end = self._clock() + self._times.slice_seconds
        while self._clock() < end:
            parents = self._slow if self._slow and self._random.random() < 0.5 else self._corpus
            self._run(self._plain, self._mutant(parents, slow=True))
            self._note_looked(LOADS)
        return True

    def _settled_mutated(self) -> bool:
        """Run mutants where the module was loaded with other parameters of the description."""
        if not self._corpus:
            return False
        executor = self._preloaded
        executor.prepare()
        if not executor.preloaded:
            # Parameters that the module does not load with; there may be others.
            executor.close()
            return False
        own = [each.removeprefix(executor.preloaded) for each in self._slow]
        own = [each for each in own if not is_slow(split(each))]
        end = self._clock() + self._times.slice_seconds
        while self._clock() < end:
            parents = own if own and self._random.random() < 0.5 else self._quick
            # Now and then one that unloads it: what was left to do then?
            slow = self._random.random() < _SETTLED_SLOW
            self._run(executor, self._mutant(parents, slow=slow))
        return True

    def _restore_racing(self) -> Machine:
        # That guest is made when it is needed.
        return self._setups.racing.restore()

    def _settlement_to_race(self) -> bytes:
        settled = self._random.random() < _SETTLED_RACES
        return self._mutator.settlement(self._raced_settlements) if settled else b""

    def _mutant(self, parents: list[bytes], *, slow: bool = False) -> bytes:
        """Return a mutant of one of the programs, or of one made from nothing without coverage."""
        if self._mechanisms.coverage:
            parent = self._random.choice(parents) if parents else b""
        else:
            parent = self._mutator.fresh()
        return self._mutator.mutate(parent, MAX_PROGRAM_SIZE // 8, slow=slow)

    def _sweep(self, sweeps: deque[Iterator[bool]]) -> bool:
        """Have every allocation and copy of calls fail, one in each run; see :meth:`_fail_all`."""
        if not sweeps:
            return False
        end = self._clock() + self._times.slice_seconds
        while sweeps and self._clock() < end:
            go_on = next(sweeps[0], None)
            if go_on is None:
                sweeps.popleft()
            elif not go_on:
                sweeps.rotate(-1)
        return True

    def _fail_all(self, program: bytes) -> Iterator[bool]:
        """Sweep over a program: yields after each run, False where another one may go first."""
        chunks = split(program)
        slow = is_slow(chunks)
        for index, chunk in enumerate(chunks):
            is_load = chunk[0] == _LOAD
            # What is beside loading in such a program is had for less elsewhere.
            if not can_fail(chunk) or (slow and not is_load):
                continue
            if is_load:
                # One that comes while the module is there ends early.
                before = [each[0] for each in chunks[:index] if each[0] in (_LOAD, _UNLOAD)]
                if before[-1:] != [_UNLOAD] or chunk in self._failed_loads:
                    continue
                self._failed_loads.add(chunk)
            yield from self._fail_each(chunks, index)

    def _fail_each(self, chunks: list[bytes], index: int) -> Iterator[bool]:
        """Have one call fail at each allocation and copy.

        Loads are much alike, whatever their parameters are. So of theirs those
        come first that failed least often yet in any, and neighbours, which
        mostly belong to one step, come apart.
        """
        chunk = chunks[index]
        is_load = chunk[0] == _LOAD
        left = set(range(1, (_MAX_LOAD_FAULTS if is_load else _MAX_FAULTS) + 1))
        for turn in itertools.count(1):
            if not left:
                return
            nth = min(left, key=self._load_order) if is_load else min(left)
            left.remove(nth)
            failing = [*chunks[:index], with_fault(chunk, nth), *chunks[index + 1 :]]
            outcome = self._run(self._plain, b"".join(failing))
            self._note_looked(LOADS if is_load else FAULTS)
            if not outcome.splat and not self._has_failed(index):
                left = {other for other in left if other < nth}
            elif is_load:
                self._load_faults[nth] += 1
            yield not is_load or turn % _LOAD_TURN != 0

    def _load_order(self, nth: int) -> tuple[int, int]:
        """Return what sorts a load's allocations: seldom tried, and far from those before."""
        return self._load_faults[nth], int(f"{nth:09b}"[::-1], 2)

    def _load_otherwise(
        self, programs: Sequence[bytes], parameters: Sequence[bytes]
    ) -> Iterator[bool]:
        """Run the last programs, as far as they load the module, with other parameters for it."""
        for program in reversed(programs[-_SUSPECTS:]):
            calls = decode(program)
            if any(call.thread for call in calls):
                continue
            for each in parameters:
                changed = encode(
                    tuple(
                        replace(call, data=each) if call.op is Op.LOAD else call for call in calls
                    )
                )
                if changed == program or changed in self._reloaded:
                    continue
                if len(self._reloaded) >= _MOST_RELOADED:
                    self._reloaded.clear()
                self._reloaded.add(changed)
                outcome = self._run(self._plain, changed)
                yield True
                if outcome.splat:
                    return

    def _fail_near(self, chunks: list[bytes], index: int) -> Iterator[bool]:
        """Have one call fail elsewhere, the nearest first, until there is a splat."""
        chunk = chunks[index]
        asked = fault_of(chunk)
        last = _MAX_LOAD_FAULTS if chunk[0] == _LOAD else _MAX_FAULTS
        for nth in sorted(range(1, last + 1), key=lambda nth: abs(nth - asked)):
            if nth > last:
                continue
            failing = [*chunks[:index], with_fault(chunk, nth), *chunks[index + 1 :]]
            outcome = self._run(self._plain, b"".join(failing))
            yield True
            if outcome.splat:
                return
            if not self._has_failed(index):
                last = nth - 1

    def _has_failed(self, index: int) -> bool:
        """Tell whether the fault took place that a call of the last program asked for."""
        results = self._plain.machine.channel.results()
        return index < len(results) and results[index].faulted

    def _racing(self) -> bool:
        """Run corpus programs with a part of them on several threads, a few times each."""
        if not self._corpus:
            return False
        executor = self._raced
        executor.prepare()
        self._note_looked(RACES)
        settled = executor.preloaded
        self._scheduler.settle(settled)
        end = self._clock() + self._times.slice_seconds
        while self._clock() < end:
            parent = self._scheduler.any().removeprefix(settled)
            program = self._mutator.race(parent, MAX_PROGRAM_SIZE // 8, settled)
            for _ in range(_RACE_REPEATS):
                if self._run(executor, program).splat:
                    break
        return True

    def _leaking(self) -> bool:
        """Look for memory that the next programs of the corpus lose."""
        if self._pinning is None:
            now = self._clock()
            allowed = self._times.leak_credit + self._times.leak_share * (now - self._begun)
            if not self._corpus or now < self._leaks_at or self._leaks_took > allowed:
                return False
            n = min(_FROM_CORPUS, len(self._to_leak))
            programs = [self._to_leak.popleft() for _ in range(n)]
            programs += [self._mutant(self._quick) for _ in range(_LEAK_BATCH - n)]
            self._note_looked(LEAKS)
            self._pinning = self._pin_leak(programs)
        # A look takes seconds, so there is one at a time.
        if next(self._pinning, self) is self:
            self._pinning = None
            self._leaks_at = self._clock() + self._times.leak_pause
        return True

    def _pin_leak(self, programs: list[bytes]) -> Iterator[None]:
        """Look for a leak, and find the program that has it: which allocated it, or by halves."""
        outcome, number = self._lost_by(programs)
        try:
            if len(programs) > 1 and number is not None:
                yield
                again, _ = self._lost_by([programs[number]])
                if again.splat:
                    programs, outcome = [programs[number]], again
            while len(programs) > 1 and outcome.splat and outcome.splat.kind == LEAK:
                half = len(programs) // 2
                for part in (programs[:half], programs[half:]):
                    yield
                    again, _ = self._lost_by(part)
                    if again.splat:
                        programs, outcome = part, again
                        break
                else:
                    break
        finally:
            # Also when the campaign ends before it is pinned down.
            if splat := outcome.splat:
                history = tuple(programs[:-1])
                self._sight(
                    Sighting(splat.title, splat.kind, programs[-1], history, outcome.log, NAME)
                )

    def _lost_by(self, programs: list[bytes]) -> tuple[Outcome, int | None]:
        start = self._clock()
        try:
            with self._setups.leaking.restore() as machine:
                outcome, number = self._setups.leak_of(machine, programs, self._unknown)
                if outcome.splat and self._unknown and not self._unknown(outcome.splat):
                    return Outcome(None, b""), None
                return outcome, number
        finally:
            self._leaks_took += self._clock() - start


def _kinds_of_runs(mechanisms: Mechanisms) -> dict[str, None]:
    """Return the kinds of runs that are to be made, in the order in which they are told."""
    asked = {
        FAULTS: mechanisms.faults,
        LOADS: mechanisms.lifecycle,
        RACES: mechanisms.races,
        LEAKS: mechanisms.leaks,
    }
    return {kind: None for kind, is_asked in asked.items() if is_asked}
