# SPDX-License-Identifier: Apache-2.0
"""Sightings: splats that a fuzzing worker saw, spooled to disk to be judged.

A sighting becomes visible with one rename, so that a worker killed at any moment leaves a
complete sighting or none.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path

from fuzzer.atomic import appending, sync_files
from fuzzer.checked import read_json
from fuzzer.program import batch
from fuzzer.untrusted import read_bytes, read_text

_PENDING = "pending"
_COUNTS = "sightings"

ASIDE = "aside"
"""The origin of a sighting that was met while another one was judged."""


@dataclass(frozen=True, slots=True)
class Sighting:
    """A program after which the kernel complained, and the programs before it.

    ``history`` are the wire programs since the machine was restored, without ``program``;
    ``log`` is the raw kmsg text; ``title`` is a first guess.
    """

    title: str
    kind: str
    program: bytes
    history: tuple[bytes, ...]
    log: bytes
    origin: str


@dataclass(frozen=True, slots=True)
class _Meta:
    """The part of a stored sighting that is text."""

    title: str
    kind: str
    origin: str


class Spool:
    """The directory of sightings that wait for the judge."""

    def __init__(self, workdir: Path) -> None:
        self.directory = workdir / _PENDING
        self._counts = workdir / _COUNTS

    def create(self) -> None:
        """Make the spool's directory, and remove what a killed worker left half written."""
        self.directory.mkdir(parents=True, exist_ok=True)
        for partial in self.directory.glob(".*"):
            shutil.rmtree(partial, ignore_errors=True)

    def add(self, sighting: Sighting) -> Path:
        """Store a sighting.

        Raises:
            OSError: the disk is full; nothing is left behind then.
        """
        name = f"{sighting.origin}-{uuid.uuid4().hex}"
        partial = self.directory / f".{name}"
        try:
            partial.mkdir()
            (partial / "program").write_bytes(sighting.program)
            (partial / "history").write_bytes(batch.pack(sighting.history))
            (partial / "log").write_bytes(sighting.log)
            meta = {"title": sighting.title, "kind": sighting.kind, "origin": sighting.origin}
            (partial / "meta.json").write_text(json.dumps(meta))
            sync_files(partial)
            return partial.rename(self.directory / name)
        except OSError:
            shutil.rmtree(partial, ignore_errors=True)
            raise

    def count(self, title: str) -> None:
        """Count one more sighting of a title, by one short append to a file."""
        with appending(self._counts) as file:
            file.write(f"{title.replace(chr(10), ' ')}\n".encode())

    def counts(self) -> dict[str, int]:
        """Return the number of sightings of each title."""
        counts: dict[str, int] = {}
        try:
            lines = read_text(self._counts, errors="replace").splitlines()
        except OSError:
            return counts
        for line in lines:
            counts[line] = counts.get(line, 0) + 1
        return counts

    def waiting(self) -> list[Path]:
        """Return the stored sightings, oldest first, after those met while one was judged."""
        found = []
        for path in self.directory.glob("[!.]*"):
            # The judge may remove a sighting at any time.
            with contextlib.suppress(FileNotFoundError):
                found.append((not path.name.startswith(ASIDE), path.stat().st_mtime_ns, path))
        return [path for _, _, path in sorted(found)]


def read_sighting(directory: Path) -> Sighting:
    """Return a stored sighting.

    Raises:
        OSError, ValueError, KeyError: the directory has no valid sighting.
    """
    meta = read_json(directory / "meta.json", _Meta, within=directory)
    program, history, log = (
        read_bytes(directory / name, within=directory) for name in ("program", "history", "log")
    )
    return Sighting(meta.title, meta.kind, program, tuple(batch.unpack(history)), log, meta.origin)
