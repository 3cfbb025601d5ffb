# SPDX-License-Identifier: Apache-2.0
"""Crashes that are known already: stored with the project, or by an earlier run."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from fuzzer.crash.store import Crash, CrashStore
from fuzzer.errors import BadInputError


class KnownCrashes:
    """Stored crashes, to be recognised by title or signature, each of its own target."""

    def __init__(self) -> None:
        self._titles: dict[tuple[str, str], Path] = {}
        self._signatures: dict[tuple[str, str], Path] = {}

    def add(self, store: CrashStore) -> None:
        """Take note of what a store holds now.

        Raises:
            BadInputError: there is no such directory, or a crash in it is damaged.
        """
        if not store.directory.is_dir():
            raise BadInputError(
                f"{store.directory}: no such directory. Give one that holds crashes, such as "
                "crashes/ or WORKDIR/crashes"
            )
        for path, crash in store.entries():
            target = crash.identity.target
            for title in (crash.title, *crash.also_titles):
                self._titles.setdefault((target, title), path)
            self._signatures.setdefault((target, crash.signature), path)

    def find(self, crash: Crash) -> Path | None:
        """Return where a crash of the same bug is stored, None if it is new."""
        target = crash.identity.target
        found = self._titles.get((target, crash.title))
        return found or self._signatures.get((target, crash.signature))

    def new_of(self, crashes: Iterable[Crash]) -> list[Crash]:
        """Return the crashes that are not known."""
        return [crash for crash in crashes if self.find(crash) is None]
