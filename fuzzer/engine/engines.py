# SPDX-License-Identifier: Apache-2.0
"""Engines: the sources of programs, in order, and the feedback of each engine.

``--engine libfuzzer`` is :func:`coverage_guided`, ``--engine random`` :func:`unguided`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fuzzer.engine.aside import Aside
from fuzzer.engine.counters import Counters
from fuzzer.engine.executor import WorkerExecutor
from fuzzer.engine.feedback import CoverageFeedback, CoverageRecord, Feedback
from fuzzer.engine.hint_stage import HintStage
from fuzzer.engine.import_queue import ImportQueue
from fuzzer.engine.leaning import Lean, Leaning
from fuzzer.engine.seed_scheduler import SeedScheduler
from fuzzer.engine.sources import (
    CandidateMaker,
    GenerationSource,
    HintSource,
    ImportSource,
    MutationSource,
    NewsSource,
    RaceSource,
    Source,
    TriagedSource,
    WaitingSource,
)
from fuzzer.engine.statistics import WorkerCounts
from fuzzer.engine.triage import RunAgain, Triage
from fuzzer.program.mechanisms import Mechanisms
from fuzzer.program.mutate import Mutator


@dataclass(frozen=True, slots=True)
class Material:
    """The parts that engines are made of; triage runs programs by ``run_again``.

    ``note_reached`` is given programs that enter the corpus and the counters of their blocks.
    """

    executor: WorkerExecutor
    counters: Counters
    counts: WorkerCounts
    aside: Aside
    mutator: Mutator
    scheduler: SeedScheduler
    imports: ImportQueue
    hints: HintStage
    run_again: RunAgain
    lean: Lean
    note_reached: Callable[[bytes, bytes], None]


@dataclass(frozen=True, slots=True)
class Engine:
    """Sources of candidates, each list in the order in which they are asked, and a feedback.

    Candidates of the sources ``alone`` are handed over one by one, before others. While
    these have none, batches are made of candidates of the ``batched`` sources, or in phases
    of races of the ``racing`` ones.
    """

    alone: tuple[WaitingSource, ...]
    batched: tuple[Source, ...]
    racing: tuple[Source, ...]
    feedback: Feedback


def choose_engine(mechanisms: Mechanisms, material: Material) -> Engine:
    """Return the engine that has these mechanisms."""
    if mechanisms.coverage:
        return coverage_guided(material, with_hints=mechanisms.hints)
    return unguided(material)


def coverage_guided(material: Material, *, with_hints: bool) -> Engine:
    """Return the engine that mutates programs which covered something new."""
    executor, mutator, scheduler = material.executor, material.mutator, material.scheduler
    maker = CandidateMaker(executor, material.aside, scheduler)
    triage = Triage(material.run_again, material.counters.n_blocks, mutator.expect_late_work)
    news = NewsSource(maker)
    batched: list[Source] = [ImportSource(material.imports, scheduler, maker)]
    keep = [mutator.note, scheduler.note]
    if material.lean.wanted:
        keep.append(Leaning(material.lean, material.counters, scheduler).note)
    if with_hints:
        batched.append(HintSource(material.hints, scheduler, maker))
        keep.append(material.hints.want)
    batched.append(MutationSource(mutator, scheduler, maker))
    return Engine(
        alone=(news, TriagedSource(triage, maker)),
        batched=tuple(batched),
        racing=(RaceSource(mutator, scheduler, maker),),
        feedback=CoverageFeedback(
            executor,
            material.counters,
            material.counts,
            triage,
            material.imports,
            keep=keep,
            enqueue=news.enqueue,
            note_reached=material.note_reached,
        ),
    )


def unguided(material: Material) -> Engine:
    """Return the engine that makes each program anew."""
    mutator, scheduler = material.mutator, material.scheduler
    maker = CandidateMaker(material.executor, material.aside, scheduler)
    return Engine(
        alone=(),
        batched=(GenerationSource(mutator, scheduler, maker),),
        racing=(RaceSource(mutator, scheduler, maker),),
        feedback=CoverageRecord(material.counters),
    )
