# SPDX-License-Identifier: Apache-2.0
"""The stages of the judge's spare time, on machines that exist only here."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

import pytest

from fuzzer.campaign.stages.corpus_stage import CorpusStage
from fuzzer.campaign.stages.faults import Faults, LoadFaults
from fuzzer.campaign.stages.leaks import Leaks
from fuzzer.campaign.stages.spare_time import Exploring
from fuzzer.campaign.stages.workbench import Times
from fuzzer.crash.dedup import Wanted
from fuzzer.crash.outcome import Outcome
from fuzzer.crash.sighting import Sighting
from fuzzer.paths import project_root
from fuzzer.program.conditions import is_racing
from fuzzer.program.mechanisms import Mechanisms
from fuzzer.program.ops import Op
from fuzzer.program.program import Call, Program
from fuzzer.program.wire import decode, encode, split
from fuzzer.splat.find import bare_splat
from fuzzer.target.target import load_target
from tests.fakes import Answer, FakeGuest, FakeMachine, FakeSetups

S = TypeVar("S", bound=CorpusStage)
TARGET = load_target(Path(__file__).parent / "data" / "demo" / "demo.yaml")
WRITE, READ, LOAD = Call(Op.WRITE, data=b"a=1\n"), Call(Op.READ, arg=4), Call(Op.LOAD)
NOTHING = Mechanisms(faults=False, races=False, lifecycle=False, leaks=False, info_leaks=False)
SPLAT = b"4,1,1000,-;WARNING: CPU: 0 PID: 1 at x\n4,2,1000,-;Call Trace:\n4,3,1,-; f+0x1/0x2 [d]\n"
# Many drivers say something then.
LOADED = Answer(b"6,1,1000,-;demo: loaded\n")
SHORT = Times(slice_seconds=0.02, leak_pause=0.0)


class CountedSetups(FakeSetups):
    """Guests whose calls have ``allocations`` each; those with ``leaky`` calls lose memory.

    ``ran`` and ``raced`` are the programs of the serial guest and of the one with several vCPUs.
    """

    def __init__(
        self,
        splats: Callable[[Program], bool] = lambda program: False,
        *,
        loading: Answer | None = LOADED,
        in_load: int = 3,
        splat: bytes = SPLAT,
    ) -> None:
        self._splats, self._splat = splats, splat
        self._in_load = in_load
        self.leaky: Call | None = None
        self.tells_which = False
        self.looks = 0
        self.ran: list[Program] = []
        self.raced: list[Program] = []
        self.serial = FakeGuest(functools.partial(self._follow, self.ran), loading=loading)
        self.threaded = FakeGuest(functools.partial(self._follow, self.raced), loading=loading)
        super().__init__(self.serial, racing=self.threaded, leaks=self._lost)

    def _follow(self, ran: list[Program], programs: list[bytes]) -> Answer:
        calls = decode(programs[-1])
        ran.append(calls)
        most = {Op.LOAD: self._in_load}
        faulted = [n for n, call in enumerate(calls) if 1 <= call.fault <= most.get(call.op, 3)]
        return Answer(self._splat if self._splats(calls) else b"", faulted=faulted)

    @property
    def made(self) -> list[FakeMachine]:
        """The machines, serial ones first."""
        return [*self.serial.made, *self.threaded.made]

    def _lost(self, programs: Sequence[bytes]) -> tuple[Outcome, int | None]:
        self.looks += 1
        lost = [n for n, program in enumerate(programs) if self.leaky in decode(program)]
        leak = bare_splat("memory leak in f", "leak", "f", "unreferenced object")
        at = lost[0] if lost and self.tells_which else None
        return Outcome(leak if lost else None, b""), at


def exploring(setups: CountedSetups, mechanisms: Mechanisms, sighted: list[Sighting]) -> Exploring:
    return Exploring(setups, TARGET, mechanisms, 1, sighted.append, times=SHORT)


def stage_of(work: Exploring, kind: type[S]) -> S:
    """Return the stage of a kind."""
    (stage,) = (each for each in work.stages if isinstance(each, kind))
    return stage


def test_without_a_corpus_there_is_nothing_to_do() -> None:
    assert not exploring(CountedSetups(), Mechanisms(), []).step()


def test_every_allocation_of_every_call_fails_until_there_are_no_more() -> None:
    setups = CountedSetups()
    work = exploring(setups, dataclasses.replace(NOTHING, faults=True), [])
    work.note(encode((WRITE, READ)))
    for _ in range(4):
        work.step()
    expected = [(dataclasses.replace(WRITE, fault=n), READ) for n in (1, 2, 3, 4)]
    expected += [(WRITE, dataclasses.replace(READ, fault=n)) for n in (1, 2, 3, 4)]
    start = setups.ran.index(expected[0])
    assert any(
        setups.ran[at : at + len(expected)] == expected for at in range(start, len(setups.ran))
    )


def test_a_load_fails_once_at_each_allocation_however_many_programs_have_it() -> None:
    setups = CountedSetups()
    work = exploring(setups, dataclasses.replace(NOTHING, faults=True), [])
    for number in range(200):
        work.note(encode((Call(Op.WRITE, data=str(number).encode()), READ)))
    for number in range(10):
        work.note(encode((LOAD, Call(Op.READ, arg=number))))
        work.note(encode((Call(Op.READ, arg=number), Call(Op.UNLOAD), LOAD)))
    # Mutants may have any faults: these are as they were made for this.
    for _ in range(4):
        stage_of(work, Faults).step()
        stage_of(work, LoadFaults).step()
    loads = [
        call.fault
        for calls in setups.ran
        for before, call in pairwise(calls)
        if call.op is Op.LOAD and before.op is Op.UNLOAD
    ]
    assert not any(calls[0] == dataclasses.replace(LOAD, fault=1) for calls in setups.ran)
    # Three can fail; what is tried beyond them tells that there are no more.
    assert {1, 2, 3, 4} <= set(loads)
    assert len(loads) == len(set(loads)) <= 10
    assert any(call.fault and call.op is Op.WRITE for calls in setups.ran for call in calls)


def test_what_splats_is_told_with_the_programs_before_it() -> None:
    sighted: list[Sighting] = []
    setups = CountedSetups(lambda program: any(call.fault == 3 for call in program))
    work = exploring(setups, dataclasses.replace(NOTHING, faults=True), sighted)
    work.note(encode((WRITE,)))
    for _ in range(4):
        work.step()
    assert sighted
    assert sighted[0].title == "WARNING in f"
    assert any(call.fault == 3 for call in decode(sighted[0].program))
    at = [encode(calls) for calls in setups.ran].index(sighted[0].program)
    assert list(sighted[0].history) == [encode(calls) for calls in setups.ran[:at]]


def test_races_run_on_several_vcpus_and_a_few_times() -> None:
    setups = CountedSetups()
    work = exploring(setups, dataclasses.replace(NOTHING, races=True), [])
    work.note(encode((WRITE, READ)))
    for _ in range(2):
        work.step()
    assert setups.raced
    assert all(is_racing(split(encode(calls))) for calls in setups.raced)
    assert setups.raced[0] == setups.raced[4]
    assert not any(is_racing(split(encode(calls))) for calls in setups.ran)


def test_loads_with_other_parameters_fail_where_none_did_yet() -> None:
    setups = CountedSetups(in_load=64)
    work = exploring(setups, dataclasses.replace(NOTHING, faults=True), [])
    for number in range(4):
        work.note(encode((Call(Op.UNLOAD), Call(Op.LOAD, data=f"n={number}".encode()))))
    # How many fail in a slice of time is up to the host.
    while len(_failed(setups)) < 64 or len(dict(_failed(setups))) < 4:
        stage_of(work, LoadFaults).step()
    faults = [fault for _, fault in _failed(setups)]
    # Four programs, and no allocation failed twice before each had failed once.
    assert len(set(faults[:64])) == 64
    # Those that follow one another are far apart.
    assert min(abs(a - b) for a, b in pairwise(faults[:12])) > 3


def _failed(setups: CountedSetups) -> list[tuple[int, int]]:
    """Return the parameter and the number of the allocation of each load that failed."""
    return [
        (int(call.data[2:]), call.fault)
        for calls in setups.ran
        for call in calls
        if call.op is Op.LOAD and call.data.startswith(b"n=") and 1 <= call.fault <= 64
    ]


def test_the_module_is_loaded_anew_unless_that_is_turned_off() -> None:
    for on in (False, True):
        setups = CountedSetups()
        work = exploring(setups, dataclasses.replace(NOTHING, lifecycle=on), [])
        work.note(encode((WRITE, READ)))
        for _ in range(4):
            work.step()
        assert any(call.op is Op.LOAD for calls in setups.ran for call in calls) is on


def test_a_leak_is_pinned_to_the_program_that_has_it() -> None:
    sighted: list[Sighting] = []
    setups = CountedSetups()
    setups.leaky = Call(Op.WRITE, data=b"7")
    work = exploring(setups, dataclasses.replace(NOTHING, leaks=True), sighted)
    for number in range(20):
        work.note(encode((Call(Op.WRITE, data=str(number).encode()),)))
    for _ in range(40):
        work.step()
    assert [(s.title, decode(s.program), s.history) for s in sighted] == [
        ("memory leak in f", (setups.leaky,), ())
    ]


def test_a_leak_is_pinned_at_once_to_the_program_that_allocated_what_is_lost() -> None:
    sighted: list[Sighting] = []
    setups = CountedSetups()
    setups.leaky = Call(Op.WRITE, data=b"7")
    setups.tells_which = True
    work = exploring(setups, dataclasses.replace(NOTHING, leaks=True), sighted)
    for number in range(20):
        work.note(encode((Call(Op.WRITE, data=str(number).encode()),)))
    while not sighted:
        work.step()
    assert (decode(sighted[0].program), sighted[0].history) == ((setups.leaky,), ())
    assert setups.looks == 2


def test_a_leak_that_is_not_pinned_down_at_the_end_is_told_as_far_as_it_is() -> None:
    sighted: list[Sighting] = []
    setups = CountedSetups()
    setups.leaky = Call(Op.WRITE, data=b"7")
    work = exploring(setups, dataclasses.replace(NOTHING, leaks=True), sighted)
    programs = [encode((Call(Op.WRITE, data=str(n).encode()),)) for n in range(20)]
    for program in programs:
        work.note(program)
    while not stage_of(work, Leaks).is_pinning:
        work.step()
    work.close()
    assert [s.title for s in sighted] == ["memory leak in f"]
    told = [*sighted[0].history, sighted[0].program]
    assert told[:20] == programs
    assert len(told) > 20  # mutants of them


def test_leaks_are_looked_for_in_a_share_of_the_time() -> None:
    now = 0.0

    class Slow(CountedSetups):
        """Guests on which a look for leaks takes a second."""

        def _lost(self, programs: Sequence[bytes]) -> tuple[Outcome, int | None]:
            nonlocal now
            now += 1.0
            return super()._lost(programs)

    def clock() -> float:
        nonlocal now
        now += 0.001
        return now

    setups, sighted = Slow(), list[Sighting]()
    times = Times(slice_seconds=0.02, leak_pause=0.0, leak_credit=0.0)
    mechanisms = dataclasses.replace(NOTHING, leaks=True)
    work = Exploring(setups, TARGET, mechanisms, 1, sighted.append, times=times, clock=clock)
    work.note(encode((WRITE,)))
    while now < 30:
        work.step()
    # A tenth of the time, and the one that was under way.
    assert 2 <= setups.looks <= 4


def test_what_did_not_reproduce_is_tried_with_other_faults_the_nearest_first() -> None:
    setups = CountedSetups(lambda program: any(call.fault == 1 for call in program))
    sighted: list[Sighting] = []
    work = exploring(setups, dataclasses.replace(NOTHING, faults=True), sighted)
    work.retune(encode((WRITE, dataclasses.replace(READ, fault=2))))
    while work.step():
        pass
    # The fourth allocation is one too many, and so are those after it.
    assert [program[1].fault for program in setups.ran][:2] == [2, 1]
    assert [decode(each.program)[1].fault for each in sighted] == [1]
    setups.ran.clear()
    work.retune(encode((WRITE, dataclasses.replace(READ, fault=9))))
    while work.step():
        pass
    assert [program[1].fault for program in setups.ran][:3] == [9, 8, 7]
    assert setups.ran[-1][1].fault == 1
    assert len(sighted) == 2


def test_what_did_not_reproduce_is_tried_with_the_module_loaded_with_other_parameters() -> None:
    unload, load = Call(Op.UNLOAD), Call(Op.LOAD, data=b"ttl_ms=20")
    setups = CountedSetups(lambda program: any(call.data == b"ttl_ms=1000" for call in program))
    sighted: list[Sighting] = []
    mechanisms = dataclasses.replace(NOTHING, lifecycle=True)
    work = Exploring(setups, PKV, mechanisms, 1, sighted.append, times=SHORT)
    leaves = encode((unload, load, WRITE, unload))
    # What goes off was left behind by a program before the one that it hits.
    work.retune(encode((WRITE, READ)), [encode((READ,)), leaves, encode((READ, READ))])
    while work.step():
        pass
    assert [decode(each.program) for each in sighted] == [
        (unload, Call(Op.LOAD, data=b"ttl_ms=1000"), WRITE, unload)
    ]
    # The same is not tried a second time.
    work.retune(leaves)
    while work.step():
        pass
    assert len(sighted) == 1


def test_what_has_no_fault_is_not_tried_with_any() -> None:
    setups = CountedSetups()
    work = exploring(setups, dataclasses.replace(NOTHING, faults=True), [])
    work.retune(encode((WRITE, READ)))
    assert not work.step()
    off = exploring(setups, NOTHING, [])
    off.retune(encode((dataclasses.replace(READ, fault=2),)))
    assert not off.step()


PKV = load_target(project_root() / "module" / "pkv.yaml")
LIFECYCLE = dataclasses.replace(NOTHING, lifecycle=True)


def preloading(setups: CountedSetups, mechanisms: Mechanisms, sighted: list[Sighting]) -> Exploring:
    work = Exploring(setups, PKV, mechanisms, 1, sighted.append, times=SHORT)
    work.note(encode((WRITE, READ)))
    return work


def test_some_machines_are_preloaded_and_all_of_their_programs_begin_so() -> None:
    setups = CountedSetups()
    work = preloading(setups, LIFECYCLE, [])
    for _ in range(6):
        assert work.step()
    preloads = {machine.preloaded for machine in setups.made} - {b""}
    assert preloads
    begun = [decode(calls) for calls in preloads]
    assert any(program[: len(first)] == first for program in setups.ran for first in begun)
    assert {call.op for first in begun for call in first} == {Op.CLOSE, Op.UNLOAD, Op.LOAD, Op.OPEN}


def test_what_splats_on_a_preloaded_machine_is_a_whole_program() -> None:
    def splats(program: Program) -> bool:
        return program[:3] == decode(setups.made[-1].preloaded)[:3] != ()

    setups = CountedSetups(splats)
    sighted: list[Sighting] = []
    work = preloading(setups, LIFECYCLE, sighted)
    for _ in range(6):
        work.step()
    assert sighted
    assert all(decode(each.program)[1].op is Op.UNLOAD for each in sighted)


def test_parameters_that_do_not_load_preload_nothing() -> None:
    setups = CountedSetups(loading=None)
    work = preloading(setups, dataclasses.replace(LIFECYCLE, races=True), [])
    for _ in range(8):
        work.step()
    assert not any(
        program[:4] == decode(machine.preloaded)
        for program in setups.raced
        for machine in setups.made
        if machine.preloaded
    )


def test_races_are_on_preloaded_machines_as_well() -> None:
    setups = CountedSetups()
    work = preloading(setups, dataclasses.replace(NOTHING, races=True, lifecycle=True), [])
    for _ in range(60):
        work.step()
        work.drop_machines()
    first = {program[1].op for program in setups.raced if len(program) > 1}
    assert Op.UNLOAD in first
    assert first - {Op.UNLOAD}


@pytest.mark.parametrize(("kind", "machines"), [("atomic-sleep", 1), ("warning", 4)])
def test_a_known_bug_that_comes_each_time_is_passed_over(kind: str, machines: int) -> None:
    """A kernel warns once only at some places, so it is not used further."""
    sleep = b"3,1,1000,-;BUG: sleeping function called from invalid context at drv.c:1\n"
    first = SPLAT.split(b"\n", 1)[0] + b"\n" if kind == "warning" else sleep
    setups = CountedSetups(lambda program: True, splat=first + SPLAT.split(b"\n", 1)[1])
    sighted: list[Sighting] = []
    known = Wanted(bare_splat("", ""), lambda _, shown: False)
    work = Exploring(setups, TARGET, NOTHING, 1, sighted.append, unknown=known)
    for _ in range(4):
        work.bench.run(work.bench.plain, encode((READ,)))
    assert len(setups.made) == machines
    assert bool(sighted) is (kind == "warning")
