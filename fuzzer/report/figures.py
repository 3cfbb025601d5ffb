# SPDX-License-Identifier: Apache-2.0
"""Figures of a campaign in words, as all of its views show them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from fuzzer.progress import clock
from fuzzer.splat.severity import Level
from fuzzer.state.document import CrashRecord, Glance, HistoryRow, RunPhase

# Seconds over which the present speed is measured.
_NOW = 5
# Calls that take so many seconds are said to.
_SLOW_CALL = 0.05
_BARS = "▁▂▃▄▅▆▇█"
_PLAIN_BARS = ".:-=+*#@"


def speed_text(rate: float) -> str:
    """Return a speed a second, with a digit behind the point where there would be one only."""
    return f"{rate:,.0f}" if rate >= 10 or not rate else f"{rate:.1f}"


def share_text(part: int, whole: int) -> str:
    """Return the blocks that are covered, with their share."""
    return f"{part:,} of {whole:,} blocks ({part / whole:.0%})" if whole else "no blocks"


def speeds(rows: Sequence[HistoryRow]) -> list[float]:
    """Return the programs a second between each two rows of the history."""
    found = []
    for before, after in pairwise(rows):
        # The host's clock may have been set, and another run may have ended and begun between.
        if after.run == before.run and after.wall > before.wall:
            ran = (after.programs - before.programs) / (after.wall - before.wall)
            found.append(max(ran, 0.0))
    return found


@dataclass(frozen=True, slots=True)
class Rates:
    """Programs and calls a second, over the last seconds and on average of this run."""

    programs: float = 0.0
    calls: float = 0.0
    average: float = 0.0


def rates(glance: Glance) -> Rates:
    """Return the speeds of a campaign."""
    row = glance.row
    if row is None:
        return Rates()
    own = [each for each in glance.recent if each.run == row.run]
    first = own[max(0, len(own) - 1 - _NOW)]
    seconds = row.wall - first.wall
    programs = calls = 0.0
    if seconds > 0:
        programs = (row.programs - first.programs) / seconds
        calls = (row.calls - first.calls) / seconds
    ran = sum(machine.programs for machine in glance.machines)
    fuzzed = glance.run.fuzzed
    return Rates(max(programs, 0.0), max(calls, 0.0), ran / fuzzed if fuzzed else 0.0)


def bars(values: Sequence[float], width: int, *, plain: bool = False) -> str:
    """Return a small graph of the newest values, a character each; ``plain`` is for ASCII."""
    marks = _PLAIN_BARS if plain else _BARS
    shown = values[-width:]
    most = max(shown, default=0.0)
    if most <= 0:
        return marks[0] * len(shown)
    return "".join(marks[min(int(len(marks) * value / most), len(marks) - 1)] for value in shown)


def time_left(glance: Glance) -> float | None:
    """Return the seconds of fuzzing that are left; None without such a limit."""
    seconds = glance.run.seconds
    return None if seconds is None else max(0.0, seconds - glance.run.fuzzed)


def time_text(glance: Glance) -> str:
    """Return how long the run has fuzzed, and of how much."""
    run = glance.run
    text = clock(run.fuzzed)
    if run.phase is RunPhase.JUDGING:
        return f"{text} of fuzzing are over; what waits is judged"
    if run.phase is RunPhase.STARTING:
        if not run.fuzzed:
            return "starting"
        ran = sum(machine.programs for machine in glance.machines)
        # libFuzzer begins with an empty one.
        text += f", starting: {max(0, ran - 1):,} of {run.seeds:,} seeds have run"
        calls = sum(machine.calls for machine in glance.machines)
        call = run.fuzzed * len(glance.machines) / calls if calls else 0.0
        return f"{text}; a call takes {call:.2g} s" if call >= _SLOW_CALL else text
    if run.seconds is not None:
        return f"{text} of {clock(run.seconds)}"
    if run.programs is not None:
        ran = sum(machine.programs for machine in glance.machines)
        return f"{text}, {ran:,} of {run.programs:,} programs"
    return text


def newest_block_text(glance: Glance) -> str:
    """Return when a block was last reached first."""
    row = glance.row
    if row is None or not glance.newest_block:
        return ""
    ago = row.at - glance.newest_block
    return "the last new one just now" if ago < 1 else f"the last new one {clock(ago)} ago"


def crash_counts(crashes: Sequence[CrashRecord]) -> list[list[tuple[str, int]]]:
    """Return crashes counted by severity, by what judging came to, and by what is new.

    Those that are likely a consequence of another one do not count; numbers of 0 are left out.
    """
    own = [each for each in crashes if not each.cause]
    levels = Counter(each.level for each in own)
    judged = Counter(result_of(each) for each in own)
    news = Counter("new" if each.is_new else "known" for each in own)
    return [
        [(str(level), levels[level]) for level in Level if levels[level]],
        [(word, judged[word]) for word in ("reproduced", "not reproduced", "not judged yet")
         if judged[word]],
        [(word, news[word]) for word in ("new", "known") if news[word]],
    ]  # fmt: skip


def result_of(crash: CrashRecord) -> str:
    """Return what judging of a crash came to."""
    if not crash.runs:
        return "not judged yet"
    return "reproduced" if crash.reproduced else "not reproduced"


def most_severe(crashes: Sequence[CrashRecord]) -> list[CrashRecord]:
    """Return the crashes, the most severe first, consequences of others last."""
    return sorted(crashes, key=lambda each: (bool(each.cause), -each.score, each.first_wall))


def plain_line(glance: Glance) -> str:
    """Return one line on a campaign, for a log."""
    row, speed = glance.row, rates(glance)
    if row is None:
        return f"starting{_judge_text(glance)}"
    parts = [time_text(glance)]
    if glance.run.phase is not RunPhase.STARTING:
        parts += [
            f"{speed_text(speed.programs)} programs/s ({speed_text(speed.calls)} calls/s)",
            share_text(row.covered, row.blocks),
            f"corpus {row.corpus:,}",
        ]
    parts.append(f"crashes {row.crashes} ({row.sightings} seen)")
    if row.replaced:
        parts.append(f"replaced {row.replaced}")
    if row.lost:
        parts.append(f"machines lost {row.lost}")
    parts += [f"[finding out what leads to {each.title}]"
              for each in glance.aside if each.state == "studied"]  # fmt: skip
    return "  ".join(parts) + _judge_text(glance)


def _judge_text(glance: Glance) -> str:
    status = glance.judge.status
    return f"  [{status}]" if status not in {"", "ready", "starting"} else ""
