# SPDX-License-Identifier: Apache-2.0
"""The cache: directories named by what went into them.

An entry is a directory ``<kind>-<key>``; the key is a hash of everything the
content depends on. It is built in place (kernel builds contain their own
path) and gets a ``.complete`` file last, see :mod:`fuzzer.manifest`, so an
interrupted build is never trusted: it is removed and made again.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from fuzzer.atomic import open_lock
from fuzzer.errors import InfrastructureError
from fuzzer.manifest import MANIFEST, is_listed, problem_of, write_manifest
from fuzzer.paths import cache_dir
from fuzzer.progress import say

_COMPLETE = MANIFEST
_KEY_LENGTH = 16
# Entries are removed when nobody has used them for so long.
_KEEP_SECONDS = 3600
# Entries that this process found as they were completed, with their manifest's file.
_sound: set[tuple[Path, int]] = set()
# Of recorded().
_records: list[set[Path]] = []
# Seconds of waiting for another process before the user is told, and between two tries.
_SILENT_WAIT, _LOCK_TICK = 2.0, 0.05


def content_key(*parts: str | bytes) -> str:
    """Return a key (hex) for an ordered list of inputs."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()[:_KEY_LENGTH]


def file_stamp(path: Path) -> str:
    """Return a cheap identity of a large file: name, size and time of change."""
    status = path.stat()
    return f"{path.name} {status.st_size} {status.st_mtime_ns}"


@contextlib.contextmanager
def locked(
    name: str, tell: Callable[[str], None] = say, *, silence: float = _SILENT_WAIT
) -> Iterator[None]:
    """Hold the cache's lock of that name; other processes wait.

    After so many seconds of ``silence`` they ``tell`` for what.
    """
    directory = cache_dir()
    try:
        directory.mkdir(parents=True, exist_ok=True)
        fd = open_lock(directory / f".{name}.lock")
    except OSError as error:
        raise InfrastructureError(
            f"the cache {directory} cannot be written: {error.strerror}. "
            "Set PKVFUZZ_CACHE to a directory that can."
        ) from error
    try:
        _await_lock(fd, name, tell, silence)
        with contextlib.suppress(OSError):
            # This is for processes that wait; on a full disk they tell the user less.
            os.ftruncate(fd, 0)
            os.pwrite(fd, f"{os.getpid()} {time.time():.0f}\n".encode(), 0)
        yield
    finally:
        os.close(fd)


def _await_lock(fd: int, name: str, tell: Callable[[str], None], silence: float) -> None:
    """Take a lock, and tell the user which process has it if that takes long."""
    end = time.monotonic() + silence
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > end:
                break
            time.sleep(_LOCK_TICK)
        else:
            return
    tell(f"waiting for {name}, which {_holder(fd)}")
    fcntl.flock(fd, fcntl.LOCK_EX)


def _holder(fd: int) -> str:
    """Return the process that has a lock and since when, as it wrote into the lock."""
    try:
        pid, since = map(int, os.pread(fd, 64, 0).split())
    except (OSError, ValueError):
        return "another pkvfuzz is making"
    began = time.strftime("%H:%M:%S", time.localtime(since))
    return f"another pkvfuzz (process {pid}) has been making since {began}"


@contextlib.contextmanager
def recorded() -> Iterator[set[Path]]:
    """Return a set that gets each entry which this process uses meanwhile."""
    used: set[Path] = set()
    _records.append(used)
    try:
        yield used
    finally:
        _records.remove(used)


def _record(directory: Path) -> None:
    for used in _records:
        used.add(directory)


def lookup(kind: str, key: str) -> Path | None:
    """Return a complete entry's directory, or None."""
    directory = cache_dir() / f"{kind}-{key}"
    if not is_listed(directory) or _is_damaged(directory):
        return None
    keep_entry(directory)
    _record(directory)
    return directory


def _is_damaged(directory: Path) -> bool:
    """Tell whether files of an entry are not what they were, and say so; looked at once."""
    status = (directory / _COMPLETE).stat()
    identity = (directory, status.st_ino)
    if identity in _sound:
        return False
    problem = problem_of(directory)
    if problem:
        say(f"{directory} is damaged, and is made again: {problem}")
        return True
    _sound.add(identity)
    return False


def damaged_entries() -> Iterator[tuple[Path, str]]:
    """Read all completed entries; yield those that are damaged, with what is wrong."""
    for entry in list_entries():
        if entry.complete and (problem := problem_of(entry.path, hashes=True)):
            yield entry.path, problem


def discard_entry(directory: Path) -> None:
    """Remove an entry that is damaged, so that it is made again."""
    with locked(directory.name):
        (directory / _COMPLETE).unlink(missing_ok=True)
        shutil.rmtree(directory, ignore_errors=True)


def keep_entry(directory: Path) -> None:
    """Take note that an entry is in use; at least once in half an hour, or it may be removed."""
    with contextlib.suppress(OSError):
        os.utime(directory / _COMPLETE)


def build_once(
    kind: str,
    key: str,
    build: Callable[[Path], None],
    *,
    keep: int = 0,
    tell: Callable[[str], None] = say,
) -> Path:
    """Return the entry's directory, building it if it is not there.

    ``build`` is given the empty directory; ``tell`` hears of another process that is
    building it, which is waited for. With ``keep``, older entries of
    the kind beyond that many are removed once nobody has used them for an hour.

    Raises:
        InfrastructureError: the disk is full or the cache cannot be written;
            whatever ``build`` raises.
    """
    found = lookup(kind, key)
    if found:
        return found
    with locked(f"{kind}-{key}", tell):
        found = lookup(kind, key)
        if found:
            return found
        directory = cache_dir() / f"{kind}-{key}"
        try:
            shutil.rmtree(directory, ignore_errors=True)
            directory.mkdir(parents=True)
            build(directory)
            write_manifest(directory)
        except OSError as error:
            shutil.rmtree(directory, ignore_errors=True)
            if error.errno == errno.ENOSPC:
                raise InfrastructureError(
                    f"the disk with the cache {cache_dir()} is full. Free some space, "
                    "or set PKVFUZZ_CACHE to a directory on another disk."
                ) from error
            raise InfrastructureError(f"building {directory.name}: {error}") from error
        except BaseException:
            shutil.rmtree(directory, ignore_errors=True)
            raise
    _record(directory)
    if keep:
        _prune(kind, keep)
    return directory


@dataclass(frozen=True, slots=True)
class CacheEntry:
    """An entry: the bytes that it takes on the disk, and when it was used last."""

    path: Path
    kind: str
    size: int
    used: float
    complete: bool


def list_entries() -> list[CacheEntry]:
    """Return all entries, unfinished ones as well."""
    entries = []
    for path in sorted(cache_dir().glob("[!.]*-*")):
        kind, _, key = path.name.rpartition("-")
        if len(key) != _KEY_LENGTH or not path.is_dir():
            continue
        with contextlib.suppress(OSError):
            complete = (path / _COMPLETE).exists()
            used = (path / _COMPLETE if complete else path).stat().st_mtime
            entries.append(CacheEntry(path, kind, _space(path), used, complete))
    return entries


def _space(directory: Path) -> int:
    """Return the bytes that a directory takes; of a file with holes, what is there of it."""
    total = 0
    with contextlib.suppress(OSError), os.scandir(directory) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                total += 512 * entry.stat(follow_symlinks=False).st_blocks
                if entry.is_dir(follow_symlinks=False):
                    total += _space(Path(entry.path))
    return total


def adopt(made: Mapping[str, Path]) -> tuple[str, ...]:
    """Move directories into the cache, as complete entries; return the names of those added.

    ``made`` has them by the names that they get, in the same file system. An entry that is
    there already stays. If one cannot be moved, those that were are removed again.

    Raises:
        OSError: it cannot be done.
    """
    added: list[str] = []
    try:
        for name, directory in made.items():
            there = cache_dir() / name
            with locked(name):
                if (there / _COMPLETE).is_file():
                    keep_entry(there)
                    continue
                shutil.rmtree(there, ignore_errors=True)
                write_manifest(directory)
                directory.rename(there)
                added.append(name)
    except BaseException:
        for name in added:
            (cache_dir() / name / _COMPLETE).unlink(missing_ok=True)
            shutil.rmtree(cache_dir() / name, ignore_errors=True)
        raise
    return tuple(added)


def _prune(kind: str, keep: int) -> None:
    aged = []
    for directory in cache_dir().glob(f"{kind}-*"):
        with contextlib.suppress(OSError):
            aged.append(((directory / _COMPLETE).stat().st_mtime, directory))
    aged.sort(reverse=True)
    for _, directory in aged[keep:]:
        remove_unused(directory)


def remove_unused(directory: Path, seconds: float = _KEEP_SECONDS) -> bool:
    """Remove an entry that nobody has used for so long, an hour at least; tell whether it is gone.

    One that another process builds, or has locked, stays.
    """
    stamp = directory / _COMPLETE
    with contextlib.suppress(OSError), _locked_now(directory.name):
        # Looked at now: removing those before it takes a while, and it may be in use by now. Of
        # an entry that was left unfinished, the time of the directory tells.
        seen = stamp if stamp.exists() else directory
        if time.time() - seen.stat().st_mtime > max(seconds, _KEEP_SECONDS):
            # This is removed first, so that no process takes a half removed entry for complete.
            stamp.unlink(missing_ok=True)
            shutil.rmtree(directory, ignore_errors=True)
            (cache_dir() / f".{directory.name}.lock").unlink(missing_ok=True)
            return True
    return False


@contextlib.contextmanager
def _locked_now(name: str) -> Iterator[None]:
    """Hold a lock; BlockingIOError if another process does."""
    fd = open_lock(cache_dir() / f".{name}.lock")
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(fd)
