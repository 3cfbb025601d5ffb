# SPDX-License-Identifier: Apache-2.0
"""Calls that wait: the program goes on meanwhile, and what still waits is interrupted."""

from __future__ import annotations

import errno
import shutil
import time
from functools import partial
from pathlib import Path

import pytest

from fuzzer.crash.judge import judge
from fuzzer.crash.series import run_history
from fuzzer.crash.sighting import Sighting
from fuzzer.driver.driver import find_bug
from fuzzer.driver.provision import Guest
from fuzzer.kernel.kernel import Flavour
from fuzzer.machine.channel_layout import FLAG_WAITS, Status
from fuzzer.machine.machine import Machine
from fuzzer.program.csource.source import c_source
from fuzzer.program.ops import FLAG_WAITS as WAITS
from fuzzer.program.text import load_program
from fuzzer.program.wire import decode, encode
from fuzzer.target.target import Target, load_target
from tests.vm.guests import GuestFactory, returned, run
from tests.vm.reproducers import compiled, title_of

pytestmark = pytest.mark.vm

_FIFO = Path(__file__).parent.parent / "drivers" / "fifo" / "fifo.yaml"
_INTERRUPTED = (-1, errno.EINTR)


@pytest.fixture(scope="module")
def target() -> Target:
    """Return the description of a driver whose readers wait for its writers."""
    return load_target(_FIFO)


@pytest.fixture(scope="module")
def fifo(guest: GuestFactory, target: Target) -> Guest:
    """Return a guest with it."""
    return guest(Flavour.FAST, target=target)


def test_a_read_returns_what_a_later_call_writes(fifo: Guest) -> None:
    program = 'read(f0, 64)\nwrite(f0, "late")\nread(f0, 64)\nwrite(f0, "more")'
    covered = set()
    with fifo.restore() as machine:
        for _ in range(3):
            machine.channel.clear_counters(len(fifo.blocks))
            done = run(machine, fifo, program)
            assert done.status is Status.OK
            assert returned(done) == [(4, 0)] * 4
            assert [done.results[n].output for n in (0, 2)] == [b"late", b"more"]
            assert done.waited == (0, 2)
            covered.add(bytes(machine.channel.counters(len(fifo.blocks))))
        at_once = run(machine, fifo, 'write(f0, "late")\nread(f0, 64)')
        machine.channel.clear_counters(len(fifo.blocks))
        run(machine, fifo, 'write(f0, "late")')
        without = machine.channel.counters(len(fifo.blocks))
        assert not at_once.waited
        # What the read did on one thread, and what the write did on another.
        assert len(covered) == 1
        assert {n for n, count in enumerate(without) if count} < {
            n for n, count in enumerate(covered.pop()) if count
        }


def test_a_call_of_another_process_is_interrupted_and_none_is_left_waiting(fifo: Guest) -> None:
    program = (
        'child()\nread(f0, 64)\nwrite(f0, "own")\nread(f0, 64)\nexit()\n'
        'read(f0, 64)\nwrite(f0, "late")\n'
    )
    covered = set()
    with fifo.restore() as machine:
        for _ in range(3):
            machine.channel.clear_counters(len(fifo.blocks))
            done = run(machine, fifo, program)
            # It is told as any other call that was interrupted.
            assert done.status is Status.TIMEOUT
            assert done.stopped_call == 1
            assert returned(done) == [
                (0, 0), _INTERRUPTED, (3, 0), (3, 0), (0, 0), (4, 0), (4, 0),
            ]  # fmt: skip
            assert [done.results[n].output for n in (3, 5)] == [b"own", b"late"]
            assert done.waited == (5,)
            covered.add(bytes(machine.channel.counters(len(fifo.blocks))))
        assert len(covered) == 1
        machine.channel.clear_counters(len(fifo.blocks))
        assert run(machine, fifo, "").status is Status.OK
        assert bytes(machine.channel.counters(len(fifo.blocks))) not in covered


def took(machine: Machine, guest: Guest, text: str) -> float:
    """Return the least time that a program took, in seconds."""
    times = []
    for _ in range(5):
        start = time.monotonic()
        run(machine, guest, text)
        times.append(time.monotonic() - start)
    return min(times)


def test_what_still_waits_at_the_end_is_interrupted_soon(fifo: Guest) -> None:
    with fifo.restore() as machine:
        done = run(machine, fifo, "read(f0, 64)\nioctl(f0, FIFO_IOC_RESIZE, 0)")
        assert done.status is Status.OK
        assert returned(done) == [_INTERRUPTED, (-1, errno.EINVAL)]
        assert took(machine, fifo, "read(f0, 64)") < took(machine, fifo, "sleep(45)")
        assert returned(run(machine, fifo, 'write(f0, "a")')) == [(1, 0)]


def test_so_many_calls_wait_at_a_time(fifo: Guest) -> None:
    with fifo.restore() as machine:
        done = run(machine, fifo, "read(f0, 1)\n" * 4 + 'write(f0, "abc")')
    assert done.waited == (0, 1, 2)
    assert (done.status, done.stopped_call) == (Status.TIMEOUT, 3)
    assert returned(done) == [(1, 0)] * 3 + [_INTERRUPTED, (3, 0)]


def test_a_call_that_keeps_the_next_one_out_is_interrupted(fifo: Guest) -> None:
    text = 'ioctl(f0, FIFO_IOC_HOLD, 1000)\nwrite(f0, "a")\nread(f0, 1)'
    with fifo.restore() as machine:
        done = run(machine, fifo, text)
        assert done.status is Status.OK
        assert returned(done) == [_INTERRUPTED, (1, 0), (1, 0)]
        assert took(machine, fifo, text) < took(machine, fifo, "sleep(300)")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('close(f0)\nunload()\nload("")\nopen(f0)', [(0, 0)] * 4),
        ('[1] write(f0, "a")\n[2] ioctl(f0, FIFO_IOC_RESIZE, 0)', [(1, 0), (-1, errno.EINVAL)]),
    ],
)
def test_calls_are_ended_before_the_module_is_unloaded_and_before_a_part(
    text: str, expected: list[tuple[int, int]], fifo: Guest
) -> None:
    with fifo.restore() as machine:
        for _ in range(2):
            done = run(machine, fifo, f"read(f0, 64)\n{text}")
            assert (done.status, done.waited) == (Status.OK, (0,))
            assert returned(done) == [_INTERRUPTED, *expected]


def test_without_the_flag_each_call_is_interrupted_in_its_turn(fifo: Guest) -> None:
    with fifo.restore() as machine:
        machine.channel.header.flags &= ~FLAG_WAITS
        done = run(machine, fifo, 'read(f0, 64)\nwrite(f0, "a")')
    assert (done.status, done.stopped_call) == (Status.TIMEOUT, 0)
    assert returned(done) == [_INTERRUPTED, (1, 0)]
    assert not done.waited


def test_a_bug_that_needs_a_call_to_wait_is_shown_by_its_program_in_c(
    guest: GuestFactory, target: Target, tmp_path: Path
) -> None:
    bug = find_bug(target, "resize-waiting")
    patched = guest(Flavour.FULL, bug.name, target=target)
    program = encode(load_program(bug.path.with_suffix(".prog"), target))
    seen, _ = run_history(patched, (), program)
    assert seen.splat
    sighting = Sighting(seen.splat.title, seen.splat.kind, program, (), seen.log, "test")
    judged = judge(lambda wanted: partial(run_history, patched, wanted=wanted), sighting, 1)
    assert (judged.reproduced, judged.splat.title) == (1, bug.expect)
    calls = decode(judged.program)
    assert [bool(call.flags & WAITS) for call in calls] == [True, False]
    shutil.copy(target.headers[0], tmp_path)
    (tmp_path / "repro.c").write_text(c_source(calls, target))
    assert title_of(patched, compiled(tmp_path)) == bug.expect
