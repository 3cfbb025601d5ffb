# SPDX-License-Identifier: Apache-2.0
"""Writing an archive of the cache: the same content gives the same bytes."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import subprocess
import tarfile
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from fuzzer.archive.content import (
    entry_files,
    every_file,
    is_kernel,
    kernel_files,
    source_files,
    stays_inside,
)
from fuzzer.archive.manifest import (
    CACHE,
    KINDS,
    MANIFEST,
    WINDOW,
    WORKDIR,
    Manifest,
    kind_of,
    rest_digest,
    write_head,
)
from fuzzer.errors import InfrastructureError
from fuzzer.kernel.kbuild import SOURCE_LINK
from fuzzer.kernel.source import PARTIAL_SOURCE
from fuzzer.progress import Progress
from fuzzer.tools import find_tool

# Any time will do that make does not take for that of a file which is missing.
_TIME = 1_577_836_800
_LEVEL = 3
# Of a working directory.
_KEPT = ("corpus", "crashes")


@dataclass(frozen=True, slots=True)
class Packing:
    """The contents of an archive to be: entries of the cache, and a working directory.

    ``parts`` are objects of a kernel that are the driver. ``qemu``, ``accel``, ``compiler`` and
    ``pkvfuzz`` are what the archive is of use with.
    """

    entries: Collection[Path]
    qemu: str
    accel: str
    compiler: str
    pkvfuzz: str
    parts: Collection[Path] = ()
    workdir: Path | None = None
    target: str = ""


@dataclass(slots=True)
class _PackedFile:
    name: str
    path: Path
    size: int = field(init=False)

    def __post_init__(self) -> None:
        link = self.path.is_symlink()
        self.size = 0 if link or not self.path.is_file() else self.path.stat().st_size


def write_archive(path: Path, packing: Packing) -> tuple[Manifest, str]:
    """Write an archive; return what it has, and its hash.

    Raises:
        InfrastructureError: it cannot be written; what was there stays.
    """
    members, entries, sources = _members(packing)
    manifest = Manifest(
        entries,
        sources,
        sum(member.size for member in members),
        len(members),
        packing.qemu,
        packing.accel,
        packing.compiler,
        packing.pkvfuzz,
        target=packing.target if packing.workdir else "",
    )
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("w+b") as file:
            write_head(file, bytes(32))
            file.flush()
            with _compressor(file) as stream:
                _write_members(stream, manifest, members)
            file.seek(0, os.SEEK_END)
            write_head(file, bytes(32))
            digest = rest_digest(file)
            write_head(file, digest)
        partial.replace(path)
    except OSError as error:
        full = error.errno in {errno.ENOSPC, errno.EDQUOT}
        why = "the disk is full" if full else error.strerror or str(error)
        raise InfrastructureError(
            f"writing {path}: {why}. Some {manifest.size >> 22} MiB are needed there"
        ) from error
    finally:
        partial.unlink(missing_ok=True)
    return manifest, digest.hex()


def _members(packing: Packing) -> tuple[list[_PackedFile], tuple[str, ...], dict[str, str]]:
    found: dict[str, Iterator[Path]] = {}
    sources: dict[str, str] = {}
    known = {path.name: path for path in packing.entries if kind_of(path.name) in KINDS}
    for name, directory in list(known.items()):
        found[name] = entry_files(directory)
        if is_kernel(name):
            source = (directory / SOURCE_LINK).resolve()
            sources[name] = devel = f"{PARTIAL_SOURCE}-{source.name.rpartition('-')[2]}"
            known[devel], found[devel] = source, source_files(source)
            found[name] = kernel_files(directory, packing.parts)
    members: list[_PackedFile] = []
    # In the same order wherever they come from.
    for name in sorted(found):
        members += _listed(f"{CACHE}/{name}", known[name], found[name])
    if packing.workdir is not None:
        for part in _KEPT:
            directory = packing.workdir / part
            members += _listed(f"{WORKDIR}/{part}", directory, every_file(directory))
    return members, tuple(sorted(found)), sources


def _listed(name: str, root: Path, files: Iterator[Path]) -> Iterator[_PackedFile]:
    for path in files:
        inside = path.relative_to(root).as_posix()
        if path.is_symlink() and not stays_inside(inside, str(path.readlink())):
            continue
        if path.is_symlink() or path.is_file() or path.is_dir():
            yield _PackedFile(f"{name}/{inside}", path)


def _write_members(stream: IO[bytes], manifest: Manifest, members: Sequence[_PackedFile]) -> None:
    progress = Progress("packing", manifest.size)
    done = 0
    with tarfile.open(mode="w|", fileobj=stream, format=tarfile.PAX_FORMAT) as tar:
        content = manifest.to_json()
        tar.addfile(_info(MANIFEST, size=len(content)), io.BytesIO(content))
        for member in members:
            path = member.path
            if path.is_symlink():
                link = _info(member.name, kind=tarfile.SYMTYPE)
                link.linkname = str(path.readlink())
                tar.addfile(link)
            elif path.is_dir():
                tar.addfile(_info(member.name, kind=tarfile.DIRTYPE, executable=True))
            else:
                executable = bool(path.stat().st_mode & 0o100)
                with path.open("rb") as file:
                    info = _info(member.name, size=member.size, executable=executable)
                    tar.addfile(info, file)
            done += member.size
            progress.update(done, member.name.split("/")[1])
    progress.clear()


def _info(
    name: str, *, kind: bytes = tarfile.REGTYPE, size: int = 0, executable: bool = False
) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.size, info.mtime = kind, size, _TIME
    info.mode = 0o755 if executable else 0o644
    return info


@contextmanager
def _compressor(file: IO[bytes]) -> Iterator[IO[bytes]]:
    """Return a stream that is compressed into a file."""
    program = find_tool("zstd", "packing the cache")
    # The number of threads makes no difference to what comes out.
    words = [str(program), "-q", "-T0", f"-{_LEVEL}", f"--long={WINDOW}", "-c"]
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=file, stderr=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        try:
            with contextlib.suppress(BrokenPipeError):
                yield process.stdin
                process.stdin.close()
        except BaseException:
            process.kill()
            raise
        said = process.stderr.read().decode(errors="replace").strip()
    if process.returncode:
        number = errno.ENOSPC if "No space left" in said else errno.EIO
        raise OSError(number, said or f"zstd ended with {process.returncode}")
