# SPDX-License-Identifier: Apache-2.0
"""The form of an archive: a Zstandard file whose first frame has the hash of all that follows.

That frame is one that decompressors skip, so ``zstd -d | tar -t`` lists an archive. In it is a
tar file: ``manifest.json``, then ``cache/ENTRY/...`` and ``workdir/...``.
"""

from __future__ import annotations

import hashlib
import json
import re
import struct
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

from fuzzer.checked import parse_json
from fuzzer.errors import BadInputError

MANIFEST, CACHE, WORKDIR = "manifest.json", "cache", "workdir"
KINDS = (
    "base", "deferred", "devel", "driver", "equipment", "headers", "initrd", "kernel-fast",
    "kernel-full", "kernel-kcsan", "module", "operations", "probe", "stack", "symbols",
    "variant-fast", "variant-full", "variant-kcsan", "whole",
)  # fmt: skip
"""The kinds of entries that an archive may have."""

WINDOW = 27
"""The logarithm of the window in bytes; an archive takes as much memory to read."""

MOST_BYTES, MOST_FILES = 16 << 30, 400_000
"""The most that an archive holds, unpacked."""

_FORMAT = 1
_ENTRY = re.compile(r"([a-z-]+)-[0-9a-f]{16}\Z")
_HEAD = struct.Struct("<II8s32s")
_SKIPPABLE, _NAME = 0x184D2A5A, b"pkvfuzz\1"
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Manifest:
    """The contents of an archive, and where it is of use.

    ``entries`` are names of the cache; ``sources`` tells for each kernel which of them has what
    modules are built with. ``size`` is in bytes, unpacked; ``files`` is the number of files.
    ``qemu``, ``accel`` and ``compiler`` are those of the host that it was made on. ``target`` is
    the name of a driver, if it has a working directory of it.
    """

    entries: tuple[str, ...]
    sources: dict[str, str]
    size: int
    files: int
    qemu: str
    accel: str
    compiler: str
    pkvfuzz: str
    machine: str = "x86_64"
    target: str = ""

    def to_json(self) -> bytes:
        """Return it as a file."""
        return json.dumps({"format": _FORMAT} | asdict(self), indent=1, sort_keys=True).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Manifest:
        """Return what a file has; ValueError if it has something else, or too much."""
        content = parse_json(data, dict[str, Any])
        if content.pop("format", None) != _FORMAT:
            raise ValueError("it is of another version of pkvfuzz")
        entries, sources = content.pop("entries"), content.pop("sources")
        known = {name: content.pop(name) for name in ("size", "files")}
        if not all(type(number) is int and number >= 0 for number in known.values()):
            raise ValueError("its size is no number")
        if known["size"] > MOST_BYTES or known["files"] > MOST_FILES:
            raise ValueError(f"it has more than {MOST_BYTES >> 30} GiB, or {MOST_FILES:,} files")
        if not all(isinstance(text, str) for text in content.values()):
            raise ValueError("its manifest is damaged")
        for name in entries:
            check_entry(name)
        for name, source in sources.items():
            if name not in entries or source not in entries or kind_of(source) != "devel":
                raise ValueError(f"its manifest names {source!r} as the source of {name!r}")
        return cls(tuple(entries), dict(sources), **known, **content)


def kind_of(entry: str) -> str:
    """Return the kind of an entry of the cache; empty for what is none."""
    found = _ENTRY.match(str(entry))
    return found[1] if found else ""


def check_entry(name: str) -> None:
    """Raise ValueError for what an archive must not put into the cache."""
    if kind_of(name) not in KINDS:
        raise ValueError(f"{name!r} is no entry of a cache that can be imported")


def write_head(file: BinaryIO, digest: bytes) -> None:
    """Write the frame with the hash at the start of a file; 32 zero bytes reserve its place."""
    file.seek(0)
    file.write(_HEAD.pack(_SKIPPABLE, _HEAD.size - 8, _NAME, digest))


def read_head(file: BinaryIO, path: Path) -> bytes:
    """Return the hash that a file begins with.

    Raises:
        BadInputError: it is no archive.
    """
    data = file.read(_HEAD.size)
    if len(data) == _HEAD.size:
        magic, size, name, digest = _HEAD.unpack(data)
        if (magic, size, name) == (_SKIPPABLE, _HEAD.size - 8, _NAME):
            return bytes(digest)
    raise BadInputError(f"{path} is no file that pkvfuzz cache export wrote")


def rest_digest(file: BinaryIO, update: Callable[[int], None] = lambda _done: None) -> bytes:
    """Return the hash of the rest of a file; ``update`` is told how many bytes were read."""
    digest, done = hashlib.sha256(), 0
    while chunk := file.read(_CHUNK):
        digest.update(chunk)
        done += len(chunk)
        update(done)
    return digest.digest()
