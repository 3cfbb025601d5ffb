# SPDX-License-Identifier: Apache-2.0
"""Measurement of the coverage of programs, and of its repeatability, on a machine of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from fuzzer.crash.executor import ObservingExecutor
from fuzzer.driver.provision import Guest, equip_contexts
from fuzzer.engine.buckets import blocks_of, features_of, repeated
from fuzzer.engine.loop import RESTORE_EVERY
from fuzzer.machine.channel_layout import COUNTER_DEFERRED, MAX_CONTEXTS, PATH_COUNTERS
from fuzzer.machine.machine import LostMachineError, Machine
from fuzzer.program.ops import Op
from fuzzer.program.wire import decode
from fuzzer.target.target import ResetKind

# Machines that may get lost (their QEMU killed from outside) before measuring is given up.
_MAX_LOST = 5


class Bench:
    """A machine that runs one program after the other, replaced as the fuzzing loop does.

    ``programs`` are those it is to run, or most of them.
    """

    def __init__(self, guest: Guest, programs: Iterable[bytes]) -> None:
        contexts = contexts_for(guest.contexts, programs)

        def restore() -> Machine:
            machine = guest.restore()
            equip_contexts(machine.channel, contexts, outcomes=True)
            return machine

        each = guest.target.reset.kind is ResetKind.RESTORE
        self._executor = ObservingExecutor(restore, most=1 if each else RESTORE_EVERY)
        self._n_counters = len(guest.blocks) + PATH_COUNTERS
        self._lost = 0
        # Once the driver was seen to do something outside of calls: waiting takes time.
        self._settles = False

    def __enter__(self) -> Self:
        """Return the bench."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End the machine."""
        self._executor.close()

    def run(self, program: bytes) -> bytes | None:
        """Return a program's counters, the blocks' ones first; None if it crashed.

        Raises:
            LostMachineError: QEMU was killed from outside, again and again.
        """
        while True:
            channel = self._executor.prepare().channel
            channel.clear_counters(self._n_counters)
            channel.set_settling(settles=self._settles)
            try:
                outcome = self._executor.run(program)
            except LostMachineError:
                self._lost += 1
                if self._lost > _MAX_LOST:
                    raise
                continue
            if outcome.splat:
                return None
            counters = bytes(channel.counters(self._n_counters))
            self._settles |= COUNTER_DEFERRED in counters
            return counters


@dataclass(slots=True)
class Measured:
    """The coverage of a number of programs.

    ``features`` are those of programs by name, without programs that cover nothing
    new. ``flaky`` is the number of programs that covered something in one of two runs
    only, ``flaky_features`` all of that. ``crashed`` are the names of those that
    crashed.
    """

    features: dict[str, int] = field(default_factory=dict)
    total: int = 0
    programs: int = 0
    flaky: int = 0
    flaky_features: int = 0
    crashed: list[str] = field(default_factory=list)

    def flaky_blocks(self, n_blocks: int) -> int:
        """Return the number of blocks that programs covered in one of two runs only."""
        either = blocks_of(self.total | self.flaky_features, n_blocks)
        return either - blocks_of(self.total, n_blocks)


def contexts_for(described: Iterable[int], programs: Iterable[bytes]) -> tuple[int, ...]:
    """Return the ioctl numbers to count coverage for.

    They are the ``described`` ones, then those that programs use most, as a campaign learns
    of more while it runs.
    """
    used: Counter[int] = Counter()
    for program in programs:
        used.update({call.cmd for call in decode(program) if call.op is Op.IOCTL})
    frequent = (number for number, times in used.most_common() if times > 1)
    return tuple(dict.fromkeys((*described, *frequent)))[:MAX_CONTEXTS]


def measure(
    programs: Iterable[tuple[str, bytes]],
    run: Callable[[bytes], bytes | None],
    *,
    already: int = 0,
    progress: Callable[[int], None] = lambda done: None,
) -> Measured:
    """Measure programs by running each twice; ``already`` are features that are covered anyway."""
    found = Measured(total=already)
    for name, program in programs:
        found.programs += 1
        progress(found.programs)
        first = run(program)
        second = None if first is None else run(program)
        if first is None or second is None:
            found.crashed.append(name)
            continue
        features = features_of(repeated(first, second))
        once = features_of(first) | features_of(second)
        if first != second and once & ~features:
            found.flaky += 1
            found.flaky_features |= once & ~features
        if features & ~found.total:
            found.features[name] = features
            found.total |= features
    return found
