# SPDX-License-Identifier: Apache-2.0
"""Results of fuzzing planted bugs: of each run, of each bug, and of all of them."""

from __future__ import annotations

import enum
import math
import statistics
from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass

from fuzzer.driver.driver import PlantedBug
from fuzzer.program.mechanisms import Mechanisms


class RunOutcome(enum.StrEnum):
    """The end of a run against a planted bug.

    ``UNVERIFIED``: the expected title was seen, and no fresh machine showed it
    again. ``OTHER``: only crashes with other titles were stored.
    """

    FOUND = "found"
    UNVERIFIED = "not reproduced"
    OTHER = "other title"
    NOTHING = "nothing found"
    INTERRUPTED = "interrupted"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Moment:
    """A point in a run: seconds since fuzzing started, and programs the workers ran by then."""

    seconds: float
    programs: int


@dataclass(frozen=True, slots=True)
class FoundTitle:
    """A crash that a run stored.

    ``sighted`` is when it was first seen under any title that the judge put
    down to it; ``verified`` when a fresh machine had shown it again.
    ``reproduced`` of ``machines`` did; ``machines`` of 0: not judged. The
    program has ``calls`` calls and needs ``before`` programs run before it. As
    it was found it had ``original`` calls; ``minimized`` tells that nothing was
    left to try, after ``minimize_seconds``.
    """

    title: str
    judged_on: str
    reproduced: int
    machines: int
    calls: int
    before: int
    sightings: int
    sighted: Moment | None
    verified: Moment | None
    original: int = 0
    minimized: bool = False
    minimize_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Spent:
    """The work of a run, whatever it found; ``seconds`` are those of fuzzing."""

    seconds: float = 0.0
    programs: int = 0
    calls: int = 0
    covered: int = 0
    blocks: int = 0
    corpus: int = 0
    restores: int = 0
    lost: int = 0
    replaced: int = 0


@dataclass(frozen=True, slots=True)
class RunResult:
    """One run. ``message`` and ``exit_code`` tell why it failed, if it did."""

    seed: int
    outcome: RunOutcome
    titles: tuple[FoundTitle, ...] = ()
    spent: Spent = Spent()
    message: str = ""
    exit_code: int = 0

    def match(self, expect: Container[str]) -> FoundTitle | None:
        """Return the crash with an expected title that was stored, one that reproduces first."""
        return _match(self.titles, expect)


def _match(titles: Iterable[FoundTitle], expect: Container[str]) -> FoundTitle | None:
    matches = [found for found in titles if found.title in expect]
    return max(matches, key=lambda found: found.reproduced > 0, default=None)


def outcome_of(
    titles: Iterable[FoundTitle], expect: Container[str], *, interrupted: bool
) -> RunOutcome:
    """Return how a run ended that stored these crashes."""
    titles = tuple(titles)
    expected = _match(titles, expect)
    if expected and expected.reproduced:
        return RunOutcome.FOUND
    if interrupted:
        return RunOutcome.INTERRUPTED
    if expected:
        return RunOutcome.UNVERIFIED
    return RunOutcome.OTHER if titles else RunOutcome.NOTHING


@dataclass(frozen=True, slots=True)
class BugResult:
    """All runs against one bug that have ended. ``skipped``: it was not to be run."""

    bug: PlantedBug
    runs: tuple[RunResult, ...] = ()
    skipped: bool = False

    @property
    def counted(self) -> tuple[RunResult, ...]:
        """The runs that had their time: not those cut short by the user."""
        return tuple(run for run in self.runs if run.outcome is not RunOutcome.INTERRUPTED)

    @property
    def found(self) -> tuple[FoundTitle, ...]:
        """The expected crash of each run that found it."""
        matches = (run.match(self.bug.titles) for run in self.counted_as(RunOutcome.FOUND))
        return tuple(match for match in matches if match)

    def counted_as(self, outcome: RunOutcome) -> tuple[RunResult, ...]:
        """Return the runs that ended so."""
        return tuple(run for run in self.runs if run.outcome is outcome)

    def median(self, of: Callable[[FoundTitle], float | None]) -> float | None:
        """Return the median over the counted runs of a figure of the expected crash.

        A run that did not find it counts as one that takes for ever, so the
        median is infinite where half of the runs or more did not. None
        without runs.
        """
        values = [value for found in self.found if (value := of(found)) is not None]
        values += [math.inf] * (len(self.counted) - len(values))
        return statistics.median(values) if values else None


def seconds_sighted(found: FoundTitle) -> float | None:
    """Return when a crash was first seen, in seconds of fuzzing."""
    return found.sighted.seconds if found.sighted else None


@dataclass(frozen=True, slots=True)
class SuiteSettings:
    """The settings of all runs. Run number i of each bug has the seed ``seed + i``."""

    target: str
    seconds: float
    runs: int
    jobs: int
    vms: int
    seed: int
    mechanisms: Mechanisms
    kernel: str = "fast"
    minimize_seconds: float = 60.0


@dataclass(frozen=True, slots=True)
class SuiteVersions:
    """The versions of all that it ran on, and the host's ``cores``.

    ``fast`` and ``full`` are the kernels' keys.
    """

    pkvfuzz: str
    qemu: str
    accel: str
    fast: str
    full: str
    cores: int


@dataclass(frozen=True, slots=True)
class SuiteResult:
    """Everything so far."""

    settings: SuiteSettings
    versions: SuiteVersions
    bugs: tuple[BugResult, ...]
    interrupted: bool = False

    @property
    def run(self) -> tuple[BugResult, ...]:
        """The bugs with a run that counts."""
        return tuple(result for result in self.bugs if result.counted)

    @property
    def all_found(self) -> bool:
        """True if each bug that was to be run was found in each of its runs."""
        asked = [result for result in self.bugs if not result.skipped]
        return all(len(result.found) == self.settings.runs for result in asked)

    @property
    def median_seconds(self) -> float | None:
        """The median over bugs of their median time to be seen; infinite as theirs is."""
        medians = [result.median(seconds_sighted) for result in self.run]
        known = [median for median in medians if median is not None]
        return statistics.median(known) if known else None
