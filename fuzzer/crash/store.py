# SPDX-License-Identifier: Apache-2.0
"""The crash store: one directory for each crash, by its title.

``crashes/<slug>/`` has everything that is needed to see a crash again: the report, the
program as text and in wire form, the programs before it, and the builds it was found with.
It is written to a hidden directory first, which becomes visible with one rename.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec

from fuzzer.atomic import open_lock, set_aside, sync_files, write_whole
from fuzzer.checked import read_json
from fuzzer.crash.bundle import write_bundle
from fuzzer.crash.crash import Crash, Identity, Privileges, plain_title
from fuzzer.crash.symbolised import symbolised_report
from fuzzer.errors import BadInputError
from fuzzer.paths import cache_dir
from fuzzer.program import batch
from fuzzer.program.text import format_program
from fuzzer.program.wire import decode, split
from fuzzer.target.target import Target
from fuzzer.untrusted import is_regular, read_bytes, read_text

FORMAT = 1
_RECORD, _REPORT = "crash.json", "report.txt"
# The report as the kernel printed it, where ``report.txt`` has more.
_AS_PRINTED = "report.raw.txt"
_TEXT, _WIRE, _HISTORY = "program.prog", "program.bin", "history.bin"
_FIRST_LOG, _FIRST_RUN = "first-seen.txt", "first-seen.bin"
_ORIGINAL, _LOG = "original.bin", "log.txt"
_LOCK = ".lock"
_SLUG_LENGTH = 80
# The most seconds between the two renames that replace a crash.
_REPLACING = 0.1
# Reads of a crash that may be replaced at that moment, before it counts as damaged.
_REREADS = 4
_Number = Annotated[int, msgspec.Meta(ge=0, le=1 << 48)]


def slug_of(title: str) -> str:
    """Return the directory name for a title: lower case letters, digits and dashes."""
    plain = plain_title(title)
    slug = re.sub(r"[^a-z0-9]+", "-", plain.lower()).strip("-")
    number = re.sub(r"\D", "", title.removeprefix(plain))
    return (slug[:_SLUG_LENGTH].rstrip("-") or "crash") + (f"-{number}" if number else "")


class CrashStore:
    """A directory of crashes."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def path(self, title: str) -> Path:
        """Return the directory that a crash of that title has or would have."""
        return self.directory / slug_of(title)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Keep the judge and the campaign from writing at the same time."""
        self.directory.mkdir(parents=True, exist_ok=True)
        fd = open_lock(self.directory / _LOCK)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    def put(self, crash: Crash, target: Target) -> Path:
        """Store a crash, replacing an older one of the same title.

        A crash that was not judged never replaces one that was.

        Raises:
            OSError: the disk is full; what was stored before is intact.
        """
        with self._locked():
            known = self.get(crash.title)
            if known and known.runs and not crash.runs:
                return self.path(crash.title)
            return self._write(self.path(crash.title), crash, target)

    def put_at(self, path: Path, crash: Crash, target: Target) -> None:
        """Store a crash in a directory of any name, in place of the one there.

        Raises:
            OSError: the disk is full; what was stored before is intact.
        """
        with self._locked():
            self._write(path, crash, target)

    def _write(self, final: Path, crash: Crash, target: Target) -> Path:
        described = _described_from(final, crash.identity)
        crash = dataclasses.replace(crash, identity=described)
        partial = self.directory / f".{final.name}.{os.getpid()}"
        crash = dataclasses.replace(
            crash,
            report=_without_cache(crash.report),
            first_log=_without_cache(crash.first_log),
        )
        shutil.rmtree(partial, ignore_errors=True)
        try:
            partial.mkdir()
            self._write_report(partial, final, crash)
            (partial / _FIRST_LOG).write_text(crash.first_log)
            (partial / _WIRE).write_bytes(crash.program)
            text = format_program(decode(crash.program), target)
            (partial / _TEXT).write_text(f"# {crash.title}\n{text}")
            if crash.history:
                (partial / _HISTORY).write_bytes(batch.pack(crash.history))
            if crash.log:
                (partial / _LOG).write_bytes(crash.log)
            if crash.original:
                (partial / _ORIGINAL).write_bytes(crash.original)
            if crash.first_run:
                (partial / _FIRST_RUN).write_bytes(batch.pack(crash.first_run))
            write_bundle(partial, crash, target)
            (partial / _RECORD).write_text(_to_json(crash))
            sync_files(partial)
        except OSError as error:
            shutil.rmtree(partial, ignore_errors=True)
            # The name of the partial directory would mean nothing, as it is removed.
            raise OSError(error.errno, error.strerror, str(final)) from error
        old = self.directory / f".{final.name}.{os.getpid()}.old"
        if final.exists():
            final.rename(old)
        partial.rename(final)
        shutil.rmtree(old, ignore_errors=True)
        return final

    def _write_report(self, partial: Path, final: Path, crash: Crash) -> None:
        """Write the report, with file and line where they are known, and then as it came as well.

        What was found out about the same report before stays, though the driver's build may be
        gone.
        """
        symbolised = symbolised_report(crash.report, crash.identity.driver)
        if symbolised is None and _is_same_report(final / _AS_PRINTED, crash.report):
            symbolised = (final / _REPORT).read_text()
        if symbolised is not None:
            (partial / _AS_PRINTED).write_text(crash.report)
        (partial / _REPORT).write_text(crash.report if symbolised is None else symbolised)

    def remove(self, title: str) -> None:
        """Remove the crash of a title, which turned out to be another one."""
        with self._locked():
            path = self.path(title)
            gone = self.directory / f".{path.name}.{os.getpid()}.gone"
            if path.exists():
                path.rename(gone)
            shutil.rmtree(gone, ignore_errors=True)

    def recover(self) -> None:
        """Finish or undo changes that a killed process left half done."""
        for hidden in self.directory.glob(".*"):
            if hidden.name == _LOCK:
                continue
            if hidden.name.endswith(".old"):
                final = self.directory / hidden.name[1:].rsplit(".", 2)[0]
                if not final.exists():
                    hidden.rename(final)
            shutil.rmtree(hidden, ignore_errors=True)

    def get(self, title: str) -> Crash | None:
        """Return the crash of a title, or None; a damaged one is set aside."""
        path = self.path(title)
        if not os.path.lexists(path / _RECORD):
            return None
        try:
            return read_crash(path)
        except BadInputError:
            set_aside(path)
            return None

    def set_damaged_aside(self) -> list[str]:
        """Set crashes aside that cannot be read; return a line for each."""
        lines = []
        for record in self.records():
            try:
                read_crash(record.parent)
            except BadInputError as error:
                lines.append(f"set aside as {set_aside(record.parent)}: {error}")
        return lines

    def records(self) -> list[Path]:
        """Return the record of every crash, by name; it changes whenever the crash does."""
        # Hidden directories are half written, or half removed.
        return sorted(
            path
            for path in self.directory.glob(f"*/{_RECORD}")
            if not path.parent.name.startswith(".")
        )

    def entries(self) -> list[tuple[Path, Crash]]:
        """Return every crash with its directory, by name; damaged ones are left out."""
        records = self.records()
        found = [(path.parent, _read_whole(path.parent)) for path in records]
        return [(path, crash) for path, crash in found if crash]

    def all(self) -> list[Crash]:
        """Return every crash, by title."""
        return [crash for _, crash in self.entries()]

    def update_sightings(self, counts: dict[str, int]) -> None:
        """Update the number of sightings of each crash."""
        with self._locked():
            for crash in self.all():
                total = sum(counts.get(title, 0) for title in crash.sighted_as)
                if total > crash.sightings:
                    record = dataclasses.replace(crash, sightings=total)
                    path = self.path(crash.title) / _RECORD
                    write_whole(path, _to_json(record))


def _described_from(directory: Path, identity: Identity) -> Identity:
    """Return the identity with a relative path, as an absolute one means nothing elsewhere."""
    if not Path(identity.description).is_absolute():
        return identity
    relative = os.path.relpath(identity.description, directory.resolve())
    return dataclasses.replace(identity, description=relative)


def _without_cache(text: str) -> str:
    """Return a report without the directory of the driver's build, which WARN() prints."""
    return re.sub(rf"{re.escape(str(cache_dir()))}/(?:driver-[0-9a-f]+/)?", "", text)


def _read_whole(directory: Path) -> Crash | None:
    """Return a crash that another process may be replacing; None if it is gone or damaged."""
    for _ in range(_REREADS):
        try:
            return read_crash(directory)
        except BadInputError:
            time.sleep(_REPLACING)
            if not (directory / _RECORD).exists():
                return None
    return None


def _is_same_report(path: Path, report: str) -> bool:
    try:
        return path.read_text() == report
    except OSError:
        return False


def shown_report(directory: Path, crash: Crash) -> str:
    """Return a stored crash's report for people: with file and line if they are, or get, known.

    ``crash`` is what :func:`read_crash` read in that directory.
    """
    if is_regular(directory / _AS_PRINTED, within=directory):
        with contextlib.suppress(OSError):
            return read_text(directory / _REPORT, within=directory, errors="replace")
    return symbolised_report(crash.report, crash.identity.driver) or crash.report


def _optional(crash: Crash) -> dict[str, Any]:
    """Return the fields of a record that are left out where there is nothing to say."""
    found = {
        "unseen_on": crash.unseen_on,
        "instead": list(crash.instead),
        "after": list(crash.after),
        "linked": list(crash.linked),
        "privileges": crash.privileges,
    }
    return {name: value for name, value in found.items() if value}


def _to_json(crash: Crash) -> str:
    record = {
        "format": FORMAT,
        "title": crash.title,
        "also_titles": list(crash.also_titles),
        "signature": str(crash.signature),
        "kind": crash.kind,
        "function": crash.function,
        "judged_on": crash.judged_on,
        **_optional(crash),
        "reproduced": crash.reproduced,
        "runs": crash.runs,
        "exact": crash.exact,
        "needs_history": bool(crash.history),
        "history_programs": len(crash.history),
        "minimized": crash.minimized,
        "original_calls": len(split(crash.original or crash.program)),
        "minimal_calls": len(split(crash.program)),
        "program_bytes": len(crash.program),
        "minimize_seconds": round(crash.minimize_seconds, 2),
        "retries": crash.retries,
        "sightings": crash.sightings,
        "sighted_as": list(crash.sighted_as),
        "identity": dataclasses.asdict(crash.identity),
    }
    return json.dumps(record, indent=2) + "\n"


@dataclass(frozen=True, slots=True)
class _StoredCrash:
    """A crash's record as it is stored; what has a default is not in those of older versions."""

    format: int
    title: str
    kind: str
    function: str | None
    judged_on: str
    reproduced: _Number
    runs: _Number
    sightings: _Number
    sighted_as: tuple[str, ...]
    identity: Identity
    needs_history: bool
    history_programs: _Number | None = None
    program_bytes: _Number | None = None
    exact: bool = False
    minimized: bool = False
    minimize_seconds: float = 0.0
    retries: _Number = 0
    privileges: Privileges | None = None
    also_titles: tuple[str, ...] = ()
    unseen_on: str = ""
    instead: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    linked: tuple[str, ...] = ()


def read_crash(directory: Path) -> Crash:
    """Return a stored crash.

    Its files are read if they are regular ones in the directory.

    Raises:
        BadInputError: a file is missing or damaged; the message says which.
    """
    path = directory / _RECORD
    try:
        _check_format(path, directory)
        record = read_json(path, _StoredCrash, within=directory)
        history: tuple[bytes, ...] = ()
        if record.needs_history:
            path = directory / _HISTORY
            history = tuple(batch.unpack(read_bytes(path, within=directory)))
            _check_number(len(history), record.history_programs, "programs")
        path = directory / _FIRST_RUN
        # The first run is optional: a reproducer works without it.
        first_run = tuple(batch.unpack(_read_optional(path)))
        path = directory / _WIRE
        program = read_bytes(path, within=directory)
        # Any bytes are a program, even none: a program that was cut short would not crash, and
        # its bug would seem to be fixed.
        _check_number(len(program), record.program_bytes, "bytes")
        path = directory / _AS_PRINTED
        if not path.exists():
            path = directory / _REPORT
        report = read_text(path, within=directory)
        path = directory / _FIRST_LOG
        first_log = _read_optional(path).decode()
        path = directory / _ORIGINAL
        original = _read_optional(path)
        path = directory / _LOG
        log = _read_optional(path)
    except FileNotFoundError as error:
        raise BadInputError(
            f"{directory}: no crash to replay: {Path(error.filename).name} is missing. "
            "Give the directory of a stored crash, or a .prog file"
        ) from error
    except OSError as error:
        raise BadInputError(
            f"{path}: {error.strerror}. A stored crash has regular files only: "
            "restore it from where it came from"
        ) from error
    except ValueError as error:
        raise BadInputError(
            f"{path}: damaged ({error}). Restore it from where it came from"
        ) from error
    return Crash(
        title=record.title,
        kind=record.kind,
        function=record.function,
        judged_on=record.judged_on,
        reproduced=record.reproduced,
        runs=record.runs,
        sightings=record.sightings,
        sighted_as=record.sighted_as,
        identity=record.identity,
        report=report,
        first_log=first_log,
        program=program,
        history=history,
        first_run=first_run,
        exact=record.exact,
        original=original,
        minimized=record.minimized,
        minimize_seconds=record.minimize_seconds,
        retries=record.retries,
        privileges=record.privileges,
        also_titles=record.also_titles,
        log=log,
        unseen_on=record.unseen_on,
        instead=record.instead,
        after=record.after,
        linked=record.linked,
    )


@dataclass(frozen=True, slots=True)
class _Format:
    """The part of a record that every version has."""

    format: int


def _check_format(path: Path, directory: Path) -> None:
    """Refuse the record of another version.

    Raises:
        BadInputError: it is of one.
        OSError, ValueError: it cannot be read.
    """
    number = read_json(path, _Format, within=directory).format
    if number != FORMAT:
        raise BadInputError(
            f"{path}: format {number}; this pkvfuzz reads {FORMAT}. Use the pkvfuzz that wrote it"
        )


def _check_number(found: int, expected: int | None, noun: str) -> None:
    wanted = expected if expected is not None else found or "some"
    if found != wanted:
        raise ValueError(f"{found} {noun}, not {wanted}")


def _read_optional(path: Path) -> bytes:
    """Return a file of a crash's directory, nothing if it is not there."""
    try:
        return read_bytes(path, within=path.parent)
    except FileNotFoundError:
        return b""
