# SPDX-License-Identifier: Apache-2.0
"""The terminal's view of the suite of planted bugs while it runs."""

from __future__ import annotations

from typing import TextIO

from fuzzer.bench.bugs.suite import ActiveRun, SuiteState
from fuzzer.progress import LiveLine, clock


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
        self._line = LiveLine(stream)

    def show(self, state: SuiteState) -> None:
        """Update the line: twice a second, or every ten where there is no terminal."""
        if self._line.is_due():
            self._line.show(suite_line(state))

    def say(self, text: str) -> None:
        """Print a line that stays."""
        self._line.say(text)

    def clear(self) -> None:
        """Remove the line, so that something else can be printed."""
        self._line.clear()
