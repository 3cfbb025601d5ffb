# SPDX-License-Identifier: Apache-2.0
"""The identity of a bug, by which two reports are told to be of the same one.

A freed object that is read is a KASAN report today, a general protection fault
tomorrow and a page fault without KASAN: one bug. What both reports say decides, in
this order: where the object was freed and allocated, the locks, UBSAN's file and line,
the place in the driver; the title only where nothing else is known.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TypeVar

from fuzzer.splat.frames import Frame
from fuzzer.splat.guilty import guilty_frame, main_frames
from fuzzer.splat.machinery import is_machinery
from fuzzer.splat.rules import Family
from fuzzer.splat.splat import Splat
from fuzzer.splat.stacks import Role

_T = TypeVar("_T")
_DEPTH = 3
_OUTER = 6
# What of which call was never set, where pkvfuzz itself tells of that.
_UNSET = re.compile(r"^pkvfuzz: ([a-z ]+: [a-z_]+(?: 0x[0-9a-f]+)?) ", re.MULTILINE)
_CHECK = re.compile(r"\bUBSAN: [\w -]+ in (\S+?:\d+)(?::\d+)?$", re.MULTILINE)
_SYMBOL = re.compile(
    r"^(module \w+: (?:Unknown symbol|disagrees about version of symbol|no symbol version for))"
    r" \w+$"
)
# What is wrong with an access, where a title says it.
_FLAWS = tuple(
    (re.compile(pattern), flaw)
    for pattern, flaw in (
        (r"^(?:KASAN|KFENCE): .*use-after-free", "freed"),
        (r"^(?:KASAN|KFENCE|UBSAN): .*out-of-bounds", "out of bounds"),
        (r"^usercopy: kernel memory exposure", "exposure"),
        (r"^usercopy: kernel memory overwrite", "overwrite"),
    )
)


@dataclass(frozen=True, slots=True)
class Instruction:
    """A place in the code: ``offset`` into a function and the function's ``size``, in bytes."""

    function: str
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class Signature:
    """Facts on a bug; unknown ones are empty or None.

    ``allocated`` and ``freed`` are the driver's functions that did so to a freed object,
    ``locks`` the classes in lockdep's report, ``check`` the file and line of UBSAN's, ``call``
    the one that hands out memory which was never set.
    ``function`` is the guilty one, ``place`` the functions that lead to it, innermost first;
    ``site`` is the instruction in it. ``flaw`` says what is wrong with an access.
    """

    title: str
    family: Family
    function: str | None = None
    place: tuple[str, ...] = ()
    site: Instruction | None = None
    flaw: str = ""
    allocated: str = ""
    freed: str = ""
    locks: tuple[str, ...] = ()
    check: str = ""
    call: str = ""

    def __str__(self) -> str:
        """Return the bug's family and place, or its locks."""
        if self.function is None:
            return f"{self.family}: {self.title}"
        if self.family is Family.LOCK and len(self.locks) > 1:
            return f"{self.family}: {', '.join(self.locks[:_OUTER])}"
        return f"{self.family}: {'<'.join(self.place)}"

    @property
    def has_object(self) -> bool:
        """True if it is known where a freed object was allocated and freed."""
        return bool(self.allocated and self.freed)


def _own(frames: Iterable[Frame]) -> list[str]:
    """Return the frames that locate a bug: a module's, if there are any."""
    known = [frame for frame in frames if not is_machinery(frame)]
    own = [frame.function for frame in known if frame.module]
    names = own or [frame.function for frame in known]
    # A function after itself: the instruction pointer and the top of the stack, or recursion.
    return [name for name, _ in groupby(names)]


def _did(splat: Splat, *roles: Role) -> str:
    """Return the driver's function in the first stack of some roles that has one."""
    stacks = [stack for role in roles if (stack := splat.stack(role))]
    frames = [[frame for frame in stack.frames if frame.reliable] for stack in stacks]
    driver = [each for each in frames if any(frame.module for frame in each)]
    return next((names[0] for each in (*driver, *frames) if (names := _own(each))), "")


def _place(splat: Splat, frames: Sequence[Frame]) -> tuple[str, ...]:
    function = splat.function
    assert function is not None
    if splat.family is Family.RACE:
        sides = [s for s in splat.stacks if s.role in {Role.FAULT, Role.OTHER_TASK}][:2]
        places = sorted("<".join(_own(side.frames)[:2]) for side in sides)
        return (" / ".join(places) or function,)
    place = _own(frames)[:_DEPTH]
    if function not in place:
        # The function is named beside a stack of the core alone, which is the same for all drivers.
        place = [function, *place][:_DEPTH]
    return tuple(place)


def signature_of(splat: Splat) -> Signature:
    """Return the signature in a report; of a damaged report only its title."""
    if splat.corrupted or splat.function is None:
        # A module of another kernel lacks many symbols, for one cause.
        return Signature(_SYMBOL.sub(r"\1", splat.title), splat.family)
    frames = main_frames(splat.stacks, interrupted=splat.family is Family.HANG)
    guilty = guilty_frame(frames)
    site = None
    if guilty and guilty.offset is not None and guilty.size is not None:
        site = Instruction(guilty.function, guilty.offset, guilty.size)
    flaw = next((flaw for pattern, flaw in _FLAWS if pattern.search(splat.title)), "")
    is_freed = flaw == "freed" or splat.family is Family.FREE
    check = _CHECK.search(splat.text) if splat.kind == "ubsan" else None
    call = _UNSET.search(splat.text) if splat.kind == "infoleak" else None
    return Signature(
        splat.title,
        splat.family,
        splat.function,
        _place(splat, frames),
        site,
        flaw,
        _did(splat, Role.ALLOC) if is_freed else "",
        # An RCU callback freed it: the function that queued the callback says more.
        _did(splat, Role.FREE, Role.WORK) if is_freed else "",
        splat.locks if splat.family is Family.LOCK else (),
        check[1] if check else "",
        call[1] if call else "",
    )


def decided(a: Signature, b: Signature) -> bool | None:
    """Return whether two bugs are one by facts that say more than their place, None without any."""
    if a.has_object and b.has_object:
        return _is_same_object(a, b)
    if a.family is not b.family:
        return False
    if a.locks and b.locks and a.locks != b.locks:
        return False
    if len(a.locks) > 1 and a.locks == b.locks:
        return True
    if a.check and b.check:
        if a.check == b.check:
            return True
        # Lines of two builds of a driver say nothing.
        return False if _is_one_build(a, b) else None
    if a.call and b.call:
        same_place = a.function == b.function and (a.site == b.site or not _is_one_build(a, b))
        return a.call == b.call and same_place
    if a.flaw and b.flaw and a.flaw != b.flaw:
        # A wild access of one instruction hits another object each time.
        return a.site is not None and a.site == b.site
    return None


def same_bug(a: Signature, b: Signature) -> bool:
    """Return whether two reports are of one bug."""
    by_more = decided(a, b)
    if by_more is not None:
        return by_more
    if a.function is None and b.function is None:
        return a.title == b.title
    if a.function is None or b.function is None:
        return False
    if a.family is Family.RACE:
        # A report of a race may know one of its sides only.
        one, other = set(a.function.split(" / ")), set(b.function.split(" / "))
        return one <= other or other <= one
    return a.function == b.function


def _is_same_object(a: Signature, b: Signature) -> bool:
    """Tell whether two uses of freed objects are one bug.

    Two of three places agree: of its allocation, free and use. Several functions may use an
    object, or free it too early. A double free has two places that free, either of which may
    be first. Builds of a driver inline differently: there the place of the use is enough.
    """
    allocated, freed = a.allocated == b.allocated, a.freed == b.freed
    if a.family is not b.family:
        return allocated and freed
    if a.family is Family.FREE and allocated:
        return bool({a.freed, a.function} & {b.freed, b.function})
    used = a.function == b.function
    if allocated + freed + used >= 2:
        return True
    return used and (a.site == b.site or not _is_one_build(a, b))


def _is_one_build(a: Signature, b: Signature) -> bool:
    if a.site is None or b.site is None:
        return False
    return (a.site.function, a.site.size) == (b.site.function, b.site.size)


def first_of_each(items: Sequence[_T], is_same: Callable[[_T, _T], bool]) -> list[int | None]:
    """Return for each item the index of the first one before it that is the same, or None."""
    firsts: list[int] = []
    same: list[int | None] = []
    for index, item in enumerate(items):
        known = next((first for first in firsts if is_same(items[first], item)), None)
        if known is None:
            firsts.append(index)
        same.append(known)
    return same
