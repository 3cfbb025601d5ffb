# SPDX-License-Identifier: Apache-2.0
"""Child processes: their task, their log and their end, with this module as the child's."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from fuzzer.child import Child, receive_task


@dataclass(frozen=True)
class GreetTask:
    """Greet somebody, then wait for so long or for the end of the input."""

    name: str
    seconds: float
    parent: int


def main() -> None:
    """Carry out the task."""
    task: GreetTask = receive_task()
    logging.getLogger("child").warning("hello %s", task.name)
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    time.sleep(task.seconds)
    sys.exit(7 if sys.stdin.buffer.read() == b"" else 8)


def start(log: Path, seconds: float = 0.0) -> Child:
    return Child("tests.unit.test_child", GreetTask("you", seconds, os.getpid()), log)


def test_a_child_gets_its_task_and_ends_when_its_input_does(tmp_path: Path) -> None:
    child = start(tmp_path / "log")
    with pytest.raises(subprocess.TimeoutExpired):
        child.process.wait(1)
    child.finish()
    assert child.wait(30) == 7


def test_what_a_child_logs_says_when_and_how_bad(tmp_path: Path) -> None:
    child = start(tmp_path / "log")
    child.finish()
    child.wait(30)
    assert child.last_words() == (tmp_path / "log").read_text().strip()
    stamp, _, text = child.last_words().partition(" WARNING: ")
    assert text == "hello you"
    assert time.strptime(stamp.partition(",")[0], "%Y-%m-%d %H:%M:%S")


def test_an_exception_is_told_and_not_what_comes_after_it(tmp_path: Path) -> None:
    child = start(tmp_path / "log")
    child.finish()
    child.wait(30)
    exception = "\n === Uncaught Python exception: ===\nIndexError: out of range\nTraceback\n"
    (tmp_path / "log").write_text(f"INFO: Seed: 1\n{exception}\nstat::peak_rss_mb:   69\n")
    assert child.last_words() == "a defect in pkvfuzz: IndexError: out of range"


def test_a_child_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    child = start(tmp_path / "log", 60)
    with pytest.raises(subprocess.TimeoutExpired):
        child.wait(0.2)
    assert child.process.returncode == -signal.SIGKILL


if __name__ == "__main__":
    main()


def test_a_child_that_dies_before_it_has_its_task_is_one_that_has_ended(tmp_path: Path) -> None:
    # More than a pipe holds, so that it is written to after the end.
    child = Child("tests.unit.no_such_module", bytes(1 << 20), tmp_path / "log")
    child.finish()
    assert child.wait(30) == 1
    assert "no_such_module" in child.last_words()
    assert not child.is_running()


def test_ctrl_c_is_ignored_by_a_child_and_what_it_starts_from_the_first_moment(
    tmp_path: Path,
) -> None:
    child = start(tmp_path / "log")
    for line in Path(f"/proc/{child.process.pid}/status").read_text().splitlines():
        if line.startswith("SigIgn:"):
            assert int(line.split()[1], 16) & 1 << (signal.SIGINT - 1)
    child.process.send_signal(signal.SIGINT)
    child.finish()
    assert child.wait(30) == 7
