# SPDX-License-Identifier: Apache-2.0
"""Signals that wait for the end of what must not be left half done."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from fuzzer.lifetime import deferring_signals, run, unwinding_on_signals


@pytest.fixture(autouse=True)
def own_sigint() -> Iterator[None]:
    """Make Ctrl-C raise also where the tests run in the background, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def interrupt(steps: list[str], number: signal.Signals = signal.SIGINT, times: int = 1) -> None:
    """Note that the block went on after it was sent a signal."""
    with deferring_signals():
        for _ in range(times):
            signal.raise_signal(number)
        steps.append("inner")


def interrupt_within(steps: list[str]) -> None:
    with deferring_signals():
        interrupt(steps)
        steps.append("outer")


def test_ctrl_c_takes_effect_at_the_end_of_the_block() -> None:
    steps: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        interrupt(steps)
    assert steps == ["inner"]
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_a_handler_in_force_is_what_the_signal_meets_then() -> None:
    before = signal.getsignal(signal.SIGTERM)
    steps: list[str] = []
    with pytest.raises(SystemExit) as ended, unwinding_on_signals():
        interrupt(steps, signal.SIGTERM, 2)
    assert ended.value.code == 128 + signal.SIGTERM
    assert steps == ["inner"]
    assert signal.getsignal(signal.SIGTERM) is before


def test_blocks_within_blocks_wait_for_the_outer_one() -> None:
    steps: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        interrupt_within(steps)
    assert steps == ["inner", "outer"]


def test_an_error_of_the_block_is_its_own() -> None:
    with pytest.raises(ValueError, match="own"), deferring_signals():
        raise ValueError("own")


def test_other_threads_leave_the_handlers_alone() -> None:
    handler = signal.getsignal(signal.SIGINT)
    seen = []

    def work() -> None:
        with deferring_signals():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [handler]


# Python swallows what its hooks raise, and their signals with that.
_INTERRUPTED_FORK = """
import os, signal, sys
from fuzzer.lifetime import run, unwinding_on_signals

os.register_at_fork(after_in_parent=lambda: signal.raise_signal(signal.SIGTERM))
with unwinding_on_signals():
    run(["sleep", "60"], signal.SIGKILL)
"""


def test_a_signal_while_a_program_is_started_takes_effect() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _INTERRUPTED_FORK],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 128 + signal.SIGTERM
    assert done.stderr == ""


def test_a_program_that_takes_too_long_is_killed() -> None:
    started = time.monotonic()
    with pytest.raises(subprocess.TimeoutExpired):
        run(["sleep", "60"], signal.SIGKILL, timeout=0.2)
    assert time.monotonic() - started < 30
