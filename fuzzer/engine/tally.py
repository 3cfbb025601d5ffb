# SPDX-License-Identifier: Apache-2.0
"""Results of calls, counted by the kind of call, over a sample of the programs that ran.

The channel has the results of the last program only, once the guest is at rest. The guest is
at rest whenever there is something to look at. The first success of a call mostly covers
something new, so it is in the sample.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from fuzzer.atomic import write_whole
from fuzzer.checked import parse_json
from fuzzer.program.ops import FLAG_COMPAT, FLAG_NULL, FLAG_READONLY, File, Op, ops_with
from fuzzer.program.program import Call
from fuzzer.program.wire import encode, split
from fuzzer.untrusted import read_text

FIRST, EAGER, LAZY = 1000, 4, 64
"""One batch in ``EAGER`` ends with the guest at rest, so that results can be counted; once
``FIRST`` programs were counted, one in ``LAZY``."""

# Seconds between two writes of the file.
_WRITE_EVERY = 2.0
# Programs that found their first file not open before an open is made to see its error.
_ASK_AFTER = 8
# The most kinds of calls that are counted; any ioctl number makes a kind of its own.
_MOST_KINDS = 512
_OPEN, _IOCTL = int(Op.OPEN), int(Op.IOCTL)
_ON_FILES = ops_with(lambda each: each.file is File.USED)
_CHANGES_FILES = ops_with(lambda each: each.file in {File.OPENED, File.CLOSED})
# Flags of calls whose results say nothing of the plain call. For ioctls that includes the 32-bit
# entry, which many drivers lack.
_ODD = FLAG_NULL | FLAG_READONLY
_ODD_IOCTL = _ODD | FLAG_COMPAT

OPEN_FIRST = encode((Call(Op.OPEN, cmd=os.O_RDWR),))
"""A program that opens the first file, to see the error of that."""

CountedKind = tuple[int, int]
"""An operation, and the number of an ioctl or of the device that is opened."""


@dataclass(slots=True)
class Tally:
    """Counts of the results of calls.

    ``ends`` has the counts of each kind of call by errno, 0 for success; calls that were
    meant to fail are left out. Of ``began`` programs that used their first file,
    ``unopened`` found it not open.
    """

    ends: dict[CountedKind, Counter[int]] = field(default_factory=dict)
    began: int = 0
    unopened: int = 0

    def note(self, chunks: Sequence[bytes], errors: Sequence[int]) -> None:
        """Count the calls of a program, given each call's wire bytes and errno."""
        first_is_open, uses, refused = True, 0, 0
        for chunk, error in zip(chunks, errors, strict=False):
            op, file = chunk[0], chunk[1]
            if op in _ON_FILES and not file and first_is_open:
                uses += 1
                refused += error == errno.EBADF
            elif not file and op in _CHANGES_FILES:
                first_is_open = False
            # A program that uses a file which it did not open says nothing of the driver.
            if error == errno.EBADF or _is_spoiled(chunk):
                continue
            kind = _kind_of(chunk, op)
            ends = self.ends.get(kind)
            if ends is None:
                if len(self.ends) >= _MOST_KINDS:
                    continue
                ends = self.ends[kind] = Counter()
            ends[error] += 1
        self.began += uses > 0
        # A driver may say the same of a descriptor that it was given.
        self.unopened += uses > 0 and refused == uses

    def add(self, other: Tally) -> None:
        """Add the counts of another tally."""
        for kind, ends in other.ends.items():
            self.ends.setdefault(kind, Counter()).update(ends)
        self.began += other.began
        self.unopened += other.unopened

    def of(self, op: int, number: int = 0) -> Counter[int]:
        """Return the counts of calls of a kind by errno."""
        return self.ends.get((op, number), Counter())

    def to_json(self) -> str:
        """Return the tally as JSON text."""
        ends = [[*kind, sorted(counts.items())] for kind, counts in sorted(self.ends.items())]
        return json.dumps({"ends": ends, "began": self.began, "unopened": self.unopened})

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return the tally in a text of :meth:`to_json`; ValueError if it is none."""
        try:
            data = parse_json(text, _StoredTally)
        except ValueError as error:
            raise ValueError(f"no tally: {error}") from error
        ends = {(op, number): Counter(dict(counts)) for op, number, counts in data.ends}
        return cls(ends, data.began, data.unopened)


def _kind_of(chunk: bytes, op: int) -> CountedKind:
    if op == _IOCTL:
        return op, int.from_bytes(chunk[4:8], "little")
    if op == _OPEN:
        return op, int.from_bytes(chunk[8:16], "little")
    return op, 0


def _is_spoiled(chunk: bytes) -> bool:
    """Tell whether a call has a fault, an odd entry, or a buffer that is not all there."""
    odd = _ODD_IOCTL if chunk[0] == _IOCTL else _ODD
    return chunk[2] & odd != 0 or chunk[18:22] != b"\0\0\0\0"


@dataclass(frozen=True, slots=True)
class _StoredTally:
    """A tally as it is stored."""

    ends: list[tuple[int, int, list[tuple[int, int]]]]
    began: int
    unopened: int


class TallyFile:
    """A worker's tally, and the file that the campaign reads it from.

    It goes on from the tally of an earlier worker of that name.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._written = 0.0
        self._batches = self._noted = 0
        self._asked = False
        self.tally = read_tally(path)

    def is_due(self) -> bool:
        """Tell whether the guest is to rest after the next batch; called once for each batch."""
        self._batches += 1
        return self._batches % (EAGER if self._noted < FIRST else LAZY) == 0

    def note(self, program: bytes, errors: Sequence[int], preloaded: bytes = b"") -> None:
        """Count the results of a program; its ``preloaded`` calls did not run."""
        self._noted += 1
        skipped = len(split(preloaded)) if preloaded and program.startswith(preloaded) else 0
        self.tally.note(split(program)[skipped:], errors[skipped:])

    def asks_why_closed(self) -> bool:
        """Return True once, if programs find the first file not open and no open was counted."""
        if self._asked or self.tally.unopened < _ASK_AFTER or self.tally.of(_OPEN):
            return False
        self._asked = True
        return True

    def write(self, *, now: bool = False) -> None:
        """Write the file if the last write is some time ago, or ``now``."""
        if not now and time.monotonic() - self._written < _WRITE_EVERY:
            return
        self._written = time.monotonic()
        with contextlib.suppress(OSError):
            write_whole(self._path, self.tally.to_json())


def tally_file(workdir: Path, name: str) -> Path:
    """Return the file of a worker's tally."""
    return workdir / f"{name}.tally"


def read_tally(path: Path) -> Tally:
    """Return a worker's tally, an empty one if there is no file."""
    try:
        return Tally.from_json(read_text(path))
    except (OSError, ValueError):
        return Tally()
