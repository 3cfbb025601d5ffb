# SPDX-License-Identifier: Apache-2.0
"""Outcome of programs on a machine: the wanted bug among the kernel's reports, or a silence.

Another bug may come first, even each time that the device is opened. Where its report leaves
the kernel usable, the run goes on, and the bug that was sighted is waited for
(:class:`Wanted`). A report of it then counts: a bug that leaves the kernel usable does not
make a checker report another one that is not there. The reverse is possible: KASAN and
lockdep are silent after a report of their own, so a second bug of theirs is not seen in such
a run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from fuzzer.crash.dedup import Wanted
from fuzzer.splat.aftermath import keeps_looking, leaves_usable
from fuzzer.splat.find import splats_in
from fuzzer.splat.kmsg import console_lines
from fuzzer.splat.silence import Silence, silent_splat
from fuzzer.splat.splat import Splat

HANG = "hang"
"""The kind of crashes in which the guest hangs."""


@dataclass(frozen=True, slots=True)
class Passed:
    """A report of another bug than the wanted one, after which a machine was used further.

    It came in the program with that ``number``; ``log`` is the log up to it.
    """

    splat: Splat
    number: int
    log: bytes


@dataclass(frozen=True, slots=True)
class Outcome:
    """The effect of one or several programs on a machine.

    ``splat`` is of the wanted bug if that was shown, else the first one. ``log`` is raw kmsg
    text; ``lost`` tells that the guest fell silent. ``passed`` are reports of other bugs, one
    for each title. A ``usable`` machine has only shown other bugs, and can be used further.
    ``waited`` are the indices of the calls that waited while the next ones were made.
    """

    splat: Splat | None
    log: bytes
    lost: bool = False
    waited: tuple[int, ...] = ()
    passed: tuple[Passed, ...] = ()
    usable: bool = False

    @property
    def is_harmless(self) -> bool:
        """True if the machine is as good as one that has shown nothing."""
        splats = [self.splat, *(each.splat for each in self.passed)]
        shown = [splat for splat in splats if splat]
        return not shown or (self.usable and all(map(keeps_looking, shown)))

    @property
    def others(self) -> tuple[str, ...]:
        """The titles of other bugs that were reported."""
        own = self.splat.title if self.splat else None
        return tuple(
            dict.fromkeys(each.splat.title for each in self.passed if each.splat.title != own)
        )


def _hang(silence: Silence, log: bytes) -> Outcome:
    return Outcome(silent_splat(silence, log_lines(log)), log, lost=True)


def log_lines(log: bytes) -> list[str]:
    """Return the lines of a sighting's log: kmsg records, or console text."""
    return console_lines(log) or log.decode(errors="replace").splitlines()


@dataclass(frozen=True, slots=True)
class Heard:
    """The splats in the log so far: the wanted one, else the first one, and the others."""

    splat: Splat | None = None
    is_wanted: bool = False
    others: tuple[Splat, ...] = ()
    is_usable: bool = True
    is_whole: bool = True

    @property
    def says_all(self) -> bool:
        """True if nothing is left to wait for."""
        return self.is_wanted or not self.is_usable

    def outcome(self, log: bytes, *, lost: bool = False, usable: bool = False) -> Outcome:
        """Return the outcome of a run with that log."""
        passed = tuple(Passed(splat, 0, log) for splat in self.others)
        return Outcome(self.splat, log, lost, passed=passed, usable=usable)

    def silence(self, silence: Silence, log: bytes, wanted: Wanted | None) -> Outcome | None:
        """Return the outcome of a guest that fell silent, unless a report tells why: then None."""
        hang = _hang(silence, log)
        assert hang.splat is not None
        if self.splat is None:
            return hang
        if self.is_wanted or wanted is None or not wanted(hang.splat):
            return None
        passed = tuple(Passed(splat, 0, log) for splat in (self.splat, *self.others))
        return replace(hang, passed=passed)


def hear(lines: Sequence[str], wanted: Wanted | None) -> Heard:
    """Look for the wanted bug among the splats in a log's lines; None: any bug is wanted.

    Splats after a report that leaves the kernel unusable are ignored.
    """
    seen: list[Splat] = []
    for splat in splats_in(lines):
        if wanted is None or wanted(splat):
            return Heard(splat, True, tuple(seen), False, splat.complete)
        seen.append(splat)
        if not leaves_usable(splat):
            break
    if not seen:
        return Heard()
    usable = leaves_usable(seen[-1])
    return Heard(seen[0], False, tuple(seen[1:]), usable, seen[-1].complete)
