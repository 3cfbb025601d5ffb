# SPDX-License-Identifier: Apache-2.0
"""A report as data. ``README.md`` beside this file describes the JSON form."""

from __future__ import annotations

import dataclasses
import enum
from dataclasses import dataclass
from typing import Any

from fuzzer.splat.rules import Family
from fuzzer.splat.severity import Severity
from fuzzer.splat.stacks import Role, Stack

FORMAT = 1


class AddressClass(enum.StrEnum):
    """Where an address points."""

    NULL = "null"
    """Into the first page."""
    USER = "user"
    KERNEL = "kernel"
    NONCANONICAL = "noncanonical"
    """No address at all: often data that was used as a pointer."""
    POISON = "poison"
    """A pattern that the kernel writes into freed or unused memory."""


@dataclass(frozen=True, slots=True)
class Access:
    """What was done to memory.

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


@dataclass(frozen=True, slots=True)
class Task:
    """Who was running."""

    name: str | None = None
    pid: int | None = None
    cpu: int | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """One kernel report.

    ``corrupted`` says why it cannot be trusted, None when it can: then ``function``
    is the guilty function, if the kind has one. ``line`` is where it starts
    in its log, from 1. ``caller`` is the printing task or CPU, as ``T27`` or ``C0``.
    ``taint`` are the letters that the kernel prints. ``locks`` are the names of
    the lock classes in a lockdep report. ``crash`` is false for a notice: worth a
    line, but no crash.
    """

    title: str
    kind: str
    family: Family
    function: str | None
    corrupted: str | None
    severity: Severity
    access: Access | None
    object: SlabObject | None
    task: Task
    stacks: tuple[Stack, ...]
    locks: tuple[str, ...]
    modules: tuple[str, ...]
    kernel: str | None
    taint: str | None
    line: int
    caller: str | None
    crash: bool
    text: str

    def stack(self, role: Role) -> Stack | None:
        """Return the first stack of a role, or None."""
        return next((stack for stack in self.stacks if stack.role is role), None)


def to_json(record: Record) -> dict[str, Any]:
    """Return the record as JSON values; addresses are hexadecimal strings."""
    value = dataclasses.asdict(record)
    if record.access and record.access.address is not None:
        value["access"]["address"] = f"{record.access.address:#x}"
    for stack in value["stacks"]:
        stack["frames"] = [
            {key: item for key, item in frame.items() if item is not None}
            for frame in stack["frames"]
        ]
    return {"format": FORMAT, **value}
