# SPDX-License-Identifier: Apache-2.0
"""The fuzzing loop and its engines, between a libFuzzer and a guest that exist only here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from fuzzer.crash.sighting import Spool
from fuzzer.engine.adapter import LibFuzzerAdapter
from fuzzer.engine.assembly import assemble
from fuzzer.engine.engines import Material, choose_engine
from fuzzer.engine.executor import WorkerExecutor
from fuzzer.engine.feedback import CoverageFeedback, CoverageRecord
from fuzzer.engine.leaning import Lean
from fuzzer.engine.libfuzzer import LibFuzzer
from fuzzer.engine.loop import LoopOptions
from fuzzer.engine.observer import Observer
from fuzzer.engine.sources import (
    GenerationSource,
    HintSource,
    ImportSource,
    MutationSource,
    NewsSource,
    RaceSource,
    TriagedSource,
)
from fuzzer.program.mechanisms import ALL, Mechanisms
from fuzzer.program.ops import Op
from fuzzer.program.program import Call
from fuzzer.program.wire import encode, split
from fuzzer.target.target import load_target
from tests.fakes import Answer, FakeChannel, FakeGuest

TARGET = load_target(Path(__file__).parent / "data" / "demo" / "demo.yaml")
READ, WRITE = Call(Op.READ, arg=4), Call(Op.WRITE, data=b"a=1\n")
SEED = encode((READ, WRITE))
N_BLOCKS = 8
SERIAL = Mechanisms(races=False, lifecycle=False)


class FakeLibFuzzer:
    """Asks for mutants of the programs that covered something, or of the first."""

    def __init__(self) -> None:
        self.corpus = [SEED]

    def register_counters(self, address: int, count: int) -> None:
        self.count = count

    def mutate_bytes(self, data: bytes, size: int) -> bytes:
        return data[:size]

    def note_comparison(self, a: int, b: int, size: int) -> None:
        pass


class Seen(Observer):
    """Keeps what it is told of."""

    def __init__(self) -> None:
        self.programs: list[bytes] = []
        self.again: list[bytes] = []

    def ran(self, programs: Sequence[bytes]) -> None:
        self.programs += programs

    def ran_again(self, program: bytes) -> None:
        self.again.append(program)


def covering(ran: list[bytes]) -> Answer:
    """Cover a block for each kind of call."""
    ops = {chunk[0] for chunk in split(ran[-1])}
    return Answer(counters=bytes(number in ops for number in range(N_BLOCKS)))


class Worker:
    """A worker whose libFuzzer asks for what a test says."""

    def __init__(self, workdir: Path, mechanisms: Mechanisms = SERIAL) -> None:
        Spool(workdir).create()
        self.guest = FakeGuest(covering, TARGET)
        guest: Any = self.guest
        guest.blocks = tuple(range(N_BLOCKS))
        self.executor = WorkerExecutor(guest, channel=FakeChannel())
        self.seen = Seen()
        options = LoopOptions(workdir, "worker-0", 1, mechanisms=mechanisms)
        fuzzer = cast(LibFuzzer, FakeLibFuzzer())
        self.loop = assemble(self.executor, fuzzer, options, self.seen)
        self.adapter = LibFuzzerAdapter(self.loop)

    def fuzz(self, data: bytes = SEED) -> bytes:
        """Ask for a mutant and have it run, as libFuzzer does; return it."""
        made = self.adapter.mutate(data, 1 << 16, 0)
        self.adapter.run_one(made)
        return made


def test_programs_of_the_corpus_run_alone_and_are_run_again_if_they_cover_something(
    tmp_path: Path,
) -> None:
    worker = Worker(tmp_path)
    worker.adapter.run_one(SEED)
    assert worker.seen.programs == [SEED]
    assert worker.seen.again == [SEED]
    worker.adapter.run_one(SEED)
    assert worker.seen.again == [SEED]
    assert worker.loop.counts.programs == 2
    assert worker.executor.history.count(SEED) >= 3


def test_a_mutant_is_the_last_program_of_a_batch(tmp_path: Path) -> None:
    worker = Worker(tmp_path)
    worker.adapter.run_one(SEED)
    before = len(worker.seen.programs)
    made = worker.fuzz()
    batch = worker.seen.programs[before:]
    assert len(batch) > 1
    assert batch[-1] == made
    assert worker.loop.counts.programs == len(worker.seen.programs)


def test_the_guest_is_at_rest_after_as_many_programs_as_asked_for(tmp_path: Path) -> None:
    worker = Worker(tmp_path)
    worker.adapter.run_one(SEED)
    worker.loop.rest_after(50)
    before = len(worker.seen.programs)
    while len(worker.seen.programs) < before + 50:
        worker.fuzz()
    assert len(worker.seen.programs) == before + 50


def test_the_coverage_guided_engine_triages_before_it_mutates(tmp_path: Path) -> None:
    worker = Worker(tmp_path)
    engine = choose_engine(ALL, material_of(worker))
    assert [type(each) for each in engine.alone] == [NewsSource, TriagedSource]
    assert [type(each) for each in engine.batched] == [ImportSource, HintSource, MutationSource]
    assert [type(each) for each in engine.racing] == [RaceSource]
    assert isinstance(engine.feedback, CoverageFeedback)
    without = choose_engine(Mechanisms(hints=False), material_of(worker))
    assert [type(each) for each in without.batched] == [ImportSource, MutationSource]


def test_the_random_engine_has_no_other_source_than_the_description(tmp_path: Path) -> None:
    worker = Worker(tmp_path)
    engine = choose_engine(Mechanisms(coverage=False), material_of(worker))
    assert engine.alone == ()
    assert [type(each) for each in engine.batched] == [GenerationSource]
    assert isinstance(engine.feedback, CoverageRecord)


def material_of(worker: Worker) -> Material:
    """Return material of which only the executor and the counters are of any use."""
    nothing: Any = SimpleNamespace(note=None, want=None, expect_late_work=None)
    counters: Any = SimpleNamespace(n_blocks=N_BLOCKS)
    return Material(
        worker.executor,
        counters,
        worker.loop.counts,
        aside=nothing,
        mutator=nothing,
        scheduler=nothing,
        imports=nothing,
        hints=nothing,
        run_again=lambda program, settles=False: None,
        lean=Lean(),
        note_reached=lambda program, counters: None,
    )


@pytest.mark.parametrize("coverage", [True, False])
def test_only_a_guided_engine_shows_libfuzzer_what_a_program_covers(
    tmp_path: Path, coverage: bool
) -> None:
    worker = Worker(tmp_path, Mechanisms(coverage=coverage, races=False, lifecycle=False))
    worker.adapter.run_one(SEED)
    shown = worker.loop.counters.shown
    assert any(shown) is coverage
    assert bool(worker.seen.again) is coverage
    worker.fuzz()
    assert worker.loop.counts.fuzzing


def test_a_program_that_covers_something_new_within_a_batch_is_the_next_one(
    tmp_path: Path,
) -> None:
    worker = Worker(tmp_path)
    worker.adapter.run_one(SEED)
    feedback = worker.loop.feedback
    new = encode((READ, READ))
    feedback.judge_earlier(WRITE.data, is_new=False)
    feedback.judge_earlier(new, is_new=True)
    assert worker.fuzz() == new
    assert worker.fuzz() != new


def test_an_unguided_engine_records_what_each_program_covers(tmp_path: Path) -> None:
    worker = Worker(tmp_path, Mechanisms(coverage=False, races=False, lifecycle=False))
    feedback = worker.loop.feedback
    worker.adapter.run_one(encode((READ,)))
    first = feedback.covered
    worker.adapter.run_one(encode((WRITE,)))
    assert first
    assert feedback.covered & first == first != feedback.covered
    assert feedback.seen == 0


def test_a_fresh_machine_has_the_module_preloaded_for_all_of_its_programs(
    tmp_path: Path,
) -> None:
    preload = encode((Call(Op.CLOSE), Call(Op.UNLOAD), Call(Op.LOAD), Call(Op.OPEN)))
    worker = Worker(tmp_path, Mechanisms(races=False))
    worker.adapter.run_one(SEED)
    worker.fuzz()
    rotation = worker.loop.rotation
    rotation.choose = lambda used: preload
    for _ in range(20):
        rotation.begin_phase(may_race=False, may_preload=True, waiting=False)
        if worker.executor.preloaded:
            break
    assert worker.guest.made[-1].preloaded == preload
    assert worker.fuzz().startswith(preload)
    # What waits was made for the module as it is.
    rotation.begin_phase(may_race=False, may_preload=True, waiting=True)
    assert not worker.executor.preloaded
    # Some may begin so, as programs of the corpus do.
    assert not all(worker.fuzz().startswith(preload) for _ in range(5))


def test_parameters_that_do_not_load_leave_the_module_as_it_is(tmp_path: Path) -> None:
    worker = Worker(tmp_path, Mechanisms(races=False))
    worker.adapter.run_one(SEED)
    worker.guest.loading = None
    rotation = worker.loop.rotation
    rotation.choose = lambda used: encode((Call(Op.UNLOAD), Call(Op.LOAD)))
    restores = worker.loop.counts.restores
    for _ in range(20):
        rotation.begin_phase(may_race=False, may_preload=True, waiting=False)
    assert not worker.executor.preloaded
    assert worker.loop.counts.restores > restores + 20
