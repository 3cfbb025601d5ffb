# SPDX-License-Identifier: Apache-2.0
"""Record of the programs that first reached each block of the driver.

A line of JSON for each such program is added to a worker's file. The file is of one build of the
driver: the numbers of blocks mean nothing for another, which begins it anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fuzzer.program.conditions import fault_of
from fuzzer.program.text import format_program
from fuzzer.program.wire import decode, split
from fuzzer.target.target import Target

# Characters of a program's text that are kept.
_MOST_TEXT = 8000


@dataclass(frozen=True, slots=True)
class FirstReach:
    """A program that reached ``blocks`` first, or first without an injected fault.

    ``at`` is in seconds since the epoch. With ``fault``, allocations or user copies of it failed.
    ``text`` may be cut.
    """

    at: float
    program: str
    fault: bool
    blocks: tuple[int, ...]
    text: str


class ReachedFile:
    """A worker's side of the record; ``driver_key`` names the driver's build."""

    def __init__(self, path: Path, driver_key: str, target: Target) -> None:
        self._path = path
        self._target = target
        self._reached: set[int] = set()
        self._without_fault: set[int] = set()
        found = list(_read(path, driver_key))
        for each in found:
            self._take(each.blocks, fault=each.fault)
        if not found:
            with contextlib.suppress(OSError):
                path.write_text(json.dumps({"driver": driver_key}) + "\n")

    def _take(self, blocks: Iterable[int], *, fault: bool) -> list[int]:
        """Return those of the blocks that are news, and remember them."""
        known = self._reached if fault else self._without_fault
        news = [block for block in blocks if block not in known]
        self._reached.update(news)
        if not fault:
            self._without_fault.update(news)
        return news

    def note(self, program: bytes, counters: bytes) -> None:
        """Note a program that covers the blocks whose counters are not 0."""
        fault = any(map(fault_of, split(program)))
        covered = [number for number, count in enumerate(counters) if count]
        blocks = self._take(covered, fault=fault)
        if not blocks:
            return
        line = {
            "at": round(time.time(), 1),
            "program": hashlib.sha1(program, usedforsecurity=False).hexdigest(),
            "fault": fault,
            "blocks": blocks,
            "text": format_program(decode(program), self._target)[:_MOST_TEXT],
        }
        # On a full disk the record has a gap, and the campaign ends for that reason anyway.
        with contextlib.suppress(OSError), self._path.open("a") as file:
            file.write(json.dumps(line) + "\n")


def reached_file(workdir: Path, name: str) -> Path:
    """Return the file of a worker's record."""
    return workdir / f"{name}.reached"


def read_reached(workdir: Path, driver_key: str) -> list[FirstReach]:
    """Return what all workers noted of a build of the driver, the earliest first."""
    found = [each for path in workdir.glob("*.reached") for each in _read(path, driver_key)]
    return sorted(found, key=lambda each: each.at)


def _read(path: Path, driver_key: str) -> Iterator[FirstReach]:
    """Yield the entries of a file; lines that are damaged or cut short are left out."""
    try:
        first, *lines = path.read_text(errors="replace").splitlines()
        if json.loads(first)["driver"] != driver_key:
            return
    except (OSError, ValueError, KeyError, TypeError):
        return
    for line in lines:
        with contextlib.suppress(ValueError, KeyError, TypeError):
            yield _parsed(json.loads(line))


def _parsed(line: dict[str, Any]) -> FirstReach:
    return FirstReach(
        float(line["at"]),
        str(line["program"]),
        bool(line["fault"]),
        tuple(map(int, line["blocks"])),
        str(line["text"]),
    )
