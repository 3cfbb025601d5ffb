# SPDX-License-Identifier: Apache-2.0
"""The parser's findings in a log: the one place where golden logs meet it."""

from __future__ import annotations

from dataclasses import dataclass

from fuzzer.splat.find import find_splat
from tests.golden.index import Expectation


@dataclass(frozen=True, slots=True)
class Found:
    """The first report of a log."""

    title: str
    kind: str
    function: str | None


def find(lines: list[str]) -> Found | None:
    """Return what the parser finds in a log first, or None."""
    splat = find_splat(lines)
    return Found(splat.title, splat.kind, splat.function) if splat else None


def wanted(expected: Expectation | None) -> Found | None:
    """Return what the parser has to find."""
    return Found(expected.title, expected.kind, expected.function) if expected else None
