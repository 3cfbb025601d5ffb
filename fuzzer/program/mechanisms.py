# SPDX-License-Identifier: Apache-2.0
"""Mechanisms that find bugs, each of which can be turned off to measure its worth."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Mechanisms:
    """Mechanisms of the fuzzer that are on.

    ``coverage``: programs that reach new code are kept and mutated; without it every
    program is made anew. ``hints``: values that the driver compares its input with are put
    into the input. ``outcomes``: errors of calls, and how often they succeeded, are coverage.
    ``value_profile``: programs that bring a comparison with a constant nearer are built upon,
    where there are hints. ``faults``: allocations and user copies fail. ``races``: calls run on
    several threads. ``lifecycle``: the module is unloaded and loaded. ``deferred``: coverage
    of workqueues, timers, interrupts and the driver's threads counts. ``leaks``: lost memory
    is looked for. ``info_leaks``: memory that was never set is, in what calls hand out.
    """

    coverage: bool = True
    hints: bool = True
    outcomes: bool = True
    value_profile: bool = True
    faults: bool = True
    races: bool = True
    lifecycle: bool = True
    deferred: bool = True
    leaks: bool = True
    info_leaks: bool = True


ALL = Mechanisms()
