# SPDX-License-Identifier: Apache-2.0
"""Signals that wait for the end of what must not be left half done."""

from __future__ import annotations

import signal
import threading

import pytest

from fuzzer.lifetime import deferring_signals, unwinding_on_sigterm


def test_ctrl_c_takes_effect_at_the_end_of_the_block() -> None:
    done = False
    with pytest.raises(KeyboardInterrupt), deferring_signals():
        signal.raise_signal(signal.SIGINT)
        done = True
    assert done
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_a_handler_in_force_is_what_the_signal_meets_then() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as ended, unwinding_on_sigterm(), deferring_signals():
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
    assert ended.value.code == 128 + signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is before


def test_blocks_within_blocks_wait_for_the_outer_one() -> None:
    steps = []
    with pytest.raises(KeyboardInterrupt), deferring_signals():
        with deferring_signals():
            signal.raise_signal(signal.SIGINT)
            steps.append("inner")
        steps.append("outer")
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
