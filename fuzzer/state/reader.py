# SPDX-License-Identifier: Apache-2.0
"""Reading of a campaign's state, also while the campaign goes on.

The file is opened for reading only, and each answer comes from one short transaction, so a
reader never holds up the campaign nor waits for it.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, Self, TypeVar
from urllib.parse import quote

from fuzzer.engine.statistics import MachinePhase
from fuzzer.errors import BadInputError
from fuzzer.state.document import (
    AsideRecord,
    BlockRecord,
    CallRecord,
    CampaignState,
    CrashRecord,
    EventKind,
    EventRecord,
    Glance,
    HistoryRow,
    JudgeRecord,
    MachineRecord,
    RemarkRecord,
    RunPhase,
    RunRecord,
)
from fuzzer.state.schema import APPLICATION, VERSION, state_file

_Record = TypeVar("_Record")
# Seconds to wait for a lock, which the campaign takes for moments when it begins or ends.
_PATIENCE = 5.0


class StateReader:
    """The state document of a working directory, open for reading."""

    def __init__(self, workdir: Path) -> None:
        """Open the document.

        Raises:
            BadInputError: there is none, it is damaged, or of a version that is not known.
        """
        self.path = state_file(workdir)
        if not self.path.is_file():
            raise BadInputError(
                f"{workdir} has no {self.path.name}: no campaign of this version of pkvfuzz ran "
                "there. Run one with --workdir, or give another directory"
            )
        with self._explained():
            self._database = _open(self.path)
            self._check_version()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def read(self, *, history: bool = True, blocks: bool = True) -> CampaignState:
        """Return the state as it is now; without ``history``, of that the newest row only.

        Raises:
            BadInputError: the document is damaged.
        """
        rows = "ORDER BY id" if history else "ORDER BY id DESC LIMIT 1"
        with self._transaction():
            return CampaignState(
                runs=self._all(RunRecord, "run", "ORDER BY id", phase=RunPhase),
                history=self._all(HistoryRow, "history", rows),
                machines=self._machines(),
                judge=self._judge(),
                crashes=self._crashes(),
                calls=self._calls(),
                blocks=self._all(BlockRecord, "block", "ORDER BY number") if blocks else (),
                aside=self._all(AsideRecord, "aside", "ORDER BY title"),
                remarks=self._all(RemarkRecord, "remark", "ORDER BY wall, about", holds=bool),
                events=self._all(EventRecord, "event", "ORDER BY id", kind=EventKind),
            )

    def glance(self, rows: int = 60) -> Glance | None:
        """Return the campaign's present, with so many rows of its history; None before a run.

        Raises:
            BadInputError: the document is damaged.
        """
        with self._transaction():
            runs = self._all(RunRecord, "run", "ORDER BY id DESC LIMIT 1", phase=RunPhase)
            if not runs:
                return None
            newest = f"ORDER BY id DESC LIMIT {int(rows)}"
            (block,) = self._database.execute("SELECT max(first_at) FROM block").fetchone()
            return Glance(
                run=runs[0],
                recent=self._all(HistoryRow, "history", newest)[::-1],
                newest_block=block,
                machines=self._machines(),
                judge=self._judge(),
                crashes=self._crashes(),
                aside=self._all(AsideRecord, "aside", "ORDER BY title"),
                remarks=self._all(RemarkRecord, "remark", "WHERE holds ORDER BY wall", holds=bool),
            )

    def _machines(self) -> tuple[MachineRecord, ...]:
        return self._all(MachineRecord, "machine", "ORDER BY name", phase=MachinePhase)

    def _crashes(self) -> tuple[CrashRecord, ...]:
        return self._all(CrashRecord, "crash", "ORDER BY first_wall, slug")

    def _judge(self) -> JudgeRecord:
        def missing(text: str) -> tuple[str, ...]:
            return tuple(map(str, json.loads(text)))

        found = self._all(JudgeRecord, "judge", "", ready=bool, missing=missing)
        return found[0] if found else JudgeRecord()

    def _calls(self) -> tuple[CallRecord, ...]:
        outcomes: dict[tuple[int, int], dict[int, int]] = {}
        query = "SELECT op, number, error, count FROM outcome ORDER BY op, number, error"
        for op, number, error, count in self._database.execute(query):
            outcomes.setdefault((op, number), {})[error] = count
        query = "SELECT op, number, name, described FROM call ORDER BY op, number"
        return tuple(
            CallRecord(op, number, name, bool(described), outcomes.get((op, number), {}))
            for op, number, name, described in self._database.execute(query)
        )

    def _all(
        self, record: type[_Record], table: str, rest: str, **kinds: Callable[[Any], Any]
    ) -> tuple[_Record, ...]:
        """Return the rows of a table as records; ``kinds`` make values of columns."""
        names = [each.name for each in fields(record)]  # type: ignore[arg-type]
        # Table and columns are names of ours.
        rows = self._database.execute(f"SELECT {', '.join(names)} FROM {table} {rest}")  # noqa: S608
        if not kinds:
            return tuple(record(*row) for row in rows)
        makers = [kinds.get(name) for name in names]
        return tuple(
            record(*(make(value) if make else value
                     for make, value in zip(makers, row, strict=True)))
            for row in rows
        )  # fmt: skip

    def _check_version(self) -> None:
        (application,) = self._database.execute("PRAGMA application_id").fetchone()
        (version,) = self._database.execute("PRAGMA user_version").fetchone()
        if application != APPLICATION:
            raise BadInputError(f"{self.path} is not the state of a campaign")
        if version != VERSION:
            raise BadInputError(
                f"{self.path} has version {version}, and this pkvfuzz reads version {VERSION}: "
                f"use the version of pkvfuzz that wrote it, or run the campaign again with this one"
            )

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        """Read all of one moment."""
        with self._explained():
            self._database.execute("BEGIN")
            try:
                yield
            finally:
                self._database.rollback()

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, ValueError, TypeError) as error:
            raise BadInputError(
                f"{self.path} cannot be read ({error}). The campaign begins it anew when it is "
                "run again; corpus and crashes do not depend on it"
            ) from error


def _open(path: Path) -> sqlite3.Connection:
    """Open a document for reading; if its directory is not writable, as it was left."""
    name = f"file:{quote(str(path.resolve()))}?mode=ro"
    for options in ("", "&immutable=1"):
        database = sqlite3.connect(
            name + options, uri=True, timeout=_PATIENCE, isolation_level=None,
            check_same_thread=False,
        )  # fmt: skip
        try:
            database.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        except sqlite3.OperationalError:
            database.close()
            # Readers of a file that is written need its shared memory beside it.
            if options:
                raise
        else:
            return database
    raise AssertionError


def read_state(workdir: Path) -> CampaignState:
    """Return the state of the campaign in a working directory.

    Raises:
        BadInputError: there is none, it is damaged, or of a version that is not known.
    """
    with StateReader(workdir) as reader:
        return reader.read()
