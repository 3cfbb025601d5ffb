# SPDX-License-Identifier: Apache-2.0
"""A driver that a campaign does not get on with, and what its worker tells of that."""

from __future__ import annotations

import errno
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fuzzer.campaign.seeds import load_seeds
from fuzzer.crash.sighting import Spool
from fuzzer.driver.driver import build_driver
from fuzzer.driver.provision import Guest, ensure_guest
from fuzzer.engine.loop import LoopOptions
from fuzzer.engine.statistics import read_statistics
from fuzzer.engine.tally import Tally, read_tally, tally_file
from fuzzer.engine.worker import WorkerTask
from fuzzer.kernel.kernel import Kernel
from fuzzer.machine.accel import Accel
from fuzzer.machine.channel_layout import Status
from fuzzer.program.ops import Op
from fuzzer.target.target import load_target
from tests.vm.guests import run, splat, wire

pytestmark = pytest.mark.vm

SOURCE = Path(__file__).parent.parent / "drivers" / "strangers" / "sluggish"
NUMBER = 0x7301
PACE = 0.3


@pytest.fixture
def sluggish(tmp_path: Path, fast_kernel: Kernel, accel: Accel) -> Callable[[str], Guest]:
    """Return a function that makes guests with the driver, given its parameters."""

    def make(params: str) -> Guest:
        path = tmp_path / "sluggish.yaml"
        path.write_text(
            "version: 1\nname: sluggish\ndevice: /dev/sluggish\n"
            f"module: {{source: {SOURCE}, name: sluggish, params: '{params}'}}\n"
            f"calls:\n  - write: ['', abc]\n  - read: [1, 8]\n  - ioctl: {NUMBER:#x}\n"
        )
        target = load_target(path)
        return ensure_guest(target, fast_kernel, build_driver(target, fast_kernel), accel)

    return make


@contextmanager
def worker(guest: Guest, workdir: Path) -> Iterator[Path]:
    """Run a worker; its working directory is yielded."""
    corpus = workdir / "corpus"
    corpus.mkdir(parents=True)
    Spool(workdir).create()
    for number, seed in enumerate(load_seeds(guest.target, None, 1)):
        (corpus / f"seed-{number}").write_bytes(seed)
    options = LoopOptions(workdir, "worker-0", 7)
    task = WorkerTask(guest, corpus, options, reload=False, parent=os.getpid())
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "fuzzer.engine.worker"],
        stdin=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
    ) as process:
        assert process.stdin is not None
        process.stdin.write(pickle.dumps(task))
        process.stdin.close()
        try:
            yield workdir
            assert process.poll() is None
        finally:
            process.kill()


def wait_for(is_there: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not is_there():
        assert time.monotonic() < end
        time.sleep(0.1)


def test_what_always_fails_is_counted(sluggish: Callable[[str], Guest], tmp_path: Path) -> None:
    def tally() -> Tally:
        return read_tally(tally_file(tmp_path / "work", "worker-0"))

    with worker(sluggish(""), tmp_path / "work"):
        wait_for(lambda: tally().of(Op.IOCTL, NUMBER).total() >= 200)
    assert set(tally().of(Op.IOCTL, NUMBER)) == {errno.EPERM}
    assert tally().of(Op.WRITE)[0] > 0
    assert tally().of(Op.READ)[0] > 0
    assert not tally().unopened


def test_why_it_does_not_open_is_found_out(
    sluggish: Callable[[str], Guest], tmp_path: Path
) -> None:
    def tally() -> Tally:
        return read_tally(tally_file(tmp_path / "work", "worker-0"))

    with worker(sluggish("shut=1"), tmp_path / "work"):
        wait_for(lambda: tally().of(Op.OPEN).total() > 0)
    assert tally().unopened == tally().began > 0
    assert set(tally().of(Op.OPEN)) == {errno.EBUSY}


def test_slow_seeds_are_not_waited_for(sluggish: Callable[[str], Guest], tmp_path: Path) -> None:
    with worker(sluggish(f"pace={PACE * 1000:.0f}"), tmp_path / "work") as workdir:
        path = workdir / "worker-0.stats"
        wait_for(lambda: path.exists() and read_statistics(path)[0].call_us > 0.1e6 * PACE)
        assert not read_statistics(path)[0].fuzzing
        # All of them, each run twice, would take more than half a minute.
        wait_for(lambda: bool(read_statistics(path)[0].fuzzing), 25.0)


def test_a_known_line_does_not_end_a_batch(sluggish: Callable[[str], Guest]) -> None:
    guest = sluggish("")
    talks = [wire(f"read(f0, {size})", guest.target) for size in (1, 22, 333)]
    fails = wire('write(f0, "0123456789012")\nread(f0, 4)', guest.target)
    with guest.restore() as machine:
        channel = machine.channel

        def run_batch(programs: list[bytes]) -> int:
            channel.post_batch(programs)
            machine.await_answer(10.0)
            return int(channel.header.batch_at)

        assert run_batch(talks) == 0
        channel.note_heard(harmless=False)
        assert run_batch(talks) == 0
        channel.note_heard(harmless=True)
        assert run_batch(talks) == 2
        assert not channel.log()
        # A report ends it, and the log has all that was said with it.
        assert run_batch([*talks, fails, *talks]) == 3
        assert splat(channel.log())
        assert b"read of 4 bytes" in channel.log()


def test_a_module_that_is_long_in_loading_may_be_as_long_again(
    sluggish: Callable[[str], Guest],
) -> None:
    # Longer than what any module may take.
    guest = sluggish("wake=2500")
    with guest.restore() as machine:
        assert machine.channel.header.load_ms >= 2500
        done = run(machine, guest, 'close(f0)\nunload()\nload("wake=2400")\nwrite(f0, "")')
    assert done.status is Status.OK
    assert [call.error for call in done.results[:3]] == [0, 0, 0]
