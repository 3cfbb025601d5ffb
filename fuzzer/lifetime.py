# SPDX-License-Identifier: Apache-2.0
"""The end of processes: with their parent, and by signals."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import Any

# Looked up here: between fork and exec the dynamic loader must not be entered.
_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1
_DEFERRED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def end_with_parent(parent: int, number: signal.Signals = signal.SIGKILL) -> None:
    """Let the kernel send this process a signal when ``parent`` is gone.

    For a ``preexec_fn``, hence system calls alone, or at the start of a
    process. ``parent`` is a process id; if it is gone already, this process
    ends at once. To Linux the parent is the thread that started this process,
    not its whole process.
    """
    _LIBC.prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


@contextlib.contextmanager
def unwinding_on_signals() -> Iterator[None]:
    """End the process on SIGTERM and SIGHUP by SystemExit, so that what it made is cleaned up.

    Not where such a signal is ignored, as by nohup. Signals reach Python's main thread.
    """

    def leave(number: int, _frame: FrameType | None) -> None:
        # One is enough; a second would break the cleaning up.
        signal.signal(number, signal.SIG_IGN)
        sys.exit(128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {
        number: signal.getsignal(number)
        for number in (signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(number) is not signal.SIG_IGN
    }
    try:
        for number in before:
            signal.signal(number, leave)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def ignoring_interrupts() -> Iterator[None]:
    """Ignore Ctrl-C for a moment: for the end of a command that it has ended already."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def deferring_signals() -> Iterator[None]:
    """Defer SIGINT, SIGTERM and SIGHUP to the end of the block, where they take effect.

    This is for work that must not be left half done, and takes a moment only. Signals reach
    Python's main thread; in another one there is nothing to defer.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    pending: list[int] = []
    handlers = {number: signal.getsignal(number) for number in _DEFERRED}
    try:
        for number in handlers:
            signal.signal(number, lambda number, _frame: pending.append(number))
        yield
    finally:
        for number, handler in handlers.items():
            if handler is not None:  # None: it was not installed by Python
                signal.signal(number, handler)
        for each in pending:
            signal.raise_signal(each)


def start(
    command: Sequence[str],
    ending: signal.Signals,
    *,
    own_group: bool = False,
    niceness: int = 0,
    **options: Any,
) -> subprocess.Popen[Any]:
    """Start a program that gets the signal ``ending`` when the calling thread is gone.

    With ``own_group``, the terminal's Ctrl-C does not reach it. ``niceness``
    is added to this process's. ``options`` are those of
    :class:`subprocess.Popen`. SIGINT, SIGTERM and SIGHUP wait until it runs:
    what they raise while Python forks is swallowed by its hooks.

    Raises:
        OSError: the program cannot be started.
    """
    process = None
    parent = os.getpid()

    def prepare() -> None:
        # Between fork and exec: keep it to system calls.
        end_with_parent(parent, ending)
        os.nice(niceness)

    try:
        with deferring_signals():
            process = subprocess.Popen(
                command,
                preexec_fn=prepare,
                process_group=0 if own_group else None,
                **options,
            )
    except BaseException:
        if process:
            process.kill()
            process.wait()
        raise
    return process


def run(
    command: Sequence[str],
    ending: signal.Signals,
    *,
    timeout: float | None = None,
    **options: Any,
) -> subprocess.CompletedProcess[Any]:
    """Start a program as :func:`start` does, and wait for its end.

    It is killed when that takes over ``timeout`` seconds, or something is raised.

    Raises:
        OSError: the program cannot be started.
        subprocess.TimeoutExpired: it did not end in time.
    """
    with start(command, ending, **options) as process:
        try:
            output, errors = process.communicate(timeout=timeout)
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess(command, process.returncode, output, errors)
