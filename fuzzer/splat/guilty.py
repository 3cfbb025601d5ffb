# SPDX-License-Identifier: Apache-2.0
"""The guilty function: the first of where a report happened that is not machinery."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Iterable, Sequence

from fuzzer.splat.frames import Frame, parse_frame, plain_name
from fuzzer.splat.machinery import is_entry, is_leaf, is_machinery, system_call
from fuzzer.splat.rules import Family, Rule
from fuzzer.splat.stacks import Role, Stack, find_stacks

POINTER = "instruction pointer"
# "Workqueue: events drv_work [drv]"; the name of the queue may be empty.
_WORK = re.compile(r"^Workqueue: (?:\S+ +)?([A-Za-z_][\w.]*)(?: \[\w+\])?$")
# What a first line names: KASAN's and lockdep's "in f+0x1/0x2", a warning's "at file f+0x1/0x2".
# Decoded, "f (file:1) module" stands for that.
_HEAD = re.compile(
    r"(?: in |: at | at |, at: |IP: (?:\[<[0-9a-f]+>\] )?)(?:\S+:\d+ )?(?:\[<[0-9a-f]+>\] )?"
    r"(?P<frame>[A-Za-z_][\w.]*(?:\+0x[0-9a-f]+/0x[0-9a-f]+(?: \[\w+\])?| \([^()\s]+:\d+[ )].*))"
)
_HEAD_LINES = 12
# From here on frames are of what a timer or an interrupt interrupted.
_INTERRUPT = re.compile(
    r"^(?:(?:asm_)?sysvec_apic_timer_interrupt|(?:smp_)?apic_timer_interrupt|timer_interrupt|do_IRQ"
    r"|(?:asm_)?common_interrupt|ret_from_intr|el1h?_(?:64_)?irq|el1_interrupt|gic_handle_irq"
    r"|__irq_svc|decrementer_common|asm_exc_nmi|end_repeat_nmi|nmi)$"
)
# System calls that hand on to a file's or a protocol's operations.
_PASSED_ON = re.compile(
    r"sys_(?:ioctl|p?readv?\d*|p?writev?\d*|read|write|mmap\w*|open\w*|close|poll|\w*sockopt|send\w*"
    r"|recv\w*|socket\w*|connect|bind|listen|accept4?|splice|sendfile\w*|f?sync\w*)$"
)
_WAITS = re.compile(
    r"^(?:synchronize_(?:rcu|net|sched)(?:_\w+)?|(?P<call>smp_call_function\w*)|_*wait_rcu_gp)$"
)
# A function that often in a stack is one that calls itself.
_RECURSION = 3


def main_frames(stacks: Sequence[Stack], *, interrupted: bool = False) -> list[Frame]:
    """Return the reliable frames of where a report happened, innermost first.

    That is the instruction pointer, when the report names one, and the first
    stack: not those of other tasks, and not what an interrupt interrupted, unless
    ``interrupted`` says that this is what the report is about.
    """
    frames = [f for s in stacks if s.role is Role.FAULT for f in s.frames if f.reliable]
    if not interrupted:
        return frames
    # The timer that noticed a stall, then what ran under it: in an interrupt, or in a task.
    first = next((i for i, f in enumerate(frames) if _INTERRUPT.match(f.function)), None)
    if first is not None:
        pointer = [f for s in stacks if s.heading == POINTER for f in s.frames if f.reliable]
        frames = pointer[:1] + frames[first:]
    below = next((stack for stack in stacks if stack.role is Role.INTERRUPTED), None)
    return frames + ([frame for frame in below.frames if frame.reliable] if below else [])


def guilty_frame(frames: Iterable[Frame]) -> Frame | None:
    """Return the first frame that is not machinery.

    A frame of a module is preferred: core code that is not known as such was
    still called by the driver under test.
    """
    left = [frame for frame in frames if not is_machinery(frame)]
    return next((frame for frame in left if frame.module), left[0] if left else None)


def guilty_function(lines: Sequence[str]) -> str | None:
    """Return the guilty function of a report's lines."""
    frame = guilty_frame(main_frames(find_stacks(lines)))
    return frame.function if frame else None


def find_guilty(rule: Rule, stacks: Sequence[Stack]) -> Frame | None:
    """Return the frame that is to blame for a report of a kind, None when all is machinery."""
    frames = main_frames(stacks, interrupted=rule.interrupted)
    if rule.family is Family.STACK and (again := _recursion(frames)):
        return again
    guilty = guilty_frame(frames)
    if not rule.interrupted or (guilty and guilty.module):
        return guilty
    if waited := _waited_for(frames):
        return waited
    if "hung" in rule.title:
        return guilty
    if guilty is None:
        # What the CPU that noticed does is no more than that: another one's stack follows.
        others = [list(s.frames) for s in stacks if s.role in {Role.OTHER, Role.OTHER_TASK}]
        frames = next((each for each in others if guilty_frame(each)), [])
        guilty = guilty_frame(frames)
    return _entered(frames, guilty) if guilty else None


def _waited_for(frames: Sequence[Frame]) -> Frame | None:
    """Return the function that waits for all other CPUs; one of these holds up its caller."""
    for frame in frames:
        if found := _WAITS.match(frame.function):
            name = "smp_call_function" if found["call"] else "synchronize_rcu"
            return dataclasses.replace(frame, function=name)
    return None


def _entered(frames: Sequence[Frame], guilty: Frame) -> Frame:
    """Return what the core entered: where in it a stall is noticed is another place each time."""
    entered = guilty
    for frame in frames[frames.index(guilty) :]:
        call = system_call(frame.function)
        if call and not _PASSED_ON.match(call):
            return dataclasses.replace(frame, function=call)
        if is_entry(frame):
            break
        if not is_machinery(frame):
            entered = frame
    return entered


def _recursion(frames: Sequence[Frame]) -> Frame | None:
    """Return the function that a stack overflows with: the outermost of those called most."""
    left = [frame for frame in frames if not is_machinery(frame)]
    calls = Counter(frame.function for frame in left)
    most = max(calls.values(), default=0)
    if most < _RECURSION:
        return None
    return next(frame for frame in reversed(left) if calls[frame.function] == most)


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


def named_at(texts: Sequence[str]) -> Frame | None:
    """Return the first frame that a report's first lines name and that is not machinery."""
    heads = (found for text in texts[:_HEAD_LINES] if (found := _HEAD.search(text)))
    frames = (frame for found in heads if (frame := parse_frame(found["frame"])))
    return next((frame for frame in frames if not is_machinery(frame)), None)


def place_of(texts: Sequence[str], stacks: Sequence[Stack], rule: Rule) -> str | None:
    """Return a name for a stack of nothing but machinery.

    The function that the first line names, if it was called; the system call; the
    first function that does more than everybody's errands.
    """
    frames = main_frames(stacks, interrupted=rule.interrupted)
    found = _HEAD.search(texts[0]) if texts else None
    head = parse_frame(found["frame"]) if found else None
    if head and not is_leaf(head.function):
        for frame in frames:
            if frame.function == head.function:
                return system_call(head.function) or head.function
    for frame in frames:
        if call := system_call(frame.function):
            return call
    return next((frame.function for frame in frames if not is_leaf(frame.function)), None)


def races(stacks: Sequence[Stack], match: re.Match[str]) -> str | None:
    """Return both sides of a data race, sorted: ``f / g``; one, when only one is known."""
    sides = [s for s in stacks if s.role in {Role.FAULT, Role.OTHER_TASK}]
    named = [plain_name(name) for name in match.groups()[1:] if name]
    found = [frame.function for s in sides[:2] if (frame := guilty_frame(s.frames))]
    functions = found if len(found) >= len(named) else []
    return " / ".join(sorted(functions)) or None
