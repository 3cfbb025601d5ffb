# SPDX-License-Identifier: Apache-2.0
"""A crash: a deduplicated splat, the program that causes it, and the builds it was found with."""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass, field
from functools import lru_cache

from fuzzer.crash.rate import show_interval
from fuzzer.program.conditions import fault_of, is_racing
from fuzzer.program.wire import split
from fuzzer.splat.analyse import all_splats
from fuzzer.splat.find import bare_splat
from fuzzer.splat.severity import Facts
from fuzzer.splat.signature import Signature, signature_of
from fuzzer.splat.silence import Silence
from fuzzer.splat.splat import Splat


class Privileges(enum.StrEnum):
    """The callers who can cause a crash, as far as was seen."""

    ANYONE = "anyone"
    """Any user: the file can be opened by all, as the driver and the kernel make it."""
    OPENER = "opener"
    """Whoever may open the file."""
    ROOT = "root"
    """Only a caller with root's privileges."""

    @property
    def told(self) -> str:
        """They in words."""
        return _TOLD[self]


_TOLD = {
    Privileges.ANYONE: "any user can cause it",
    Privileges.OPENER: "whoever may open the file can cause it",
    Privileges.ROOT: "takes root's privileges",
}

_NUMBERED = re.compile(r" \(\d+\)$")
# The most reports that are kept parsed; a campaign has dozens, or some hundreds, and uses them
# often.
_MOST_PARSED = 1024


def plain_title(title: str) -> str:
    """Return a title without the number that tells bugs with one title apart."""
    return _NUMBERED.sub("", title)


def numbered_title(title: str, number: int) -> str:
    """Return the title of the bug of a number, from 1, among the bugs with one title."""
    return title if number == 1 else f"{title} ({number})"


@lru_cache(maxsize=_MOST_PARSED)
def _splat_in(report: str, title: str, kind: str, facts: Facts) -> Splat | None:
    """Return the splat of a title in a report, None if there is none.

    If no splat has the title, the first of the kind is taken: older versions may have given
    it another title, but not another kind.
    """
    splats = all_splats(report.splitlines(), facts)
    named = next((splat for splat in splats if splat.title == title), None)
    if named or title in set(Silence):
        return named
    return next((splat for splat in splats if splat.crash and splat.kind == kind), None)


@dataclass(frozen=True, slots=True)
class Identity:
    """The builds that a crash was found with; keys are hashes of the inputs of a build.

    ``description`` is the path of the target's YAML file: relative to the project if it is
    part of it, else in a stored crash relative to the crash's directory. ``bug`` names a
    planted bug; ``params`` are the module's parameters.

    ``release`` is that of the kernel, ``compiler`` the one that built it, ``config`` a hash
    of its configuration; ``driver_compiler`` built the driver, and is empty for a driver that
    was not built here. Crashes stored by older versions lack these and ``pkvfuzz``, the
    version.
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

    ``reproduced`` of ``runs`` fresh machines of flavour ``judged_on`` showed the crash;
    ``runs`` is 0 while it has not been judged. ``sighted_as`` are the titles under which
    fuzzing workers saw it, ``sightings`` is the number of times.

    If another flavour than the judging one showed it, ``unseen_on`` is the judging flavour.
    ``instead`` are the titles of other crashes that the judging flavour showed. ``after`` are
    the titles of other bugs that the kernel reported before it in the same run.

    ``history`` are the programs that must run before ``program``; ``first_run`` are all
    programs that the machine which first showed the crash had run since it was restored, in
    order, its last program included. ``exact`` tells that it was reproduced on an exact
    machine, with the program's schedule.

    ``original`` is the program before minimising, which took ``minimize_seconds``;
    ``minimized`` tells that nothing was left to try. ``retries`` counts later attempts to
    reproduce a crash that did not reproduce.

    ``privileges`` are those that it takes, None while that is not known.

    ``also_titles`` are other titles under which the same bug was judged. Those of them that are
    ``linked`` are of reports that the program shows each time on the kernel that is fuzzed, in
    place of this one, whatever they say of another bug. ``log`` is
    everything that the kernel printed in the run of the report. If another bug has the same
    title, ``title`` ends in a number: ``WARNING in f (2)``.
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
    linked: tuple[str, ...] = ()
    log: bytes = b""
    unseen_on: str = ""
    instead: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    privileges: Privileges | None = None

    @property
    def report_title(self) -> str:
        """The title as the kernel's report has it."""
        return plain_title(self.title)

    @property
    def splat(self) -> Splat:
        """The kernel's report, parsed; for a silent guest a splat made of the title."""
        chunks = split(self.program)
        facts = Facts(
            needs_race=is_racing(chunks),
            needs_fault=any(map(fault_of, chunks)),
            caller=self.privileges or "",
        )
        found = _splat_in(self.report, self.report_title, self.kind, facts)
        return found or bare_splat(self.report_title, self.kind, self.function, self.report)

    @property
    def signature(self) -> Signature:
        """The signature of its bug, by which the bug is recognised."""
        return signature_of(self.splat)

    def verdict(self) -> str:
        """Return the result of judging in a few words: rate, its 95 % interval, and needs."""
        if not self.runs:
            return "not judged yet"
        text = f"reproduced {self.reproduced} of {self.runs}"
        if self.unseen_on:
            text += f" on {self.judged_on}"
        if self.exact and self.reproduced and is_racing(split(self.program)):
            text += " by its schedule"
        elif self.reproduced:
            text += f", rate {show_interval(self.reproduced, self.runs)}"
        needs = []
        # Of a crash that did not reproduce it is not known.
        if self.minimized and self.reproduced:
            left, calls = len(split(self.program)), len(split(self.original or self.program))
            # There may be more calls if programs before it were made part of it.
            needs.append(f"{left} of {calls} calls" if left <= calls else f"{left} calls")
        if self.history and self.reproduced:
            needs.append(f"{len(self.history)} programs before it")
        text += f", needs {' and '.join(needs)}" if needs else ""
        if self.after:
            text += f", after {_listed(self.after)}"
        if self.privileges:
            text += f", {self.privileges.told}"
        return text + self._unseen()

    def _unseen(self) -> str:
        """Return what the judging kernel showed instead; empty if it showed the crash."""
        if self.reproduced and not self.unseen_on:
            return ""
        flavour = self.unseen_on or self.judged_on
        if self.instead:
            return f"; {flavour} shows {_listed(self.instead)}"
        return f"; {flavour} does not show it" if self.reproduced else ""


def _listed(titles: tuple[str, ...]) -> str:
    more = f" and {len(titles) - 1} more" if len(titles) > 1 else ""
    return titles[0] + more
