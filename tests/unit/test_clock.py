# SPDX-License-Identifier: Apache-2.0
"""A campaign's change to the virtual clock, and its remarks on that."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import cast

import pytest

from fuzzer.campaign import clock, subject
from fuzzer.campaign.clock import Clock
from fuzzer.campaign.subject import Subject
from fuzzer.campaign.workdir import Workdir
from fuzzer.crash.exact import EXACT
from fuzzer.crash.testbeds import RACING
from fuzzer.engine.start import Start
from fuzzer.engine.statistics import WorkerCounts
from fuzzer.kernel.kernel import Kernel, KernelOptions
from fuzzer.machine.accel import Accel
from fuzzer.machine.qemu import VIRTUAL_CLOCK, Hardware
from fuzzer.target.target import Target

WAITS = WorkerCounts(programs=3, call_us=1_020_000, idle=97)


class FakeChild:
    """A process that ends when it is told with which status."""

    def __init__(self, module: str, task: object, log: object) -> None:
        self.process = SimpleNamespace(returncode=None)
        self.killed = False

    def is_running(self) -> bool:
        return self.process.returncode is None

    def kill(self) -> None:
        self.killed = True


@pytest.fixture
def children(monkeypatch: pytest.MonkeyPatch) -> list[FakeChild]:
    made: list[FakeChild] = []

    def start(module: str, task: object, log: object) -> FakeChild:
        made.append(FakeChild(module, task, log))
        return made[-1]

    monkeypatch.setattr(clock, "Child", start)
    return made


def slow(target: Target, accel: Accel = Accel.TCG) -> Subject:
    return Subject(target, None, KernelOptions(), accel)


def clock_of(subject: Subject, workdir: Workdir, *, counted: bool = False) -> Clock:
    return Clock(subject, cast(Kernel, None), workdir, counted=counted)


@pytest.fixture
def workdir(tmp_path: object) -> Workdir:
    return cast(Workdir, SimpleNamespace(logs=tmp_path, root=tmp_path))


def test_a_campaign_that_mostly_waits_gets_the_virtual_clock_once(
    children: list[FakeChild], pkv_target: Target, workdir: Workdir
) -> None:
    changes = clock_of(slow(pkv_target), workdir)
    for counts in (
        WorkerCounts(),
        dataclasses.replace(WAITS, call_us=900),
        dataclasses.replace(WAITS, idle=60),
    ):
        assert changes.watch(counts) is None
        assert not children
    assert changes.watch(WAITS) is None
    assert changes.watch(WAITS) is None
    (child,) = children
    assert not changes.remarks()
    child.process.returncode = 0
    changed = changes.watch(WAITS)
    assert changed is not None
    assert changed.virtual
    assert child.killed
    (remark,) = changes.remarks()
    assert "a call takes 1 s, and for 97 % of that only waits" in remark.text
    assert changes.watch(WAITS) is None
    assert len(children) == 1


def test_where_it_cannot_be_prepared_fuzzing_goes_on(
    children: list[FakeChild], pkv_target: Target, workdir: Workdir
) -> None:
    changes = clock_of(slow(pkv_target), workdir)
    changes.watch(WAITS)
    children[0].process.returncode = 3
    assert changes.watch(WAITS) is None
    assert changes.watch(WAITS) is None
    assert not changes.remarks()
    assert len(children) == 1


def test_kvm_has_no_such_clock_and_that_is_said(
    children: list[FakeChild], pkv_target: Target, workdir: Workdir
) -> None:
    changes = clock_of(slow(pkv_target, Accel.KVM), workdir)
    assert changes.watch(WAITS) is None
    assert not children
    (remark,) = changes.remarks()
    assert "--accel tcg" in remark.text


def test_a_number_of_programs_is_run_by_one_clock(
    children: list[FakeChild], pkv_target: Target, workdir: Workdir
) -> None:
    changes = clock_of(slow(pkv_target), workdir, counted=True)
    assert changes.watch(WAITS) is None
    assert not children
    assert not changes.remarks()


def test_all_but_exact_machines_of_such_a_subject_have_the_virtual_clock(
    monkeypatch: pytest.MonkeyPatch, pkv_target: Target
) -> None:
    seen: list[tuple[Accel, Hardware | None]] = []

    def ensure(
        target: object,
        kernel: object,
        driver: object,
        accel: Accel,
        hardware: Hardware | None,
        **_: object,
    ) -> None:
        seen.append((accel, hardware))

    monkeypatch.setattr(subject, "ensure_guest", ensure)
    monkeypatch.setattr(subject, "build_driver", lambda *_: None)
    for asked in (None, RACING, EXACT):
        clock.virtual(slow(pkv_target)).guest(cast(Kernel, None), hardware=asked)
    slow(pkv_target, Accel.KVM).guest(cast(Kernel, None), hardware=RACING)
    assert seen == [
        (Accel.TCG, VIRTUAL_CLOCK),
        (Accel.TCG, VIRTUAL_CLOCK),
        (Accel.TCG, EXACT),
        (Accel.KVM, RACING),
    ]


def test_the_share_of_waiting_is_known_after_some_seconds() -> None:
    now = [1000.0]
    start = Start(lambda: now[0])
    start.look(7, busy=4.0)
    now[0] += 1
    start.look(8, busy=4.1)
    assert start.idle_share == 0.0
    # Another machine has another count of it.
    start.pause()
    now[0] += 100
    start.look(0, busy=0.5)
    now[0] += 3
    start.look(3, busy=0.6)
    assert start.idle_share == pytest.approx(0.95)
