# SPDX-License-Identifier: Apache-2.0
"""Writing of a campaign's state, by the one process that supervises it.

The file is in SQLite's WAL mode: readers see the last state that was written whole, and neither
waits for the other. Nothing that happens to the file stops the campaign.
"""

from __future__ import annotations

import contextlib
import enum
import json
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

from fuzzer.errors import BadInputError
from fuzzer.state.document import EventRecord, HistoryRow, RunRecord
from fuzzer.state.schema import APPLICATION, TABLES, VERSION, state_file

# A reader that opens the file as the last one closes it locks it for a moment.
_PATIENCE = 0.5
# So many of the newest rows stay, one a second.
_RECENT = 600
# Spacing of the rows that stay for good, in seconds, up to a time of the campaign.
_SPACING = ((600.0, 1.0), (7200.0, 10.0), (48 * 3600.0, 60.0))
_WIDEST = 600.0
# Rows are deleted so often, in seconds.
_THIN_EVERY = 30.0
# The newest events of each kind that stay.
_MOST_EVENTS = 1000
# The log of changes is written back once it has so many pages, and cut to so many bytes.
_CHECKPOINT_PAGES, _LOG_BYTES = 256, 4 << 20


class DamagedStateError(Exception):
    """The document cannot be written any more; it is to be opened anew."""


@dataclass(frozen=True, slots=True)
class Baseline:
    """The end of the campaign's earlier runs, on which counts of a new one are added."""

    row: HistoryRow | None = None
    run: RunRecord | None = None


class StateWriter:
    """The state document of a campaign, open for writing.

    If ``begun_anew`` is not empty, an earlier document was not usable: it says why, and where
    that one is now.
    """

    def __init__(self, workdir: Path) -> None:
        """Open the document, or make one.

        Raises:
            BadInputError: a newer version of pkvfuzz wrote it.
            DamagedStateError: it can be neither read nor made.
        """
        self.path = state_file(workdir)
        self.begun_anew = ""
        self._thinned = 0.0
        self._last_kept: float | None = None
        self._grown = (0, 0)
        try:
            self._database = self._opened()
        except sqlite3.Error as error:
            self.begun_anew = self._put_away(error)
            try:
                self._database = self._opened()
            except sqlite3.Error as again:
                raise DamagedStateError(str(again)) from again
        self._inode = self.path.stat().st_ino

    def close(self) -> None:
        """Close the file, which has all then; its log of changes is empty, or gone."""
        with contextlib.suppress(sqlite3.Error):
            # A view that has it open is the last to close it, and may not write.
            self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        with contextlib.suppress(sqlite3.Error):
            self._database.close()

    def _opened(self) -> sqlite3.Connection:
        database = sqlite3.connect(self.path, timeout=_PATIENCE, isolation_level=None)
        try:
            database.execute("PRAGMA journal_mode = WAL")
            # Commits survive the end of this process; those of the last seconds may be lost
            # with the host's power.
            database.execute("PRAGMA synchronous = NORMAL")
            database.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
            database.execute(f"PRAGMA journal_size_limit = {_LOG_BYTES}")
            (version,) = database.execute("PRAGMA user_version").fetchone()
            if version > VERSION:
                raise BadInputError(
                    f"{self.path} has version {version}, written by a newer pkvfuzz; this one "
                    f"writes version {VERSION}. Use the newer one, or give another --workdir"
                )
            if version == 0:
                database.executescript(
                    f"BEGIN; {TABLES} PRAGMA application_id = {APPLICATION}; "
                    f"PRAGMA user_version = {VERSION}; COMMIT"
                )
            (verdict,) = database.execute("PRAGMA quick_check(1)").fetchone()
            if verdict != "ok":
                raise sqlite3.DatabaseError(verdict)
            (application,) = database.execute("PRAGMA application_id").fetchone()
            if application != APPLICATION:
                raise sqlite3.DatabaseError("not the state of a campaign")
        except BaseException:
            database.close()
            raise
        return database

    def _put_away(self, error: sqlite3.Error) -> str:
        """Rename a document that is not usable; return what was done, in words."""
        names = (self.path.with_name(f"{self.path.name}.damaged-{n}") for n in range(1, 1000))
        away = next(name for name in names if not name.exists())
        # The log of changes belongs to the file beside it.
        for suffix in ("", "-wal", "-shm"):
            with contextlib.suppress(OSError):
                self.path.with_name(self.path.name + suffix).rename(
                    away.with_name(away.name + suffix)
                )
        return f"{self.path} was not usable ({error}): it is now {away.name}, and begun anew"

    @contextlib.contextmanager
    def changing(self) -> Iterator[None]:
        """Make all changes within, or none.

        Raises:
            DamagedStateError: they cannot be written: the file is damaged, or gone.
            OSError: they cannot be written now, as on a full disk.
        """
        try:
            if self.path.stat().st_ino != self._inode:
                raise DamagedStateError("another file took its place")
        except FileNotFoundError as error:
            raise DamagedStateError("it was deleted") from error
        try:
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._database.rollback()
                raise
            self._database.execute("COMMIT")
        except sqlite3.OperationalError as error:
            with contextlib.suppress(sqlite3.Error):
                self._database.rollback()
            raise OSError(None, str(error), str(self.path)) from error
        except sqlite3.Error as error:
            raise DamagedStateError(str(error)) from error

    def baseline(self) -> Baseline:
        """Return the end of the earlier runs."""
        return Baseline(
            self._newest(HistoryRow, "history"),
            self._newest(RunRecord, "run"),
        )

    def _newest(self, record: type[Any], table: str) -> Any:
        names = ", ".join(each.name for each in fields(record))
        query = f"SELECT {names} FROM {table} ORDER BY id DESC LIMIT 1"  # noqa: S608
        row = self._database.execute(query).fetchone()
        return None if row is None else record(*row)

    def put(self, table: str, record: object, **more: object) -> None:
        """Insert a record into a table, in place of the one with its key."""
        assert is_dataclass(record)
        values = {each.name: _plain(getattr(record, each.name)) for each in fields(record)} | more
        names, marks = ", ".join(values), ", ".join("?" * len(values))
        self._database.execute(
            f"INSERT OR REPLACE INTO {table} ({names}) VALUES ({marks})",  # noqa: S608
            tuple(values.values()),
        )

    def execute(self, query: str, values: tuple[object, ...] = ()) -> list[tuple[Any, ...]]:
        """Run a statement; return its rows."""
        return self._database.execute(query, values).fetchall()

    def add_row(self, row: HistoryRow) -> None:
        """Add a row to the history, and now and then delete older ones that are too many."""
        spacing = next((each for until, each in _SPACING if row.at < until), _WIDEST)
        bucket = row.at // spacing
        grown = (row.covered, row.crashes)
        kept = self._last_kept is None or bucket != self._last_kept // spacing
        kept = kept or grown > self._grown or row.crashes > self._grown[1]
        if kept:
            self._last_kept = row.at
        self._grown = (max(row.covered, self._grown[0]), max(row.crashes, self._grown[1]))
        self.put("history", row, kept=int(kept))
        now = time.monotonic()
        if now - self._thinned > _THIN_EVERY:
            self._thinned = now
            # By their numbers, as the host's clock may be set back.
            self.execute(
                "DELETE FROM history WHERE kept = 0 AND id <= (SELECT max(id) FROM history) - ?",
                (_RECENT,),
            )

    def add_event(self, event: EventRecord) -> None:
        """Add an event; of each kind the newest ones stay."""
        self.put("event", event)
        self.execute(
            "DELETE FROM event WHERE kind = ?1 AND id <= (SELECT id FROM event WHERE kind = ?1 "
            "ORDER BY id DESC LIMIT 1 OFFSET ?2)",
            (str(event.kind), _MOST_EVENTS),
        )


def _plain(value: object) -> object:
    """Return a value as SQLite has it."""
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, enum.Enum):
        return str(value)
    if isinstance(value, tuple):
        return json.dumps(value)
    return value
