# SPDX-License-Identifier: Apache-2.0
"""Assembly of a fuzzing loop from its parts."""

from __future__ import annotations

import random

from fuzzer.engine.aside import Aside
from fuzzer.engine.batcher import Batcher
from fuzzer.engine.compared import ComparedFile, compared_file
from fuzzer.engine.counters import Counters
from fuzzer.engine.crashes import CrashObserver
from fuzzer.engine.engines import Material, choose_engine
from fuzzer.engine.executor import WorkerExecutor
from fuzzer.engine.hint_stage import ComparisonRuns, HintStage
from fuzzer.engine.import_queue import ImportQueue
from fuzzer.engine.libfuzzer import LibFuzzer
from fuzzer.engine.loop import Loop, LoopOptions, Parts
from fuzzer.engine.observer import Observer
from fuzzer.engine.phases import Phases
from fuzzer.engine.race_slots import RaceSlots
from fuzzer.engine.reached import ReachedFile, reached_file
from fuzzer.engine.reporter import Reporter
from fuzzer.engine.rerun import Rerun
from fuzzer.engine.rotation import Rotation
from fuzzer.engine.seed_scheduler import SeedScheduler, slow_weight
from fuzzer.engine.sources import LONGEST
from fuzzer.engine.statistics import WorkerStatistics
from fuzzer.engine.tally import TallyFile, tally_file
from fuzzer.engine.value_profile import ValueProfile
from fuzzer.program.hints import bit_fields_of
from fuzzer.program.mutate import Mutator
from fuzzer.target.target import ResetKind


def assemble(
    executor: WorkerExecutor,
    fuzzer: LibFuzzer,
    options: LoopOptions,
    observer: Observer | None = None,
) -> Loop:
    """Return a loop that runs programs by an executor, with counters that libFuzzer sees."""
    observer = observer or Observer()
    guest, seed, mechanisms = executor.guest, options.seed, options.mechanisms
    n_blocks = len(guest.blocks)
    statistics = WorkerStatistics(options.workdir / f"{options.name}.stats", n_blocks)
    counts = statistics.counts
    tally = TallyFile(tally_file(options.workdir, options.name))
    counters = Counters(executor.channel, n_blocks)
    fuzzer.register_counters(counters.address, counters.count)
    mutator = Mutator(
        guest.target,
        random.Random(seed),
        fuzzer.mutate_bytes,
        min_calls=options.min_calls,
        max_calls=options.max_calls,
        mechanisms=mechanisms,
    )
    waits = not guest.template.hardware.is_virtual
    weight = slow_weight(guest.template.accel, executor.load_seconds if waits else 0.0)
    scheduler = SeedScheduler(random.Random(seed + 1), weight)
    phases = Phases(
        options.restore_every, random.Random(seed + 2).random, RaceSlots(options.workdir)
    )
    imports = ImportQueue(options.workdir, options.number, options.workers)
    bit_fields = bit_fields_of(guest.target)
    compared = ComparedFile(compared_file(options.workdir, options.name), guest.driver.key)
    reached = ReachedFile(
        reached_file(options.workdir, options.name), guest.driver.key, guest.target
    )
    profile = ValueProfile(
        random.Random(seed + 3),
        lambda program: mutator.mutate(program, LONGEST),
        options.max_calls,
        LONGEST,
    )
    hints = HintStage(
        fuzzer,
        options.max_calls,
        mutator.note_compared,
        mutator.created,
        bit_fields,
        profile=profile if mechanisms.value_profile else None,
        record=compared.note,
    )
    aside = Aside()

    def renew() -> None:
        rotation.renew()

    def publish() -> None:
        reporter.publish()

    def note_preload(before: bytes, calls: bytes) -> None:
        serial.change_start(before, calls)
        racing.drop()
        scheduler.note_preload(calls)

    crashes = CrashObserver(
        executor,
        aside,
        scheduler,
        counts=counts,
        workdir=options.workdir,
        name=options.name,
        renew=renew,
        publish=publish,
    )
    rotation = Rotation(
        executor,
        phases,
        counts,
        crashes,
        choose=mutator.choose_preload,
        note_preload=note_preload,
    )
    restore_each = guest.target.reset.kind is ResetKind.RESTORE
    rerun = Rerun(
        executor.channel, counters, crashes, observer, rotation.renew if restore_each else None
    )
    engine = choose_engine(
        mechanisms,
        Material(
            executor,
            counters,
            counts,
            aside,
            mutator,
            scheduler,
            imports,
            hints,
            run_again=rerun.run,
            lean=options.lean,
            note_reached=reached.note,
        ),
    )
    serial, racing = Batcher(*engine.batched), Batcher(*engine.racing)
    reporter = Reporter(
        executor,
        statistics,
        tally,
        crashes,
        compared=compared,
        covered=lambda: engine.feedback.covered,
        races=lambda: phases.racing,
    )
    executor.while_waiting = reporter.publish
    parts = Parts(
        engine,
        executor,
        counters,
        counts,
        serial,
        racing,
        phases,
        rotation,
        crashes,
        aside,
        tally,
        ComparisonRuns(executor, hints, crashes.has_passed),
        imports,
        rerun,
        reporter,
        observer,
    )
    return Loop(parts, options)
