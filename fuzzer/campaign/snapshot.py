# SPDX-License-Identifier: Apache-2.0
"""The state of a campaign at one moment, as its supervisor sees it."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from fuzzer.campaign.looked import Looked
from fuzzer.campaign.outlook import Remark
from fuzzer.crash.crash import Crash
from fuzzer.engine.aside import SetAside
from fuzzer.engine.statistics import MachinePhase, WorkerCounts
from fuzzer.engine.tally import Tally
from fuzzer.flavour import Flavour


@dataclass(frozen=True, slots=True)
class WorkerState:
    """A worker: its machine's phase, counts of this run, and how often its process was replaced."""

    name: str
    phase: MachinePhase
    counts: WorkerCounts
    replaced: int


@dataclass(slots=True)
class Snapshot:
    """The state of a campaign at one moment, for the report.

    ``judged_on`` is the flavour of the judge's kernel; ``only_there`` tells that another one
    is fuzzed, so that only the judge runs on it. ``started`` is True once the campaign's
    time runs. ``seeds`` is the number of runs that the corpus takes at the start, on all
    workers together. ``remarks`` tell what hinders the campaign.

    ``reached`` are the numbers of the blocks that are ``covered``; ``crashes`` is the same
    object as long as none changed. ``replaced`` counts processes, ``judge_replaced`` judges.
    """

    elapsed: float = 0.0
    counts: WorkerCounts = field(default_factory=WorkerCounts)
    covered: int = 0
    blocks: int = 0
    corpus: int = 0
    crashes: tuple[Crash, ...] = ()
    waiting: int = 0
    replaced: int = 0
    judge: str = ""
    finishing: bool = False
    looked: Looked = field(default_factory=Looked)
    judged_on: Flavour = Flavour.FULL
    only_there: bool = True
    started: bool = False
    seeds: int = 0
    remarks: tuple[Remark, ...] = ()
    aside: SetAside = field(default_factory=SetAside)
    workers: tuple[WorkerState, ...] = ()
    judge_replaced: int = 0
    reached: AbstractSet[int] = frozenset()
    tally: Tally = field(default_factory=Tally)
