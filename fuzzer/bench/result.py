# SPDX-License-Identifier: Apache-2.0
"""The findings of a benchmark, as a table and as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field

from fuzzer.bench.instructions import InstructionCount
from fuzzer.bench.logspeed import LogSpeed
from fuzzer.bench.minimizing import CALLS as CALLS_OF_CRASH
from fuzzer.bench.minimizing import MinimizeResult
from fuzzer.bench.restore import RestoreTimes, Spread
from fuzzer.bench.speed import CALLS, Speed
from fuzzer.bench.views import ViewsCost
from fuzzer.kernel.kernel import Flavour
from fuzzer.machine.accel import Accel

JSON_VERSION = 1


@dataclass(frozen=True, slots=True)
class FlavourResult:
    """The measurements on one flavour of the kernel.

    ``profile`` is what the instructions of all measured programs are for.
    """

    flavour: Flavour
    restores: RestoreTimes
    speed: Speed
    instructions: tuple[InstructionCount, ...]
    minimizing: MinimizeResult | None = None
    profile: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Shape:
    """The speed of programs of some form: so many calls, on one thread or several."""

    name: str
    speed: Speed


@dataclass(frozen=True, slots=True)
class Together:
    """The speed of one VM, and of each of ``vms`` that ran at the same time."""

    vms: int
    alone: Speed
    each: tuple[Speed, ...]

    @property
    def programs_per_second(self) -> float:
        """The rate of all VMs together."""
        return sum(speed.programs_per_second for speed in self.each)

    @property
    def gain(self) -> float:
        """The ratio of their rate to that of one VM."""
        return self.programs_per_second / self.alone.programs_per_second

    @property
    def ratio(self) -> float:
        """End to end over the guests alone, of all VMs."""
        ceilings = sum(speed.ceiling_programs_per_second for speed in self.each)
        return self.programs_per_second / ceilings


@dataclass(frozen=True, slots=True)
class BenchResult:
    """All measurements, with the host they are of. ``shapes`` and ``together`` are of ``fast``."""

    target: str
    accel: Accel
    accel_reason: str
    qemu: str
    flavours: tuple[FlavourResult, ...]
    shapes: tuple[Shape, ...] = ()
    together: Together | None = None
    log_speed: LogSpeed | None = None
    views: ViewsCost | None = None


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
                ("run again to confirm or shorten", [f"{s.again:.1%} more" for s in speed]),
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
        ("what these instructions are for, all programs together", _profile_rows(flavours)),
        (f"a crash among {CALLS_OF_CRASH} calls", _minimizing_rows(flavours)),
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
    return "\n".join([*lines, *_log_lines(result), *_views_lines(result), *_shape_lines(result)])


def _shape_lines(result: BenchResult) -> list[str]:
    rows = [(each.name, each.speed.programs_per_second, each.speed.ratio) for each in result.shapes]
    if together := result.together:
        rows.append(("one VM", together.alone.programs_per_second, together.alone.ratio))
        name = f"{together.vms} VMs ({together.gain:.2f} times one VM)"
        rows.append((name, together.programs_per_second, together.ratio))
    if not rows:
        return []
    heading = "fast, by form of program and number of VMs"
    width = max(len(heading), *(len(name) + 2 for name, _, _ in rows)) + 2
    return [
        f"{heading:<{width}}{'programs/s':>12}{'/ guest alone':>15}",
        *(f"{'  ' + name:<{width}}{speed:>12,.0f}{ratio:>15.2f}" for name, speed, ratio in rows),
    ]


def _log_lines(result: BenchResult) -> list[str]:
    if (logs := result.log_speed) is None:
        return []
    speed = f"{logs.mb_s:.0f} MB/s, {logs.ratio:.2f} of only reading its lines"
    return [
        f"a log without reports is searched at {speed}",
        f"a log of nothing but reports at {logs.flood_mb_s:.0f} MB/s",
    ]


def _views_lines(result: BenchResult) -> list[str]:
    if (views := result.views) is None:
        return []
    parts = (("state", views.recording), ("screen", views.screen), ("metrics", views.metrics))
    each = ", ".join(f"{name} {1e3 * cpu / views.elapsed:.1f} ms" for name, cpu in parts)
    return [
        f"a campaign with its views has {views.ratio:.3f} of the throughput without them",
        f"their CPU time a second: {each}",
    ]


def _milliseconds(spread: Spread) -> str:
    return f"{spread.median * 1e3:.0f} ms ({spread.least * 1e3:.0f} to {spread.most * 1e3:.0f})"


def _instruction_rows(flavours: Sequence[FlavourResult]) -> list[tuple[str, Sequence[str]]]:
    """One row for each measured program; every flavour measured the same ones."""
    rows = zip(*(flavour.instructions for flavour in flavours), strict=True)
    return [(row[0].name, [_counts(count) for count in row]) for row in rows]


def _profile_rows(flavours: Sequence[FlavourResult]) -> list[tuple[str, Sequence[str]]]:
    def cell(profile: dict[str, int], name: str) -> str:
        return f"{profile[name]:,} ({profile[name] / sum(profile.values()):.1%})"

    profiles = [flavour.profile for flavour in flavours if flavour.profile]
    if len(profiles) < len(flavours):
        return []
    names = [name for name in profiles[0] if any(profile[name] for profile in profiles)]
    return [(name, [cell(profile, name) for profile in profiles]) for name in names]


def _minimizing_rows(flavours: Sequence[FlavourResult]) -> list[tuple[str, Sequence[str]]]:
    found = [flavour.minimizing for flavour in flavours]

    def cells(show: Callable[[MinimizeResult], str]) -> list[str]:
        return [show(each) if each else "-" for each in found]

    restores = [flavour.restores.first_program.median for flavour in flavours]
    ratios = [
        each.seconds / one if each else 0.0 for each, one in zip(found, restores, strict=True)
    ]
    return [
        ("bug", cells(lambda each: each.bug)),
        ("calls left", cells(lambda each: f"{each.calls}")),
        ("runs (machines)", cells(lambda each: f"{each.runs} ({each.restores})")),
        ("seconds", cells(lambda each: f"{each.seconds:.1f}")),
        ("time / time to a first program", [f"{ratio:.0f}" if ratio else "-" for ratio in ratios]),
    ]


def _counts(count: InstructionCount) -> str:
    if not count.calls:
        return f"{count.program:,}"
    return f"{count.program:,} ({' + '.join(f'{call:,}' for call in count.calls)})"
