# SPDX-License-Identifier: Apache-2.0
"""What one program does to a fresh machine, as the judge and ``replay`` see it."""

from __future__ import annotations

import pytest

from fuzzer.crash.judge import run_program
from fuzzer.machine.provision import Guest
from tests.vm.guests import wire


@pytest.mark.parametrize(
    ("calls", "title"),
    [
        ("ioctl(f0, TD_SPIN)", "BUG: soft lockup in td_spin"),
        ("ioctl(f0, TD_STUCK)", "INFO: task hung in td_stuck"),
        ("ioctl(f0, TD_BUG)", "kernel BUG in td_bug"),
        ("ioctl(f0, TD_UAF)", "KASAN: slab-use-after-free Read in td_uaf"),
        ("ioctl(f0, TD_SLEEP)\nioctl(f0, TD_GET)", None),
        ("ioctl(f0, TD_NOISE)", None),
    ],
)
def test_a_program_is_named_by_what_it_does(
    full_misbehaving: Guest, calls: str, title: str | None
) -> None:
    with full_misbehaving.restore() as machine:
        splat = run_program(machine, wire(calls, full_misbehaving.target)).splat
    assert (splat.title if splat else None) == title
