# SPDX-License-Identifier: Apache-2.0
"""The cost of calls in guest instructions: a bound that noise on the host cannot break.

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
from fuzzer.bench.profile import DRIVER, profile
from fuzzer.errors import BadInputError
from fuzzer.kernel.kernel import Flavour, Kernel
from fuzzer.target.target import Target
from tests.vm.guests import GuestFactory

pytestmark = pytest.mark.vm


@dataclass(frozen=True, slots=True)
class Bound:
    """At most so many instructions: for the whole program, and for its last call."""

    program: int
    last: int


FAST = {
    "clear": Bound(29_000, 5_800),
    "delete": Bound(34_000, 3_900),
    "empty": Bound(19_000, 0),
    "list": Bound(47_000, 11_000),
    "open-close": Bound(31_000, 3_700),
    "overwrite": Bound(40_000, 9_400),
    "read": Bound(32_000, 2_000),
    "write": Bound(29_000, 7_700),
}
FULL = {
    "clear": Bound(173_000, 19_500),
    "delete": Bound(212_000, 21_000),
    "empty": Bound(150_000, 0),
    "list": Bound(241_000, 40_000),
    "open-close": Bound(270_000, 43_000),
    "overwrite": Bound(247_000, 48_000),
    "read": Bound(211_000, 17_300),
    "write": Bound(198_000, 38_500),
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


def test_every_instruction_is_for_something(pkv_target: Target, fast_kernel: Kernel) -> None:
    guest, programs = counting_guest(pkv_target, fast_kernel), bench_programs(pkv_target)
    counts = count_instructions(guest, programs)
    shares = profile(guest, programs, counts)
    total = sum(count.program for count in counts)
    assert sum(shares.values()) == pytest.approx(total, rel=0.05)
    assert min(shares.values()) >= 0
    assert shares[DRIVER] > 0.02 * total
    assert shares["KCOV, blocks"] > 0.02 * total
    # What fast has not.
    assert shares["lockdep and lock debugging"] == 0


def test_a_guest_that_does_not_count_is_refused(guest: GuestFactory, pkv_target: Target) -> None:
    with pytest.raises(BadInputError, match="counting_guest"):
        count_instructions(guest(Flavour.FAST), bench_programs(pkv_target))
