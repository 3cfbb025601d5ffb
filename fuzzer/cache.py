# SPDX-License-Identifier: Apache-2.0
"""The cache: directories named by what went into them.

An entry is a directory ``<kind>-<key>``; the key is a hash of everything the
content depends on. It is built in place (kernel builds contain their own
path) and gets a ``.complete`` file last, so an interrupted build is never
trusted: it is removed and made again.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from fuzzer.errors import InfrastructureError
from fuzzer.paths import cache_dir
from fuzzer.progress import say

_COMPLETE = ".complete"
_KEY_LENGTH = 16
# Entries are removed when nobody has used them for so long.
_KEEP_SECONDS = 3600
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
        fd = os.open(directory / f".{name}.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o644)
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


def lookup(kind: str, key: str) -> Path | None:
    """Return a complete entry's directory, or None."""
    directory = cache_dir() / f"{kind}-{key}"
    stamp = directory / _COMPLETE
    if not stamp.is_file():
        return None
    keep_entry(directory)
    return directory


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
            (directory / _COMPLETE).touch()
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
    if keep:
        _prune(kind, keep)
    return directory


def _prune(kind: str, keep: int) -> None:
    aged = []
    for directory in cache_dir().glob(f"{kind}-*"):
        with contextlib.suppress(OSError):
            aged.append(((directory / _COMPLETE).stat().st_mtime, directory))
    aged.sort(reverse=True)
    for _, directory in aged[keep:]:
        stamp = directory / _COMPLETE
        with contextlib.suppress(OSError):
            # Looked at again: removing those before it takes a while, and it may be in use now.
            if time.time() - stamp.stat().st_mtime > _KEEP_SECONDS:
                # This is removed first, so that no process takes a half removed entry for complete.
                stamp.unlink()
                shutil.rmtree(directory, ignore_errors=True)
                (cache_dir() / f".{directory.name}.lock").unlink(missing_ok=True)
