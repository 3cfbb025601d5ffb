# SPDX-License-Identifier: Apache-2.0
"""The live line of a terminal, and what a log has in its place."""

from __future__ import annotations

import io
import math

import pytest

from fuzzer.progress import LiveLine, Progress, hushed, say, say_error


class Terminal(io.StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self) -> bool:
        """Say so."""
        return True


def test_a_terminals_line_is_replaced_and_gives_way_to_one_that_stays() -> None:
    stream = Terminal()
    line = LiveLine(stream)
    assert line.is_due()
    line.show("1 of 2")
    assert not line.is_due()
    line.say("found")
    line.say("again")
    line.show("2 of 2")
    line.clear()
    line.clear()
    clear = "\r\x1b[K"
    assert stream.getvalue() == f"{clear}1 of 2{clear}found\nagain\n{clear}2 of 2{clear}"


def test_a_line_that_is_too_long_for_the_terminal_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "10")
    stream = Terminal()
    LiveLine(stream).show("a" * 30)
    assert stream.getvalue().count("a") == 9


def test_a_log_has_lines_now_and_then_and_no_control_characters() -> None:
    stream = io.StringIO()
    assert not LiveLine(stream, log_every=math.inf).is_due()
    line = LiveLine(stream, log_every=math.inf, at_once=True)
    assert line.is_due()
    line.show("a" * 300)
    assert not line.is_due()
    line.clear()
    line.say("done")
    assert stream.getvalue() == f"{'a' * 300}\ndone\n"


def test_nothing_is_printed_but_errors_where_all_is_to_be_quiet(
    capsys: pytest.CaptureFixture[str],
) -> None:
    terminal = Terminal()
    with hushed():
        line, progress = LiveLine(terminal), Progress("building", 4, terminal)
        progress.update(1)
        progress.finish("done")
        line.say("found")
        say("a notice")
        say_error("an error")
    say("later")
    assert terminal.getvalue() == ""
    assert capsys.readouterr().err == "pkvfuzz: an error\npkvfuzz: later\n"


def test_progress_tells_the_time_that_is_left_and_what_came_of_it() -> None:
    stream = Terminal()
    progress = Progress("building", 4, stream)
    progress.update(1, "half a note")
    progress.finish("done")
    shown, last = stream.getvalue().split("\r\x1b[K")[1:]
    assert shown == "building:  25%, 0 s so far, about 0 s left (half a note)"
    assert last == "building: done (0 s)\n"
