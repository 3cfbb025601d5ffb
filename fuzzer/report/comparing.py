# SPDX-License-Identifier: Apache-2.0
"""Campaigns side by side: coverage over time, speed, and the time to each bug.

A side is a campaign, or several of one setting: the runs. With several on both of two sides it is
said how likely a difference is more than chance.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from fuzzer.errors import BadInputError
from fuzzer.report.ranks import a12, mann_whitney
from fuzzer.state.document import CampaignState, HistoryRow
from fuzzer.state.reader import read_state
from fuzzer.state.schema import state_file
from fuzzer.wording import count, table, time_span, visible

# Parts of the shortest campaign's time after which coverage is compared.
_PARTS = (1 / 16, 1 / 4, 1.0)
_TITLE = 60
_P = "0.5 is no difference; p: of Mann-Whitney, two-sided"


@dataclass(frozen=True, slots=True)
class ComparedRun:
    """A campaign: its working directory and its state."""

    path: Path
    state: CampaignState

    @property
    def last(self) -> HistoryRow:
        """The newest row of its history."""
        return self.state.history[-1]

    def covered_after(self, seconds: float) -> int:
        """Return the number of blocks that were reached after so many seconds of fuzzing."""
        rows = [row.covered for row in self.state.history if row.at <= seconds]
        return rows[-1] if rows else 0

    def bugs(self) -> dict[str, float]:
        """Return the titles of the crashes, and after how many seconds each was first seen.

        Those that are likely the consequences of others are left out.
        """
        return {each.title: each.first_at for each in self.state.crashes if not each.cause}


@dataclass(frozen=True, slots=True)
class Side:
    """A side of a comparison: runs of one setting."""

    name: str
    runs: tuple[ComparedRun, ...]

    def numbers(self, of: Callable[[ComparedRun], float]) -> tuple[float, ...]:
        """Return a number of each run."""
        return tuple(of(run) for run in self.runs)


@dataclass(frozen=True, slots=True)
class Difference:
    """A side against the first one: the probability of a larger number, and p of Mann-Whitney."""

    side: int
    a12: float
    p: float


@dataclass(frozen=True, slots=True)
class Measure:
    """Something that is compared: numbers of the runs of each side.

    ``seconds`` tells that they are times; infinity is one that was not reached. If it is
    ``given``, it says nothing of how good a side is.
    """

    name: str
    numbers: tuple[tuple[float, ...], ...]
    seconds: bool = False
    given: bool = False

    def differences(self) -> tuple[Difference, ...]:
        """Return how the other sides differ from the first, where both have several runs."""
        first, *others = self.numbers
        return tuple(
            Difference(at, a12(other, first), mann_whitney(other, first))
            for at, other in enumerate(others, 1)
            if len(first) > 1 and len(other) > 1 and not self.given
        )

    def told(self, side: int) -> str:
        """Return the numbers of a side in words: the median, and the range if they differ.

        Of a time that some runs did not reach, those of the others, and how many these are.
        """
        reached = [each for each in self.numbers[side] if math.isfinite(each)]
        runs = len(self.numbers[side])
        if not reached:
            return "-"
        text = self._median(reached)
        return text if len(reached) == runs else f"{text} in {len(reached)} of {runs}"

    def _median(self, numbers: Sequence[float]) -> str:
        middle = self._one(median(numbers))
        low, high = self._one(min(numbers)), self._one(max(numbers))
        return middle if low == high else f"{middle} ({low} to {high})"

    def _one(self, number: float) -> str:
        if self.seconds:
            return time_span(number)
        return f"{number:,.1f}" if number % 1 and number < 100 else f"{number:,.0f}"


@dataclass(frozen=True, slots=True)
class CampaignComparison:
    """Sides, and what is compared of them: ``measures``, and the time to each of the ``bugs``.

    ``remarks`` say what makes the sides hard to compare.
    """

    sides: tuple[Side, ...]
    measures: tuple[Measure, ...]
    bugs: tuple[Measure, ...]
    remarks: tuple[str, ...]

    @property
    def letters(self) -> list[str]:
        """A letter for each side."""
        return [chr(ord("A") + at % 26) for at in range(len(self.sides))]


def read_side(path: Path) -> Side:
    """Return the side in a working directory, or in a directory of several.

    Raises:
        BadInputError: there is no campaign with a history in it.
    """
    if not path.is_dir():
        raise BadInputError(f"{path}: no such directory. Give campaigns' working directories")
    found = [path] if state_file(path).is_file() else []
    found = found or sorted(each.parent for each in path.glob(f"*/{state_file(path).name}"))
    if not found:
        raise BadInputError(
            f"{path} has no {state_file(path).name}, and no directory in it has: no campaign of "
            "this version of pkvfuzz ran there. Give a working directory, or one of several"
        )
    runs = tuple(ComparedRun(each, read_state(each)) for each in found)
    for run in runs:
        if not run.state.history:
            raise BadInputError(f"{run.path}: the campaign has no history yet. Leave it out")
    return Side(str(path), runs)


def compare(sides: Sequence[Side]) -> CampaignComparison:
    """Return a comparison of sides, the first one the measure of the others."""
    runs = [run for side in sides for run in side.runs]
    shortest = min(run.last.at for run in runs)

    def measured(name: str, of: Callable[[ComparedRun], float]) -> Measure:
        return Measure(name, tuple(side.numbers(of) for side in sides))

    def after(seconds: float) -> Measure:
        return measured(
            f"blocks after {time_span(seconds)}", lambda run: run.covered_after(seconds)
        )

    times = list(dict.fromkeys(math.ceil(part * shortest) for part in _PARTS))
    titles = {title: at for run in runs for title, at in run.bugs().items()}
    return CampaignComparison(
        tuple(sides),
        (
            Measure(
                "fuzzing",
                tuple(side.numbers(lambda run: run.last.at) for side in sides),
                seconds=True,
                given=True,
            ),
            measured("programs/s", lambda run: run.last.programs / max(run.last.at, 1.0)),
            *map(after, times),
            measured("corpus", lambda run: run.last.corpus),
            measured("bugs", lambda run: len(run.bugs())),
        ),
        tuple(_time_to(title, sides) for title in sorted(titles, key=lambda each: titles[each])),
        tuple(_remarks(runs)),
    )


def _time_to(title: str, sides: Sequence[Side]) -> Measure:
    numbers = tuple(side.numbers(lambda run: run.bugs().get(title, math.inf)) for side in sides)
    return Measure(title, numbers, seconds=True)


def _remarks(runs: Sequence[ComparedRun]) -> list[str]:
    remarks = []
    last = [run.state.runs[-1] for run in runs if run.state.runs]
    if len({each.target for each in last}) > 1:
        remarks.append("they fuzz different drivers")
    elif len({each.driver for each in last}) > 1:
        remarks.append("the driver is another build: numbers of blocks are of different code")
    if len({each.cpus for each in last}) > 1 or len({each.accel for each in last}) > 1:
        remarks.append("they ran on different hosts")
    if len({each.vms for each in last}) > 1:
        remarks.append("they had different numbers of machines")
    longest, shortest = max(run.last.at for run in runs), min(run.last.at for run in runs)
    if longest > 1.2 * shortest:
        remarks.append(
            f"they fuzzed for {time_span(shortest)} to {time_span(longest)}: more bugs and a "
            "larger corpus may come of the time alone"
        )
    return remarks


def comparison_text(comparison: CampaignComparison) -> str:
    """Return a comparison as tables."""
    letters = comparison.letters
    lines = [
        f"{letter}  {side.name} ({count(len(side.runs), 'campaign')})"
        for letter, side in zip(letters, comparison.sides, strict=True)
    ]
    lines += [f"note: {each}" for each in comparison.remarks]
    lines += ["", *_text_table("", letters, comparison.measures)]
    if comparison.bugs:
        lines += ["", *_text_table("time to bug", letters, comparison.bugs)]
    if any(each.differences() for each in comparison.measures):
        lines += ["", f"A12: probability of a larger number than {letters[0]}'s, {_P}"]
    return visible("\n".join(lines)) + "\n"


def _text_table(name: str, letters: Sequence[str], measures: Sequence[Measure]) -> list[str]:
    several = any(each.differences() for each in measures)
    rows = [[name, *letters, *([f"against {letters[0]}"] if several else [])]]
    for each in measures:
        title = each.name if len(each.name) <= _TITLE else f"{each.name[: _TITLE - 1]}…"
        row = [title, *(each.told(at) for at in range(len(letters)))]
        rows.append([*row, difference_text(each, letters)] if several else row)
    return table(rows)


def difference_text(measure: Measure, letters: Sequence[str]) -> str:
    """Return how the other sides differ from the first, by A12 and p."""
    return "; ".join(
        f"{letters[each.side]}: A12 {each.a12:.2f}, p {each.p:.3f}"
        for each in measure.differences()
    )


def comparison_json(comparison: CampaignComparison) -> dict[str, Any]:
    """Return a comparison as plain data; times that were not reached are null."""

    def plain(measure: Measure) -> dict[str, Any]:
        return {
            "name": measure.name,
            "unit": "seconds" if measure.seconds else "number",
            "runs": [
                [each if math.isfinite(each) else None for each in numbers]
                for numbers in measure.numbers
            ],
            "against_first": [
                {"side": each.side, "a12": each.a12, "p": each.p} for each in measure.differences()
            ],
        }

    return {
        "sides": [
            {"name": side.name, "campaigns": [str(run.path) for run in side.runs]}
            for side in comparison.sides
        ],
        "remarks": list(comparison.remarks),
        "measures": [plain(each) for each in comparison.measures],
        "time_to_bug": [plain(each) for each in comparison.bugs],
    }


def grown(history: Sequence[HistoryRow]) -> list[tuple[float, float]]:
    """Return the points at which coverage grew, and the first and last one."""
    points = [(row.at, float(row.covered)) for row in history]
    kept = [points[0]]
    kept += [after for before, after in pairwise(points) if after[1] != before[1]]
    return kept if kept[-1] == points[-1] else [*kept, points[-1]]
