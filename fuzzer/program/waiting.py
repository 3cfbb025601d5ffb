# SPDX-License-Identifier: Apache-2.0
"""Marks on the calls of a program that were seen to wait."""

from __future__ import annotations

from collections.abc import Collection

from fuzzer.program.ops import FLAG_WAITS
from fuzzer.program.wire import split


def note_waits(program: bytes, waited: Collection[int]) -> bytes:
    """Return a program in which exactly the calls with these indices are marked as waiting."""
    chunks = split(program)
    noted = [_noted(chunk, waits=index in waited) for index, chunk in enumerate(chunks)]
    return program if noted == chunks else b"".join(noted)


def _noted(chunk: bytes, *, waits: bool) -> bytes:
    flags = chunk[2] & ~FLAG_WAITS | (FLAG_WAITS if waits else 0)
    return chunk[:2] + bytes((flags,)) + chunk[3:]
