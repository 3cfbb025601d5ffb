# SPDX-License-Identifier: Apache-2.0
"""Stages that bring stored crashes further: minimizing and retries."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from fuzzer.campaign.kernels import JudgingKernels
from fuzzer.campaign.stages import minimizing
from fuzzer.campaign.stages.callers import Callers
from fuzzer.campaign.stages.minimizing import Minimizing
from fuzzer.campaign.stages.retries import Retries
from fuzzer.campaign.stages.spare_time import Exploring, SpareTime
from fuzzer.crash.crash import Crash, Identity
from fuzzer.crash.minimizer.minimize import Minimized
from fuzzer.crash.oracles.deterministic import Effort
from fuzzer.crash.reproducer import Reproducer
from fuzzer.crash.store import CrashStore
from fuzzer.kernel.kernel import Flavour
from fuzzer.machine.machine import LostMachineError
from fuzzer.program.ops import Op
from fuzzer.program.program import Call
from fuzzer.program.wire import encode
from fuzzer.splat.find import bare_splat
from fuzzer.splat.kmsg import console_lines
from fuzzer.target.target import Target
from tests.fakes import FakeGuest, FakeSetups
from tests.unit.test_judge import FAULT
from tests.unit.test_judge import SPLAT as USE_AFTER_FREE

TITLE = "KASAN: slab-use-after-free Read in drv_read"
SPLAT = bare_splat(TITLE, "kasan", "drv_read", "BUG: KASAN\n")
WRITE, READ = Call(Op.WRITE, data=b"a\n"), Call(Op.READ)
LONG, SHORT = encode((WRITE,) * 9 + (READ,)), encode((WRITE, READ))
FIRST_LOG = """\
BUG: KASAN: slab-use-after-free in drv_read+0x1/0x2 [drv]
Read of size 8 at addr ffff888000000000 by task init/1
Call Trace:
 drv_read+0x1/0x2 [drv]
"""


def crash(**changes: Any) -> Crash:
    found = Crash(
        title=TITLE,
        kind="kasan",
        function="drv_read",
        judged_on="full",
        reproduced=3,
        runs=3,
        sightings=1,
        sighted_as=(TITLE,),
        identity=Identity("d", "d.yaml", None, "full k", "d", "q", "tcg"),
        report="BUG: KASAN\n",
        first_log=FIRST_LOG,
        program=LONG,
        first_run=(b"", LONG),
    )
    return dataclasses.replace(found, **changes)


class FakeMinimizer:
    """Finds SHORT in two steps, or loses its machine."""

    lose = 0
    hurried = False

    def __init__(self, *arguments: object, **options: object) -> None:
        self.result: Minimized | None = None
        self._left = 2

    def step(self) -> bool:
        if FakeMinimizer.lose:
            FakeMinimizer.lose -= 1
            raise LostMachineError("killed")
        self._left -= 1
        if not self._left:
            self.result = Minimized(Reproducer(SHORT), SPLAT, 3, 3, 1.5, Effort(9, 4), True)
        return self._left > 0

    def hurry(self, seconds: float) -> None:
        FakeMinimizer.hurried = True

    def close(self) -> None:
        pass


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CrashStore:
    """Return an empty store; nothing is waited for, and nothing really minimised."""
    monkeypatch.setattr(minimizing, "Minimizer", FakeMinimizer)
    FakeMinimizer.lose, FakeMinimizer.hurried = 0, False
    return CrashStore(tmp_path)


class Stages:
    """Both stages, the second where the first has nothing to do."""

    def __init__(
        self,
        kernels: JudgingKernels,
        store: CrashStore,
        target: Target,
        is_awaited: Callable[[str], bool],
    ) -> None:
        self.busy = False
        self.minimizing = Minimizing(kernels, store, target, 1, is_awaited)
        self.retries = Retries(
            kernels,
            store,
            target,
            is_busy=lambda: self.busy,
            found=self.minimizing.note,
            pause=0.0,
            rest=0.0,
        )

    def step(self) -> bool:
        return self.minimizing.step() or self.retries.step()


def kernels_that_print(log: bytes = b"") -> JudgingKernels:
    """Return kernels on whose machines each program has the kernel print ``log``."""
    setups = FakeSetups(FakeGuest(lambda ran: log))
    return JudgingKernels(setups, Flavour.FULL, Flavour.FULL, lambda: setups)


def stages(
    store: CrashStore,
    target: Target,
    log: bytes = b"",
    is_awaited: Callable[[str], bool] = lambda title: False,
) -> Stages:
    return Stages(kernels_that_print(log), store, target, is_awaited)


def stored(store: CrashStore) -> Crash:
    (found,) = store.all()
    return found


def test_a_stored_crash_is_made_minimal_and_keeps_its_original(
    store: CrashStore, pkv_target: Target
) -> None:
    path = store.put(crash(), pkv_target)
    work = stages(store, pkv_target)
    while work.step():
        pass
    found = stored(store)
    assert (found.program, found.original, found.minimized) == (SHORT, LONG, True)
    record = json.loads((path / "crash.json").read_text())
    assert (record["original_calls"], record["minimal_calls"]) == (10, 2)
    assert (record["minimized"], record["minimize_seconds"]) == (True, 1.5)
    assert (path / "original.bin").read_bytes() == LONG


def test_a_minimal_crash_is_left_alone(store: CrashStore, pkv_target: Target) -> None:
    store.put(crash(minimized=True), pkv_target)
    assert not stages(store, pkv_target).step()


def test_a_crash_that_awaits_its_schedule_waits(store: CrashStore, pkv_target: Target) -> None:
    awaited = [True]
    store.put(crash(), pkv_target)
    work = stages(store, pkv_target, is_awaited=lambda title: awaited[0])
    assert not work.step()
    awaited[0] = False
    assert work.step()
    assert stored(store).minimized


def test_a_lost_machine_means_another_try_but_not_for_ever(
    store: CrashStore, pkv_target: Target
) -> None:
    store.put(crash(), pkv_target)
    work = stages(store, pkv_target)
    FakeMinimizer.lose = 2
    for _ in range(2):
        with pytest.raises(LostMachineError):
            work.step()
    assert work.step()
    assert stored(store).minimized


def test_what_does_not_reproduce_is_tried_a_few_times_and_kept(
    store: CrashStore, pkv_target: Target
) -> None:
    store.put(crash(reproduced=0, runs=2), pkv_target)
    work = stages(store, pkv_target)
    assert sum(work.step() for _ in range(20)) <= 5
    found = stored(store)
    assert (found.reproduced, found.runs, found.retries) == (0, 2 + 3 * 2, 3)
    assert found.program == LONG


def test_nothing_is_retried_while_others_are_busy(store: CrashStore, pkv_target: Target) -> None:
    store.put(crash(reproduced=0, runs=2), pkv_target)
    work = stages(store, pkv_target)
    work.busy = True
    assert not work.step()
    assert stored(store).retries == 0
    work.busy = False
    assert work.step()
    assert stored(store).retries == 1


def test_what_reproduces_after_all_is_judged_anew_and_minimized(
    store: CrashStore, pkv_target: Target
) -> None:
    store.put(crash(reproduced=0, runs=2), pkv_target)
    work = stages(store, pkv_target, USE_AFTER_FREE)
    while work.step():
        pass
    found = stored(store)
    assert (found.reproduced, found.runs, found.retries) == (3, 3, 1)
    assert found.minimized


def test_what_reproduces_under_another_title_takes_its_place(
    store: CrashStore, pkv_target: Target
) -> None:
    store.put(crash(reproduced=0, runs=2), pkv_target)
    work = stages(store, pkv_target, FAULT)
    assert work.step()
    assert stored(store).title == "BUG: unable to handle page fault in drv_read"


def test_at_the_end_only_the_crash_that_was_begun_is_finished(
    store: CrashStore, pkv_target: Target
) -> None:
    store.put(crash(), pkv_target)
    kernels = kernels_that_print()
    exploring = cast(Exploring, SimpleNamespace(step=lambda: False))
    work = SpareTime(
        kernels, store, pkv_target, 1, exploring, is_busy=lambda: False, guard=lambda step: step()
    )
    # It is run as another user, which takes a few machines.
    assert work.finish(hurry=True)
    assert stored(store).privileges == "root"
    assert not work.finish(hurry=True)
    assert not FakeMinimizer.hurried
    # A slice of time begins it, and nothing is left of its two steps.
    FakeMinimizer.lose = 1
    with pytest.raises(LostMachineError):
        work.step()
    assert not work.finish(hurry=True)
    assert work.finish(hurry=False)
    assert stored(store).minimized


def test_what_waits_in_spare_time_goes_on_although_a_machine_was_lost(
    store: CrashStore, pkv_target: Target
) -> None:
    store.put(crash(), pkv_target)
    FakeMinimizer.lose = 1
    kernels = kernels_that_print()
    explored: list[bool] = []

    def explore() -> bool:
        explored.append(True)
        return False

    def guard(step: Callable[[], bool]) -> bool:
        try:
            return step()
        except LostMachineError:
            return True

    exploring = cast(Exploring, SimpleNamespace(step=explore))
    work = SpareTime(kernels, store, pkv_target, 1, exploring, is_busy=lambda: False, guard=guard)
    assert work.step()
    assert explored
    assert not stored(store).minimized
    assert work.step()
    assert stored(store).minimized


@pytest.mark.parametrize("shows", [True, False])
def test_a_crash_that_needs_no_minimizing_is_run_as_another_user(
    store: CrashStore, pkv_target: Target, shows: bool
) -> None:
    report = "\n".join(console_lines(USE_AFTER_FREE))
    stored = crash(program=SHORT, report=report, minimized=True)
    store.put(stored, pkv_target)
    callers = Callers(kernels_that_print(USE_AFTER_FREE if shows else b""), store, pkv_target)
    assert callers.step()
    found = store.get(TITLE)
    assert found is not None
    assert found.privileges == ("anyone" if shows else "root")
    words = "any user can cause it" if shows else "takes root's privileges"
    assert words in found.verdict()
    assert (found.splat.severity.score > stored.splat.severity.score) is shows
    assert not callers.step()
    assert not Callers(kernels_that_print(), store, pkv_target).step()


def test_a_crash_that_did_not_reproduce_is_not_run_as_another_user(
    store: CrashStore, pkv_target: Target
) -> None:
    store.put(crash(reproduced=0), pkv_target)
    assert not Callers(kernels_that_print(), store, pkv_target).step()
