# SPDX-License-Identifier: Apache-2.0
"""Machines on which a wait takes no time."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from fuzzer.driver.provision import Guest
from fuzzer.kernel.kernel import Flavour
from fuzzer.machine.channel_layout import Status
from fuzzer.target.target import Target, load_target
from tests.vm.guests import GuestFactory, returned, run

pytestmark = pytest.mark.vm

_FIFO = Path(__file__).parent.parent / "drivers" / "fifo" / "fifo.yaml"


@pytest.fixture(scope="module")
def virtual(guest: GuestFactory, testdrv: Target) -> Guest:
    """Return a guest of the driver that misbehaves, with such machines."""
    return guest(Flavour.FAST, target=testdrv, icount=True)


def test_what_sleeps_and_what_waits_for_a_timer_comes_to_its_end(virtual: Guest) -> None:
    calls = 20
    with virtual.restore() as machine:
        run(machine, virtual, "ioctl(f0, TD_GET)")
        start = time.monotonic()
        done = run(machine, virtual, "ioctl(f0, TD_NAP)\nioctl(f0, TD_TIMER)\n" * calls)
        took = time.monotonic() - start
    assert done.status is Status.OK
    assert returned(done) == [(0, 0), (7, 0)] * calls
    # By its own clock, of which each instruction is a nanosecond, they took half a minute.
    assert done.tsc > calls * 1.5e9
    assert took < calls * 1.5 / 3


def test_what_waits_for_ever_is_told_soon(virtual: Guest) -> None:
    with virtual.restore() as machine:
        start = time.monotonic()
        assert run(machine, virtual, "ioctl(f0, TD_SLEEP)\nioctl(f0, TD_GET)").waited == (0,)
        assert run(machine, virtual, "ioctl(f0, TD_STUCK)").status is Status.STUCK
        # Its limit is a multiple of the usual one.
        assert time.monotonic() - start < 20


def test_what_waits_for_a_later_call_is_left_waiting(guest: GuestFactory) -> None:
    fifo = guest(Flavour.FAST, target=load_target(_FIFO), icount=True)
    with fifo.restore() as machine:
        done = run(machine, fifo, 'read(f0, 64)\nwrite(f0, "late")')
    assert returned(done) == [(4, 0)] * 2
    assert done.results[0].output == b"late"
    assert done.waited == (0,)
