# SPDX-License-Identifier: Apache-2.0
"""The terminal's view of the suite of planted bugs while it runs."""

from __future__ import annotations

import shutil
import sys
import time
from typing import TextIO

from fuzzer.bench.bugs.suite import ActiveRun, SuiteState
from fuzzer.progress import clock

# Seconds between two lines where the output is no terminal.
_LOG_EVERY = 10.0
_LINE_EVERY = 0.5


def _active(run: ActiveRun) -> str:
    state = run.state
    text = f"{run.bug} (seed {run.seed})"
    if state.phase == "preparing":
        return f"{text} preparing"
    share = f", {state.covered / state.blocks:.0%} of blocks" if state.blocks else ""
    text += f" {clock(state.seconds)}, {state.programs:,} programs{share}"
    if state.crashes:
        text += f", crashes {state.crashes}"
    return text + (" [judging]" if state.phase == "judging" else "")


def suite_line(state: SuiteState) -> str:
    """Return one line on how far the suite is."""
    parts = [f"{state.done} of {state.total} runs, {state.found} found"]
    parts += [_active(run) for run in state.active]
    parts.append("ending" if state.ending else f"at most {clock(state.left)} of fuzzing left")
    return "  ".join(parts)


class SuiteView:
    """Shows the state as it changes, and a line for each run that has ended."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._terminal = self._stream.isatty()
        self._shown = time.monotonic()
        self._open = False

    def show(self, state: SuiteState) -> None:
        """Update the line: twice a second, or every ten where there is no terminal."""
        now = time.monotonic()
        if now - self._shown < (_LINE_EVERY if self._terminal else _LOG_EVERY):
            return
        self._shown = now
        line = suite_line(state)
        if self._terminal:
            width = shutil.get_terminal_size((100, 24)).columns - 1
            self._stream.write(f"\r\x1b[K{line[:width]}")
            self._open = True
        else:
            self._stream.write(f"{line}\n")
        self._stream.flush()

    def say(self, text: str) -> None:
        """Print a line that stays."""
        self.clear()
        self._stream.write(f"{text}\n")
        self._stream.flush()

    def clear(self) -> None:
        """Remove the line, so that something else can be printed."""
        if self._open:
            self._stream.write("\r\x1b[K")
            self._open = False
