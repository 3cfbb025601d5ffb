# SPDX-License-Identifier: Apache-2.0
"""The fuzzing loop of one worker: libFuzzer on one side, a machine on the other."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fuzzer.crash.judge import silent_guest
from fuzzer.crash.kmsg import console_lines
from fuzzer.crash.sighting import Sighting, Spool
from fuzzer.crash.splat import find_splat
from fuzzer.engine.libfuzzer import LibFuzzer
from fuzzer.engine.statistics import WorkerStatistics
from fuzzer.errors import InfrastructureError
from fuzzer.machine.channel import COUNTERS, PROGRAM_SIZE, Channel, Status
from fuzzer.machine.machine import Machine
from fuzzer.machine.provision import Guest
from fuzzer.program.mutate import Mutator
from fuzzer.target.target import ResetKind

# How many programs run on a machine before it is replaced by a fresh one. It
# bounds the history that a crash comes with; at 60 ms a restore it costs 1 %.
RESTORE_EVERY = 20_000
# Full sightings kept of a title by each worker; further ones are only counted.
KEEP_SIGHTINGS = 3
# libFuzzer chooses among corpus programs without regard to what they cost, and a
# few that fill the driver's tables can take most of the time. A program of more
# wire bytes than this gives way to a shorter one, this often.
_LONG = 600
_SKIP_LONG = 0.85
_PUBLISH_EVERY = 256
# Longest silence, beside the executor's own time limits, before a guest is lost.
_SILENCE = 3.0


@dataclass(frozen=True, slots=True)
class LoopOptions:
    """What a worker's loop needs to know. ``runs`` of None: until ended."""

    workdir: Path
    name: str
    seed: int
    runs: int | None = None
    min_calls: int = 1
    max_calls: int = 40
    restore_every: int = RESTORE_EVERY


class Loop:
    """Runs what libFuzzer asks for on one machine, and looks at what came of it.

    While the guest works, the host has a core to itself. So mutations are
    made then, one ahead: what libFuzzer asks to have mutated waits until the
    next program runs, and what it gets at once is the mutation of what it
    asked for the time before. The guest never waits for a mutation, and every
    program libFuzzer chooses still has its turn.
    """

    def __init__(
        self,
        guest: Guest,
        fuzzer: LibFuzzer,
        options: LoopOptions,
        on_finish: Callable[[Loop], None] | None = None,
    ) -> None:
        self.guest = guest
        self.options = options
        self.channel = Channel()
        self.machine: Machine = guest.restore(self.channel)
        self.history: list[bytes] = []
        self.statistics = WorkerStatistics(
            options.workdir / f"{options.name}.stats", len(guest.blocks)
        )
        self._on_finish = on_finish
        self._spool = Spool(options.workdir)
        self._recorded: dict[str, int] = {}
        self._covered = 0
        n_blocks = len(guest.blocks)
        self.counters = self.channel.counters(n_blocks)
        fuzzer.register_counters(self.channel.address(COUNTERS), n_blocks)
        self._mutator = Mutator(
            guest.target,
            random.Random(options.seed),
            fuzzer.mutate_bytes,
            min_calls=options.min_calls,
            max_calls=options.max_calls,
        )
        self._random = random.Random(options.seed + 1)
        self._short: list[bytes] = []
        self._parent: bytes | None = None
        self._ahead: bytes | None = None
        self._crashed: bytes | None = None
        self._fuzzing = False
        # Once STUCK is ruled out by the executor's watchdog, silence means a dead guest.
        self._patience = 2 * guest.target.call_timeout_ms / 1000 + _SILENCE
        self._restore_each = guest.target.reset.kind is ResetKind.RESTORE

    def mutate(self, data: bytes, max_size: int, seed: int) -> bytes:
        """libFuzzer's custom mutator. ``seed`` is not used: the loop's own is."""
        if not self._fuzzing:
            self._fuzzing = True
            self.statistics.counts.fuzzing = 1
            self.statistics.publish(self._covered)
        self._parent = self._choose_parent(data)
        ahead, self._ahead = self._ahead, None
        if ahead is None or len(ahead) > max_size:
            return self._mutator.mutate(self._parent, max_size)
        return ahead

    def _choose_parent(self, data: bytes) -> bytes:
        """Return the program to mutate when libFuzzer asks for ``data``."""
        # libFuzzer goes on from what it ran last, whatever that did. Each child
        # of a crashing program would likely crash as well, and cost a restore.
        if self._short and (
            data == self._crashed or (len(data) > _LONG and self._random.random() < _SKIP_LONG)
        ):
            return self._random.choice(self._short)
        return data

    def run_one(self, data: bytes) -> None:
        """libFuzzer's callback: run one program and see what the kernel says."""
        counts = self.statistics.counts
        if self.options.runs is not None and counts.programs >= self.options.runs:
            self.finish()
        data = data[:PROGRAM_SIZE]
        header = self.channel.header
        self.channel.post_program(data)
        if self._parent is not None:
            self.mutate_ahead(self._parent)
            self._parent = None
        if not self.await_guest():
            self._lose(data)
            return
        counts.programs += 1
        counts.calls += header.n_results
        if (header.log_length or header.status) and self._examine(data):
            return
        self._note_coverage(data)
        self.history.append(data)
        if len(self.history) >= self.options.restore_every or self._restore_each:
            self.restore()
        if counts.programs % _PUBLISH_EVERY == 0:
            self.statistics.publish(self._covered)

    def _note_coverage(self, data: bytes) -> None:
        covered = self._covered | int.from_bytes(self.counters, "little")
        if covered != self._covered:
            self._covered = covered
            self._mutator.note(data)
            if len(data) <= _LONG:
                self._short.append(data)

    def mutate_ahead(self, parent: bytes) -> None:
        """Mutate a program while another one runs, to have it ready."""
        self._ahead = self._mutator.mutate(parent, PROGRAM_SIZE // 8)

    def await_guest(self) -> bool:
        """Wait for the program to end; False when the guest is lost."""
        if self.channel.wait(0.25):
            return True
        progress, last = -1, time.monotonic()
        while not self.channel.wait(0.1):
            if not self.machine.qemu.is_running():
                return False
            if self.channel.header.progress != progress:
                progress, last = self.channel.header.progress, time.monotonic()
            elif time.monotonic() - last > self._patience:
                return False
        return True

    def _examine(self, data: bytes) -> bool:
        """Look at a program that made the kernel print something, or did not end well.

        Returns whether that was a sighting, after which the machine is a new one.
        """
        status = self.channel.status
        log = self.channel.log()
        splat = find_splat(console_lines(log))
        if splat:
            self._sight(data, splat.title, splat.kind, log)
        elif status is Status.STUCK:
            self._sight(data, "INFO: call does not return", "hang", log)
        elif status is Status.DIED:
            self._sight(data, "the process that ran the program died", "died", log)
        elif status is Status.ERROR:
            message = self.channel.header.message.decode(errors="replace")
            raise InfrastructureError(f"the executor failed: {message}")
        else:
            self.statistics.counts.timeouts += status is Status.TIMEOUT
            return False
        return True

    def _lose(self, data: bytes) -> None:
        """The guest is silent: dead from outside, or hung so hard that nothing runs."""
        self.statistics.counts.lost += 1
        if self.machine.qemu.is_running():
            outcome = silent_guest(self.machine)
            assert outcome.splat is not None
            self._sight(data, outcome.splat.title, outcome.splat.kind, outcome.log)
        else:
            self._clear()

    def _sight(self, data: bytes, title: str, kind: str, log: bytes) -> None:
        self.statistics.counts.splats += 1
        seen = self._recorded.get(title, 0)
        self._recorded[title] = seen + 1
        self._spool.count(title)
        if seen < KEEP_SIGHTINGS:
            history = tuple(self.history)
            self._spool.add(Sighting(title, kind, data, history, log, self.options.name))
        self._crashed = data
        self._clear()

    def _clear(self) -> None:
        # libFuzzer must not keep a crashing program in its corpus either.
        self.channel.clear_counters(len(self.guest.blocks))
        self.restore()
        self.statistics.publish(self._covered)

    def restore(self) -> None:
        """Replace the machine by a fresh one."""
        self.machine.close()
        self.machine = self.guest.restore(self.channel)
        self.history.clear()
        self.statistics.counts.restores += 1

    def finish(self) -> None:
        """End the worker after the programs asked for."""
        self.statistics.publish(self._covered)
        if self._on_finish:
            self._on_finish(self)
        self.machine.close()
        os._exit(0)
