# SPDX-License-Identifier: Apache-2.0
"""A slow start: what is measured, what is put off, and what is said of it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from fuzzer.engine.batcher import Batcher
from fuzzer.engine.candidate import Candidate
from fuzzer.engine.import_queue import ImportQueue
from fuzzer.engine.start import Start
from fuzzer.machine.refusal import refusal


@pytest.fixture
def clock() -> list[float]:
    return [1000.0]


def test_slow_calls_make_a_start_too_long(clock: list[float]) -> None:
    start = Start(lambda: clock[0])
    start.look(7)
    clock[0] += 6
    start.look(13)
    assert start.call_seconds == pytest.approx(1.0)
    assert start.is_slow
    assert not start.is_too_long
    clock[0] += 6
    # To replace the machine, which counts from the start, is none of its calls' doing.
    start.pause()
    clock[0] += 600
    start.look(2)
    assert not start.is_too_long
    clock[0] += 6
    start.look(8)
    assert start.call_seconds == pytest.approx(1.0)
    assert start.is_too_long


def test_many_fast_seeds_are_never_too_long(clock: list[float]) -> None:
    start = Start(lambda: clock[0])
    start.look(0)
    clock[0] += 600
    start.look(1_000_000)
    assert not start.is_too_long


def test_what_was_put_off_has_its_turn_among_the_mutants(tmp_path: Path) -> None:
    queue = ImportQueue(tmp_path)
    queue.put_off(b"x" * 24)
    assert queue.take(1.0) == b"x" * 24
    assert queue.take(1.0) is None


def test_batches_of_slow_calls_are_small() -> None:
    batcher = Batcher(SimpleNamespace(next=lambda asked: Candidate(asked, 6.0)))
    assert len(batcher.take(b"a", 100)) > 10
    batcher.drop()
    batcher.slow_down(0.0001)
    assert len(batcher.take(b"a", 100)) > 10
    batcher.drop()
    batcher.slow_down(1.0)
    assert len(batcher.take(b"a", 100)) == 1


@pytest.mark.parametrize(
    ("message", "number", "said", "parts"),
    [
        ("LOAD: init_module: x", 6, " The kernel said: drv: no chip",
         ("ENXIO (6, No such device or address)", "hardware", "The kernel said: drv: no chip")),
        ("LOAD: init_module: x", 2, " The kernel said: drv: Unknown symbol helper (err -2)",
         ("symbols that it needs: helper.", "ENOENT")),
        ("LOAD: init_module: x", 517, "", ("EPROBE_DEFER (517)", "another driver")),
        ("LOAD: init_module: x", 22, "", ("EINVAL", "--params")),
        ("the module loaded, but /dev/x did not appear", 2, "", ("/dev/x did not appear.",)),
    ],
)  # fmt: skip
def test_a_refused_module_is_told_with_what_to_try(
    message: str, number: int, said: str, parts: tuple[str, ...]
) -> None:
    text = refusal(message, number, said)
    assert all(part in text for part in parts), text
