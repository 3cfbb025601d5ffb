# SPDX-License-Identifier: Apache-2.0
"""Mechanisms that find bugs, each of which can be turned off to see what it is worth."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Mechanisms:
    """Mechanisms of the fuzzer that are on.

    ``coverage``: programs that reach new code are kept and mutated; without,
    every program is made anew. ``hints``: what the driver compares its input
    with is put there. ``faults``: allocations and user copies fail.
    ``races``: calls run on several threads. ``lifecycle``: the module is
    unloaded and loaded. ``leaks``: memory left behind is looked for.
    """

    coverage: bool = True
    hints: bool = True
    faults: bool = True
    races: bool = True
    lifecycle: bool = True
    leaks: bool = True


ALL = Mechanisms()
