# SPDX-License-Identifier: Apache-2.0
"""A program that is about to be run."""

from __future__ import annotations

from typing import NamedTuple

ALONE = -1.0
"""The cost of a candidate that libFuzzer asked for itself, and that is handed over alone."""


class Candidate(NamedTuple):
    """A program in wire form and its cost, in small calls; see :mod:`fuzzer.program.cost`."""

    program: bytes
    cost: float = ALONE
