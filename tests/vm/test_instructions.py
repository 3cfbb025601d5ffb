# SPDX-License-Identifier: Apache-2.0
"""What calls cost in guest instructions: a bound that noise on the host cannot break.

A bound is half as much again as was counted when it was set. ``pkvfuzz bench``
prints the present counts.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from fuzzer.bench.instructions import (
    InstructionCount,
    bench_programs,
    count_instructions,
    counting_guest,
)
from fuzzer.errors import BadInputError
from fuzzer.machine.kernel import Flavour, Kernel
from fuzzer.target.target import Target
from tests.vm.guests import GuestFactory

pytestmark = pytest.mark.vm


@dataclass(frozen=True, slots=True)
class Bound:
    """At most so many instructions: for the whole program, and for its last call."""

    program: int
    last: int


FAST = {
    "clear": Bound(33_000, 5_700),
    "delete": Bound(43_000, 4_500),
    "empty": Bound(26_000, 0),
    "list": Bound(56_000, 13_000),
    "open-close": Bound(47_000, 8_000),
    "overwrite": Bound(55_000, 14_000),
    "read": Bound(42_000, 1_900),
    "write": Bound(40_000, 11_000),
}
FULL = {
    "clear": Bound(216_000, 19_500),
    "delete": Bound(283_000, 30_000),
    "empty": Bound(190_000, 0),
    "list": Bound(330_000, 56_000),
    "open-close": Bound(360_000, 68_000),
    "overwrite": Bound(353_000, 82_000),
    "read": Bound(282_000, 12_000),
    "write": Bound(267_000, 63_000),
}


def counted(target: Target, kernel: Kernel) -> dict[str, InstructionCount]:
    counts = count_instructions(counting_guest(target, kernel), bench_programs(target))
    return {count.name: count for count in counts}


def check(counts: dict[str, InstructionCount], bounds: dict[str, Bound]) -> None:
    assert counts.keys() == bounds.keys()
    over = {
        name: (counts[name], bound)
        for name, bound in bounds.items()
        if counts[name].program > bound.program or counts[name].last > bound.last
    }
    assert not over


def test_calls_on_fast_stay_cheap(pkv_target: Target, fast_kernel: Kernel) -> None:
    check(counted(pkv_target, fast_kernel), FAST)


def test_calls_on_full_stay_within_bounds(pkv_target: Target, full_kernel: Kernel) -> None:
    check(counted(pkv_target, full_kernel), FULL)


def test_counts_are_the_same_again(pkv_target: Target, fast_kernel: Kernel) -> None:
    first, second = (counted(pkv_target, fast_kernel) for _ in range(2))
    # A call that allocates depends a little on what the allocator has seen;
    # reading depends on nothing.
    assert first["read"].last == second["read"].last


def test_a_guest_that_does_not_count_is_refused(guest: GuestFactory, pkv_target: Target) -> None:
    with pytest.raises(BadInputError, match="counting_guest"):
        count_instructions(guest(Flavour.FAST), bench_programs(pkv_target))
