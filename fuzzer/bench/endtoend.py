# SPDX-License-Identifier: Apache-2.0
"""The fuzzing loop against its ceiling, in a process of its own.

Started as ``python -m fuzzer.bench.endtoend`` with a pickled
:class:`EndToEndTask` on standard input, because libFuzzer never gives a
process back. It fuzzes in windows of some programs. After each window
the guest runs the very same programs alone, without the host: two times for
one set of programs, a fraction of a second apart, so that what else the host
does slows both and their ratio stands.
"""

from __future__ import annotations

import json
import os
import resource
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from fuzzer.child import receive_task
from fuzzer.engine.adapter import LibFuzzerAdapter
from fuzzer.engine.assembly import assemble
from fuzzer.engine.executor import WorkerExecutor
from fuzzer.engine.libfuzzer import EngineOptions, LibFuzzer
from fuzzer.engine.observer import Observer
from fuzzer.engine.worker import WorkerTask
from fuzzer.machine.channel_layout import BULK, NO_BATCH, PROGRAM_SIZE, Command
from fuzzer.machine.machine import COMMAND_TIMEOUT, LostMachineError
from fuzzer.program import batch

# Programs in a window, to which a batch may add: at their greatest length they fit the channel.
WINDOW = 900
# Programs of warm-up, until the guest's code is translated and most of what is new at first has
# been found: triage of that takes time, which a campaign spends once.
WARM_UP = 20_000
# Seconds between looks at a guest that runs alone.
_LOOK = 0.0005


@dataclass(frozen=True, slots=True)
class EndToEndTask:
    """A measurement: a worker's task, for how many seconds, and where the windows go."""

    worker: WorkerTask
    seconds: float
    result: Path

    @property
    def parent(self) -> int:
        """The process that asks for it."""
        return self.worker.parent


@dataclass(frozen=True, slots=True)
class Window:
    """Some programs, run end to end and then by the guest alone. All times in seconds.

    ``waiting``, ``ahead``, ``mutating`` and ``looping`` are parts of ``wall``:
    waiting for the guest, mutating while the guest works, mutating while it
    does not, and the rest of the loop. What is left is libFuzzer's. ``again`` are
    programs that were run as well, to confirm what was new or to shorten it: they
    take their part of ``wall``, and are neither in ``programs`` nor in ``ceiling``.
    """

    programs: int
    calls: int
    wall: float
    ceiling: float
    user: float
    system: float
    waiting: float
    ahead: float
    mutating: float
    looping: float
    again: int = 0

    @property
    def libfuzzer(self) -> float:
        """Seconds outside of the loop: choosing programs, looking at their coverage."""
        return self.wall - self.waiting - self.ahead - self.mutating - self.looping


class _MeteredExecutor(WorkerExecutor):
    """A worker's executor that takes the time in which the host waits for the guest."""

    waited = 0.0
    """Seconds of that, so far."""

    def await_answer(self, batch: int = NO_BATCH, patience: float | None = None) -> bool:
        """Wait, on the clock."""
        start = time.perf_counter()
        answered = super().await_answer(batch, patience)
        self.waited += time.perf_counter() - start
        return answered


class _Meter(Observer):
    """Keeps the programs of a window, and takes the time of making others ahead."""

    def __init__(self) -> None:
        self.programs: list[bytes] = []
        self.again = 0
        """The number of programs run again to confirm what they did."""
        self.ahead_seconds = 0.0

    def ran(self, programs: Sequence[bytes]) -> None:
        """Keep programs for the guest to run alone."""
        self.programs += programs

    def ran_again(self, program: bytes) -> None:
        """Count one that is none of the programs."""
        self.again += 1

    @contextmanager
    def ahead(self) -> Iterator[None]:
        """Take the time of mutating while the guest works."""
        start = time.perf_counter()
        yield
        self.ahead_seconds += time.perf_counter() - start


class MeteredWorker:
    """A fuzzing loop, stopped after each window to let the guest run alone.

    Where the worker has a racing guest, all programs after the warm-up have
    calls on several threads.
    """

    def __init__(self, task: EndToEndTask, fuzzer: LibFuzzer) -> None:
        worker = task.worker
        loads = worker.loop.mechanisms.lifecycle
        self._executor = _MeteredExecutor(worker.guest, worker.racing, loads=loads)
        self._meter = _Meter()
        self._loop = assemble(self._executor, fuzzer, worker.loop, self._meter)
        self._adapter = LibFuzzerAdapter(self._loop)
        self._counts = self._loop.counts
        self._task = task
        self._size = WARM_UP
        self._windows: list[Window] = []
        self._left = task.seconds
        self._begin()

    def run_one(self, data: bytes) -> None:
        """Run a program, and measure when it is the last of a window."""
        start = time.perf_counter()
        self._adapter.run_one(data)
        self._callback += time.perf_counter() - start
        if len(self._meter.programs) >= self._size:
            self._end()

    def mutate(self, data: bytes, max_size: int, seed: int) -> bytes:
        """Mutate, on the clock."""
        start = time.perf_counter()
        mutated = self._adapter.mutate(data, max_size, seed)
        self._mutating += time.perf_counter() - start
        return mutated

    def _begin(self) -> None:
        self._meter.programs, self._meter.again, self._meter.ahead_seconds = [], 0, 0.0
        self._executor.waited = self._mutating = self._callback = 0.0
        self._splats, self._calls = self._counts.splats, self._counts.calls
        # The guest is to run them alone.
        self._loop.rest_after(self._size)
        self._usage = resource.getrusage(resource.RUSAGE_SELF)
        self._start = time.perf_counter()

    def _end(self) -> None:
        wall = time.perf_counter() - self._start
        usage = resource.getrusage(resource.RUSAGE_SELF)
        meter, waiting = self._meter, self._executor.waited
        # A splat costs a restore and would end the guest's run alone.
        if self._size == WINDOW and self._counts.splats == self._splats:
            self._windows.append(
                Window(
                    programs=len(meter.programs),
                    calls=self._counts.calls - self._calls,
                    wall=wall,
                    ceiling=self._run_alone(meter.programs),
                    user=usage.ru_utime - self._usage.ru_utime,
                    system=usage.ru_stime - self._usage.ru_stime,
                    waiting=waiting,
                    ahead=meter.ahead_seconds,
                    mutating=self._mutating,
                    looping=self._callback - waiting - meter.ahead_seconds,
                    again=meter.again,
                )
            )
            self._left -= wall + self._windows[-1].ceiling
        if self._size == WARM_UP and self._task.worker.racing:
            self._loop.rotation.race_from_now_on()
        self._size = WINDOW
        if self._left <= 0:
            self._leave()
        self._begin()

    def _run_alone(self, programs: list[bytes]) -> float:
        """Return the guest's own time, in seconds, for these programs without the host."""
        channel = self._executor.channel
        data = batch.pack(programs)
        channel.memory[BULK : BULK + len(data)] = data
        channel.header.loop_count = 1
        start = time.perf_counter()
        channel.post(Command.LOOP, len(data))
        # The guest's own clock may tick only every 10 ms.
        while not channel.finished():
            time.sleep(_LOOK)
            if time.perf_counter() - start > COMMAND_TIMEOUT:
                raise LostMachineError("the guest did not run the window's programs alone")
        return time.perf_counter() - start

    def _leave(self) -> None:
        self._executor.close()
        self._task.result.write_text(json.dumps([asdict(window) for window in self._windows]))
        os._exit(0)


def main() -> None:
    """Read the task and measure. Does not return."""
    task: EndToEndTask = receive_task()
    fuzzer = LibFuzzer()
    worker = MeteredWorker(task, fuzzer)
    engine = EngineOptions(
        corpus=task.worker.corpus,
        artifacts=task.worker.loop.workdir,
        seed=task.worker.loop.seed,
        max_length=PROGRAM_SIZE // 8,
        reload=task.worker.reload,
    )
    fuzzer.fuzz(engine, worker.run_one, worker.mutate)


if __name__ == "__main__":
    main()
