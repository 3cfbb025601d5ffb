# SPDX-License-Identifier: Apache-2.0
"""KeyReader that are pressed while a campaign is shown on a terminal."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import termios
import tty
from typing import TextIO

PUT_BACK_KEY = "b"
"""The key by which bugs that are set aside are put back."""


class KeyReader:
    """Reads single keys from a terminal, without waiting and without Enter.

    Where the stream is no terminal, or this process is in its background, there are none: it
    would be stopped if it touched the terminal.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._file: int | None = None
        self._before: list[int | list[bytes | int]] | None = None
        stream = stream or sys.stdin
        with contextlib.suppress(OSError, ValueError, termios.error):
            if stream.isatty():
                self._file = stream.fileno()

    @property
    def are_read(self) -> bool:
        """True if keys have an effect now."""
        return self._file is not None and self._is_in_foreground()

    def _is_in_foreground(self) -> bool:
        assert self._file is not None
        try:
            return os.tcgetpgrp(self._file) == os.getpgrp()
        except OSError:
            return False

    def pressed(self) -> str:
        """Return the keys that were pressed since the last time; Ctrl-C stays a signal."""
        if self._file is None or not self._is_in_foreground():
            return ""
        try:
            if self._before is None:
                self._before = termios.tcgetattr(self._file)
                tty.setcbreak(self._file, termios.TCSANOW)
            if not select.select([self._file], [], [], 0)[0]:
                return ""
            data = os.read(self._file, 256)
        except (OSError, termios.error):
            data = b""
        if not data:
            # It is gone.
            self._file = None
        return data.decode(errors="replace")

    def close(self) -> None:
        """Leave the terminal as it was."""
        before, self._before = self._before, None
        if before is not None and self._file is not None and self._is_in_foreground():
            with contextlib.suppress(OSError, termios.error):
                termios.tcsetattr(self._file, termios.TCSANOW, before)
