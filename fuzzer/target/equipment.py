# SPDX-License-Identifier: Apache-2.0
"""Stand-ins for a driver's hardware, as a description names them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Bus:
    """A kind of hardware that can be stood in for.

    ``name`` is what a device's name matches, ``allowed`` that in words. ``alone`` names the
    parts that there are without any device; empty if they are of no use. With ``has_parts``,
    names are those of such parts, not of devices.
    """

    name: re.Pattern[str]
    allowed: str
    most: int = 8
    alone: str = ""
    has_parts: bool = False


def _named(length: int) -> re.Pattern[str]:
    # A list of them is comma separated.
    return re.compile(rf"[A-Za-z0-9][A-Za-z0-9_.-]{{0,{length - 1}}}\Z")


BUSES = {
    "gpio": Bus(
        _named(31),
        "a function of up to 31 characters",
        most=16,
        alone="gpio lines",
        has_parts=True,
    ),
    "i2c": Bus(_named(19), "a name of up to 19 characters", alone="i2c adapters"),
    "spi": Bus(_named(31), "a name of up to 31 characters", alone="spi controllers"),
    "usb": Bus(
        re.compile(r"[0-9A-Fa-f]{4}:[0-9A-Fa-f]{4}(?::[0-9A-Fa-f]{6})?\Z"),
        'an id such as "1D6B:0104", or one with a class, "1D6B:0104:030102",',
        most=1,
    ),
    "platform": Bus(_named(23), "a name of up to 23 characters"),
}
"""Buses by their keys, in the order in which they are registered."""


@dataclass(frozen=True, slots=True)
class Equipment:
    """Devices of a bus, by name; without names, the bus alone."""

    bus: str
    names: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Tell what it is, as ``the i2c device x``."""
        bus, names = BUSES[self.bus], ", ".join(self.names)
        if bus.has_parts or not names:
            return f"{bus.alone} {names}".strip()
        return f"the {self.bus} device{'s'[: len(self.names) - 1]} {names}"

    @property
    def has_devices(self) -> bool:
        """True if it has devices, not only parts that a driver takes by itself."""
        return bool(self.names) and not BUSES[self.bus].has_parts


def listed(equipment: Sequence[Equipment]) -> str:
    """Return equipment as a part of a sentence."""
    return " and ".join(map(str, equipment))


def ordered(equipment: Sequence[Equipment]) -> tuple[Equipment, ...]:
    """Return equipment in the order in which it is registered."""
    return tuple(sorted(equipment, key=lambda each: list(BUSES).index(each.bus)))
