# SPDX-License-Identifier: Apache-2.0
"""Sources of candidates: their order, the machine they are made for, what is screened out."""

from __future__ import annotations

import random
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from fuzzer.engine.aside import Aside
from fuzzer.engine.candidate import Candidate
from fuzzer.engine.hint_stage import HintStage
from fuzzer.engine.import_queue import ImportQueue
from fuzzer.engine.seed_scheduler import SeedScheduler
from fuzzer.engine.sources import (
    CandidateMaker,
    GenerationSource,
    HintSource,
    ImportSource,
    MutationSource,
    NewsSource,
    RaceSource,
    TriagedSource,
)
from fuzzer.engine.triage import Triage
from fuzzer.machine.channel_layout import PROGRAM_SIZE
from fuzzer.machine.executor import Executor
from fuzzer.program.cost import cost_of
from fuzzer.program.mutate import Mutator
from fuzzer.program.ops import Op
from fuzzer.program.program import Call
from fuzzer.program.wire import encode, split
from fuzzer.target.target import load_target

TARGET = load_target(Path(__file__).parent / "data" / "demo" / "demo.yaml")
READ, WRITE = encode((Call(Op.READ, arg=4),)), encode((Call(Op.WRITE, data=b"a=1\n"),))
LOAD = encode((Call(Op.LOAD, data=b"lock=x"),))
PROGRAM = READ + WRITE


class FakeAside:
    """Sets calls of one operation aside."""

    def __init__(self) -> None:
        self.op: Op | None = None

    def screen(self, chunks: list[bytes], total: float) -> list[bytes]:
        left = [chunk for chunk in chunks if chunk[0] != self.op]
        return chunks if len(left) == len(chunks) else left


class Parts:
    """Parts of sources, on a machine with ``preloaded`` calls."""

    def __init__(self, preloaded: bytes = b"") -> None:
        self.executor = SimpleNamespace(preloaded=preloaded)
        self.aside = FakeAside()
        self.scheduler = SeedScheduler(random.Random(1))
        self.mutator = Mutator(
            TARGET, random.Random(1), lambda data, size: data[:size], max_calls=20
        )
        self.maker = CandidateMaker(
            cast(Executor, self.executor), cast(Aside, self.aside), self.scheduler
        )


def test_news_runs_as_it_is_in_the_order_in_which_it_came() -> None:
    parts = Parts(LOAD)
    parts.aside.op = Op.READ
    news = NewsSource(parts.maker)
    assert not news.is_waiting
    assert news.next(b"") is None
    before = parts.scheduler.total
    for program in (LOAD + PROGRAM, LOAD + READ):
        news.enqueue(program)
    assert news.is_waiting
    assert news.next(b"") == Candidate(LOAD + PROGRAM, cost_of(split(PROGRAM)))
    # What the machine skips costs nothing.
    assert parts.scheduler.total == pytest.approx(before + cost_of(split(PROGRAM)))
    assert cast(Candidate, news.next(b"")).program == LOAD + READ


def test_shorter_forms_come_before_the_whole_program() -> None:
    parts = Parts()
    counters = bytes([1, 0])
    triage = Triage(lambda program, settles=False: counters, 2)
    source = TriagedSource(triage, parts.maker)
    assert source.next(b"") is None
    triage.consider(PROGRAM, counters, shortened=True)
    assert source.is_waiting
    found = [cast(Candidate, source.next(b"")).program for _ in range(2)]
    assert len(found[0]) < len(found[1])
    assert found[1] == PROGRAM


def test_imports_wait_for_a_machine_with_the_module_as_it_is(tmp_path: Path) -> None:
    parts = Parts(LOAD)
    queue = ImportQueue(tmp_path)
    queue.put_off(PROGRAM)
    source = ImportSource(queue, parts.scheduler, parts.maker)
    assert source.next(b"") is None
    parts.executor.preloaded = b""
    parts.aside.op = Op.READ
    assert source.next(b"") == Candidate(WRITE, cost_of(split(WRITE)))


def test_of_programs_that_exist_one_that_is_too_long_is_left_out() -> None:
    parts = Parts()
    longest = READ * (PROGRAM_SIZE // 8 // len(READ))
    assert parts.maker.screened(longest)
    assert parts.maker.screened(longest + READ) is None


def test_hints_begin_with_the_calls_that_the_machine_skips() -> None:
    parts = Parts(LOAD)
    stage = SimpleNamespace(take=lambda scheduler: PROGRAM)
    source = HintSource(cast(HintStage, stage), parts.scheduler, parts.maker)
    assert cast(Candidate, source.next(b"")).program == LOAD + PROGRAM
    parts.aside.op = Op.READ
    assert cast(Candidate, source.next(b"")).program == LOAD + WRITE


def test_mutants_are_of_the_program_asked_for_behind_the_preloaded_calls() -> None:
    parts = Parts(LOAD)
    source = MutationSource(parts.mutator, parts.scheduler, parts.maker)
    asked = encode(tuple(Call(Op.READ, arg=n) for n in range(15)))
    made = [source.next(LOAD + asked) for _ in range(20)]
    assert all(each.program.startswith(LOAD) for each in made)
    own = [split(each.program.removeprefix(LOAD)) for each in made]
    assert sum(len(set(chunks) & set(split(asked))) >= 8 for chunks in own) >= 15
    assert [each.cost for each in made] == [cost_of(chunks) for chunks in own]


def test_mutants_do_without_calls_that_are_set_aside() -> None:
    parts = Parts()
    parts.aside.op = Op.READ
    source = MutationSource(parts.mutator, parts.scheduler, parts.maker)
    made = [source.next(PROGRAM) for _ in range(200)]
    kept = [each for each in made if any(chunk[0] == Op.READ for chunk in split(each.program))]
    # Of these nothing else was left, three times in a row.
    assert len(kept) < 10


def test_generation_does_not_care_what_is_asked_for() -> None:
    first, second = Parts(), Parts()
    make = [
        GenerationSource(parts.mutator, parts.scheduler, parts.maker).next
        for parts in (first, second)
    ]
    assert [make[0](PROGRAM) for _ in range(9)] == [make[1](b"") for _ in range(9)]


def test_races_are_made_of_the_corpus_and_are_no_cost_of_the_schedulers() -> None:
    parts = Parts(LOAD)
    parts.scheduler.note(LOAD + PROGRAM)
    parts.mutator.note(LOAD + PROGRAM)
    before = parts.scheduler.total
    made = [RaceSource(parts.mutator, parts.scheduler, parts.maker).next(b"") for _ in range(20)]
    assert parts.scheduler.total == before
    assert all(each.program.startswith(LOAD) for each in made)
    assert all(each.cost == cost_of(split(each.program.removeprefix(LOAD))) for each in made)
