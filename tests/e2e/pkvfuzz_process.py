# SPDX-License-Identifier: Apache-2.0
"""Runs the command line as a user does, and looks for what it left behind."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-P", "-m", "fuzzer"]


def environment(**extra: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), **extra}


def pkvfuzz(
    *arguments: object, cwd: Path, timeout: float = 600, **extra: str
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; a traceback is never acceptable."""
    done = subprocess.run(
        [*COMMAND, *map(str, arguments)],
        cwd=cwd,
        env=environment(**extra),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert "Traceback" not in done.stdout + done.stderr, done.stderr
    assert "a defect in pkvfuzz" not in done.stdout, done.stdout
    return done


def start(
    *arguments: object, cwd: Path, prefix: Sequence[str] = (), **extra: str
) -> subprocess.Popen[str]:
    """Start a command in a process group of its own, its output in ``cwd/output``.

    A ``prefix`` is a command that starts it, such as nohup.
    """
    with (cwd / "output").open("w") as output:
        return subprocess.Popen(
            [*prefix, *COMMAND, *map(str, arguments)],
            cwd=cwd,
            env=environment(**extra),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            text=True,
            start_new_session=True,
            # Whoever runs the tests in the background may have Ctrl-C ignored.
            preexec_fn=functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
        )


def family(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """Return the process and everything it has started."""
    try:
        parent = psutil.Process(process.pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def wait_until(condition: Callable[[], bool], timeout: float = 120.0) -> None:
    """Wait for a condition; failing to come about is a test failure."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


def wait_fuzzing(process: subprocess.Popen[str], cwd: Path) -> None:
    """Wait until a campaign says that it is fuzzing."""

    def fuzzing() -> bool:
        output = (cwd / "output").read_text()
        assert process.poll() is None, output
        return "after the start" in output

    wait_until(fuzzing)


def wait_gone(processes: list[psutil.Process], timeout: float = 10.0) -> None:
    """Wait until every process of a list has ended."""
    _, alive = psutil.wait_procs(processes, timeout=timeout)
    running = [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]
    assert not running, f"left running: {running}"
