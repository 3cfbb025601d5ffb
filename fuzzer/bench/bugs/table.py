# SPDX-License-Identifier: Apache-2.0
"""The table of a suite of planted bugs, also as JSON."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Container, Sequence
from dataclasses import asdict
from typing import Any

from fuzzer.bench.bugs.result import (
    BugResult,
    FoundTitle,
    Moment,
    RunOutcome,
    RunResult,
    SuiteResult,
    seconds_sighted,
)
from fuzzer.flavour import Flavour
from fuzzer.program.mechanisms import Mechanisms
from fuzzer.progress import clock
from fuzzer.wording import count
from fuzzer.wording import table as aligned

JSON_VERSION = 1
_COLUMNS = (
    *("bug", "found", "sighted", "programs", "verified", "reproduced"),
    *("calls", "minimal", "in", "title"),
)
# Columns of figures, between name and title.
_RIGHT = range(1, len(_COLUMNS) - 1)
_TITLE_WIDTH = 100


def engine_label(mechanisms: Mechanisms, kernel: str = Flavour.FAST) -> str:
    """Return engine and mechanisms that are off, as ``libfuzzer on full, no hints, no races``."""
    parts = ["libfuzzer" if mechanisms.coverage else "random"]
    if kernel != Flavour.FAST:
        parts[0] += f" on {kernel}"
    on = asdict(mechanisms)
    off = [name for name in on if name != "coverage" and not on[name]]
    parts += [f"no {name.replace('_', ' ')}" for name in off]
    return ", ".join(parts)


def duration(seconds: float) -> str:
    """Format a duration, with tenths below ten seconds: ``3.2 s``, ``42 s``, ``3:07``."""
    return f"{seconds:.1f} s" if seconds < 10 else clock(seconds)


def _short(title: str) -> str:
    return title if len(title) <= _TITLE_WIDTH else f"{title[: _TITLE_WIDTH - 1]}…"


def _time(seconds: float | None, limit: float) -> str:
    if seconds is None:
        return "-"
    return duration(seconds) if math.isfinite(seconds) else f"> {duration(limit)}"


def _number(value: float | None) -> str:
    return "-" if value is None or not math.isfinite(value) else f"{value:,.0f}"


def _programs(found: FoundTitle) -> float | None:
    return found.sighted.programs if found.sighted else None


def _verified(found: FoundTitle) -> float | None:
    return found.verified.seconds if found.verified else None


def _minimal(found: Sequence[FoundTitle]) -> tuple[str, str]:
    """Return the median length of minimal programs and how long making them took.

    If time was over each time before nothing was left to try: how short they are at least.
    """
    tried = [each for each in found if each.minimized] or [
        each for each in found if each.minimize_seconds
    ]
    if not tried:
        return "-", "-"
    calls = statistics.median(each.calls for each in tried)
    seconds = statistics.median(each.minimize_seconds for each in tried)
    return f"{'' if tried[0].minimized else '<= '}{calls:,.0f}", _time(seconds, math.inf)


def _row(result: BugResult, limit: float) -> tuple[str, ...]:
    found = result.found
    machines = sum(each.machines for each in found)
    return (
        result.bug.name,
        f"{len(found)} of {len(result.counted)}",
        _time(result.median(seconds_sighted), limit),
        _number(result.median(_programs)),
        _time(result.median(_verified), limit),
        f"{sum(each.reproduced for each in found)} of {machines}" if machines else "-",
        _number(result.median(lambda each: each.original)),
        *_minimal(found),
        ", ".join(sorted({_short(each.title) for each in found})),
    )


def _note(result: BugResult) -> str | None:
    """Return what to print instead of a row for a bug without a run that counts."""
    if result.skipped:
        return f"not run: {result.bug.expect or 'expects nothing'}"
    return None if result.counted else "not run to an end"


def _times(runs: int) -> str:
    return f"in {count(runs, 'run')}"


def _below(result: BugResult) -> list[str]:
    """Return the lines under a bug's row: what else was found, and what went wrong."""
    lines = []
    expect = result.bug.expect
    failed = result.counted_as(RunOutcome.FAILED)
    if missed := len(result.counted) - len(result.found) - len(failed):
        lines.append(f"missed {_times(missed)}: {_short(expect)}")
    if unverified := result.counted_as(RunOutcome.UNVERIFIED):
        lines.append(f"sighted, not reproduced {_times(len(unverified))}: {_short(expect)}")
    for heading, runs in (
        ("other title", result.counted_as(RunOutcome.OTHER)),
        (
            "also",
            [run for run in result.runs if run.outcome is not RunOutcome.OTHER],
        ),
    ):
        lines += [f"{heading} {line}" for line in _others(runs, result.bug.titles)]
    lines += sorted({f"failed: {run.message}" for run in failed})
    return lines


def _others(runs: Sequence[RunResult], expect: Container[str]) -> list[str]:
    """Return a line for each title other than the expected one that runs stored."""
    stored: dict[str, list[FoundTitle]] = {}
    for run in runs:
        for found in run.titles:
            if found.title not in expect:
                stored.setdefault(found.title, []).append(found)
    lines = []
    for title, found_by in stored.items():
        machines = sum(found.machines for found in found_by)
        shown = sum(found.reproduced for found in found_by)
        verdict = f"reproduced {shown} of {machines}" if machines else "not judged"
        lines.append(f"{_times(len(found_by))}: {_short(title)} ({verdict})")
    return lines


def table(result: SuiteResult) -> str:
    """Return the table: a line for each bug, and below it what was not as expected."""
    limit = result.settings.seconds
    rows = [
        (each.bug.name, *[""] * (len(_COLUMNS) - 1)) if _note(each) else _row(each, limit)
        for each in result.bugs
    ]
    head, *shown = aligned([_COLUMNS, *rows], _RIGHT)
    width = max(map(len, [_COLUMNS[0], *(each.bug.name for each in result.bugs)]))
    lines = [head]
    for each, line in zip(result.bugs, shown, strict=True):
        note = _note(each)
        lines.append(f"{line:<{width}}  {note}" if note else line)
        lines += [f"    {line}" for line in _below(each)]
    return "\n".join(lines)


def summary(result: SuiteResult) -> str:
    """Return one line: how many bugs were found, in how many runs, and how soon."""
    bugs, settings = result.run, result.settings
    found = [each for each in bugs if each.found]
    everywhere = [each for each in found if len(each.found) == len(each.counted)]
    runs = sum(len(each.counted) for each in bugs)
    hits = sum(len(each.found) for each in bugs)
    text = (
        f"found {len(found)} of {len(bugs)} bugs, {len(everywhere)} in every run "
        f"({hits} of {runs} runs); median over bugs: "
        f"{_time(result.median_seconds, settings.seconds)} until sighted; "
        f"{engine_label(settings.mechanisms, settings.kernel)}, "
        f"at most {duration(settings.seconds)} each"
    )
    others = [each for each in bugs if not each.found and each.counted_as(RunOutcome.OTHER)]
    if others:
        text += f"; {len(others)} more with another title only"
    return text + ("; interrupted" if result.interrupted else "")


def run_line(name: str, run: RunResult, expect: Container[str]) -> str:
    """Return one line on a run that has just ended."""
    text = f"{name}, seed {run.seed}: {run.outcome}"
    spent = f"{duration(run.spent.seconds)} and {run.spent.programs:,} programs"
    match = run.match(expect)
    if run.outcome is RunOutcome.FAILED:
        return f"{text}: {run.message}"
    if match and run.outcome is RunOutcome.FOUND:
        seen = duration(match.sighted.seconds) if match.sighted else "?"
        done = duration(match.verified.seconds) if match.verified else "?"
        return (
            f"{text} after {seen}, verified after {done} "
            f"(reproduced {match.reproduced} of {match.machines}): {match.title}"
        )
    titles = "; ".join(_short(found.title) for found in run.titles)
    return f"{text} in {spent}" + (f": {titles}" if titles else "")


def to_json(result: SuiteResult) -> str:
    """Return the result as JSON: one object; times are seconds of fuzzing."""
    data = {
        "version": JSON_VERSION,
        "settings": asdict(result.settings),
        "versions": asdict(result.versions),
        "interrupted": result.interrupted,
        "bugs": [_bug_json(each) for each in result.bugs],
    }
    return json.dumps(data, indent=2)


def _bug_json(result: BugResult) -> dict[str, Any]:
    bug = result.bug
    return {
        "name": bug.name,
        "class": bug.kind,
        "level": bug.level.value,
        "needs": list(bug.needs),
        "expect": bug.expect,
        "also": list(bug.also),
        "skipped": result.skipped,
        "found": len(result.found),
        "of": len(result.counted),
        "runs": [_run_json(run, bug.titles) for run in result.runs],
    }


def _run_json(run: RunResult, expect: Container[str]) -> dict[str, Any]:
    match = run.match(expect) if run.outcome is RunOutcome.FOUND else None

    def seconds(moment: Moment | None) -> float | None:
        return moment.seconds if moment else None

    return {
        "seed": run.seed,
        "found": match is not None,
        "outcome": run.outcome.value,
        "seconds": seconds(match.sighted) if match else None,
        "programs": match.sighted.programs if match and match.sighted else None,
        "verified_seconds": seconds(match.verified) if match else None,
        "message": run.message,
        "spent": asdict(run.spent),
        "titles": [asdict(found) for found in run.titles],
    }
