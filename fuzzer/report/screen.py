# SPDX-License-Identifier: Apache-2.0
"""The live screen of a campaign: its present as lines that fit a terminal of any width."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.text import Text

from fuzzer.engine.statistics import MachinePhase
from fuzzer.progress import clock
from fuzzer.report import figures
from fuzzer.splat.severity import Level
from fuzzer.state.document import CrashRecord, Glance, MachineRecord, RunPhase
from fuzzer.wording import count

# Columns of labels; in a narrow terminal they stand above what they label.
_LABEL, _NARROW = 10, 60
_GRAPH = 24
# Space between two pieces of a line.
_GAP = 3
_STYLES = {
    Level.CRITICAL: "bold red",
    Level.HIGH: "red",
    Level.MEDIUM: "yellow",
    Level.LOW: "cyan",
}
# Machines and crashes that have lines of their own.
_MOST_MACHINES, _MOST_CRASHES = 8, 5
# The host is said to be full below this share of free memory, and below so many free bytes.
_LITTLE_DISK = 1 << 30


@dataclass(frozen=True, slots=True)
class _Row:
    """A label and pieces, each of which stays whole where it fits."""

    label: str
    pieces: Sequence[Text]


def screen(glance: Glance, width: int, height: int, *, plain: bool = False) -> Text:
    """Return the present of a campaign in at most ``height`` lines of ``width`` columns.

    ``plain`` is for terminals that have ASCII only. What does not fit is left out from the end,
    machines and single crashes first.
    """
    rows = _rows(glance, plain=plain)
    optional = _machines(glance), _crash_lines(glance.crashes, width)
    room = height - sum(map(len, (_laid_out(row, width) for row in rows)))
    lines: list[Text] = []
    for row in rows:
        lines += _laid_out(row, width)
        if row.label in {"machines", "crashes"}:
            for more in optional[row.label == "crashes"]:
                laid = _laid_out(_Row("", more), width)
                if len(laid) <= room:
                    room -= len(laid)
                    lines += laid
    return Text("\n").join(lines[:height])


def _rows(glance: Glance, *, plain: bool) -> list[_Row]:
    row, rates = glance.row, figures.rates(glance)
    run = glance.run
    found = [_Row(_title(glance), _time(glance))]
    if row is None:
        return [*found, _judge(glance)]
    graph = figures.bars(figures.speeds(glance.recent), _GRAPH, plain=plain)
    if run.phase is not RunPhase.JUDGING:
        found.append(
            _Row(
                "speed",
                [
                    Text(f"{figures.speed_text(rates.programs)} programs/s", "bold"),
                    Text(f"{figures.speed_text(rates.average)} on average"),
                    Text(graph, "green"),
                    Text(f"{figures.speed_text(rates.calls)} calls/s"),
                ],
            )
        )
    newest = figures.newest_block_text(glance)
    found += [
        _Row("coverage", [Text(figures.share_text(row.covered, row.blocks), "bold"),
                          *([Text(newest)] if newest else [])]),
        _Row("corpus", [Text(count(row.corpus, "program"))]),
        _Row("crashes", _crashes(glance)),
        _Row("machines", _machine_sums(glance)),
        _judge(glance),
        _Row("host", _host(glance)),
    ]  # fmt: skip
    aside = [_aside(title.title, title.sightings, title.state) for title in glance.aside]
    if aside:
        found.append(_Row("set aside", aside))
    return found


def _title(glance: Glance) -> str:
    return glance.run.target


def _time(glance: Glance) -> list[Text]:
    run = glance.run
    pieces = [Text(f"with {run.bug}")] if run.bug else []
    pieces.append(Text(figures.time_text(glance), "bold"))
    left = figures.time_left(glance)
    if left is not None and run.phase is not RunPhase.JUDGING:
        pieces.append(Text(f"{clock(left)} left", "bold green"))
    return pieces


def _crashes(glance: Glance) -> list[Text]:
    if not glance.crashes:
        return [Text("none yet")]
    levels, judged, news = figures.crash_counts(glance.crashes)
    pieces = [Text(f"{number} {level}", _STYLES[Level(level)]) for level, number in levels]
    pieces += [Text(f"{number} {word}") for word, number in judged]
    pieces += [Text(f"{number} {word}", "bold" if word == "new" else "") for word, number in news]
    consequences = sum(bool(each.cause) for each in glance.crashes)
    if consequences:
        pieces.append(Text(f"{consequences} likely consequences of these", "dim"))
    return pieces


def _crash_lines(crashes: Sequence[CrashRecord], width: int) -> Iterable[list[Text]]:
    shown = figures.most_severe(crashes)
    for crash in shown[:_MOST_CRASHES]:
        runs = f"{crash.reproduced} of {crash.runs}" if crash.runs else "not judged"
        level = Level(crash.level)
        words = [runs, "new" if crash.is_new else "known"]
        words += ["likely a consequence"] if crash.cause else []
        told = Text(", ".join(words))
        title = Text(f"{level:8} {crash.title}", _STYLES[level])
        if width >= _NARROW:
            room = width - _LABEL - _GAP - cell_len(told.plain)
            title.truncate(room, overflow="ellipsis")
        yield [title, told]
    if len(shown) > _MOST_CRASHES:
        yield [Text(f"and {len(shown) - _MOST_CRASHES} more", "dim")]


def _machine_sums(glance: Glance) -> list[Text]:
    machines = glance.machines
    lost = sum(each.lost for each in machines)
    replaced = sum(each.replaced for each in machines)
    pieces = [Text(count(len(machines), "VM")),
              Text(count(sum(each.restores for each in machines), "restore"))]  # fmt: skip
    if lost:
        pieces.append(Text(f"{lost:,} lost", "yellow"))
    if replaced:
        pieces.append(Text(f"{replaced:,} replaced", "yellow"))
    return pieces


def _machines(glance: Glance) -> Iterable[list[Text]]:
    for machine in glance.machines[:_MOST_MACHINES]:
        yield _machine(machine, glance)
    if len(glance.machines) > _MOST_MACHINES:
        rest = glance.machines[_MOST_MACHINES:]
        phases = [each.phase.value for each in rest]
        words = [f"{phases.count(phase)} {phase}" for phase in dict.fromkeys(phases)]
        yield [Text(f"and {len(rest)} more: {', '.join(words)}", "dim")]


def _machine(machine: MachineRecord, glance: Glance) -> list[Text]:
    row = glance.row
    since = max(0.0, row.wall - machine.since) if row else 0.0
    busy = machine.phase in {MachinePhase.STUDYING, MachinePhase.STARTING, MachinePhase.ENDED}
    pieces = [
        Text(f"{machine.name:9} {machine.phase:9}", "yellow" if busy else ""),
        Text(f"for {clock(since)}"),
        Text(count(machine.restores, "restore")),
    ]
    if machine.lost:
        pieces.append(Text(f"{machine.lost:,} lost", "yellow"))
    if machine.replaced:
        pieces.append(Text(f"{machine.replaced:,} replaced", "yellow"))
    return pieces


def _judge(glance: Glance) -> _Row:
    judge = glance.judge
    # Its status says the same of a queue that is not empty.
    status = judge.status if not judge.status.endswith("to judge") else "judging"
    queue = f"{count(judge.waiting, 'sighting')} to judge"
    pieces = [Text(status or "starting"), Text(queue, "" if judge.waiting else "dim")]
    if judge.unrun and judge.ready:
        pieces.append(Text(f"{count(judge.unrun, 'program')} of the corpus to run", "dim"))
    return _Row("judge", pieces)


def _host(glance: Glance) -> list[Text]:
    row, run = glance.row, glance.run
    assert row is not None
    short = row.memory_free < run.host_memory / 20
    return [
        Text(f"CPU {row.cpu:.0%}", "yellow" if row.load > 4 else ""),
        Text(f"memory {figures.size_text(row.memory)}, {figures.size_text(row.memory_free)} free",
             "bold red" if short else ""),
        Text(f"disk {figures.size_text(row.disk)}, {figures.size_text(row.disk_free)} free",
             "bold red" if row.disk_free < _LITTLE_DISK else ""),
    ]  # fmt: skip


def _aside(title: str, sightings: int, state: str) -> Text:
    if state == "studied":
        return Text(f"finding out what leads to {title}", "yellow")
    return Text(f"{title} ({sightings:,} times)", "dim")


def _laid_out(row: _Row, width: int) -> list[Text]:
    """Return a row as lines: pieces side by side as far as they fit, cut where one does not."""
    narrow = width < _NARROW
    indent = 2 if narrow else _LABEL
    lines: list[Text] = []
    line = Text(row.label.ljust(indent), "bold cyan")
    used = cell_len(line.plain)
    fresh = used <= indent
    if not fresh:
        line.append(" ")
        used += 1
        fresh = True
    for piece in row.pieces:
        size = cell_len(piece.plain)
        gap = 0 if fresh else _GAP
        if used + gap + size > width and not (fresh and used <= indent):
            lines.append(line)
            line, used, gap = Text(" " * indent), indent, 0
        shown = piece.copy()
        shown.truncate(max(1, width - used - gap), overflow="ellipsis")
        line.append(" " * gap)
        line.append_text(shown)
        used += gap + cell_len(shown.plain)
        fresh = False
    lines.append(line)
    return lines
