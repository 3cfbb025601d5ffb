# SPDX-License-Identifier: Apache-2.0
"""Speed of the fuzzing loop: runs the measuring process and sums up its windows."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from fuzzer.bench.endtoend import EndToEndTask, Window
from fuzzer.child import Child
from fuzzer.crash.sighting import Spool
from fuzzer.driver.provision import Guest
from fuzzer.engine.loop import LoopOptions
from fuzzer.engine.worker import WorkerTask
from fuzzer.errors import InfrastructureError
from fuzzer.paths import project_root
from fuzzer.program.text import load_program
from fuzzer.program.wire import encode
from fuzzer.target.target import Target

CALLS = 10
"""Calls in each program, so that figures can be compared."""

_SEED = 1
# Beyond the time asked for: loading, restoring, warming up on a busy host.
_GRACE = 300.0


@dataclass(frozen=True, slots=True)
class Shares:
    """The parts of the loop's wall time. The five sum to 1.

    ``waiting`` for the guest; mutating ``ahead`` while the guest works, and
    ``mutating`` while it does not; ``looping``: handing programs over and
    looking at what came of them; ``libfuzzer``: choosing programs and judging
    their coverage.
    """

    waiting: float
    ahead: float
    mutating: float
    looping: float
    libfuzzer: float


@dataclass(frozen=True, slots=True)
class Speed:
    """Programs and calls a second, end to end and by the guest alone.

    ``ratio`` is end to end over the ceiling, for the same programs;
    ``user_us`` and ``system_us`` are the worker's CPU time for a program, in
    microseconds, without QEMU's; ``again`` is how many programs were run besides
    for each, to confirm what was new or to shorten it.
    """

    programs: int
    programs_per_second: float
    calls_per_second: float
    ceiling_programs_per_second: float
    ceiling_calls_per_second: float
    ratio: float
    user_us: float
    system_us: float
    shares: Shares
    again: float = 0.0


def sum_up(windows: Sequence[Window]) -> Speed:
    """Return the speed over windows, all programs weighing the same.

    Raises:
        InfrastructureError: there are none.
    """
    if not windows:
        raise InfrastructureError(
            "the benchmark measured nothing: every window of programs had a splat. "
            "Fuzz the driver first: pkvfuzz run"
        )
    programs = sum(window.programs for window in windows)
    calls = sum(window.calls for window in windows)
    wall = sum(window.wall for window in windows)
    ceiling = sum(window.ceiling for window in windows)
    return Speed(
        programs=programs,
        programs_per_second=programs / wall,
        calls_per_second=calls / wall,
        ceiling_programs_per_second=programs / ceiling,
        ceiling_calls_per_second=calls / ceiling,
        ratio=ceiling / wall,
        user_us=sum(window.user for window in windows) / programs * 1e6,
        system_us=sum(window.system for window in windows) / programs * 1e6,
        shares=Shares(
            waiting=sum(window.waiting for window in windows) / wall,
            ahead=sum(window.ahead for window in windows) / wall,
            mutating=sum(window.mutating for window in windows) / wall,
            looping=sum(window.looping for window in windows) / wall,
            libfuzzer=sum(window.libfuzzer for window in windows) / wall,
        ),
        again=sum(window.again for window in windows) / programs,
    )


def measure_speed(
    guest: Guest, seconds: float, *, calls: int = CALLS, racing: Guest | None = None
) -> Speed:
    """Fuzz for ``seconds`` after the warm-up, in a process of its own, and sum up.

    Programs have so many ``calls``; with ``racing``, a guest of several vCPUs,
    they are made by several threads on that.

    Raises:
        InfrastructureError: the process failed; the message has its last words.
    """
    with tempfile.TemporaryDirectory(prefix="pkvfuzz-bench-") as name:
        workdir = Path(name)
        corpus = workdir / "corpus"
        corpus.mkdir()
        Spool(workdir).create()
        for index, seed in enumerate(_seeds(guest.target)):
            (corpus / f"seed-{index}").write_bytes(seed)
        loop = LoopOptions(
            workdir, "bench", _SEED, min_calls=calls, max_calls=calls, preloads=False
        )
        worker = WorkerTask(guest, corpus, loop, False, os.getpid(), racing)
        result = workdir / "windows.json"
        _measure(EndToEndTask(worker, seconds, result), workdir / "log")
        return sum_up([Window(**window) for window in json.loads(result.read_text())])


def measure_together(guest: Guest, seconds: float, vms: int) -> tuple[Speed, ...]:
    """Return the speeds of so many VMs that fuzz at the same time, in processes of their own.

    Raises:
        InfrastructureError: a process failed; the message has its last words.
    """
    with ThreadPoolExecutor(vms) as pool:
        return tuple(pool.map(lambda _: measure_speed(guest, seconds), range(vms)))


def _seeds(target: Target) -> list[bytes]:
    paths = sorted((project_root() / "seeds" / target.name).glob("*.prog"))
    return [encode(load_program(path, target)) for path in paths]


def _measure(task: EndToEndTask, log: Path) -> None:
    child = Child("fuzzer.bench.endtoend", task, log)
    try:
        code = child.wait(task.seconds + _GRACE)
    except subprocess.TimeoutExpired as error:
        raise InfrastructureError(
            f"the benchmark did not end within {error.timeout:.0f} s"
        ) from error
    child.finish()
    if code or not task.result.exists():
        raise InfrastructureError(
            f"the benchmark's process ended with status {code}: {child.last_words()}"
        )
