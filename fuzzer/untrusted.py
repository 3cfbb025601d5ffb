# SPDX-License-Identifier: Apache-2.0
"""Files that may be a stranger's: of crashes, corpora, working directories, drivers.

A name there may be a link to a private file, a pipe that nobody writes to, or a device without
an end. Here regular files alone are opened, up to a size, and links are followed only as far as
the directory that the file is to be in.
"""

from __future__ import annotations

import errno
import io
import os
import stat
from pathlib import Path
from typing import BinaryIO

MOST_BYTES = 64 << 20
"""The most bytes that a file has which is read whole, where no other limit is given."""

CODE_SUFFIXES = frozenset((".h", ".c", ".S", ".inc", ".def", ".hh", ".hpp", ".rs"))
"""Suffixes of files of code: a name that a stranger's debugging information or include has."""

# What a shell gives for a command's output; the user wrote that command.
_GIVEN_PIPES = ("/dev/fd/", "/proc/self/fd/", "/dev/stdin")
_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK | os.O_NOFOLLOW


class NoRegularFileError(OSError):
    """A name that has something else than a regular file that may be read."""


def open_regular(path: Path, *, within: Path | None = None) -> BinaryIO:
    """Open a regular file to read; it is not waited for.

    With ``within``, links that lead out of that directory are not followed.

    Raises:
        NoRegularFileError: it is something else, or elsewhere.
        OSError: it cannot be opened.
    """
    place = os.path.realpath(path)
    if within is not None and not Path(place).is_relative_to(os.path.realpath(within)):
        raise NoRegularFileError(
            errno.ELOOP, f"it is a link that leads out of {within}, and is not followed", str(path)
        )
    is_given = within is None and str(path).startswith(_GIVEN_PIPES)
    try:
        fd = os.open(path if is_given else place, _FLAGS & ~(os.O_NOFOLLOW * is_given))
    except OSError as error:
        # ENXIO is of a socket.
        reason = "it is no regular file" if error.errno == errno.ENXIO else error.strerror
        raise type(error)(error.errno, reason, str(path)) from None
    try:
        mode = os.fstat(fd).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(mode) and not (is_given and stat.S_ISFIFO(mode)):
            raise NoRegularFileError(errno.EINVAL, "it is no regular file", str(path))
        os.set_blocking(fd, True)
        return io.open(fd, "rb")  # noqa: UP020 - of a descriptor, which it closes
    except BaseException:
        os.close(fd)
        raise


def read_bytes(path: Path, *, within: Path | None = None, limit: int = MOST_BYTES) -> bytes:
    """Return the content of a regular file of at most ``limit`` bytes.

    Raises:
        OSError: as :func:`open_regular`, or it is larger.
    """
    with open_regular(path, within=within) as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise OSError(errno.EFBIG, f"it has more than {limit:,} bytes", str(path))
    return data


def read_text(
    path: Path,
    *,
    within: Path | None = None,
    limit: int = MOST_BYTES,
    errors: str = "strict",
) -> str:
    """Return a regular file's text, in UTF-8.

    Raises:
        OSError: as :func:`read_bytes`.
        ValueError: it is not UTF-8; the message has the line.
    """
    data = read_bytes(path, within=within, limit=limit)
    try:
        text = data.decode(errors=errors)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(f"line {line} is not UTF-8: {error.reason}") from None
    return io.IncrementalNewlineDecoder(None, translate=True).decode(text, final=True)


def read_tail(path: Path, size: int) -> str:
    """Return the last ``size`` bytes of a regular file as text.

    Raises:
        OSError: as :func:`open_regular`.
    """
    with open_regular(path) as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - size))
        return file.read(size).decode(errors="replace")


def regular_names(directory: Path) -> list[str]:
    """Return the names of the regular files in a directory, links and hidden ones left out.

    Raises:
        OSError: there is no such directory.
    """
    with os.scandir(directory) as entries:
        return sorted(
            entry.name
            for entry in entries
            if not entry.name.startswith(".") and entry.is_file(follow_symlinks=False)
        )


def is_regular(path: Path, *, within: Path | None = None) -> bool:
    """Tell whether a name has a regular file, which is not outside of ``within``."""
    place = os.path.realpath(path)
    if within is not None and not Path(place).is_relative_to(os.path.realpath(within)):
        return False
    return os.path.isfile(place)  # noqa: PTH113 - a name with a zero byte is none


def make_private(directory: Path) -> None:
    """Make a directory that none but its owner may enter, unless it is there already.

    Those above it that are missing may be entered by all, and written to by their owner.

    Raises:
        OSError: it cannot be made.
    """
    for above in reversed(directory.parents):
        if not above.exists():
            above.mkdir(0o755, exist_ok=True)
    directory.mkdir(0o700, exist_ok=True)


def refuse_link(directory: Path) -> None:
    """Refuse a link in place of a directory that is written to.

    Raises:
        NoRegularFileError: it is a link.
    """
    if directory.is_symlink():
        raise NoRegularFileError(
            errno.ELOOP,
            f"{directory.name} is a link, which is not followed: what is written stays there",
            str(directory),
        )
