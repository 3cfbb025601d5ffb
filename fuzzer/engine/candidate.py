# SPDX-License-Identifier: Apache-2.0
"""A program that is about to be run."""

from __future__ import annotations

from typing import NamedTuple

ALONE = -1.0
"""The cost that marks a candidate as one to be handed over alone, for libFuzzer to see."""


class Candidate(NamedTuple):
    """A program in wire form and its cost, in small calls; see :mod:`fuzzer.program.cost`."""

    program: bytes
    cost: float = ALONE
