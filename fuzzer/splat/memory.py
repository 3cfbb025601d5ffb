# SPDX-License-Identifier: Apache-2.0
"""The memory that a report is about: the access and the object."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class AddressClass(enum.StrEnum):
    """The kind of memory that an address points to."""

    NULL = "null"
    """In the first page."""
    ERROR = "error"
    """Within 4095 bytes of the end: an error number that was used as a pointer, or NULL less
    an offset."""
    USER = "user"
    KERNEL = "kernel"
    NONCANONICAL = "noncanonical"
    """No address at all: often data that was used as a pointer."""
    POISON = "poison"
    """A pattern that the kernel writes into freed or unused memory."""


@dataclass(frozen=True, slots=True)
class Access:
    """An access to memory.

    ``direction`` is ``read``, ``write``, ``free`` or ``execute``; ``size`` is bytes.
    """

    direction: str | None
    size: int | None = None
    address: int | None = None
    address_class: AddressClass | None = None


@dataclass(frozen=True, slots=True)
class SlabObject:
    """The object that was hit: its cache, its size in bytes, and where in it or beside it.

    ``offset`` counts bytes from the start for ``where`` ``inside``, and bytes of
    distance for ``left`` and ``right``. ``state`` is ``allocated`` or ``freed``.
    """

    cache: str | None
    size: int | None
    offset: int | None = None
    where: str | None = None
    state: str | None = None
