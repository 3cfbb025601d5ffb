# SPDX-License-Identifier: Apache-2.0
"""Same bug or another one: two levels.

The first is the signature: the family of the bug and the driver's frames. A
freed object that is read is a KASAN report today, a general protection fault
tomorrow and a page fault without KASAN: one bug, one signature. The second is
the title, which tells these apart.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby

from fuzzer.splat.frames import Frame
from fuzzer.splat.machinery import MACHINERY
from fuzzer.splat.record import Record
from fuzzer.splat.rules import Family
from fuzzer.splat.stacks import Role
from fuzzer.splat.title import main_frames

_DEPTH = 3
_OUTER = 6


def _place(frames: Iterable[Frame]) -> list[str]:
    """Return the innermost frames that tell where it is: a module's, if there is one."""
    known = [frame for frame in frames if not MACHINERY.match(frame.function)]
    own = [frame.function for frame in known if frame.module]
    names = own or [frame.function for frame in known]
    # A function after itself: the instruction pointer and the top of the stack, or recursion.
    return [name for name, _ in groupby(names)][:_DEPTH]


def signature_of(record: Record) -> str:
    """Return the same string for reports of the same bug.

    A damaged report is the same as one of its title only: its place is not known.
    """
    if record.corrupted or record.function is None:
        return f"{record.family}: {record.title}"
    if record.family is Family.RACE:
        sides = [s for s in record.stacks if s.role in {Role.FAULT, Role.OTHER_TASK}][:2]
        places = sorted("<".join(_place(side.frames)[:2]) for side in sides)
        return f"{record.family}: {' / '.join(places)}"
    if record.family is Family.LOCK and len(record.locks) > 1:
        # Either order of two locks can be the one that is reported.
        return f"{record.family}: {', '.join(record.locks[:_OUTER])}"
    hang = record.family is Family.HANG
    place = _place(main_frames(record.stacks, interrupted=hang))
    if record.function not in place:
        # It is named beside a stack that is the core's alone, the same for everybody.
        place = [record.function, *place][:_DEPTH]
    return f"{record.family}: {'<'.join(place)}"
