# SPDX-License-Identifier: Apache-2.0
"""Memory that was never set: reported on the kmsan kernel where it is used or handed out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fuzzer.campaign.seeds import load_seeds
from fuzzer.crash.observe import run_program
from fuzzer.driver.driver import build_driver
from fuzzer.driver.provision import Guest, ensure_guest
from fuzzer.kernel.kernel import Kernel
from fuzzer.machine.accel import Accel
from fuzzer.machine.machine import Machine
from fuzzer.target.target import Target, load_target
from tests.vm.guests import wire

pytestmark = pytest.mark.vm

TARGET = load_target(Path(__file__).parent.parent / "data" / "remains" / "remains.yaml")
_TRIES = 3


def guest_for(target: Target, kernel: Kernel, accel: Accel) -> Guest:
    return ensure_guest(target, kernel, build_driver(target, kernel), accel)


@pytest.fixture(scope="module")
def machine(kmsan_kernel: Kernel, accel: Accel) -> Iterator[Machine]:
    with guest_for(TARGET, kmsan_kernel, accel).restore() as machine:
        yield machine


@pytest.mark.parametrize(
    ("calls", "title"),
    [
        ("ioctl(f0, REMAINS_STACK, {})", "KMSAN: kernel-infoleak in remains_stack"),
        ("ioctl(f0, REMAINS_HEAP, {})", "KMSAN: kernel-infoleak in remains_heap"),
        ("ioctl(f0, REMAINS_BRANCH, 0)", "KMSAN: uninit-value in remains_branch"),
        ("read(f0, 24)", "KMSAN: kernel-infoleak in remains_read"),
        ("ioctl(f0, REMAINS_CLEAN, {})", None),
        ("ioctl(f0, REMAINS_CHANCE, 0)", None),
    ],
)
def test_memory_that_was_never_set_is_told_of_where_it_is_used(
    machine: Machine, calls: str, title: str | None
) -> None:
    splat = None
    # An interrupt may have left something set on the stack.
    for _ in range(_TRIES):
        splat = splat or run_program(machine, wire(calls, TARGET), late=False).splat
    assert (splat.title if splat else None) == title
    if splat:
        assert splat.kind == "kmsan"


def test_the_shipped_driver_uses_nothing_that_was_never_set(
    pkv_target: Target, kmsan_kernel: Kernel, accel: Accel
) -> None:
    with guest_for(pkv_target, kmsan_kernel, accel).restore() as machine:
        for seed in load_seeds(pkv_target, None, 1):
            splat = run_program(machine, seed, late=False).splat
            assert splat is None, splat.text
