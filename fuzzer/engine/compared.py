# SPDX-License-Identifier: Apache-2.0
"""Record of what the driver compared with its constants, and of the ioctl numbers among that.

Of each place in the driver and constant it says whether an operand was equal to it, and how near
others came. A worker's file is JSON, written now and then.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fuzzer.atomic import write_whole
from fuzzer.machine.channel import Comparisons
from fuzzer.program.comparison import Comparison

# Seconds between two writes of the file, and the most places and constants.
_WRITE_EVERY, _MOST = 10.0, 4096

_Place = tuple[int, int, int]


@dataclass(slots=True)
class ConstantCompared:
    """Comparisons of a place in the driver with a constant of ``size`` bytes.

    ``site`` is the place: as many bytes behind the beginning of the driver's code, modulo 2^32.
    ``times`` is the number of comparisons that were seen, of programs of the corpus and some
    others. ``below`` and ``above`` are the nearest operands on either side, None if there was
    none, ``equal`` tells that one was the same.
    """

    site: int
    constant: int
    size: int
    times: int = 0
    below: int | None = None
    above: int | None = None
    equal: bool = False

    def note(self, operand: int) -> None:
        """Take note of one comparison."""
        self.times += 1
        if operand == self.constant:
            self.equal = True
        elif operand < self.constant:
            self.below = operand if self.below is None else max(self.below, operand)
        else:
            self.above = operand if self.above is None else min(self.above, operand)

    def add(self, other: ConstantCompared) -> None:
        """Add what another worker saw at the same place."""
        self.times += other.times
        self.equal |= other.equal
        below = [each for each in (self.below, other.below) if each is not None]
        above = [each for each in (self.above, other.above) if each is not None]
        self.below, self.above = max(below, default=None), min(above, default=None)


@dataclass(frozen=True, slots=True)
class Compared:
    """Comparisons that were seen in a build of the driver.

    ``ioctls`` are the numbers that the driver compares an ioctl's number with, and those that
    are described.
    """

    constants: tuple[ConstantCompared, ...] = ()
    ioctls: frozenset[int] = frozenset()


class ComparedFile:
    """A worker's side of the record; ``driver_key`` names the driver's build.

    It goes on from the record of an earlier worker of that name.
    """

    def __init__(self, path: Path, driver_key: str) -> None:
        self._path = path
        self._key = driver_key
        self._written = 0.0
        known = _read(path, driver_key)
        self._places: dict[_Place, ConstantCompared] = {
            (each.site, each.constant, each.size): each for each in known.constants
        }
        self._ioctls = known.ioctls

    def note(self, comparisons: Comparisons) -> None:
        """Take note of the comparisons of a program."""
        self._note(comparisons.equal)
        self._note(comparisons.found)

    def _note(self, comparisons: Iterable[Comparison]) -> None:
        places = self._places
        for a, b, _, size, constant, site in comparisons:
            if not constant:
                continue
            place = places.get((site, a, size))
            if place is None:
                if len(places) >= _MOST:
                    continue
                place = places[site, a, size] = ConstantCompared(site, a, size)
            place.note(b)

    def write(self, ioctls: Iterable[int], *, now: bool = False) -> None:
        """Write the file if the last write is some time ago, or ``now``."""
        if not now and time.monotonic() - self._written < _WRITE_EVERY:
            return
        self._written = time.monotonic()
        self._ioctls |= frozenset(ioctls)
        constants = [
            [each.site, each.constant, each.size, each.times, each.below, each.above, each.equal]
            for each in self._places.values()
        ]
        content = {"driver": self._key, "constants": constants, "ioctls": sorted(self._ioctls)}
        with contextlib.suppress(OSError):
            write_whole(self._path, json.dumps(content))


def compared_file(workdir: Path, name: str) -> Path:
    """Return the file of a worker's record."""
    return workdir / f"{name}.compared"


def read_compared(workdir: Path, driver_key: str) -> Compared:
    """Return what all workers noted of a build of the driver."""
    places: dict[_Place, ConstantCompared] = {}
    ioctls: set[int] = set()
    for path in sorted(workdir.glob("*.compared")):
        found = _read(path, driver_key)
        ioctls |= found.ioctls
        for each in found.constants:
            place = each.site, each.constant, each.size
            if place in places:
                places[place].add(each)
            else:
                places[place] = each
    return Compared(tuple(places[place] for place in sorted(places)), frozenset(ioctls))


def _read(path: Path, driver_key: str) -> Compared:
    """Return what a file has; nothing if it is damaged, or of another build."""
    try:
        content: dict[str, Any] = json.loads(path.read_text())
        if content["driver"] != driver_key:
            return Compared()
        return Compared(
            tuple(ConstantCompared(*each) for each in content["constants"]),
            frozenset(map(int, content["ioctls"])),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return Compared()
