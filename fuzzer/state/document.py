# SPDX-License-Identifier: Apache-2.0
"""The state of a campaign, as read from its document.

In all records ``at`` is the campaign's time, the seconds of fuzzing over all of its runs, and
``wall`` is Unix time in seconds. Counts are over all runs unless said otherwise, sizes are in
bytes.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from fuzzer.engine.statistics import MachinePhase


class RunPhase(enum.StrEnum):
    """The work of a run at the moment; ended runs keep their last one."""

    STARTING = "starting"
    """The programs to start from run; the campaign's time does not yet."""
    FUZZING = "fuzzing"
    """Workers fuzz."""
    JUDGING = "judging"
    """Fuzzing is over; what waits is judged."""


class EventKind(enum.StrEnum):
    """The kind of an event; ``subject`` names what each is about."""

    BEGAN = "began"
    """A run began."""
    ENDED = "ended"
    """A run ended, for the reason in the text."""
    CRASH = "crash"
    """A crash was stored (its slug)."""
    JUDGED = "judged"
    """Judging of a crash came to another result (its slug)."""
    GONE = "gone"
    """A crash was stored with another one, being the same bug (its slug)."""
    REPLACED = "replaced"
    """A process was replaced (its name)."""
    LOST = "lost"
    """Machines died or hung without a report (the worker's name)."""
    ASIDE = "aside"
    """A bug was set aside (its title)."""
    BACK = "back"
    """A bug that was set aside was put back (its title)."""
    REMARK = "remark"
    """A remark was made (what it is about)."""
    REBUILT = "rebuilt"
    """Driver or kernel are another build than before: blocks count anew."""
    CLOCK = "clock"
    """The host was suspended, or its clock was set."""
    TRIMMED = "trimmed"
    """Something was deleted or ended to keep within a limit."""


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One run of ``pkvfuzz run`` on the working directory.

    ``starts_at`` is the campaign's time at its begin, ``fuzzed`` the seconds that it has fuzzed;
    ``seconds`` and ``programs`` are its limits, None for none. ``alive`` is the wall time of its
    last sign of life; ``ended`` is None while it goes on, and if it was killed. ``ended_by`` is
    the reason in words. ``seeds`` is the number of programs that ran at the start, on all workers
    together. ``options`` are the command's arguments. ``driver`` and ``kernel`` are the
    keys of the builds.
    """

    id: int
    began: float
    alive: float
    ended: float | None
    ended_by: str
    phase: RunPhase
    starts_at: float
    fuzzed: float
    seconds: float | None
    programs: int | None
    seeds: int
    vms: int
    seed: int
    options: str
    target: str
    bug: str | None
    driver: str
    kernel: str
    release: str
    fuzzed_on: str
    judged_on: str
    version: str
    qemu: str
    accel: str
    host: str
    cpus: int
    host_memory: int


@dataclass(frozen=True, slots=True)
class HistoryRow:
    """The campaign's figures at one moment.

    There is a row a second for the last ten minutes, and for the first ten; between them fewer,
    but one for each moment at which ``covered`` or ``crashes`` grew.

    ``covered`` of ``blocks`` were reached so far, ``corpus`` is the number of programs kept.
    ``crashes`` are stored, ``sightings`` were seen and ``waiting`` of them wait for the judge.
    ``lost`` machines died without a report, ``timeouts`` calls were interrupted, ``flaky``
    programs were kept out of the corpus, ``replaced`` processes were started again.

    ``cpu`` is the share of the host's CPU time in use (0 to 1), ``load`` the number of runnable
    processes for each CPU, ``memory`` what the campaign's processes have, ``memory_free`` what
    the host has left, ``disk`` the size of the working directory, ``disk_free`` the space left.
    """

    run: int
    at: float
    wall: float
    programs: int
    calls: int
    covered: int
    blocks: int
    corpus: int
    crashes: int
    sightings: int
    waiting: int
    restores: int
    lost: int
    timeouts: int
    flaky: int
    replaced: int
    cpu: float
    load: float
    memory: int
    memory_free: int
    disk: int
    disk_free: int


@dataclass(frozen=True, slots=True)
class MachineRecord:
    """A worker and its present machine; counts are of the present run.

    ``since`` is the wall time at which its phase began, ``replaced`` how often its process was.
    """

    name: str
    run: int
    phase: MachinePhase
    since: float
    programs: int
    calls: int
    sightings: int
    restores: int
    lost: int
    timeouts: int
    replaced: int


@dataclass(frozen=True, slots=True)
class JudgeRecord:
    """The judge: its status line, the sightings that wait, and what it has not done yet.

    ``ready`` tells that its kernel ran anything; ``unrun`` corpus programs did not run on it, and
    the kinds of runs that are ``missing`` were not made.
    """

    status: str = ""
    waiting: int = 0
    ready: bool = False
    unrun: int = 0
    missing: tuple[str, ...] = ()
    replaced: int = 0


@dataclass(frozen=True, slots=True)
class CrashRecord:
    """A crash in ``crashes/SLUG``.

    ``level`` and ``score`` (0 to 100) are its severity. ``runs`` is 0 until it is judged; the
    ``verdict`` is that in words. ``known`` is the directory that had it before the first run of
    this campaign, empty for a new one; ``cause`` the title of the crash that it is likely a
    consequence of, else empty. ``function`` may be empty.
    """

    slug: str
    title: str
    kind: str
    function: str
    level: str
    score: int
    reproduced: int
    runs: int
    verdict: str
    judged_on: str
    known: str
    cause: str
    sightings: int
    first_run: int
    first_at: float
    first_wall: float

    @property
    def is_new(self) -> bool:
        """True if it was not stored anywhere before."""
        return not self.known


@dataclass(frozen=True, slots=True)
class CallRecord:
    """A kind of call, and how its calls ended, in those programs that were looked at.

    ``op`` is the number of the operation, ``number`` that of the ioctl or of the device that is
    opened. ``outcomes`` has the number of calls by errno, 0 for success. ``described`` tells that
    the description has it.
    """

    op: int
    number: int
    name: str
    described: bool
    outcomes: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BlockRecord:
    """An instrumented block of the driver, by section and offset (what KCOV reports).

    ``first_at`` and ``first_wall`` tell when it was first reached, None if never; blocks that
    loading reaches have 0 as ``first_at``.
    """

    number: int
    section: str
    offset: int
    first_run: int | None
    first_at: float | None
    first_wall: float | None


@dataclass(frozen=True, slots=True)
class AsideRecord:
    """A bug that is set aside (``learned``), or whose causes are ``studied``."""

    title: str
    sightings: int
    state: str


@dataclass(frozen=True, slots=True)
class RemarkRecord:
    """A remark on what hinders the campaign; ``holds`` tells that it still did at the last look."""

    about: str
    text: str
    run: int
    at: float
    wall: float
    holds: bool


@dataclass(frozen=True, slots=True)
class EventRecord:
    """Something that happened; ``subject`` is what its kind says."""

    run: int
    at: float
    wall: float
    kind: EventKind
    subject: str
    text: str


@dataclass(frozen=True, slots=True)
class Glance:
    """The present of a campaign, for views that are shown anew every second.

    ``recent`` are the newest rows of the history, the oldest first; ``newest_block`` is the
    campaign's time at which a block was last reached first, None if none was. ``remarks`` are
    those that hold.
    """

    run: RunRecord
    recent: tuple[HistoryRow, ...]
    newest_block: float | None
    machines: tuple[MachineRecord, ...] = ()
    judge: JudgeRecord = field(default_factory=JudgeRecord)
    crashes: tuple[CrashRecord, ...] = ()
    aside: tuple[AsideRecord, ...] = ()
    remarks: tuple[RemarkRecord, ...] = ()

    @property
    def row(self) -> HistoryRow | None:
        """The newest row of the history, None before the first of this run."""
        row = self.recent[-1] if self.recent else None
        return row if row and row.run == self.run.id else None


@dataclass(frozen=True, slots=True)
class CampaignState:
    """All of a campaign's state at one moment; lists are in order of time, or of their numbers."""

    runs: tuple[RunRecord, ...] = ()
    history: tuple[HistoryRow, ...] = ()
    machines: tuple[MachineRecord, ...] = ()
    judge: JudgeRecord = field(default_factory=JudgeRecord)
    crashes: tuple[CrashRecord, ...] = ()
    calls: tuple[CallRecord, ...] = ()
    blocks: tuple[BlockRecord, ...] = ()
    aside: tuple[AsideRecord, ...] = ()
    remarks: tuple[RemarkRecord, ...] = ()
    events: tuple[EventRecord, ...] = ()

    @property
    def last(self) -> HistoryRow | None:
        """The newest row of the history, None before the first."""
        return self.history[-1] if self.history else None
