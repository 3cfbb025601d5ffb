# SPDX-License-Identifier: Apache-2.0
"""Reading an archive of the cache, from anybody: whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from fuzzer.archive.content import stays_inside
from fuzzer.archive.manifest import (
    CACHE,
    MANIFEST,
    MOST_FILES,
    WINDOW,
    WORKDIR,
    Manifest,
    read_head,
    rest_digest,
)
from fuzzer.cache import adopt
from fuzzer.errors import BadInputError, InfrastructureError
from fuzzer.kernel.kbuild import point_to_source
from fuzzer.paths import cache_dir
from fuzzer.progress import Progress
from fuzzer.tools import find_tool

_MOST_MANIFEST = 1 << 20
_MOST_NAME = 1024
_PAGE = 4096
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Imported:
    """The result of an import: entries that were ``added``, and how many ``programs`` were."""

    manifest: Manifest
    added: tuple[str, ...]
    workdir: Path | None = None
    programs: int = 0


def read_archive(path: Path, workdir: Callable[[str], Path], digest: str = "") -> Imported:
    """Put what an archive has into the cache, and its corpus and crashes into a directory.

    ``workdir`` returns that for a target of a name.

    What is there already stays. With ``digest``, it has to be the archive of that hash.

    Raises:
        BadInputError: it is damaged, or is no archive, or has what does not belong into a cache.
        InfrastructureError: there is no room, or the cache cannot be written.
    """
    try:
        with path.open("rb") as file:
            _check_hash(file, path, digest)
            file.seek(0)
            cache = cache_dir()
            cache.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".import-", dir=cache) as place:
                directory = Path(place)
                manifest = _unpack(file, path, directory)
                return _put(manifest, directory, workdir)
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise InfrastructureError(
                f"importing {path}: the disk with the cache {cache_dir()} is full; nothing was "
                "imported. Free some space, or set PKVFUZZ_CACHE to a directory on another disk"
            ) from error
        where = error.filename or path
        raise InfrastructureError(f"importing {path}: {where}: {error.strerror}") from error


def _check_hash(file: IO[bytes], path: Path, digest: str) -> None:
    wanted = read_head(file, path)  # type: ignore[arg-type]
    size = os.fstat(file.fileno()).st_size
    progress = Progress("checking", size)
    found = rest_digest(file, progress.update)  # type: ignore[arg-type]
    progress.clear()
    if found != wanted:
        raise BadInputError(f"{path} is damaged: its content has not the hash that it begins with")
    if digest and found.hex() != digest.lower():
        raise BadInputError(f"{path} is another archive: its hash is {found.hex()}")


def _unpack(file: IO[bytes], path: Path, directory: Path) -> Manifest:
    """Unpack an archive into an empty directory, and return what it says that it has."""
    try:
        with (
            _decompressor(file, path) as stream,
            tarfile.open(mode="r|", fileobj=stream) as tar,
        ):
            manifest = _read_manifest(tar)
            free = shutil.disk_usage(directory).free
            # Guest memory is mostly holes.
            if free < manifest.size // 2:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            unpacking = _Unpacker(manifest, directory)
            while member := tar.next():
                unpacking.take(tar, member)
            unpacking.finish()
    except (tarfile.TarError, EOFError, KeyError, TypeError, ValueError) as error:
        raise BadInputError(f"{path}: nothing was imported: {error}") from error
    return manifest


def _read_manifest(tar: tarfile.TarFile) -> Manifest:
    first = tar.next()
    if first is None or first.name != MANIFEST or not 0 < first.size <= _MOST_MANIFEST:
        raise ValueError("it does not begin with a manifest")
    content = tar.extractfile(first)
    assert content is not None
    return Manifest.from_json(content.read())


class _Unpacker:
    """The members of an archive on their way to a directory, each looked at before."""

    def __init__(self, manifest: Manifest, directory: Path) -> None:
        self._manifest = manifest
        self._directory = directory
        self._progress = Progress("unpacking", manifest.size)
        self._size = self._files = 0
        self._links: list[tuple[str, str]] = []

    def take(self, tar: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        """Write one member; ValueError for what has no place."""
        name = self._checked_name(member.name)
        path = self._directory / name
        self._size += member.size
        self._files += 1
        if self._size > self._manifest.size or self._files > min(self._manifest.files, MOST_FILES):
            raise ValueError("it has more than it says")
        if member.issym():
            inside = str(PurePosixPath(*PurePosixPath(name).parts[2:]))
            if not stays_inside(inside, member.linkname):
                raise ValueError(f"{name!r} is a link to {member.linkname!r}")
            # Made last: nothing is written through them.
            self._links.append((name, member.linkname))
            return
        if member.isdir():
            path.mkdir(parents=True, exist_ok=True)
            return
        if not member.isreg() or member.issparse():
            raise ValueError(f"{name!r} is neither a file nor a directory")
        path.parent.mkdir(parents=True, exist_ok=True)
        content = tar.extractfile(member)
        assert content is not None
        with path.open("xb") as file:
            _copy_sparse(content, file, member.size)
        path.chmod(0o755 if member.mode & 0o100 else 0o644)
        self._progress.update(self._size, name.split("/")[1])

    def finish(self) -> None:
        """Make the links; ValueError if members are missing."""
        self._progress.clear()
        if (self._size, self._files) != (self._manifest.size, self._manifest.files):
            raise ValueError("it has less than it says")
        for name, target in self._links:
            path = self._directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.symlink_to(target)

    def _checked_name(self, name: str) -> str:
        parts = PurePosixPath(name).parts
        plain = "/".join(parts) == name and not {"..", "."} & set(parts) and "\0" not in name
        entries = self._manifest.entries
        known = len(parts) > 2 and (
            (parts[0] == CACHE and parts[1] in entries)
            or (parts[0] == WORKDIR and parts[1] in {"corpus", "crashes"})
        )
        if not plain or not known or len(name) > _MOST_NAME:
            raise ValueError(f"{name!r} does not belong into a cache")
        return name


def _copy_sparse(source: IO[bytes], file: IO[bytes], size: int) -> None:
    """Copy a file, leaving holes for pages of zeros."""
    zeros = bytes(_CHUNK)
    while chunk := source.read(_CHUNK):
        if chunk == zeros[: len(chunk)]:
            file.seek(len(chunk), os.SEEK_CUR)
            continue
        for start in range(0, len(chunk), _PAGE):
            page = chunk[start : start + _PAGE]
            if page == zeros[: len(page)]:
                file.seek(len(page), os.SEEK_CUR)
            else:
                file.write(page)
    file.truncate(size)


def _put(manifest: Manifest, directory: Path, workdir: Callable[[str], Path]) -> Imported:
    """Move what was unpacked to its place."""
    for kernel, source in manifest.sources.items():
        point_to_source(directory / CACHE / kernel, cache_dir() / source)
    added = adopt({name: directory / CACHE / name for name in manifest.entries})
    if not manifest.target:
        return Imported(manifest, added)
    place = workdir(manifest.target)
    return Imported(manifest, added, place, _put_workdir(directory / WORKDIR, place))


def _put_workdir(directory: Path, workdir: Path) -> int:
    """Move programs and crashes into a working directory; return the number of programs."""
    programs = 0
    for path in sorted(directory.glob("corpus/*")):
        there = workdir / "corpus" / path.name
        if path.is_file() and not there.exists():
            there.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, there)
            programs += 1
    for path in sorted(directory.glob("crashes/*")):
        there = workdir / "crashes" / path.name
        if path.is_dir() and not there.exists():
            shutil.copytree(path, there, symlinks=False)
    return programs


@contextmanager
def _decompressor(file: IO[bytes], path: Path) -> Iterator[IO[bytes]]:
    """Return the unpacked content of an archive as a stream."""
    program = find_tool("zstd", "unpacking the cache")
    words = [str(program), "-q", "-d", f"--long={WINDOW}", "-c"]
    with subprocess.Popen(
        words, stdin=file, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            yield process.stdout
            with contextlib.suppress(OSError):
                # What pads the end of a tar file.
                while process.stdout.read(_CHUNK):
                    pass
        except BaseException:
            process.kill()
            raise
        said = process.stderr.read().decode(errors="replace").strip()
    if process.returncode:
        raise BadInputError(f"{path} cannot be unpacked: {said}")
