# SPDX-License-Identifier: Apache-2.0
"""How processes end: with their parent, and when they are told to."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Iterator
from types import FrameType

# Looked up here: between fork and exec the dynamic loader must not be entered.
_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1


def end_with_parent(parent: int, number: signal.Signals = signal.SIGKILL) -> None:
    """Have the kernel send this process a signal when ``parent`` is gone.

    For a ``preexec_fn``, or at the start of a process. ``parent`` is a process
    id; if it is gone already, this process ends at once. To Linux the parent
    is the thread that started this process, not its whole process.
    """
    _LIBC.prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


@contextlib.contextmanager
def unwinding_on_sigterm() -> Iterator[None]:
    """Have SIGTERM end the process by SystemExit, so that what it made is taken along."""

    def leave(number: int, _frame: FrameType | None) -> None:
        sys.exit(128 + number)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
