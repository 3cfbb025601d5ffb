# SPDX-License-Identifier: Apache-2.0
"""The manifest of a cache entry: its files, their sizes and hashes, as they were completed.

It is on the disk after all that it lists. What a power failure, a full disk or a bad disk made
of an entry since is found by it: sizes at each start, hashes by ``pkvfuzz doctor``.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgspec

from fuzzer.atomic import write_whole
from fuzzer.checked import read_json
from fuzzer.untrusted import open_regular

MANIFEST = ".complete"
# Of more files than that (a kernel's build), the large ones are listed: there is nothing else
# without them.
_MOST_FILES, _LARGE = 500, 4 << 20
_LIBC = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class ListedFile:
    """A file of an entry: its path in it, bytes, and SHA-256."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class _Manifest:
    files: tuple[ListedFile, ...]


def write_manifest(directory: Path) -> None:
    """Write the manifest of an entry whose files are all there, when they are on the disk.

    Raises:
        OSError: it cannot be written.
    """
    files = [
        ListedFile(str(path.relative_to(directory)), size, file_hash(path))
        for path, size in _chosen(directory)
    ]
    _sync(directory)
    write_whole(directory / MANIFEST, msgspec.json.encode({"files": [*map(asdict, files)]}))


def is_listed(directory: Path) -> bool:
    """Tell whether an entry was completed."""
    return (directory / MANIFEST).is_file()


def problem_of(directory: Path, *, hashes: bool = False) -> str:
    """Return what is wrong with a completed entry, empty if nothing is; with ``hashes``, read all.

    An entry of an older version has no list, and is believed.
    """
    manifest = directory / MANIFEST
    try:
        if not manifest.stat().st_size:
            return ""
        listed = read_json(manifest, _Manifest).files
    except (OSError, ValueError) as error:
        return f"{manifest.name}: {error}"
    for each in listed:
        path = directory / each.path
        try:
            status = path.lstat()
            if not stat.S_ISREG(status.st_mode) or status.st_size != each.size:
                return f"{each.path} has {status.st_size:,} bytes, not {each.size:,}"
            if hashes and file_hash(path) != each.sha256:
                return f"{each.path} has another content"
        except OSError as error:
            return f"{each.path}: {error.strerror}"
    return ""


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file, in hex.

    Raises:
        OSError: it cannot be read.
    """
    with open_regular(path) as file:
        opened: Any = file  # of a type without readinto(), it is said
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _chosen(directory: Path) -> list[tuple[Path, int]]:
    found = [(path, size) for path, size in _files(directory) if path != directory / MANIFEST]
    if len(found) <= _MOST_FILES:
        return found
    return [(path, size) for path, size in found if size >= _LARGE]


def _files(directory: Path) -> Iterator[tuple[Path, int]]:
    for place, _, names in os.walk(directory):
        for name in sorted(names):
            path = Path(place, name)
            status = path.lstat()
            if stat.S_ISREG(status.st_mode):
                yield path, status.st_size


def _sync(directory: Path) -> None:
    """Wait until all of the directory's file system is on the disk: a build is many files."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if _LIBC.syncfs(fd):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(directory))
    finally:
        os.close(fd)
