# SPDX-License-Identifier: Apache-2.0
"""A function in C that a reproducer may need."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Helper:
    """The C text of a function, the headers that it includes, and the helpers that it calls."""

    text: str
    includes: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
