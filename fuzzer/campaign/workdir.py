# SPDX-License-Identifier: Apache-2.0
"""The working directory of a campaign, which outlives it and can be resumed.

``corpus/`` the programs kept, ``pending/`` sightings that wait for the judge,
``crashes/`` what was judged, ``log/`` what the child processes printed,
``campaign.json`` what is being fuzzed.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fuzzer.atomic import open_lock, remove_partial, set_aside, write_whole
from fuzzer.checked import read_json
from fuzzer.crash.sighting import Spool
from fuzzer.crash.store import CrashStore
from fuzzer.engine.import_queue import import_directory
from fuzzer.errors import BadInputError, InfrastructureError
from fuzzer.machine.channel_layout import PROGRAM_SIZE
from fuzzer.progress import say
from fuzzer.untrusted import is_regular, make_private, read_bytes, refuse_link

_FORMAT = 1
# SHA-1, in hex.
_HASH = re.compile(r"[0-9a-f]{40}\Z")


@dataclass(frozen=True, slots=True)
class Workdir:
    """Paths within a working directory."""

    root: Path

    @property
    def corpus(self) -> Path:
        """Programs that reached new coverage, in wire form, named by their SHA-1."""
        return self.root / "corpus"

    @property
    def logs(self) -> Path:
        """Standard error of workers and judge."""
        return self.root / "log"

    @property
    def judge_status(self) -> Path:
        """The judge's status line, which it keeps up to date."""
        return self.root / "judge.status"

    @property
    def judge_looked(self) -> Path:
        """The judge's record of its runs, see :mod:`fuzzer.campaign.looked`."""
        return self.root / "judge.looked"

    @property
    def crashes(self) -> CrashStore:
        """The crash store."""
        return CrashStore(self.root / "crashes")

    @property
    def spool(self) -> Spool:
        """The spool of sightings."""
        return Spool(self.root)

    @contextlib.contextmanager
    def opened(self, target: str, bug: str | None) -> Iterator[None]:
        """Create or resume the directory, and keep others out while it is in use.

        Raises:
            BadInputError: it belongs to another target, or is in use.
            InfrastructureError: it cannot be written.
        """
        identity = {"format": _FORMAT, "target": target, "bug": bug}
        try:
            make_private(self.root)
            for directory in self._written():
                refuse_link(directory)
            for directory in (self.corpus, self.logs):
                directory.mkdir(exist_ok=True)
        except OSError as error:
            raise self._not_writable(error) from error
        with self.locked():
            self._check(identity)
            try:
                self._set_damaged_aside()
            except OSError as error:
                raise self._not_writable(error) from error
            yield

    def _written(self) -> tuple[Path, ...]:
        """Return the directories that files are written to."""
        imported = import_directory(self.root)
        return (self.corpus, self.logs, self.spool.directory, self.crashes.directory, imported)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep others out of a directory that exists.

        Raises:
            BadInputError: it is in use.
            InfrastructureError: it cannot be written.
        """
        try:
            lock = open_lock(self.root / ".lock")
        except OSError as error:
            raise self._not_writable(error) from error
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise BadInputError(
                    f"the working directory {self.root} is in use by another campaign. "
                    "Wait for it, or give another with --workdir"
                ) from error
            yield
        finally:
            os.close(lock)

    def _not_writable(self, error: OSError) -> InfrastructureError:
        return InfrastructureError(
            f"the working directory {self.root} cannot be written: {error.strerror}. "
            "Give another with --workdir"
        )

    def _check(self, identity: dict[str, object]) -> None:
        path = self.root / "campaign.json"
        # A full disk made older versions leave an empty one, before there was anything else.
        is_begun = os.path.lexists(path) and path.lstat().st_size > 0
        if not is_begun:
            try:
                write_whole(path, json.dumps(identity) + "\n")
            except OSError as error:
                raise InfrastructureError(f"writing {path}: {error.strerror}") from error
            return
        try:
            found = read_json(path, dict[str, Any], within=self.root)
        except (OSError, ValueError) as error:
            raise BadInputError(f"{path}: damaged ({error}). Give another --workdir") from error
        if found != identity:
            raise BadInputError(
                f"the working directory {self.root} belongs to a campaign against "
                f"{_subject_of(found)}, and this one is against {_subject_of(identity)}. Give "
                "another with --workdir, or none"
            )

    def _set_damaged_aside(self) -> None:
        """Set aside what cannot be used of what is there, and say so."""
        self.spool.create()
        self.crashes.recover()
        remove_partial(self.root)
        for line in self.crashes.set_damaged_aside():
            say(line)
        for directory in (self.corpus, import_directory(self.root)):
            for name, problem in bad_programs(directory):
                place = set_aside(directory / name)
                say(f"{directory / name}: {problem}. Set aside as {place}")

    def add_program(self, program: bytes) -> None:
        """Add a program to the corpus, under the name that libFuzzer would give it."""
        path = self.corpus / program_name(program)
        if not path.exists():
            # Workers read the corpus while it grows.
            write_whole(path, program, through=self.root)


def bad_programs(directory: Path) -> Iterator[tuple[str, str]]:
    """Yield the names in a corpus that are no programs of it, each with the reason.

    A program that libFuzzer or we stored is named by its hash.
    """
    if not directory.is_dir():
        return
    for name in sorted(os.listdir(directory)):  # noqa: PTH208 - of many files
        try:
            if not is_regular(directory / name, within=directory):
                yield name, "it is no file"
            elif _HASH.match(name):
                data = read_bytes(directory / name, within=directory, limit=PROGRAM_SIZE)
                if program_name(data) != name:
                    yield name, "it is damaged: its content has another hash"
        except OSError as error:
            yield name, f"it cannot be read: {error.strerror}"


def program_name(program: bytes) -> str:
    """Return the name that libFuzzer gives a program in its corpus."""
    return hashlib.sha1(program, usedforsecurity=False).hexdigest()


def _subject_of(identity: dict[str, Any]) -> str:
    """Return in words what a campaign is against, from its record."""
    if identity.get("format") != _FORMAT:
        return "something that another version of pkvfuzz wrote down"
    bug = identity.get("bug")
    return f"{identity.get('target')} with {bug}" if bug else f"{identity.get('target')}"
