# SPDX-License-Identifier: Apache-2.0
"""The flavours of kernels: one record of each, which everything else reads.

The files that a record names are in ``vm/kernel``.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class FlavourSpec:
    """Everything that is known of one flavour.

    ``summary`` is for the help of options. ``fragments`` are files of Kconfig options, of which
    a later one overrules an earlier one; ``patch`` is of this flavour alone, or empty.
    ``compiler`` builds the kernel and drivers for it. ``variables`` go to make, and so does a
    request that ``sanitizer`` checks the core's objects which the file ``checked`` lists, if
    there is one.

    A flavour that ``judges`` also judges sightings made on it; those of the others are judged on
    ``full``. ``serial_programs`` run on a machine between two phases of races, None for as many
    as a machine is good for. One that ``finds_leaks`` has kmemleak, and can poison memory.
    ``only_here`` are kinds of reports that it makes and the kernels that it judges for do not.
    Its machines have ``ram_mib`` MiB. ``console_level`` is the kernel's ``loglevel``.
    """

    summary: str
    fragments: tuple[str, ...]
    patch: str = ""
    compiler: str = "gcc"
    variables: tuple[str, ...] = ()
    sanitizer: str = "KASAN"
    checked: str = ""
    judges: bool = False
    serial_programs: int | None = None
    ram_mib: int = 256
    finds_leaks: bool = True
    only_here: Mapping[str, str] = field(default_factory=dict)
    console_level: int = 1


class Flavour(enum.StrEnum):
    """The purposes of kernels, by the names that options and descriptions have for them."""

    FAST = "fast"
    FULL = "full"
    KCSAN = "kcsan"
    KMSAN = "kmsan"

    @property
    def spec(self) -> FlavourSpec:
        """Everything that is known of it."""
        return _SPECS[self]

    @property
    def judged_on(self) -> Flavour:
        """The flavour that sightings made on this one are judged on."""
        return self if self.spec.judges else Flavour.FULL


_SPECS: Mapping[Flavour, FlavourSpec] = {
    Flavour.FAST: FlavourSpec(
        summary="has KASAN in the driver and little else",
        fragments=("base.config", "sanitizers.config", "fast.config"),
        variables=("UBSAN_SANITIZE=n", "KASAN_SANITIZE=n", "KASAN_SANITIZE_lib_string=y"),
        checked="fast.kasan",
    ),
    Flavour.FULL: FlavourSpec(
        summary="has every check",
        fragments=("base.config", "sanitizers.config", "full.config"),
        judges=True,
        only_here={
            "lockdep": "lock order and kept locks (lockdep)",
            "atomic-sleep": "sleeping in atomic context",
            "leak": "lost memory",
            "infoleak": "memory that was never set and reaches a program",
        },
        # A guest that locks up can say so on its console only. fast cannot afford that.
        console_level=5,
    ),
    Flavour.KCSAN: FlavourSpec(
        summary="reports data races, in place of what KASAN sees",
        fragments=("base.config", "kcsan.config"),
        patch="kcsan.patch",
        variables=("KCSAN_SANITIZE=n",),
        sanitizer="KCSAN",
        checked="fast.kasan",
        judges=True,
        # There is a phase of races before each new machine, and kcsan is about races.
        serial_programs=400,
        finds_leaks=False,
    ),
    Flavour.KMSAN: FlavourSpec(
        summary="reports memory that was never set, in place of what KASAN sees",
        fragments=("base.config", "kmsan.config"),
        compiler="clang",
        sanitizer="KMSAN",
        judges=True,
        finds_leaks=False,
    ),
}

STANDARD = (Flavour.FAST, Flavour.FULL)
"""The flavours of every campaign that asks for no other."""

NAMES = tuple(flavour.value for flavour in Flavour)
"""The names of all flavours, as options and descriptions take them."""


def summaries() -> str:
    """Return the purpose of each flavour, in one line."""
    return "; ".join(f"{flavour} {flavour.spec.summary}" for flavour in Flavour)
