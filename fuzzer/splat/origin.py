# SPDX-License-Identifier: Apache-2.0
"""The module, the source line and the lock's holders that a report names."""

from __future__ import annotations

import re
from collections.abc import Sequence

from fuzzer.splat.frames import Frame, plain_name
from fuzzer.splat.splat import Holder, Module, Task
from fuzzer.splat.stacks import Stack

_MODULES = "Modules linked in:"
_MARKS = {
    "P": "proprietary",
    "O": "out of tree",
    "F": "loaded by force",
    "C": "staging",
    "E": "unsigned",
    "K": "live patch",
    "N": "for tests",
    "+": "being loaded",
    "-": "being unloaded",
}
_FILE = r"(?P<file>[\w./+-]{1,300}\.(?:[chS]|rs):\d+)"
# What UBSAN, WARN() and BUG() print, and checks of the context.
_SOURCE = re.compile(
    r"(?:UBSAN: .{1,80} in |WARNING: (?:.{1,60} at )?|[kK]ernel BUG at |invalid context at "
    r"|panicked at (?:'.{1,300}', )?)" + _FILE
)
_HEAD_LINES = 12
_HELD_BY = re.compile(r"^\d+ locks? held by (?P<name>.{1,40})/(?P<pid>\d+):")
_HELD = re.compile(
    r"^ *#\d+: (?P<address>[0-9a-f]{8,16}) \((?P<lock>[^{}]{1,200})\)\{.{1,60}"
    r", at: (?P<function>[\w.]+)"
)
# Linux 6.15 says it itself.
_OWNED = re.compile(
    r"blocked on an? (?P<lock>[\w -]{1,40}?),? likely (?:last )?"
    r"owned by task (?P<name>.{1,40}):(?P<pid>\d+)"
)
_MAX_HELD = 2000
_PANICKED = re.compile(r": panicked at (?:'(?P<message>.{1,300})', )?\S+:\d+:\d+:?$")


def find_module(
    texts: Sequence[str], stacks: Sequence[Stack], function: str | None, guilty: Frame | None
) -> Module | None:
    """Return the module of the guilty function; None when it is the kernel's own, or not known."""
    name = guilty.module if guilty and guilty.function == function else None
    if name is None and function is not None:
        names = set(function.split(" / "))
        frames = (frame for stack in stacks for frame in stack.frames if frame.reliable)
        name = next((f.module for f in frames if f.module and f.function in names), None)
    if name is None and function is not None:
        # The first line may be all there is; an interrupt's handlers stand below the stack.
        head = re.compile(rf"\b{re.escape(function)}(?:\.\S*)?(?:\+\S+)? \[(\w+)")
        found = next((m for text in texts if function in text and (m := head.search(text))), None)
        name = found[1] if found else None
    return Module(name, _marks_of(texts, name)) if name else None


def _marks_of(texts: Sequence[str], name: str) -> tuple[str, ...]:
    for text in texts:
        if text.startswith(_MODULES):
            found = re.search(rf" {re.escape(name)}\(([A-Z+-]+)\)", text)
            return tuple(_MARKS[each] for each in found[1] if each in _MARKS) if found else ()
    return ()


def find_source(texts: Sequence[str], guilty: Frame | None) -> str | None:
    """Return file and line of where it happened, as the log has it."""
    for text in texts[:_HEAD_LINES]:
        if found := _SOURCE.search(text):
            return found["file"]
    return guilty.file if guilty else None


def find_panic(texts: Sequence[str]) -> str | None:
    """Return the message of a Rust panic: in its next line, or up to Rust 1.72 in its first."""
    found = _PANICKED.search(texts[0]) if texts else None
    if found is None:
        return None
    after = texts[1].strip() if len(texts) > 1 else ""
    return found["message"] or after or None


def find_holders(texts: Sequence[str], task: Task) -> tuple[Holder, ...]:
    """Return the other holders of locks that a hanging task has, or waits for.

    The kernel lists a lock that is waited for like one that is held.
    """
    held: dict[tuple[str, int], dict[str, Holder]] = {}
    owner: tuple[str, int] | None = None
    for text in texts:
        if found := _OWNED.search(text):
            return (Holder(found["lock"], found["name"], int(found["pid"]), None),)
        if found := _HELD_BY.match(text):
            owner = (found["name"], int(found["pid"]))
        elif owner and len(held) < _MAX_HELD and (found := _HELD.match(text)):
            holder = Holder(found["lock"], *owner, plain_name(found["function"]))
            held.setdefault(owner, {})[found["address"]] = holder
    own = next((locks for (_, pid), locks in held.items() if pid == task.pid), {})
    return tuple(
        holder
        for (_, pid), locks in held.items()
        if pid != task.pid
        for address, holder in locks.items()
        if address in own
    )
