# SPDX-License-Identifier: Apache-2.0
"""A crash: a deduplicated splat, the program that causes it, and what it was found with."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache

from fuzzer.crash.rate import show_interval
from fuzzer.program.conditions import fault_of, is_parallel
from fuzzer.program.wire import split
from fuzzer.splat.analyse import all_splats
from fuzzer.splat.find import bare_splat
from fuzzer.splat.severity import Facts
from fuzzer.splat.signature import Signature, signature_of
from fuzzer.splat.silence import Silence
from fuzzer.splat.splat import Splat

_NUMBERED = re.compile(r" \(\d+\)$")
# Reports that are kept parsed; a campaign has a few dozen, and they are looked at often.
_MOST_PARSED = 256


def plain_title(title: str) -> str:
    """Return a title without the number that tells bugs with one title apart."""
    return _NUMBERED.sub("", title)


def numbered_title(title: str, number: int) -> str:
    """Return the title of the bug with that number, from 1, of those that have it."""
    return title if number == 1 else f"{title} ({number})"


@lru_cache(maxsize=_MOST_PARSED)
def _splat_in(report: str, title: str, kind: str, facts: Facts) -> Splat | None:
    """Return the splat of a title in a report, None if there is none.

    An older version may have given it another title, but not another kind.
    """
    splats = all_splats(report.splitlines(), facts)
    named = next((splat for splat in splats if splat.title == title), None)
    if named or title in set(Silence):
        return named
    return next((splat for splat in splats if splat.crash and splat.kind == kind), None)


@dataclass(frozen=True, slots=True)
class Identity:
    """What a crash was found with; keys are hashes of what went into a build.

    ``description`` is the target's YAML file, relative to the project where
    it is part of it; of others, once stored, to the crash's directory. ``bug`` names
    a planted bug, ``params`` are what the module was loaded with.

    ``release`` is the kernel's, ``compiler`` built it, ``config`` is a hash of its
    configuration; ``driver_compiler`` built the driver, empty where it came ready
    built. Crashes stored by older versions lack these and ``pkvfuzz``, the version.
    """

    target: str
    description: str
    bug: str | None
    kernel: str
    driver: str
    qemu: str
    accel: str
    params: str = ""
    release: str = ""
    compiler: str = ""
    config: str = ""
    driver_compiler: str = ""
    pkvfuzz: str = ""


@dataclass(frozen=True, slots=True)
class Crash:
    """A deduplicated splat and the program that causes it.

    ``reproduced`` of ``runs`` fresh machines of flavour ``judged_on`` showed
    it; ``runs`` is 0 while it has not been judged. ``sighted_as`` are the
    titles under which fuzzing workers saw it, ``sightings`` how often.

    ``unseen_on`` is the flavour that judges and did not show it, if another one did;
    ``instead`` are the titles of what it, or ``judged_on`` without success, showed.
    ``after`` are those of other bugs that the kernel reported before it in one run.

    ``history`` are the programs that must run before ``program``;
    ``first_run`` is all that the machine which first showed the crash had run
    since it was restored, in order, its last program included. ``exact`` tells
    that it was reproduced on an exact machine, as the program's schedule says.

    ``original`` is the program before it was minimised, which took
    ``minimize_seconds``; ``minimized`` tells that nothing was left to try.
    ``retries`` counts later attempts at one that did not reproduce.

    ``also_titles`` are what the same bug was judged to be at other times. ``log`` is
    all that the kernel printed in the run of the report, as it came. A ``title`` that
    another bug has got already ends in a number: ``WARNING in f (2)``.
    """

    title: str
    kind: str
    function: str | None
    judged_on: str
    reproduced: int
    runs: int
    sightings: int
    sighted_as: tuple[str, ...]
    identity: Identity
    report: str
    first_log: str
    program: bytes
    history: tuple[bytes, ...] = field(default=())
    first_run: tuple[bytes, ...] = field(default=())
    exact: bool = False
    original: bytes = b""
    minimized: bool = False
    minimize_seconds: float = 0.0
    retries: int = 0
    also_titles: tuple[str, ...] = ()
    log: bytes = b""
    unseen_on: str = ""
    instead: tuple[str, ...] = ()
    after: tuple[str, ...] = ()

    @property
    def report_title(self) -> str:
        """The title as the kernel's report has it."""
        return plain_title(self.title)

    @property
    def splat(self) -> Splat:
        """The kernel's report; where there was silence instead of one, what the title says."""
        chunks = split(self.program)
        facts = Facts(needs_race=is_parallel(chunks), needs_fault=any(map(fault_of, chunks)))
        found = _splat_in(self.report, self.report_title, self.kind, facts)
        return found or bare_splat(self.report_title, self.kind, self.function, self.report)

    @property
    def signature(self) -> Signature:
        """What its bug is known by."""
        return signature_of(self.splat)

    def verdict(self) -> str:
        """Return in a few words whether it reproduces, the rate's 95 % interval, what it takes."""
        if not self.runs:
            return "not judged yet"
        text = f"reproduced {self.reproduced} of {self.runs}"
        if self.unseen_on:
            text += f" on {self.judged_on}"
        if self.exact:
            text += " by its schedule"
        elif self.reproduced:
            text += f", rate {show_interval(self.reproduced, self.runs)}"
        needs = []
        if self.minimized:
            left, calls = len(split(self.program)), len(split(self.original or self.program))
            # More where programs before it were made part of it.
            needs.append(f"{left} of {calls} calls" if left <= calls else f"{left} calls")
        if self.history:
            needs.append(f"{len(self.history)} programs before it")
        text += f", needs {' and '.join(needs)}" if needs else ""
        if self.after:
            text += f", after {_listed(self.after)}"
        return text + self._unseen()

    def _unseen(self) -> str:
        """Return what the kernel that judges showed in place of it; empty if it showed it."""
        if self.reproduced and not self.unseen_on:
            return ""
        flavour = self.unseen_on or self.judged_on
        if self.instead:
            return f"; {flavour} shows {_listed(self.instead)}"
        return f"; {flavour} does not show it" if self.reproduced else ""


def _listed(titles: tuple[str, ...]) -> str:
    more = f" and {len(titles) - 1} more" if len(titles) > 1 else ""
    return titles[0] + more
