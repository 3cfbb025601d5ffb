# SPDX-License-Identifier: Apache-2.0
"""A record of the judge: the things that it has looked at, for the campaign to tell at its end."""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from fuzzer.atomic import write_whole

LEAKS = "lost memory"
RACES = "races"
FAULTS = "failing allocations"
LOADS = "loading and unloading"


@dataclass(frozen=True, slots=True)
class Looked:
    """``ready`` tells that the judge's kernel ran anything at all.

    ``missing`` are kinds of runs that it was to make and has made none of, ``unrun`` the
    number of programs of the corpus that it has not run.
    """

    ready: bool = False
    missing: tuple[str, ...] = ()
    unrun: int = 0


def write_looked(path: Path, looked: Looked) -> None:
    """Replace the file."""
    # On a full disk the campaign ends, and says so.
    with contextlib.suppress(OSError):
        write_whole(path, json.dumps(asdict(looked)))


def read_looked(path: Path) -> Looked:
    """Return what the file says; without one, nothing was looked at."""
    try:
        record = json.loads(path.read_text())
        return Looked(bool(record["ready"]), tuple(record["missing"]), int(record["unrun"]))
    except (OSError, ValueError, KeyError, TypeError):
        return Looked()
