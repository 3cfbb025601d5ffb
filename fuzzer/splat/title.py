# SPDX-License-Identifier: Apache-2.0
"""Titles, in the form that the kernel community knows from syzbot.

The guilty function is the first one of where it happened that is not
sanitizer, allocator, lock, copy or printk machinery.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from fuzzer.splat.frames import Frame, plain_name
from fuzzer.splat.machinery import MACHINERY
from fuzzer.splat.rules import CUT_SHORT, Rule
from fuzzer.splat.stacks import Role, Stack, find_stacks

_ACCESS = re.compile(r"^(Read|Write) (?:of size|at addr) ")
_WORK = re.compile(r"^Workqueue: \S+ ([A-Za-z_][\w.]*)")
_PLACE = re.compile(r" in ([A-Za-z_][\w.]*)\+0x[0-9a-f]+/0x[0-9a-f]+")
# What differs from run to run.
_ADDRESS = re.compile(r"\b(?:0x)?[0-9a-f]{8,}\b|\(____ptrval____\)")


def main_frames(stacks: Sequence[Stack], *, interrupted: bool = False) -> list[Frame]:
    """Return the reliable frames of where a report happened, innermost first.

    That is the instruction pointer, when the report names one, and the first
    stack: not those of other tasks, and not what an interrupt interrupted, unless
    ``interrupted`` says that this is what the report is about.
    """
    own = [stack for stack in stacks if stack.role is Role.FAULT]
    frames = [frame for stack in own for frame in stack.frames]
    if interrupted:
        below = [stack for stack in stacks if stack.role is Role.INTERRUPTED]
        pointer = [f for s in own if s.heading == "instruction pointer" for f in s.frames]
        if below:
            frames = pointer + list(below[0].frames)
    return [frame for frame in frames if frame.reliable]


def guilty_frame(frames: Iterable[Frame]) -> Frame | None:
    """Return the first frame that is not machinery.

    A frame of a module is preferred: core code that is not in the list above
    was still called by the driver under test.
    """
    left = [frame for frame in frames if not MACHINERY.match(frame.function)]
    for frame in left:
        if frame.module:
            return frame
    return left[0] if left else None


def guilty_function(lines: Sequence[str]) -> str | None:
    """Return the guilty function of a report's lines."""
    frame = guilty_frame(main_frames(find_stacks(lines)))
    return frame.function if frame else None


def site_of(rule: Rule, texts: Sequence[str]) -> str | None:
    """Return the function that a report names beside its stack."""
    if rule.site:
        for text in texts:
            if found := rule.site.search(text):
                return plain_name(found[1])
    return None


def work_of(texts: Sequence[str]) -> str | None:
    """Return the work function whose worker a report is of."""
    for text in texts:
        if found := _WORK.match(text):
            return plain_name(found[1])
    return None


def place_of(texts: Sequence[str], stacks: Sequence[Stack]) -> str | None:
    """Return the function that a report's first line says it is about, if it was called."""
    found = _PLACE.search(texts[0]) if texts else None
    if found is None:
        return None
    named = plain_name(found[1])
    return named if any(frame.function == named for frame in main_frames(stacks)) else None


def races(stacks: Sequence[Stack], match: re.Match[str]) -> str | None:
    """Return both sides of a data race, sorted: ``f / g``; one, when only one is known."""
    sides = [s for s in stacks if s.role in {Role.FAULT, Role.OTHER_TASK}]
    named = [plain_name(name) for name in match.groups()[1:] if name]
    found = [frame.function for s in sides[:2] if (frame := guilty_frame(s.frames))]
    functions = found if len(found) >= len(named) else []
    return " / ".join(sorted(functions)) or None


def make_title(rule: Rule, match: re.Match[str], texts: Sequence[str], function: str | None) -> str:
    """Return the title of a report; ``function`` is None when it is not known."""
    access = "access"
    for text in texts[:6]:
        if found := _ACCESS.match(text):
            access = found[1]
    title = rule.title
    if function is None:
        title = title.replace(" in {function}", CUT_SHORT)
    groups = [_ADDRESS.sub("ADDR", group or "unknown fault") for group in match.groups()]
    return " ".join(title.format(*groups, access=access, function=function).split())
