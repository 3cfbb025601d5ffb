# SPDX-License-Identifier: Apache-2.0
"""Files that are written whole, or stay as they were; never through a link.

What is written is on the disk before its name appears: after a power failure a file has all of
its content, or is not there.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

DAMAGED = "damaged"
"""Name of the directory that has what could not be used, for a person to look at."""

_PARTIAL = ".partial"


def write_whole(
    path: Path, data: bytes | str, *, through: Path | None = None, sync: bool = True
) -> None:
    """Write a file with one rename; on a full disk what was there stays.

    A link is replaced, not followed. Until then it is a hidden file in the directory
    ``through``, the file's own if None, which must be on the same file system. Without
    ``sync`` it may be empty after a power failure: for what is written every second.

    Raises:
        OSError: it cannot be written; the error names ``path``.
    """
    content = data.encode() if isinstance(data, str) else data
    if path.is_char_device() or path.is_block_device():
        # Root could replace it, and the host would be without it.
        raise OSError(errno.EINVAL, "it is a device", str(path))
    # Two processes may write the same file.
    partial = (through or path.parent) / f".{path.name[:200]}.{secrets.token_hex(4)}{_PARTIAL}"
    try:
        with open_new(partial) as file:
            file.write(content)
            if sync:
                file.flush()
                os.fsync(file.fileno())
        partial.replace(path)
    except BaseException as error:
        partial.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def write_output(path: Path, data: bytes | str) -> None:
    """Write a file that a user named, whole; a device or a pipe is written to as it is.

    Raises:
        OSError: it cannot be written; the error names ``path``.
    """
    if path.exists() and not path.is_file():
        path.write_bytes(data.encode() if isinstance(data, str) else data)
    else:
        write_whole(path, data)


def open_new(path: Path, mode: int = 0o666) -> BinaryIO:
    """Make a file and open it to write; nothing of that name may be there.

    Raises:
        OSError: it cannot be made.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    return io.open(os.open(path, flags, mode), "wb")  # noqa: UP020 - of a descriptor


def open_own(path: Path, flags: int, mode: int = 0o666) -> int:
    """Return the descriptor of a regular file that is written to where it is.

    Neither a symbolic nor a hard link is followed: what it leads to is another file.

    Raises:
        OSError: it cannot be opened, or is a link, or no regular file.
    """
    try:
        fd = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, mode)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise OSError(error.errno, f"{path.name} is a link, not followed", str(path)) from None
        raise
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
            raise OSError(errno.EINVAL, f"{path.name} is a link, or no file", str(path))
    except BaseException:
        os.close(fd)
        raise
    return fd


@contextlib.contextmanager
def appending(path: Path) -> Iterator[BinaryIO]:
    """Open a file to append to, made if it is not there; see :func:`open_own`.

    Raises:
        OSError: it cannot be opened.
    """
    fd = open_own(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    with io.open(fd, "ab") as file:  # noqa: UP020 - of a descriptor
        yield file


def open_lock(path: Path) -> int:
    """Return the descriptor of a file to lock, made if it is not there; see :func:`open_own`.

    Raises:
        OSError: it cannot be opened.
    """
    return open_own(path, os.O_CREAT | os.O_RDWR, 0o644)


def sync_files(directory: Path) -> None:
    """Wait until all files below a directory are on the disk, before it gets its name.

    Raises:
        OSError: they cannot be written.
    """
    for place, _, names in os.walk(directory):
        for name in [*names, ""]:
            path = os.path.join(place, name)  # noqa: PTH118 - of many files
            if os.path.islink(path):  # noqa: PTH114
                continue
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)


def remove_partial(directory: Path) -> None:
    """Remove what killed processes left half written in a directory."""
    for path in directory.glob(f".*{_PARTIAL}"):
        with contextlib.suppress(OSError):
            path.unlink()


def set_aside(path: Path, directory: Path | None = None) -> Path:
    """Move what is damaged to ``damaged`` in a directory, that above its own if None.

    Returns its new place, which has its name and a number.

    Raises:
        OSError: it cannot be moved.
    """
    place = (directory or path.parent.parent) / DAMAGED
    place.mkdir(mode=0o700, exist_ok=True)
    new = place / f"{path.name}-{secrets.token_hex(4)}"
    path.rename(new)
    return new
