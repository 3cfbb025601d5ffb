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
from fuzzer.report.keys import PUT_BACK_KEY
from fuzzer.splat.severity import Level
from fuzzer.state.document import CrashRecord, Glance, MachineRecord, RunPhase
from fuzzer.wording import count, size_text

# Columns of labels; in a narrow terminal they stand above what they label.
_LABEL, _NARROW = 10, 60
_GRAPH = 24
# Space between two pieces of a line.
_GAP = 3
# Columns by which the further lines of a machine or crash are set in.
_HANG = 2
_STYLES = {
    Level.CRITICAL: "bold red",
    Level.HIGH: "red",
    Level.MEDIUM: "yellow",
    Level.LOW: "cyan",
}
# Columns that the title of a crash has at least, if its result is on the same line.
_TITLE = 34
# Stand for what is cut off.
_CUT, _PLAIN_CUT = "…", "..."
# Machines and crashes that have lines of their own.
_MOST_MACHINES, _MOST_CRASHES = 8, 5
# The host is said to be full below this share of free memory, and below so many free bytes.
_LITTLE_DISK = 1 << 30


@dataclass(frozen=True, slots=True)
class _ScreenRow:
    """A label and pieces, each of which stays whole where it fits."""

    label: str
    pieces: Sequence[Text]


@dataclass(frozen=True, slots=True)
class _Page:
    """Lines of ``width`` columns; ``cut`` stands for what does not fit into one."""

    width: int
    cut: str

    @property
    def is_narrow(self) -> bool:
        """True if labels stand above what they label."""
        return self.width < _NARROW

    @property
    def indent(self) -> int:
        """The columns before what is labelled."""
        return 2 if self.is_narrow else _LABEL

    def cut_to(self, text: Text, room: int) -> Text:
        """Return the beginning of a text that fits into so many columns."""
        if cell_len(text.plain) <= room:
            return text
        shown = text.copy()
        shown.truncate(max(0, room - len(self.cut)))
        return shown.append(self.cut[: max(0, room)])

    def laid_out(self, row: _ScreenRow) -> list[Text]:
        """Return a row as lines: pieces side by side as far as they fit, cut where one does not."""
        line = Text(row.label.ljust(self.indent), "bold cyan")
        if len(row.label) > self.indent:
            line.append(" ")
        lines = [line]
        is_begun = False
        for piece in row.pieces:
            gap = _GAP if is_begun else 0
            if cell_len(line.plain) + gap + cell_len(piece.plain) > self.width and (
                is_begun or line.plain.strip()
            ):
                # What has no label of its own goes on below itself.
                line, gap = Text(" " * (self.indent + (0 if row.label else _HANG))), 0
                lines.append(line)
            line.append(" " * gap)
            line.append_text(self.cut_to(piece, self.width - cell_len(line.plain)))
            is_begun = True
        return lines


def screen(
    glance: Glance, width: int, height: int, *, plain: bool = False, takes_keys: bool = False
) -> Text:
    """Return the present of a campaign in at most ``height`` lines of ``width`` columns.

    ``plain`` is for terminals that have ASCII only; with ``takes_keys`` it tells of the keys that
    have an effect. What does not fit is left out from the end,
    machines and single crashes first.
    """
    page = _Page(width, _PLAIN_CUT if plain else _CUT)
    rows = _rows(glance, plain=plain)
    if takes_keys and any(title.state != "studied" for title in glance.aside):
        rows[-1] = _ScreenRow(rows[-1].label, [*rows[-1].pieces, Text(f"{PUT_BACK_KEY}: put back")])
    optional = {
        "crashes": _crash_lines(glance.crashes, page),
        "machines": map(page.laid_out, _machine_rows(glance)),
    }
    room = height - sum(len(page.laid_out(row)) for row in rows)
    lines: list[Text] = []
    for row in rows:
        lines += page.laid_out(row)
        for more in optional.get(row.label, ()):
            if len(more) <= room:
                room -= len(more)
                lines += more
    return Text("\n").join(lines[:height])


def _rows(glance: Glance, *, plain: bool) -> list[_ScreenRow]:
    row, rates = glance.row, figures.rates(glance)
    run = glance.run
    found = [_ScreenRow(run.target, _time(glance))]
    if row is None:
        return [*found, _judge(glance)]
    graph = figures.bars(figures.speeds(glance.recent), _GRAPH, plain=plain)
    if run.phase is not RunPhase.JUDGING:
        found.append(
            _ScreenRow(
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
        _ScreenRow("coverage", [Text(figures.share_text(row.covered, row.blocks), "bold"),
                          *([Text(newest)] if newest else [])]),
        _ScreenRow("corpus", [Text(f"{row.corpus:,} program{'s' * (row.corpus != 1)}")]),
        _ScreenRow("crashes", _crashes(glance)),
        _ScreenRow("machines", _machine_sums(glance)),
        _judge(glance),
        _ScreenRow("host", _host(glance)),
    ]  # fmt: skip
    aside = [_aside(title.title, title.sightings, title.state) for title in glance.aside]
    if aside:
        found.append(_ScreenRow("set aside", aside))
    return found


def _time(glance: Glance) -> list[Text]:
    run = glance.run
    pieces = [Text(f"with {run.bug}")] if run.bug else []
    pieces.append(Text(figures.time_text(glance), "bold"))
    left = figures.time_left(glance)
    if left is not None and run.phase is not RunPhase.JUDGING:
        pieces.append(Text(f"{clock(left)} left", "bold green"))
    if run.phase is RunPhase.JUDGING:
        pieces.append(Text("Ctrl-C ends it and keeps all", "dim"))
    return pieces


def _crashes(glance: Glance) -> list[Text]:
    if not glance.crashes:
        return [Text("none yet")]
    levels, judged, news = figures.crash_counts(glance.crashes)
    severities = (Text(f"{number} {level}", _STYLES[Level(level)]) for level, number in levels)
    pieces = [Text(", ").join(severities)]
    pieces += [Text(", ".join(f"{number} {word}" for word, number in words))
               for words in (judged, news)]  # fmt: skip
    consequences = sum(bool(each.cause) for each in glance.crashes)
    if consequences:
        pieces.append(Text(f"{count(consequences, 'likely consequence')} of these", "dim"))
    return pieces


def _crash_lines(crashes: Sequence[CrashRecord], page: _Page) -> Iterable[list[Text]]:
    """Yield the lines of each crash, the most severe first."""
    shown = figures.most_severe(crashes)
    for crash in shown[:_MOST_CRASHES]:
        runs = f"{crash.reproduced} of {crash.runs}" if crash.runs else "not judged"
        level = Level(crash.level)
        words = [runs, "new" if crash.is_new else "known"]
        words += ["likely a consequence"] if crash.cause else []
        told = Text(", ".join(words))
        title = Text(f"{level:8} {crash.title}", _STYLES[level])
        room = page.width - page.indent - _GAP - cell_len(told.plain)
        if room >= min(_TITLE, cell_len(title.plain)):
            title = page.cut_to(title, room)
        yield page.laid_out(_ScreenRow("", [title, told]))
    if len(shown) > _MOST_CRASHES:
        yield page.laid_out(_ScreenRow("", [Text(f"and {len(shown) - _MOST_CRASHES} more", "dim")]))


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


def _machine_rows(glance: Glance) -> Iterable[_ScreenRow]:
    for machine in glance.machines[:_MOST_MACHINES]:
        yield _ScreenRow("", _machine(machine, glance))
    if len(glance.machines) > _MOST_MACHINES:
        rest = glance.machines[_MOST_MACHINES:]
        phases = [each.phase.value for each in rest]
        words = [f"{phases.count(phase)} {phase}" for phase in dict.fromkeys(phases)]
        yield _ScreenRow("", [Text(f"and {len(rest)} more: {', '.join(words)}", "dim")])


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


def _judge(glance: Glance) -> _ScreenRow:
    judge = glance.judge
    # Its status says the same of a queue that is not empty.
    status = judge.status if not judge.status.endswith("to judge") else "judging"
    queue = f"{count(judge.waiting, 'sighting')} to judge"
    pieces = [Text(status or "starting"), Text(queue, "" if judge.waiting else "dim")]
    if judge.unrun and judge.ready:
        pieces.append(Text(f"{count(judge.unrun, 'program')} of the corpus to run", "dim"))
    return _ScreenRow("judge", pieces)


def _host(glance: Glance) -> list[Text]:
    row, run = glance.row, glance.run
    assert row is not None
    short = row.memory_free < run.host_memory / 20
    return [
        Text(f"CPU {row.cpu:.0%}", "yellow" if row.load > 4 else ""),
        Text(f"memory {size_text(row.memory)}, {size_text(row.memory_free)} free",
             "bold red" if short else ""),
        Text(f"disk {size_text(row.disk)}, {size_text(row.disk_free)} free",
             "bold red" if row.disk_free < _LITTLE_DISK else ""),
    ]  # fmt: skip


def _aside(title: str, sightings: int, state: str) -> Text:
    if state == "studied":
        return Text(f"finding out what leads to {title}", "yellow")
    return Text(f"{title} ({sightings:,} times)", "dim")
