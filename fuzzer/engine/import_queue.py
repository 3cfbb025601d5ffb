# SPDX-License-Identifier: Apache-2.0
"""Import queue: programs of a large corpus that fuzzing does not wait for.

libFuzzer runs the whole corpus before it fuzzes, and keeps the programs that cover
something that the others do not. Of a large corpus it is given a part. The other
programs are tried among the mutants: often while they cover something new, rarely
later. The names of those tried are in ``reserve.tried``, whose first line names the
build that they were tried on.
"""

from __future__ import annotations

import contextlib
from collections import deque
from pathlib import Path

from fuzzer.atomic import appending
from fuzzer.machine.channel_layout import PROGRAM_SIZE
from fuzzer.program.cost import cost_of
from fuzzer.program.wire import split
from fuzzer.untrusted import read_bytes, read_text, regular_names

# The share of all cost that programs of the queue have: while they cover something new, and
# after so many in a row that did not.
_EAGER, _LAZY = 0.5, 0.04
_PATIENCE = 500
_WRITE_EVERY = 256
# The last programs taken, some of which may not have run yet: more than two batches.
_RECENT = 256


class ImportQueue:
    """The part of a working directory's queue that the worker of a ``number`` tries.

    The queue is divided among so many ``workers``.
    """

    def __init__(self, workdir: Path, number: int = 0, workers: int = 1) -> None:
        self._directory = import_directory(workdir)
        self._record = tried_file(workdir)
        tried = tried_names(workdir)
        # Divided before tried names are left out: other workers may have tried some by now.
        part = sorted(queued_names(workdir))[number::workers]
        self._put_off: deque[bytes] = deque()
        self._names = deque(name for name in part if name not in tried)
        self._tried: list[str] = []
        self._spent = 0.0
        self._barren = 0
        self._recent: deque[bytes] = deque(maxlen=_RECENT)

    def take(self, total: float) -> bytes | None:
        """Return a program to run now, or None.

        ``total`` is the cost of all that ran so far, by
        :func:`~fuzzer.program.cost.cost_of`, programs taken here included.
        """
        share = _EAGER if self._barren < _PATIENCE else _LAZY
        if self._put_off and self._spent <= share * total:
            return self._given(self._put_off.popleft())
        while self._names and self._spent <= share * total:
            name = self._names.popleft()
            self._tried.append(name)
            if len(self._tried) >= _WRITE_EVERY or not self._names:
                self.write()
            with contextlib.suppress(OSError):
                return self._given(
                    read_bytes(self._directory / name, within=self._directory, limit=PROGRAM_SIZE)
                )
        return None

    def _given(self, program: bytes) -> bytes:
        self._recent.append(program)
        self._spent += cost_of(split(program))
        self._barren += 1
        return program

    def put_off(self, program: bytes) -> None:
        """Enqueue a program that was not run before fuzzing began."""
        self._put_off.append(program)

    def note(self, program: bytes) -> None:
        """Take note that a program, of the queue or not, covers something new."""
        if program in self._recent:
            self._barren = 0

    def write(self) -> None:
        """Append the names of tried programs to the record, for the next campaign."""
        with contextlib.suppress(OSError), appending(self._record) as file:
            file.write("".join(f"{name}\n" for name in self._tried).encode())
        self._tried.clear()


def import_directory(workdir: Path) -> Path:
    """Return the directory of a working directory's queued programs."""
    return workdir / "reserve"


def tried_file(workdir: Path) -> Path:
    """Return the record of the programs that were tried."""
    return workdir / "reserve.tried"


def queued_names(workdir: Path) -> set[str]:
    """Return the names of all programs in the queue, tried ones included."""
    try:
        return set(regular_names(import_directory(workdir)))
    except FileNotFoundError:
        return set()


def tried_names(workdir: Path) -> set[str]:
    """Return the names of the programs that were tried."""
    try:
        lines = read_text(tried_file(workdir), errors="replace").splitlines()
    except OSError:
        return set()
    return set(lines[1:])
