# SPDX-License-Identifier: Apache-2.0
"""Comparisons that a driver made while a program ran."""

from __future__ import annotations

from typing import NamedTuple


class Comparison(NamedTuple):
    """Two operands that were not equal, both unsigned and of ``size`` bytes (1, 2, 4 or 8).

    ``call`` is the index of the call in the program. If ``constant``, ``a`` is a constant
    of the driver, as the case of a switch, and ``b`` the value compared with it. ``site``
    tells places in the driver apart. Comparisons in strcmp(), memcmp() and other functions
    outside of the driver are not seen.
    """

    a: int
    b: int
    call: int
    size: int
    constant: bool
    site: int = 0
