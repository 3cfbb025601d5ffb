# SPDX-License-Identifier: Apache-2.0
"""What a benchmark found, as a table and as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

from fuzzer.bench.instructions import InstructionCount
from fuzzer.bench.restore import RestoreTimes, Spread
from fuzzer.bench.speed import CALLS, Speed
from fuzzer.machine.accel import Accel
from fuzzer.machine.kernel import Flavour

JSON_VERSION = 1


@dataclass(frozen=True, slots=True)
class FlavourResult:
    """What was measured on one flavour of the kernel."""

    flavour: Flavour
    restores: RestoreTimes
    speed: Speed
    instructions: tuple[InstructionCount, ...]


@dataclass(frozen=True, slots=True)
class BenchResult:
    """What was measured, and on what."""

    target: str
    accel: Accel
    accel_reason: str
    qemu: str
    flavours: tuple[FlavourResult, ...]


def to_json(result: BenchResult) -> str:
    """Return the result as JSON: the fields of the dataclasses, times in seconds."""
    return json.dumps({"version": JSON_VERSION, **asdict(result)}, indent=2)


def show_table(result: BenchResult) -> str:
    """Return the result as a table for people: one column for each flavour."""
    flavours = result.flavours
    speed = [flavour.speed for flavour in flavours]
    shares = [each.shares for each in speed]

    def restores(of: Callable[[RestoreTimes], Spread]) -> list[str]:
        return [_milliseconds(of(flavour.restores)) for flavour in flavours]

    sections: list[tuple[str, list[tuple[str, Sequence[str]]]]] = [
        (
            "from a template (median, least to most)",
            [
                ("running", restores(lambda times: times.running)),
                ("first program done", restores(lambda times: times.first_program)),
            ],
        ),
        (
            f"one machine, programs of {CALLS} calls",
            [
                ("programs/s end to end", [f"{s.programs_per_second:,.0f}" for s in speed]),
                (
                    "programs/s guest alone",
                    [f"{s.ceiling_programs_per_second:,.0f}" for s in speed],
                ),
                ("calls/s end to end", [f"{s.calls_per_second:,.0f}" for s in speed]),
                ("calls/s guest alone", [f"{s.ceiling_calls_per_second:,.0f}" for s in speed]),
                ("end to end / guest alone", [f"{s.ratio:.2f}" for s in speed]),
            ],
        ),
        (
            "host CPU for a program, without QEMU",
            [
                ("user", [f"{s.user_us:.0f} µs" for s in speed]),
                ("system", [f"{s.system_us:.0f} µs" for s in speed]),
            ],
        ),
        (
            "where the loop's time goes",
            [
                ("waiting for the guest", [f"{s.waiting:.1%}" for s in shares]),
                ("mutating meanwhile", [f"{s.ahead:.1%}" for s in shares]),
                ("mutating, guest idle", [f"{s.mutating:.1%}" for s in shares]),
                ("handing over, looking at results", [f"{s.looping:.1%}" for s in shares]),
                ("libFuzzer", [f"{s.libfuzzer:.1%}" for s in shares]),
            ],
        ),
        ("guest instructions: program (its calls)", _instruction_rows(flavours)),
    ]
    rows = [row for _, section in sections for row in section]
    title = max(len(name) for name, _ in rows) + 2
    widths = [max(len(row[column]) for _, row in rows) + 2 for column in range(len(flavours))]
    head = "".join(f"{each.flavour:>{width}}" for each, width in zip(flavours, widths, strict=True))
    lines = [f"{result.target} on {result.accel}, {result.qemu}", " " * (title + 2) + head]
    for heading, section in sections:
        lines.append(heading)
        for name, cells in section:
            text = "".join(f"{cell:>{w}}" for cell, w in zip(cells, widths, strict=True))
            lines.append(f"  {name:<{title}}{text}")
    return "\n".join(lines)


def _milliseconds(spread: Spread) -> str:
    return f"{spread.median * 1e3:.0f} ms ({spread.least * 1e3:.0f} to {spread.most * 1e3:.0f})"


def _instruction_rows(flavours: Sequence[FlavourResult]) -> list[tuple[str, Sequence[str]]]:
    """One row for each measured program; every flavour measured the same ones."""
    rows = zip(*(flavour.instructions for flavour in flavours), strict=True)
    return [(row[0].name, [_counts(count) for count in row]) for row in rows]


def _counts(count: InstructionCount) -> str:
    if not count.calls:
        return f"{count.program:,}"
    return f"{count.program:,} ({' + '.join(f'{call:,}' for call in count.calls)})"
