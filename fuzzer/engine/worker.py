# SPDX-License-Identifier: Apache-2.0
"""The worker process: one libFuzzer, one machine at a time.

Started by the campaign as ``python -m fuzzer.engine.worker`` with a pickled
:class:`WorkerTask` on standard input. It ends when its time is up or its
parent is gone, and leaves its results in the working directory.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fuzzer.atomic import write_whole
from fuzzer.child import receive_task
from fuzzer.driver.provision import Guest
from fuzzer.engine.adapter import LibFuzzerAdapter
from fuzzer.engine.assembly import assemble
from fuzzer.engine.executor import WorkerExecutor
from fuzzer.engine.libfuzzer import EngineOptions, LibFuzzer
from fuzzer.engine.loop import LoopOptions
from fuzzer.errors import InfrastructureError, PkvfuzzError, describe_os_error
from fuzzer.machine.channel_layout import PROGRAM_SIZE
from fuzzer.machine.qemu import QemuKilledError

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class WorkerTask:
    """The task of a worker process. The guest ``racing`` has several vCPUs, for threads."""

    guest: Guest
    corpus: Path
    loop: LoopOptions
    reload: bool
    parent: int
    racing: Guest | None = None


def error_file(workdir: Path, name: str) -> Path:
    """Return the file in which a worker leaves the error with which it gave up."""
    return workdir / f"{name}.error"


def work(task: WorkerTask) -> None:
    """Fuzz until ended; this does not return."""
    options = task.loop

    def guarded(run_one: Callable[[bytes], None]) -> Callable[[bytes], None]:
        def run(data: bytes) -> None:
            try:
                run_one(data)
            except (PkvfuzzError, OSError) as error:
                give_up(options.workdir, options.name, error)

        return run

    try:
        fuzzer = LibFuzzer()
        mechanisms = options.mechanisms
        executor = WorkerExecutor(
            task.guest, task.racing, loads=mechanisms.lifecycle, outcomes=mechanisms.outcomes
        )
        adapter = LibFuzzerAdapter(assemble(executor, fuzzer, options))
    except (PkvfuzzError, OSError) as error:
        give_up(options.workdir, options.name, error)
    logs = options.workdir / "log"
    logs.mkdir(exist_ok=True)
    engine = EngineOptions(
        corpus=task.corpus,
        artifacts=logs,
        seed=options.seed,
        max_length=PROGRAM_SIZE // 8,
        reload=task.reload,
    )
    fuzzer.fuzz(engine, guarded(adapter.run_one), adapter.mutate)


def give_up(workdir: Path, name: str, error: Exception) -> None:
    """Leave the message of an error for the campaign, and end the process.

    Not that somebody killed QEMU: then another process goes on in this one's place.
    """
    text = str(error)
    if isinstance(error, QemuKilledError):
        _LOG.warning(text)
        os._exit(error.exit_code)
    if isinstance(error, OSError):
        text = describe_os_error(error, workdir)
    try:
        write_whole(error_file(workdir, name), text)
    except OSError:
        _LOG.error(text)
    code = error.exit_code if isinstance(error, PkvfuzzError) else InfrastructureError.exit_code
    os._exit(code)


def main() -> None:
    """Read the task and work on it."""
    task: WorkerTask = receive_task()
    work(task)


if __name__ == "__main__":
    main()
