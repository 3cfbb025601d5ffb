# SPDX-License-Identifier: Apache-2.0
"""The guilty function: the first of where a report happened that is not machinery."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Iterable, Sequence

from fuzzer.splat.frames import Frame, parse_frame, plain_name
from fuzzer.splat.machinery import is_entry, is_leaf, is_machinery, is_made, system_call
from fuzzer.splat.rules import Family, Rule
from fuzzer.splat.stacks import Role, Stack, find_stacks

POINTER = "instruction pointer"
# "Workqueue: events drv_work [drv]"; the name of the queue may be empty.
_WORK = re.compile(r"^Workqueue: (?:\S+ +)?([A-Za-z_][\w.]*)(?: \[\w+\])?(?: \([^()]*\))?$")
_WORKERS = frozenset({"process_one_work", "process_scheduled_works", "worker_thread"})
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
    r"|(?:smp_)?(?:call_function(?:_single)?|irq_work|reschedule)_interrupt"
    r"|(?:asm_)?common_interrupt|ret_from_intr|el1h?_(?:64_)?irq|el1_interrupt|gic_handle_irq"
    r"|__handle_irq_event_percpu|plat_irq_dispatch|__irq_svc|decrementer_common|asm_exc_nmi|end_repeat_nmi|nmi)$"
)
# What runs under the timer interrupt that notices a stall.
_TICK = re.compile(
    r"^(?:hrtimer_interrupt|tick_|update_process_times|watchdog|rcu_sched_clock_irq)"
)
# What the core does for nobody in particular, whoever runs: it switches tasks, reclaims memory,
# or serves an interrupt.
_FOR_NOBODY = re.compile(
    r"^(?:__schedule|(?:do_)?shrink_(?:slab|node|lruvec|one|many)\w*|(?:do_)?try_to_free_\w*pages"
    r"|prune_\w+_sb|(?:kasan_)?quarantine_reduce|asm_(?:sysvec_\w+|common_interrupt))$"
)
# A report on a lock names its caller below this line.
_RELEASE = re.compile(r" is trying to release lock .*at:$")
_ALLOCATED = "page last allocated"
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


def _where(stacks: Sequence[Stack]) -> list[Frame]:
    return [f for s in stacks if s.role is Role.FAULT for f in s.frames if f.reliable]


def main_frames(stacks: Sequence[Stack], *, interrupted: bool = False) -> list[Frame]:
    """Return the reliable frames of where a report happened, innermost first.

    That is the instruction pointer, when the report names one, and the first
    stack: not those of other tasks, and not what an interrupt interrupted, unless
    ``interrupted`` says that this is what the report is about.
    """
    frames = _where(stacks)
    if not interrupted:
        return _for_somebody(frames)
    # The timer that noticed a stall, then what ran under it: in an interrupt, or in a task.
    first = next((i for i, f in enumerate(frames) if _INTERRUPT.match(f.function)), None)
    if first is not None and any(_TICK.match(frame.function) for frame in frames[:first]):
        pointer = [f for s in stacks if s.heading == POINTER for f in s.frames if f.reliable]
        frames = pointer[:1] + frames[first:]
    below = next((stack for stack in stacks if stack.role is Role.INTERRUPTED), None)
    return frames + ([frame for frame in below.frames if frame.reliable] if below else [])


def _for_somebody(frames: list[Frame]) -> list[Frame]:
    """Return the frames without those of a task that was interrupted, or ran by chance."""
    working = False
    for index, frame in enumerate(frames):
        if not is_machinery(frame):
            break
        is_end = _FOR_NOBODY.match(frame.function) or _INTERRUPT.match(frame.function)
        working = working or not (is_leaf(frame.function) or frame.function == "__schedule")
        if is_end and working:
            return frames[: index + 1]
    return frames


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
    if rule.family is Family.STACK and (again := _recursion(_where(stacks))):
        return again
    if rule.of_page:
        pages = [s.frames for s in stacks if s.heading.startswith(_ALLOCATED)]
        owner = next((frame for each in pages if (frame := guilty_frame(each))), None)
        if owner:
            return owner
    guilty = guilty_frame(frames) or _told_besides(rule, stacks)
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


def _told_besides(rule: Rule, stacks: Sequence[Stack]) -> Frame | None:
    """Return the guilty frame of another stack where that of the report is of the core alone."""
    if rule.family is Family.UNINIT:
        others = [stack.frames for stack in stacks if stack.role is Role.ORIGIN]
    elif rule.family is Family.LOCK:
        others = [stack.frames for stack in stacks if _RELEASE.search(stack.heading)]
    else:
        return None
    return next((frame for frames in others if (frame := guilty_frame(frames))), None)


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


def work_of(texts: Sequence[str], frames: Sequence[Frame]) -> str | None:
    """Return the work function whose worker a report is of."""
    if not any(frame.function in _WORKERS for frame in frames):
        return None
    for text in texts:
        if found := _WORK.match(text):
            return plain_name(found[1])
    return None


def named_at(texts: Sequence[str], *, is_all: bool = False) -> Frame | None:
    """Return the first frame that a report's first lines name and that is not machinery.

    Where that ``is_all`` there is, machinery is named too.
    """
    heads = (found for text in texts[:_HEAD_LINES] if (found := _HEAD.search(text)))
    frames = [frame for found in heads if (frame := parse_frame(found["frame"]))]
    named = [frame for frame in frames if not is_machinery(frame)]
    if is_all:
        named += [frame for frame in frames if not is_leaf(frame.function)]
    return named[0] if named else None


def warned_at(texts: Sequence[str], stacks: Sequence[Stack], guilty: Frame | None) -> Frame | None:
    """Return the function that a warning's first line names, where no stack has it.

    A module's frame in the stack goes before a function of the kernel's own.
    """
    found = _HEAD.search(texts[0]) if texts else None
    frame = parse_frame(found["frame"]) if found else None
    if frame is None or is_machinery(frame):
        return None
    if guilty and guilty.module and not frame.module:
        return None
    seen = {each.function for stack in stacks for each in stack.frames if each.reliable}
    return None if frame.function in seen else frame


def place_of(texts: Sequence[str], stacks: Sequence[Stack], rule: Rule) -> str | None:
    """Return the name for a stack of nothing but machinery.

    The work function; the function that the first line names, if it was called; the system
    call; the first function that does more than everybody's errands; the outermost one
    that is known by a name of its own.
    """
    frames = main_frames(stacks, interrupted=rule.interrupted)
    if not frames:
        return None
    if work := work_of(texts, frames):
        return work
    found = _HEAD.search(texts[0]) if texts else None
    head = parse_frame(found["frame"]) if found else None
    if head and not is_leaf(head.function):
        for frame in frames:
            if frame.function == head.function:
                return system_call(head.function) or head.function
    for frame in frames:
        if call := system_call(frame.function):
            return call
    if busy := _first_busy(frames):
        return busy
    pointer = next((s.frames[0].function for s in stacks if s.heading == POINTER), None)
    if pointer and not is_made(pointer):
        return pointer
    if not is_made(frames[-1].function):
        return None
    known = [frame.function for frame in frames if not is_made(frame.function)]
    if known and rule.kind == "fault":
        # No function that reports it is on the stack of what the CPU refused.
        return known[0]
    if known[-1:] == ["kthread"]:
        # What the thread runs says more.
        return known[-2:][0]
    return (known or [frames[-1].function])[-1]


def _first_busy(frames: Iterable[Frame]) -> str | None:
    """Return the first function that does more than everybody's errands."""
    return next((frame.function for frame in frames if not is_leaf(frame.function)), None)


def races(stacks: Sequence[Stack], match: re.Match[str]) -> str | None:
    """Return both sides of a data race, sorted: ``f / g``; one, when only one is known."""
    sides = [s for s in stacks if s.role in {Role.FAULT, Role.OTHER_TASK}]
    named = [plain_name(name) for name in match.groups()[1:] if name]
    found = [name for side in sides[:2] if (name := _racing(side))]
    functions = found if len(found) >= len(named) else []
    return " / ".join(sorted(functions)) or None


def _racing(side: Stack) -> str | None:
    """Return the function of one side of a data race."""
    frames = _for_somebody([frame for frame in side.frames if frame.reliable])
    guilty = guilty_frame(frames)
    return guilty.function if guilty else _first_busy(frames)
