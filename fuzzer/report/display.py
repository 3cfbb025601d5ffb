# SPDX-License-Identifier: Apache-2.0
"""The places where a campaign is shown: a live screen, a log, JSON, or crashes alone."""

from __future__ import annotations

import contextlib
import enum
import json
import math
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Protocol, TextIO

from fuzzer.report import figures
from fuzzer.report.keys import KeyReader
from fuzzer.state.document import Glance

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live

_LIVE_EVERY, _LOG_EVERY, _JSON_EVERY = 0.5, 60.0, 10.0
# Rows of the terminal that messages keep.
_MARGIN = 2


class Output(enum.StrEnum):
    """The way in which a campaign is shown."""

    AUTO = "auto"
    """A live screen on a terminal, a line a minute elsewhere."""
    QUIET = "quiet"
    """Crashes as they come, and the summary."""
    JSON = "json"
    """An object a line, on standard output."""


class Said(enum.StrEnum):
    """The kind of a message."""

    CRASH = "crash"
    NOTE = "note"
    ASIDE = "set aside"
    BACK = "put back"


class Display(Protocol):
    """A place where a campaign is shown."""

    def is_due(self) -> bool:
        """Tell whether it is time for its present to be shown."""

    def show(self, glance: Glance) -> None:
        """Show the present of a campaign."""

    def say(self, kind: Said, text: str, facts: Mapping[str, object]) -> None:
        """Show a message that stays."""

    def pressed(self) -> str:
        """Return the keys that were pressed since the last time."""

    def clear(self) -> None:
        """Take away what is live, so that something else can be printed."""


class _Timed:
    """A display that is due every so many seconds, the first time at once."""

    def __init__(self, every: float) -> None:
        self._every = every
        self._shown = -math.inf

    def is_due(self) -> bool:
        """Tell whether it is time for the present to be shown."""
        return time.monotonic() - self._shown >= self._every

    def _took_place(self) -> None:
        self._shown = time.monotonic()

    def pressed(self) -> str:
        """Return no keys: none is read."""
        return ""


class LogDisplay(_Timed):
    """A line a minute, and messages as they come, on a stream that is no terminal."""

    def __init__(self, stream: TextIO, every: float = _LOG_EVERY) -> None:
        super().__init__(every)
        self._stream = stream

    def show(self, glance: Glance) -> None:
        """Print a line."""
        self._took_place()
        self._print(figures.plain_line(glance))

    def say(self, kind: Said, text: str, facts: Mapping[str, object]) -> None:
        """Print a message."""
        self._print(f"{kind}: {text}")

    def _print(self, text: str) -> None:
        # The terminal that it was may be gone.
        with contextlib.suppress(OSError):
            print(text, file=self._stream, flush=True)

    def clear(self) -> None:
        """Leave what is there: lines stay."""


class QuietDisplay(LogDisplay):
    """Crashes alone."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream, every=math.inf)

    def is_due(self) -> bool:
        """Return False: the present is not shown."""
        return False

    def say(self, kind: Said, text: str, facts: Mapping[str, object]) -> None:
        """Print a message on a crash."""
        if kind is Said.CRASH:
            super().say(kind, text, facts)


class JsonDisplay(_Timed):
    """An object a line, with a ``type``: ``status`` every ten seconds, and messages."""

    def __init__(self, stream: TextIO, every: float = _JSON_EVERY) -> None:
        super().__init__(every)
        self._stream = stream

    def show(self, glance: Glance) -> None:
        """Print the present as an object."""
        self._took_place()
        self.emit("status", status_facts(glance))

    def say(self, kind: Said, text: str, facts: Mapping[str, object]) -> None:
        """Print a message as an object, with its facts."""
        self.emit(kind, {"text": text, **facts})

    def emit(self, kind: str, facts: Mapping[str, object]) -> None:
        """Print an object."""
        with contextlib.suppress(OSError):
            print(json.dumps({"type": kind, **facts}), file=self._stream, flush=True)

    def clear(self) -> None:
        """Leave what is there: lines stay."""


class LiveDisplay(_Timed):
    """A screen that is shown anew twice a second, below messages that stay."""

    def __init__(self, console: Console, keys: KeyReader | None = None) -> None:
        super().__init__(_LIVE_EVERY)
        self._console = console
        self._keys = keys
        self._live: Live | None = None
        self._plain = "utf" not in (console.encoding or "").lower()

    def show(self, glance: Glance) -> None:
        """Show the screen anew."""
        from rich.live import Live

        from fuzzer.report.screen import screen

        self._took_place()
        width, height = self._console.size
        takes_keys = self._keys is not None and self._keys.are_read
        text = screen(
            glance, width, max(3, height - _MARGIN), plain=self._plain, takes_keys=takes_keys
        )
        # The terminal may be gone, and the campaign is still to end well.
        with contextlib.suppress(OSError):
            if self._live is None:
                # What others print on standard error meanwhile comes above.
                self._live = Live(
                    console=self._console,
                    auto_refresh=False,
                    transient=True,
                    redirect_stdout=False,
                    vertical_overflow="crop",
                )
                self._live.start()
            self._live.update(text, refresh=True)

    def say(self, kind: Said, text: str, facts: Mapping[str, object]) -> None:
        """Print a message above the screen."""
        from rich.text import Text

        style = {Said.CRASH: "bold red", Said.NOTE: "yellow"}.get(kind, "cyan")
        with contextlib.suppress(OSError):
            # Titles and paths are never markup, and stay on a line that can be copied.
            self._console.print(Text.assemble((f"{kind}:", style), " ", text), soft_wrap=True)

    def pressed(self) -> str:
        """Return the keys that were pressed since the last time."""
        return self._keys.pressed() if self._keys else ""

    def clear(self) -> None:
        """Take the screen away, and leave the terminal as it was."""
        if self._keys:
            self._keys.close()
        live, self._live = self._live, None
        if live is not None:
            with contextlib.suppress(OSError):
                live.stop()


def choose_display(output: Output = Output.AUTO, stream: TextIO | None = None) -> Display:
    """Return the display that an output asks for, by default on standard error."""
    if output is Output.JSON:
        return JsonDisplay(stream or sys.stdout)
    stream = stream or sys.stderr
    if output is Output.QUIET:
        return QuietDisplay(stream)
    if not stream.isatty():
        return LogDisplay(stream)
    from rich.console import Console

    console = Console(file=stream, highlight=False)
    return LogDisplay(stream) if console.is_dumb_terminal else LiveDisplay(console, KeyReader())


def status_facts(glance: Glance) -> dict[str, object]:
    """Return the present of a campaign as a JSON object."""
    row, speed, run = glance.row, figures.rates(glance), glance.run
    levels, judged, news = figures.crash_counts(glance.crashes)
    return {
        "phase": run.phase.value,
        "seconds": round(run.fuzzed, 1),
        "seconds_left": figures.time_left(glance),
        "programs_per_second": round(speed.programs, 1),
        "programs_per_second_average": round(speed.average, 1),
        "calls_per_second": round(speed.calls, 1),
        "newest_block_at": glance.newest_block,
        "figures": asdict(row) if row else None,
        "crashes": {"severity": dict(levels), "judged": dict(judged), "known": dict(news)},
        "machines": [asdict(each) for each in glance.machines],
        "judge": asdict(glance.judge),
        "set_aside": [asdict(each) for each in glance.aside],
    }
