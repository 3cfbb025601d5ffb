# SPDX-License-Identifier: Apache-2.0
"""Findings of a smoke run about a commit, as data that every format shows."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fuzzer.crash.crash import Crash
from fuzzer.errors import ExitCode


class Standing(enum.StrEnum):
    """The meaning of a crash for the commit."""

    NEW = "new"
    """It reproduces, and the base does not show it."""
    UNJUDGED = "seen, and not judged in time"
    IN_BASE = "in the base as well"
    ACCEPTED = "accepted"
    UNREPRODUCED = "not reproduced"

    @property
    def counts(self) -> bool:
        """True if the commit fails by it."""
        return self is Standing.NEW


@dataclass(frozen=True, slots=True)
class CrashPlace:
    """A place in the driver's source: a file, relative to its repository if it is in one."""

    file: str
    line: int
    function: str = ""


@dataclass(frozen=True, slots=True)
class CrashFound:
    """A crash, its standing, and why it has that.

    ``stack`` are the places in the driver's source that it went through, the innermost first.
    """

    crash: Crash
    directory: Path
    standing: Standing
    reason: str = ""
    stack: tuple[CrashPlace, ...] = ()

    @property
    def place(self) -> CrashPlace | None:
        """The place in the driver's source to show it at, None if it is not known."""
        return self.stack[0] if self.stack else None


@dataclass(frozen=True, slots=True)
class Replayed:
    """A stored reproducer: what it is of, and what it showed.

    ``shown`` is the title that it showed, None if nothing. ``found`` is the crash if it still
    shows its bug. One for which there was no time was not ``tried``.
    """

    title: str
    directory: Path
    tried: bool = False
    shown: str | None = None
    seconds: float = 0.0
    found: CrashFound | None = None


@dataclass(frozen=True, slots=True)
class Fuzzed:
    """Counts of the fuzzing: programs, and blocks covered of all.

    Of the ``changed`` blocks, which the commit added or touched, ``changed_reached`` were
    reached.
    """

    seconds: float = 0.0
    programs: int = 0
    covered: int = 0
    blocks: int = 0
    changed: int = 0
    changed_reached: int = 0
    missed: tuple[CrashPlace, ...] = ()


@dataclass(frozen=True, slots=True)
class SmokeVerdict:
    """The verdict on a commit.

    ``base`` names the revision that it was compared with, empty if with none. ``problems`` are
    what kept it from saying more. One that was ``interrupted`` lacks what was to come.
    """

    target: str
    commit: str = ""
    base: str = ""
    seconds: float = 0.0
    replayed: tuple[Replayed, ...] = ()
    found: tuple[CrashFound, ...] = ()
    fuzzed: Fuzzed = field(default_factory=Fuzzed)
    judged: bool = False
    interrupted: bool = False
    problems: tuple[str, ...] = ()

    @property
    def crashes(self) -> tuple[CrashFound, ...]:
        """All crashes, those of stored reproducers first."""
        return (*(each.found for each in self.replayed if each.found), *self.found)

    @property
    def counted(self) -> tuple[CrashFound, ...]:
        """The crashes by which the commit fails."""
        return tuple(each for each in self.crashes if each.standing.counts)

    @property
    def exit_code(self) -> ExitCode:
        """The exit code that tells it."""
        if self.counted:
            return ExitCode.FOUND
        unjudged = any(each.standing is Standing.UNJUDGED for each in self.crashes)
        if unjudged or self.interrupted:
            return ExitCode.UNJUDGED
        tried = any(each.tried for each in self.replayed)
        return ExitCode.NOTHING_FOUND if self.judged or tried else ExitCode.UNJUDGED


def shown_first(crashes: Sequence[CrashFound]) -> list[CrashFound]:
    """Return crashes in the order to show them: those that count first, the worst first."""
    order = list(Standing)
    return sorted(
        crashes,
        key=lambda each: (order.index(each.standing), -each.crash.splat.severity.score),
    )
