# SPDX-License-Identifier: Apache-2.0
"""Several wire programs in one byte string: a history, or a batch to loop over.

Each program is stored as its length, a little-endian ``uint32``, and its bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

_LENGTH = struct.Struct("<I")


def pack(programs: Iterable[bytes]) -> bytes:
    """Return the programs in one byte string."""
    return b"".join(_LENGTH.pack(len(program)) + program for program in programs)


def unpack(data: bytes) -> list[bytes]:
    """Return the programs in a byte string.

    Raises:
        ValueError: it is cut short.
    """
    programs, at = [], 0
    while at < len(data):
        if at + _LENGTH.size > len(data):
            raise ValueError(f"a length is cut short at byte {at}")
        (length,) = _LENGTH.unpack_from(data, at)
        at += _LENGTH.size
        if length > len(data) - at:
            raise ValueError(f"a program of {length} bytes is cut short at byte {at}")
        programs.append(data[at : at + length])
        at += length
    return programs
