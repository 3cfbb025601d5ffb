# SPDX-License-Identifier: Apache-2.0
"""Child processes that run one of our modules: given a task, watched, ended.

The parent makes a :class:`Child`; the module's ``main()`` begins with :func:`receive_task`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil

from fuzzer.atomic import appending
from fuzzer.errors import DEFECT, InfrastructureError
from fuzzer.lifetime import end_with_parent
from fuzzer.paths import import_root
from fuzzer.untrusted import read_tail

_LOG_TAIL = 3
# Bytes of a log in which its last words are.
_LOG_BYTES = 64 << 10
# libFuzzer's words for an exception of ours; the line after them is its own.
_UNCAUGHT = " === Uncaught Python exception: ==="
_LOG_FORMAT = "%(asctime)s %(levelname)s: %(message)s"


def receive_task() -> Any:
    """Read the task from standard input, and tie this process to ``parent``, a field of it.

    What is logged from then on goes to standard error, which is the parent's ``log``.
    Ctrl-C reaches the whole process group, and is left to the parent.
    """
    task = pickle.load(sys.stdin.buffer)  # noqa: S301 - our own parent wrote it
    end_with_parent(task.parent)
    logging.basicConfig(format=_LOG_FORMAT)
    return task


def _ignore_interrupts() -> None:
    # From its first moment on, and so do the compilers that it starts: a terminal's Ctrl-C is
    # sent to all.
    signal.signal(signal.SIGINT, signal.SIG_IGN)


class Child:
    """A child process that runs one of our modules.

    Its standard error goes to ``log``; the task is pickled to its standard
    input, which stays open until :meth:`finish`.
    """

    def __init__(self, module: str, task: object, log: Path) -> None:
        self.log = log
        environment = dict(os.environ)
        # The same modules as ours, wherever the user's working directory is.
        environment["PYTHONPATH"] = str(import_root())
        try:
            with appending(log) as output:
                self.process = subprocess.Popen(
                    [sys.executable, "-P", "-m", module],
                    stdin=subprocess.PIPE,
                    stdout=output,
                    stderr=output,
                    env=environment,
                    preexec_fn=_ignore_interrupts,
                )
            assert self.process.stdin is not None
            # If it is gone already, that is seen where it is looked for.
            with contextlib.suppress(BrokenPipeError):
                self.process.stdin.write(pickle.dumps(task))
                self.process.stdin.flush()
        except OSError as error:
            raise InfrastructureError(f"starting {module}: {error.strerror}") from error
        self.started = time.monotonic()

    def is_running(self) -> bool:
        """Tell whether the process is alive."""
        return self.process.poll() is None

    def finish(self) -> None:
        """Tell the child, by the end of its input, to finish its work and end."""
        with contextlib.suppress(OSError):
            if self.process.stdin:
                self.process.stdin.close()

    def wait(self, timeout: float) -> int:
        """Return the child's status once it has ended; end it after ``timeout`` seconds.

        Raises:
            subprocess.TimeoutExpired: it had to be ended.
        """
        try:
            return self.process.wait(timeout)
        except BaseException:
            self.kill()
            raise

    def last_words(self) -> str:
        """Return the last lines that the child printed, or the exception that ended it."""
        try:
            lines = read_tail(self.log, _LOG_BYTES).splitlines()
        except OSError:
            return ""
        if _UNCAUGHT in lines[:-1]:
            return f"{DEFECT}: {lines[lines.index(_UNCAUGHT) + 1]}"
        return " / ".join(line.strip() for line in lines[-_LOG_TAIL:] if line.strip())

    def kill(self) -> None:
        """End the child at once, and whatever it has started: machines, a kernel build."""
        self.finish()
        family: list[psutil.Process] = []
        if self.is_running():
            with contextlib.suppress(psutil.NoSuchProcess):
                family = psutil.Process(self.process.pid).children(recursive=True)
            self.process.kill()
        self.process.wait()
        for descendant in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                descendant.kill()
