# SPDX-License-Identifier: Apache-2.0
"""Progress of long work on the terminal: one line, with the time left.

The one place outside ``fuzzer.cli`` and ``fuzzer.report`` that prints: builds
take minutes, and someone is watching.
"""

from __future__ import annotations

import sys
import time
from typing import TextIO


def clock(seconds: float) -> str:
    """Format a duration: ``42 s``, ``3:07``, ``1:02:03``."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class Progress:
    """A piece of work with a known number of steps.

    On a terminal the line is rewritten twice a second; elsewhere a new line
    is written every 30 seconds, so that a CI log shows that work goes on.
    """

    def __init__(self, title: str, total: int = 0, stream: TextIO | None = None) -> None:
        self.title = title
        self.total = total
        self._stream = stream or sys.stderr
        self._terminal = self._stream.isatty()
        self._start = time.monotonic()
        self._shown = 0.0 if self._terminal else time.monotonic()
        self._open = False

    def update(self, done: int, note: str = "") -> None:
        """Say that ``done`` steps are done."""
        now = time.monotonic()
        if now - self._shown < (0.5 if self._terminal else 30.0):
            return
        self._shown = now
        elapsed = now - self._start
        text = f"{self.title}: {clock(elapsed)}"
        if self.total and done:
            share = min(done / self.total, 0.99)
            left = elapsed / share - elapsed
            text = f"{self.title}: {share:4.0%}, {clock(elapsed)} so far, about {clock(left)} left"
        if note:
            text += f" ({note})"
        if self._terminal:
            self._stream.write(f"\r\x1b[K{text}")
            self._open = True
        else:
            self._stream.write(f"{text}\n")
        self._stream.flush()

    def clear(self) -> None:
        """Take the line away; what came of the work is told elsewhere."""
        if self._open:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
        self._open = False

    def finish(self, text: str) -> None:
        """Replace the line with what came of the work."""
        start = "\r\x1b[K" if self._open else ""
        elapsed = clock(time.monotonic() - self._start)
        self._stream.write(f"{start}{self.title}: {text} ({elapsed})\n")
        self._stream.flush()
        self._open = False


def say(text: str) -> None:
    """Print one line for the user, on standard error."""
    print(f"pkvfuzz: {text}", file=sys.stderr, flush=True)
