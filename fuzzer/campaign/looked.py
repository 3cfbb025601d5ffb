# SPDX-License-Identifier: Apache-2.0
"""Record of the kinds of runs that the judge has made, which a campaign shows at its end."""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from fuzzer.atomic import write_whole
from fuzzer.checked import read_json

LEAKS = "lost memory"
INFO_LEAKS = "memory that was never set"
RACES = "races"
FAULTS = "failing allocations"
LOADS = "loading and unloading"


@dataclass(frozen=True, slots=True)
class Looked:
    """The runs of a judge so far.

    ``ready`` tells that its kernel ran anything at all. ``missing`` are the kinds of runs that
    it is to make and has not made once; ``unrun`` is the number of corpus programs that it has
    not run.
    """

    ready: bool = False
    missing: tuple[str, ...] = ()
    unrun: int = 0


def write_looked(path: Path, looked: Looked) -> None:
    """Replace the record in a file."""
    # The campaign ends on a full disk, and reports that.
    with contextlib.suppress(OSError):
        write_whole(path, json.dumps(asdict(looked)))


def read_looked(path: Path) -> Looked:
    """Return the record in a file; one without any runs if there is no such file."""
    try:
        return read_json(path, Looked)
    except (OSError, ValueError):
        return Looked()
