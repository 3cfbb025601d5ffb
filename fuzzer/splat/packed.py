# SPDX-License-Identifier: Apache-2.0
"""Compressed logs, as they are read: memory does not grow with what comes out of one."""

from __future__ import annotations

import bz2
import contextlib
import lzma
import subprocess
import threading
import zlib
from collections.abc import Iterable, Iterator
from typing import IO, BinaryIO, cast

from fuzzer.errors import BadInputError

_CHUNK = 256 * 1024
_MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"\x1f\x8b\x08", "gzip"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"BZh", "bzip2"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"\x04\x22\x4d\x18", "lz4"),
    (b"PK\x03\x04", "zip"),
    (b"7z\xbc\xaf\x27\x1c", "7z"),
    (b"LPKSHHRH", "systemd's journal"),
)


def decompressed(name: str, start: bytes, chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Return what a log is decompressed; one that is not compressed as it is.

    ``start`` are its first bytes, ``name`` is for messages.

    Raises:
        BadInputError: it is damaged, or in a form that is not read here.
    """
    form = next((form for magic, form in _MAGIC if start.startswith(magic)), None)
    if form is None:
        return chunks
    if form in {"zip", "7z"}:
        raise BadInputError(f"reading the log {name}: it is a {form} archive. Unpack it first")
    if form == "systemd's journal":
        raise BadInputError(
            f"reading the log {name}: it is a file of systemd's journal. Give what "
            "journalctl -k --file prints of it"
        )
    plain = _by_program(name, form, chunks) if form in {"zstd", "lz4"} else _by_module(form, chunks)
    return _checked(name, form, plain)


def _checked(name: str, form: str, chunks: Iterator[bytes]) -> Iterator[bytes]:
    try:
        yield from chunks
    except (zlib.error, lzma.LZMAError, OSError, ValueError, EOFError) as error:
        raise BadInputError(
            f"reading the log {name}: it is compressed ({form}) and damaged: {error}. "
            f"Decompress what is left of it, and give that"
        ) from error


def _by_module(form: str, chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Decompress with Python's own modules. Several files may follow each other."""
    source = iter(chunks)
    data = next(source, b"")
    while data.strip(b"\0"):
        member = _Member(form)
        while True:
            yield from member.feed(data)
            if member.eof:
                data = member.unused or next(source, b"")
                break
            data = next(source, b"")
            if not data:
                # Cut: what there is of it is read.
                return


class _Member:
    """One compressed file, decompressed in pieces of bounded size."""

    def __init__(self, form: str) -> None:
        self._zlib = zlib.decompressobj(zlib.MAX_WBITS | 16) if form == "gzip" else None
        self._other = lzma.LZMADecompressor() if form == "xz" else bz2.BZ2Decompressor()

    @property
    def eof(self) -> bool:
        return self._zlib.eof if self._zlib else self._other.eof

    @property
    def unused(self) -> bytes:
        return self._zlib.unused_data if self._zlib else self._other.unused_data

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield what comes of the next bytes."""
        if self._zlib:
            while data and not self._zlib.eof:
                yield self._zlib.decompress(data, _CHUNK)
                data = self._zlib.unconsumed_tail
            return
        yield self._other.decompress(data, _CHUNK)
        while not self._other.eof and not self._other.needs_input:
            yield self._other.decompress(b"", _CHUNK)


def _by_program(name: str, form: str, chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Decompress with the program that is called as the form is."""
    try:
        process = subprocess.Popen(
            [form, "-dcq"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
    except FileNotFoundError as error:
        raise BadInputError(
            f"reading the log {name}: it is compressed, and the program {form} is not here. "
            f"Install it (apt-get install {form}), or give the log decompressed"
        ) from error
    assert process.stdin
    assert process.stdout
    writer = threading.Thread(target=_fill, args=(process.stdin, chunks), daemon=True)
    writer.start()
    output = cast("BinaryIO", process.stdout)
    something = False
    try:
        while chunk := output.read(_CHUNK):
            something = True
            yield chunk
    finally:
        process.stdout.close()
        process.kill()
        status = process.wait()
        writer.join()
    if not something and status:
        raise ValueError(f"{form} ended with {status}")


def _fill(pipe: IO[bytes], chunks: Iterable[bytes]) -> None:
    with contextlib.suppress(BrokenPipeError, ValueError), pipe:
        for chunk in chunks:
            pipe.write(chunk)
