# SPDX-License-Identifier: Apache-2.0
"""A kernel report ("splat") as data. ``README.md`` beside this file describes the JSON form."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from fuzzer.splat.memory import Access, SlabObject
from fuzzer.splat.rules import Family
from fuzzer.splat.severity import Severity
from fuzzer.splat.stacks import Role, Stack

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Task:
    """The task that was running."""

    name: str | None = None
    pid: int | None = None
    cpu: int | None = None


@dataclass(frozen=True, slots=True)
class Module:
    """A module; ``marks`` are what "Modules linked in" says of it, in words."""

    name: str
    marks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Holder:
    """A task that holds a lock another one waits for, and the function that took it, if known."""

    lock: str
    task: str
    pid: int
    function: str | None


@dataclass(frozen=True, slots=True)
class Splat:
    """One kernel report.

    ``corrupted`` says why it cannot be trusted, None when it can: then ``function``
    is the guilty function, if the kind has one. ``line`` is where it starts
    in its log, from 1. ``caller`` is the printing task or CPU, as ``T27`` or ``C0``.
    ``taint`` are the letters that the kernel prints. ``locks`` are the names of
    the lock classes in a lockdep report. ``crash`` is false for a notice: worth a
    line, but no crash. ``message`` is what WARN() says before the first line, ``advice``
    what to do about a notice. ``module`` is that of the guilty function, None for the kernel's
    own; ``source`` the file and line of where it happened. ``holders`` are those of the
    lock that a task which hangs waits for. ``cut`` tells that the log ends before the stack of
    where it happened does, or has none.
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
    message: str | None = None
    advice: str | None = None
    module: Module | None = None
    source: str | None = None
    holders: tuple[Holder, ...] = ()
    cut: bool = False

    @property
    def complete(self) -> bool:
        """True if the report is not damaged, and has a whole stack."""
        return self.corrupted is None and not self.cut

    @property
    def is_reported(self) -> bool:
        """True if it is in a log: silence, and a splat that only has a title, have no line."""
        return self.line > 0

    def stack(self, role: Role) -> Stack | None:
        """Return the first stack of a role, or None."""
        return next((stack for stack in self.stacks if stack.role is role), None)


def to_json(splat: Splat) -> dict[str, Any]:
    """Return a splat as JSON values; addresses are hexadecimal strings."""
    value = dataclasses.asdict(splat)
    if splat.access and splat.access.address is not None:
        value["access"]["address"] = f"{splat.access.address:#x}"
    for stack in value["stacks"]:
        stack["frames"] = [
            {key: item for key, item in frame.items() if item is not None}
            for frame in stack["frames"]
        ]
    return {"format": FORMAT, **value}
