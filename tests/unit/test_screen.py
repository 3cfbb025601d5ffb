# SPDX-License-Identifier: Apache-2.0
"""Tests of what a campaign shows while it runs: screen, log, JSON, crashes alone."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from dataclasses import replace

import pytest
from rich.console import Console

from fuzzer.engine.statistics import MachinePhase
from fuzzer.paths import import_root
from fuzzer.report import figures
from fuzzer.report.display import (
    JsonDisplay,
    LiveDisplay,
    LogDisplay,
    Output,
    QuietDisplay,
    Said,
    choose_display,
)
from fuzzer.report.screen import screen
from fuzzer.state.document import CrashRecord, Glance, HistoryRow, JudgeRecord, RunPhase
from tests.unit.state_records import ASIDE, CRASH, JUDGE, MACHINE, REMARK, RUN, WALL, row_at
from tests.unit.test_progress import Terminal

LONG = "KASAN: slab-out-of-bounds Write in mydrv_write_with_a_rather_long_name [mydrv]"


def rows(seconds: int = 20, start: int = 3000, speed: int = 500) -> tuple[HistoryRow, ...]:
    return tuple(
        row_at(start + n, programs=speed * n, calls=9 * speed * n, corpus=1893)
        for n in range(seconds)
    )


def crashes() -> tuple[CrashRecord, ...]:
    return (
        CRASH,
        replace(CRASH, slug="b", title=LONG, level="critical", score=90, known="crashes/b"),
        replace(CRASH, slug="c", title="WARNING in h", level="low", score=9, runs=0),
        replace(CRASH, slug="d", title="BUG in k", reproduced=0, runs=6, cause=CRASH.title),
    )


def full_glance() -> Glance:
    serial = replace(MACHINE, name="worker-0", phase=MachinePhase.SERIAL, programs=59_100)
    return Glance(
        run=replace(RUN, seconds=28_800.0, fuzzed=120.0, bug="stale-last"),
        recent=rows(),
        newest_block=2990.0,
        machines=(serial, replace(MACHINE, name="worker-1", since=WALL + 3000)),
        judge=JUDGE,
        crashes=crashes(),
        aside=(ASIDE, replace(ASIDE, title="BUG in s", state="studied")),
        remarks=(REMARK,),
    )


def shown(glance: Glance, width: int = 140, height: int = 50, *, plain: bool = False) -> list[str]:
    return screen(glance, width, height, plain=plain).plain.splitlines()


def line_of(label: str, lines: list[str]) -> str:
    (found,) = [line for line in lines if line.startswith(label)]
    return " ".join(found.split())


def test_the_screen_has_all_figures() -> None:
    lines = shown(full_glance())
    assert line_of("mydrv", lines) == "mydrv with stale-last 2:00 of 8:00:00 7:58:00 left"
    speed = line_of("speed", lines)
    assert speed.startswith("speed 500 programs/s 500 on average █")
    assert speed.endswith("4,500 calls/s")
    assert line_of("coverage", lines) == "coverage 41 of 90 blocks (46%) the last new one 29 s ago"
    assert line_of("corpus", lines) == "corpus 1,893 programs"
    assert line_of("crashes", lines) == (
        "crashes 1 critical, 1 high, 1 low 2 reproduced, 1 not judged yet 2 new, 1 known "
        "1 likely consequence of these"
    )
    assert line_of("machines", lines) == "machines 2 VMs 8 restores 2 lost 4 replaced"
    assert line_of("judge", lines) == (
        "judge judging 2 sightings to judge 7 programs of the corpus to run"
    )
    assert line_of("host", lines) == (
        "host CPU 75% memory 300 MiB, 2.0 GiB free disk 50 MiB, 9.0 GiB free"
    )
    assert line_of("set aside", lines) == (
        "set aside WARNING in g (300 times) finding out what leads to BUG in s"
    )
    text = [" ".join(line.split()) for line in lines]
    assert f"critical {LONG} 3 of 3, known" in text
    assert "high BUG in k 0 of 6, new, likely a consequence" in text
    assert "worker-1 races for 19 s 4 restores 1 lost 2 replaced" in text
    # The most severe first, consequences last.
    titles = [line for line in text if re.match("(critical|high|low) ", line)]
    assert [line.split()[0] for line in titles] == ["critical", "high", "low", "high"]


@pytest.mark.parametrize("width", [20, 45, 60, 80, 140])
@pytest.mark.parametrize("height", [3, 12, 24, 60])
@pytest.mark.parametrize("plain", [False, True])
def test_the_screen_fits_any_terminal(width: int, height: int, plain: bool) -> None:
    lines = shown(full_glance(), width, height, plain=plain)
    assert len(lines) <= height
    assert max(map(len, lines)) <= width
    assert lines[0].startswith("mydrv")
    if plain:
        assert all(map(str.isascii, lines))


def test_single_machines_give_way_to_figures() -> None:
    needed = len([line for line in shown(full_glance(), 140, 12) if not line.startswith(" ")])
    lines = shown(full_glance(), 140, needed)
    assert line_of("host", lines)
    assert line_of("set aside", lines)
    assert not any("worker-1" in line for line in lines)


def test_a_title_keeps_enough_room_in_a_narrow_terminal() -> None:
    lines = shown(full_glance(), 60)
    (at,) = [number for number, line in enumerate(lines) if "critical KASAN" in line]
    assert lines[at].strip().startswith("critical KASAN: slab-out-of-bou")
    glance = replace(full_glance(), crashes=(replace(crashes()[1], cause=CRASH.title),))
    lines = shown(glance, 60)
    (at,) = [number for number, line in enumerate(lines) if "critical KASAN" in line]
    assert len(lines[at]) == 60
    assert lines[at + 1].strip() == "3 of 3, known, likely a consequence"


def test_many_machines_and_crashes_are_summed_up() -> None:
    machines = tuple(replace(MACHINE, name=f"worker-{n}") for n in range(40))
    many = tuple(replace(CRASH, slug=str(n), title=f"BUG in f{n}") for n in range(20))
    text = "\n".join(shown(replace(full_glance(), machines=machines, crashes=many)))
    assert "and 32 more: 32 races" in text
    assert "and 15 more" in text


def test_before_the_first_row_and_at_the_end() -> None:
    glance = replace(full_glance(), recent=(), judge=JudgeRecord("building the full kernel"))
    run = replace(RUN, phase=RunPhase.STARTING, fuzzed=0.0)
    lines = shown(replace(glance, run=run))
    assert line_of("mydrv", lines) == "mydrv starting 10:00 left"
    assert line_of("judge", lines).startswith("judge building the full kernel")
    glance = replace(full_glance(), run=replace(RUN, phase=RunPhase.JUDGING, fuzzed=600.0))
    lines = shown(glance)
    assert "10:00 of fuzzing are over; what waits is judged" in lines[0]
    assert "Ctrl-C ends it and keeps all" in lines[0]
    assert not any(line.startswith("speed") for line in lines)


def test_a_slow_start_is_told_as_such() -> None:
    run = replace(RUN, phase=RunPhase.STARTING, fuzzed=31.0, seeds=43)
    machine = replace(MACHINE, programs=13, calls=31)
    glance = Glance(run, rows(), None, (machine,))
    line = "31 s, starting: 12 of 43 seeds have run; a call takes 1 s"
    assert figures.plain_line(glance).startswith(f"{line}  crashes 1 (3 seen)")
    glance = replace(glance, machines=(replace(machine, calls=31_000),))
    assert "a call takes" not in figures.plain_line(glance)
    assert figures.plain_line(replace(glance, recent=(), judge=JUDGE)) == "starting  [2 to judge]"


def test_speeds_are_those_of_one_run_and_no_clock_turns_them_negative() -> None:
    before = replace(row_at(100.0), run=0)
    first, second = row_at(101.0, programs=2000), row_at(103.0, programs=5000)
    assert figures.speeds((before, first, second)) == [1500.0]
    assert figures.rates(Glance(RUN, (before, first, second), None)).programs == 1500.0
    back = replace(row_at(104.0, programs=9000), wall=WALL - 5000)
    assert figures.speeds((first, second, back)) == [1500.0]
    assert figures.rates(Glance(RUN, (first, second, back), None)).programs == 0.0


def test_a_low_speed_is_not_none() -> None:
    assert figures.speed_text(0.24) == "0.2"
    assert figures.speed_text(0.0) == "0"
    assert figures.speed_text(1234.4) == "1,234"


def test_the_graph_is_of_the_newest_values() -> None:
    assert figures.bars([0, 1, 2, 4, 8], 4) == "▂▃▅█"
    assert figures.bars([0, 0], 4) == "▁▁"
    assert figures.bars([], 4) == ""
    assert figures.bars([1.0, 9.0], 4, plain=True).isascii()


def test_a_log_has_a_line_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr("fuzzer.report.display.time.monotonic", lambda: now[0])
    stream = io.StringIO()
    display = LogDisplay(stream)
    for _ in range(181):
        if display.is_due():
            display.show(full_glance())
        now[0] += 1
    lines = stream.getvalue().splitlines()
    assert len(lines) == 4
    assert lines[0] == (
        "2:00 of 8:00:00  500 programs/s (4,500 calls/s)  41 of 90 blocks (46%)  corpus 1,893  "
        "crashes 1 (3 seen)  replaced 2  machines lost 1  "
        "[finding out what leads to BUG in s]  [2 to judge]"
    )


def test_quiet_tells_crashes_alone() -> None:
    stream = io.StringIO()
    display = QuietDisplay(stream)
    assert not display.is_due()
    display.say(Said.NOTE, "something", {})
    display.say(Said.CRASH, "BUG in f", {})
    assert stream.getvalue() == "crash: BUG in f\n"


def test_json_is_an_object_a_line() -> None:
    stream = io.StringIO()
    display = JsonDisplay(stream)
    display.show(full_glance())
    assert not display.is_due()
    display.say(Said.CRASH, "BUG in f\nand more", {"title": "BUG in f"})
    status, said = map(json.loads, stream.getvalue().splitlines())
    assert status["type"] == "status"
    assert (status["programs_per_second"], status["seconds_left"]) == (500.0, 28_680.0)
    assert status["figures"]["covered"] == 41
    assert status["crashes"]["severity"] == {"critical": 1, "high": 1, "low": 1}
    assert status["machines"][1]["phase"] == "races"
    assert said == {"type": "crash", "text": "BUG in f\nand more", "title": "BUG in f"}


def test_the_live_screen_stays_below_messages() -> None:
    stream = Terminal()
    display = LiveDisplay(Console(file=stream, force_terminal=True, width=80, height=30))
    display.show(full_glance())
    display.say(Said.CRASH, f"[bold]{LONG} in work/mydrv/crashes/{'x' * 60}", {})
    display.clear()
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.getvalue())
    # Titles are no markup, and a message is a line that can be copied.
    assert f"crash: [bold]{LONG} in work/mydrv/crashes/{'x' * 60}\n" in text
    assert text.rindex("programs/s") > text.index("crash: [bold]")
    assert stream.getvalue().endswith("\x1b[2K")


def test_a_terminal_that_is_gone_does_not_end_the_campaign() -> None:
    class Gone(Terminal):
        def write(self, text: str) -> int:
            raise OSError(5, "Input/output error")

    live = LiveDisplay(Console(file=Gone(), force_terminal=True, width=80, height=30))
    for display in (live, LogDisplay(Gone()), JsonDisplay(Gone())):
        display.show(full_glance())
        display.say(Said.NOTE, "x", {})
        display.clear()


def test_the_display_suits_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    assert isinstance(choose_display(stream=io.StringIO()), LogDisplay)
    assert isinstance(choose_display(stream=Terminal()), LiveDisplay)
    assert isinstance(choose_display(Output.QUIET, Terminal()), QuietDisplay)
    assert isinstance(choose_display(Output.JSON, Terminal()), JsonDisplay)
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(choose_display(stream=Terminal()), LogDisplay)


@pytest.mark.parametrize(("variable", "colours"), [("NO_COLOR", False), ("UNRELATED", True)])
def test_colour_is_left_out_on_request(
    monkeypatch: pytest.MonkeyPatch, variable: str, colours: bool
) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR", "COLORTERM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv(variable, "1")
    stream = Terminal()
    display = choose_display(stream=stream)
    display.show(full_glance())
    display.clear()
    assert "programs/s" in stream.getvalue()
    # 3x and 9x are colours, 1 and 2 bold and dim.
    assert bool(re.search(r"\x1b\[(\d+;)*[39]\d", stream.getvalue())) == colours


@pytest.mark.parametrize(
    ("arguments", "unused"),
    [
        (["--help"], {"rich", "sqlite3", "jinja2", "prometheus_client", "psutil"}),
        (["run", "--help"], {"rich", "jinja2", "prometheus_client"}),
    ],
)
def test_a_start_is_quick_as_nothing_unused_is_imported(
    arguments: list[str], unused: set[str]
) -> None:
    code = (
        "import sys; from fuzzer.cli.main import main\n"
        f"try: main({arguments})\n"
        "except SystemExit: pass\n"
        f"print(sorted({unused} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        env={"PYTHONPATH": str(import_root())},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.splitlines()[-1] == "[]"
