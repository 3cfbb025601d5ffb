# SPDX-License-Identifier: Apache-2.0
"""Results of the suite of planted bugs, made up for tests."""

from __future__ import annotations

from pathlib import Path

from fuzzer.bench.bugs.result import (
    BugResult,
    FoundTitle,
    Moment,
    RunOutcome,
    RunResult,
    Spent,
    SuiteResult,
    SuiteSettings,
    SuiteVersions,
)
from fuzzer.driver.driver import PlantedBug
from fuzzer.program.mechanisms import ALL, Mechanisms

EXPECT = "KASAN: double-free in demo_write"
VERSIONS = SuiteVersions("1", "QEMU", "tcg", "f", "g", 2)


def bug(name: str, expect: str = EXPECT) -> PlantedBug:
    return PlantedBug(name, Path(f"{name}.patch"), "double free", "415", expect)


def settings(mechanisms: Mechanisms = ALL) -> SuiteSettings:
    return SuiteSettings("demo", 600.0, 3, 1, 1, 1, mechanisms)


def title(
    name: str, *, reproduced: int = 3, sighted: float = 1.0, verified: float = 2.0
) -> FoundTitle:
    shown = Moment(verified, int(1000 * verified)) if reproduced else None
    seen = Moment(sighted, int(1000 * sighted))
    return FoundTitle(name, "full", reproduced, 3, 4, 0, 1, seen, shown, 9, True, 2.5)


def run_result(outcome: RunOutcome, *titles: FoundTitle, seed: int = 1) -> RunResult:
    return RunResult(seed, outcome, titles, Spent(600.0, 1_000_000))


def found_run(sighted: float, seed: int = 1, *others: FoundTitle) -> RunResult:
    found = title(EXPECT, sighted=sighted, verified=sighted + 2)
    return run_result(RunOutcome.FOUND, found, *others, seed=seed)


def suite_result(
    *bugs: BugResult, interrupted: bool = False, mechanisms: Mechanisms = ALL
) -> SuiteResult:
    return SuiteResult(settings(mechanisms), VERSIONS, bugs, interrupted)
