# SPDX-License-Identifier: Apache-2.0
"""Progress of long work on the terminal: one line, with the time left; short notices.

The one place outside ``fuzzer.cli`` and ``fuzzer.report`` that prints: builds
take minutes, and someone is watching.
"""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import sys
import time
from collections.abc import Iterator
from typing import TextIO

from fuzzer.wording import visible

_CLEAR = "\r\x1b[K"
# Seconds between two changes of a line that people watch.
_LIVE_EVERY = 0.5
# What kept standard output from being written.
_lost: list[str] = []


class _Voice:
    """The switch by which progress and notices are left out."""

    is_hushed = False


@contextlib.contextmanager
def hushed() -> Iterator[None]:
    """Print neither progress nor notices in the block, but errors."""
    before, _Voice.is_hushed = _Voice.is_hushed, True
    try:
        yield
    finally:
        _Voice.is_hushed = before


def clock(seconds: float) -> str:
    """Format a duration: ``42 s``, ``3:07``, ``1:02:03``."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class LiveLine:
    """A line that is written anew on a terminal; elsewhere a new one every ``log_every`` seconds.

    The first one in a log comes after that time, or ``at_once``.
    """

    def __init__(
        self, stream: TextIO | None = None, *, log_every: float = 10.0, at_once: bool = False
    ) -> None:
        self._stream = stream or sys.stderr
        self._terminal = self._stream.isatty()
        self._every = _LIVE_EVERY if self._terminal else log_every
        self._shown = -math.inf if self._terminal or at_once else time.monotonic()
        self._open = False

    def is_due(self) -> bool:
        """Tell whether it is time for the line to be shown."""
        return not _Voice.is_hushed and time.monotonic() - self._shown >= self._every

    def show(self, text: str) -> None:
        """Replace the line, cut to the terminal's width."""
        self._shown = time.monotonic()
        if self._terminal:
            width = shutil.get_terminal_size((100, 24)).columns - 1
            write(self._stream, f"{_CLEAR}{visible(text)[:width]}")
            self._open = True
        else:
            write(self._stream, f"{visible(text)}\n")

    def say(self, text: str) -> None:
        """Print a line that stays, in place of the one that is there."""
        if _Voice.is_hushed:
            return
        start = _CLEAR if self._open else ""
        self._open = False
        write(self._stream, f"{start}{visible(text)}\n")

    def clear(self) -> None:
        """Take the line away, so that something else can be printed."""
        if self._open:
            write(self._stream, _CLEAR)
        self._open = False


class Progress:
    """A piece of work with a known number of steps, in a live line.

    In a CI log a new line every 30 seconds shows that work goes on.
    """

    def __init__(self, title: str, total: int = 0, stream: TextIO | None = None) -> None:
        self.title = title
        self.total = total
        self._line = LiveLine(stream, log_every=30.0)
        self._start = time.monotonic()

    def update(self, done: int, note: str = "") -> None:
        """Say that ``done`` steps are done."""
        if not self._line.is_due():
            return
        elapsed = time.monotonic() - self._start
        text = f"{self.title}: {clock(elapsed)}"
        if self.total and done:
            share = min(done / self.total, 0.99)
            left = elapsed / share - elapsed
            text = f"{self.title}: {share:4.0%}, {clock(elapsed)} so far, about {clock(left)} left"
        self._line.show(f"{text} ({note})" if note else text)

    def clear(self) -> None:
        """Take the line away; what came of the work is told elsewhere."""
        self._line.clear()

    def finish(self, text: str) -> None:
        """Replace the line with what came of the work."""
        self._line.say(f"{self.title}: {text} ({clock(time.monotonic() - self._start)})")


def say(text: str) -> None:
    """Print one line for the user, on standard error, unless all is to be quiet."""
    if not _Voice.is_hushed:
        say_error(text)


def say_error(text: str) -> None:
    """Print an error for the user, on standard error, in any case."""
    write(sys.stderr, f"pkvfuzz: {visible(text)}\n")


def show(text: object = "", *, end: str = "\n", flush: bool = False) -> None:
    """Print what a command is asked for, on standard output; see :func:`visible`.

    That it cannot be written ends nothing: see :func:`lost_output`.
    """
    write(sys.stdout, f"{visible(str(text))}{end}", flush=flush)


def show_bytes(data: bytes) -> None:
    """Write bytes to standard output, which is as :func:`show`."""
    try:
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except (OSError, ValueError) as error:
        _give_up(sys.stdout, error)


def write(stream: TextIO, text: str, *, flush: bool = True) -> None:
    """Write text to a stream; if it takes none, it gets none from now on, and work goes on."""
    try:
        stream.write(text)
        if flush:
            stream.flush()
    except (OSError, ValueError) as error:
        _give_up(stream, error)


def _give_up(stream: TextIO, error: Exception) -> None:
    # A reader that went away (``| head``) has read what it wanted.
    if stream is sys.stdout and not isinstance(error, BrokenPipeError):
        _lost.append(str(getattr(error, "strerror", None) or error))
    with contextlib.suppress(OSError, ValueError):
        # What is in its buffer goes there as well.
        null = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        os.dup2(null, stream.fileno())
        os.close(null)


def lost_output() -> str:
    """Return the reason why some of standard output was lost, and forget it; empty if none was."""
    write(sys.stdout, "")
    reason = _lost[0] if _lost else ""
    _lost.clear()
    return reason
