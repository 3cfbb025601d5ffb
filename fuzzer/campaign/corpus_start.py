# SPDX-License-Identifier: Apache-2.0
"""Choice of the programs that a campaign starts with: its corpus, or a part of a large one."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from fuzzer.atomic import write_whole
from fuzzer.cache import content_key
from fuzzer.campaign.workdir import Workdir
from fuzzer.driver.provision import Guest
from fuzzer.engine.import_queue import import_directory, queued_names, tried_file, tried_names
from fuzzer.errors import InfrastructureError
from fuzzer.program.cost import cost_of
from fuzzer.program.wire import split
from fuzzer.untrusted import read_bytes, read_text, regular_names

# Programs to start with, and what they may cost in small calls of some 20 µs each: a
# few seconds. libFuzzer runs all of them before it fuzzes.
START_PROGRAMS = 4000
START_COST = 150_000.0
# Part of all time that counting the corpus may take.
_COUNTING_SHARE = 0.01


def coverage_key(guest: Guest) -> str:
    """Return a key that guests share whose coverage can be compared."""
    target = guest.target
    return content_key(guest.driver.key, target.module.params, repr(target.devices))


def set_aside(
    workdir: Workdir,
    key: str,
    *,
    programs: int = START_PROGRAMS,
    cost: float = START_COST,
) -> int:
    """Move programs that are too many to start with to the import queue; return how many wait.

    At most so many ``programs`` stay, of such a ``cost`` together. Names are hashes,
    so the choice is arbitrary, but always the same. ``key`` is the guest's coverage
    key: programs that were tried on a guest with another key wait again.

    Raises:
        InfrastructureError: the directory cannot be written.
    """
    queue = import_directory(workdir.root)
    try:
        names = regular_names(workdir.corpus)
        first = _start_of(workdir.corpus, names[:programs], cost)
        rest = names[len(first) :]
        if rest and not queue.exists():
            # This is many times faster than moving nearly all programs one by one.
            workdir.corpus.rename(queue)
            workdir.corpus.mkdir()
            _move(first, queue, workdir.corpus)
        else:
            _move(rest, workdir.corpus, queue)
        if queue.exists():
            _begin_record(workdir.root, key, set(rest))
    except OSError as error:
        raise InfrastructureError(f"{workdir.root}: {error.strerror}") from error
    return len(queued_names(workdir.root) - tried_names(workdir.root))


def _start_of(directory: Path, names: list[str], most_cost: float) -> list[str]:
    """Return the first names whose programs together cost at most ``most_cost``."""
    cost = 0.0
    for number, name in enumerate(names):
        cost += cost_of(split(read_bytes(directory / name, within=directory)))
        if cost > most_cost:
            return names[:number]
    return names


def _move(names: list[str], source: Path, to: Path) -> None:
    for name in names:
        (source / name).rename(to / name)


def _begin_record(root: Path, key: str, fresh: set[str]) -> None:
    """Make the record of tried programs one of ``key``, without the ``fresh`` ones."""
    record = tried_file(root)
    try:
        same = read_text(record, errors="replace").startswith(f"{key}\n")
    except (OSError, ValueError):
        same = False
    if same and not fresh:
        return
    tried = sorted(tried_names(root) - fresh) if same else []
    write_whole(record, "".join(f"{line}\n" for line in (key, *tried)))


class CorpusCount:
    """Cheap count of the programs in a directory that others add to.

    The directory is listed only after it has changed, and the less often the
    longer listing takes.
    """

    def __init__(self, directory: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._directory = directory
        self._clock = clock
        self._changed = -1
        self._count = 0
        self._not_before = 0.0

    def count(self) -> int:
        """Return the number of programs, as it was a moment ago."""
        start = self._clock()
        changed = self._directory.stat().st_mtime_ns
        if changed != self._changed and start >= self._not_before:
            with os.scandir(self._directory) as entries:
                self._count = sum(1 for _ in entries)
            self._changed = changed
            end = self._clock()
            self._not_before = end + (end - start) / _COUNTING_SHARE
        return self._count
