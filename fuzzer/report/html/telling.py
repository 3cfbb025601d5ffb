# SPDX-License-Identifier: Apache-2.0
"""Sentences on a campaign: what was found, done and reached in it, and what went wrong."""

from __future__ import annotations

import time
from collections.abc import Sequence

from fuzzer.report.html.gathering import Gathered, StoredCrash
from fuzzer.state.document import EventKind, HistoryRow, RunRecord
from fuzzer.wording import count, time_span

# Share of the campaign's time in which nothing new was reached, from which that is said.
_STALE = 0.5


def moment(wall: float) -> str:
    """Return a moment of Unix time as a person writes it, in this host's time zone."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(wall))


def what_happened(gathered: Gathered) -> list[str]:
    """Return sentences on what was done, reached and found, the most important ones first."""
    sentences = [_found(gathered)]
    sentences += _done(gathered)
    sentences += _reached(gathered)
    sentences += _trouble(gathered)
    return sentences


def _found(gathered: Gathered) -> str:
    crashes = gathered.crashes
    if not crashes:
        return "No crash was found."
    bugs = [each for each in crashes if not each.same_as and not each.cause]
    known = {each.slug for each in gathered.state.crashes if each.known}
    told = f"{count(len(bugs), 'bug')} in {_crashes(len(crashes))}"
    new = sum(each.slug not in known for each in bugs)
    if known:
        which = ", which is new" if new else ", which was known"
        told += f", {new or 'none'} of them new" if len(bugs) > 1 else which
    shown = sum(each.crash.reproduced > 0 for each in bugs)
    if shown < len(bugs):
        told += f"; {shown} of {len(bugs)} shown again on fresh machines"
    first: StoredCrash = crashes[0]
    return f"{told}. The most severe: {first.crash.title} ({first.level}, {first.score} of 100)."


def _crashes(number: int) -> str:
    return "1 stored crash" if number == 1 else f"{number:,} stored crashes"


def _done(gathered: Gathered) -> list[str]:
    runs, last = gathered.state.runs, gathered.state.last
    if not runs or last is None:
        return []
    run = runs[-1]
    rate = f", {last.programs / last.at:,.0f} a second" if last.at >= 1 else ""
    machines = count(run.vms, "machine")
    again = "" if len(runs) == 1 else f" in {count(len(runs), 'run')}"
    told = (
        f"{time_span(last.at)} of fuzzing{again} on {machines}, from {moment(runs[0].began)}: "
        f"{last.programs:,} programs with {last.calls:,} calls{rate}."
    )
    return [told, _end(run)]


def _end(run: RunRecord) -> str:
    if run.ended is not None:
        why = f": {run.ended_by}" if run.ended_by else ""
        return f"It ended at {moment(run.ended)}{why}."
    if time.time() - run.alive < 60:
        return "It goes on."
    return f"It did not end by itself: its last sign of life was at {moment(run.alive)}."


def _reached(gathered: Gathered) -> list[str]:
    blocks = len(gathered.driver.blocks) if gathered.driver else len(gathered.state.blocks)
    if not blocks:
        return []
    covered = len(gathered.covered)
    told = f"{covered:,} of {blocks:,} blocks of the driver were reached ({covered / blocks:.0%})"
    told += f", by {gathered.corpus:,} programs that were kept" if gathered.corpus else ""
    sentences = [f"{told}."]
    news, last = last_new_block(gathered.state.history), gathered.state.last
    if news is not None and last is not None:
        ago = last.at - news
        text = f"The last new block came after {time_span(news)} of fuzzing"
        stale = ago > _STALE * last.at and last.at >= 60
        sentences.append(f"{text}, {time_span(ago)} before the end." if stale else f"{text}.")
    return sentences


def last_new_block(history: Sequence[HistoryRow]) -> float | None:
    """Return the campaign's time at which coverage grew last, None if it never did."""
    for before, after in zip(reversed(history[:-1]), reversed(history[1:]), strict=True):
        if after.covered > before.covered:
            return after.at
    return history[0].at if history and history[0].covered else None


def _trouble(gathered: Gathered) -> list[str]:
    state, last = gathered.state, gathered.state.last
    sentences = []
    if last is not None and last.waiting:
        sentences.append(f"{count(last.waiting, 'sighting')} wait to be judged.")
    if last is not None and last.lost:
        sentences.append(f"{count(last.lost, 'machine')} died or hung without a report.")
    if state.judge.missing:
        missing = ", ".join(state.judge.missing)
        sentences.append(f"Not done on the kernel that judges: {missing}.")
    if any(each.kind is EventKind.REBUILT for each in state.events):
        sentences.append(
            "Driver or kernel were another build at the beginning: blocks are of the last one."
        )
    return sentences
