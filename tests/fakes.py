# SPDX-License-Identifier: Apache-2.0
"""Machines that exist only in tests: the host's side is the product's own, the guest is a function.

A :class:`FakeGuest` has real channels, and real machines on top. It answers at once.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias, cast

from fuzzer.crash.dedup import Wanted
from fuzzer.crash.exact import EXACT
from fuzzer.crash.leaks import HARDWARE as LEAKING
from fuzzer.crash.outcome import Outcome
from fuzzer.crash.testbeds import RACING, Testbeds
from fuzzer.driver.driver import Driver
from fuzzer.driver.provision import Guest
from fuzzer.kernel.kernel import Kernel
from fuzzer.machine.accel import Accel
from fuzzer.machine.channel import Channel
from fuzzer.machine.channel_layout import (
    BULK,
    COUNTERS,
    LOG,
    NO_BATCH,
    PROGRAM,
    RESULTS,
    Command,
    RawResult,
    Status,
)
from fuzzer.machine.machine import Machine
from fuzzer.machine.qemu import Hardware, Qemu
from fuzzer.machine.template import Template
from fuzzer.program.batch import unpack
from fuzzer.program.wire import split
from fuzzer.target.target import Target, load_target


@dataclass(frozen=True, slots=True)
class Answer:
    """A guest's answer to a program.

    ``log`` is what its kernel prints, as raw records. Calls with the indices ``faulted``
    had the fault that they asked for, and each takes so many ``ticks``. ``counters`` are
    the first coverage counters. A guest that is ``silent`` does not answer; it has
    rebooted if it ``left``.
    """

    log: bytes = b""
    status: Status = Status.OK
    faulted: Sequence[int] = ()
    ticks: Sequence[int] = ()
    counters: bytes = b""
    silent: bool = False
    left: bool = False


NOTHING = Answer()
# Of a guest that does not exist.
_NOWHERE = Path("/nowhere")

Behaviour: TypeAlias = Callable[[list[bytes]], Answer | bytes | None]
"""A guest's answer to the last of the programs that it was given, or its log only."""


class FakeQemu:
    """A QEMU that runs until its guest falls silent or somebody ends it."""

    def __init__(self) -> None:
        self.running, self.left, self.console = True, False, ""
        self.now: Callable[[], float] = time.monotonic
        self.starved = False

    def is_running(self) -> bool:
        return self.running and not self.left

    def was_left(self) -> bool:
        return self.left

    def console_text(self) -> str:
        return self.console

    def clock(self) -> float:
        return self.now()

    def is_starved(self) -> bool:
        return self.starved

    def cpu_seconds(self) -> float:
        return 0.0

    def kill(self) -> None:
        self.running = False


class FakeChannel(Channel):
    """A channel with a guest at its other end, which works while it is waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.guest: FakeMachine | None = None

    def wait(self, timeout: float, batch: int = NO_BATCH) -> bool:
        """Let the guest run the posted command; tell whether it answered."""
        if self.guest and not self.finished():
            self.guest.work()
        return self.finished()


class FakeMachine(Machine):
    """A machine whose guest is a function of the programs that it was given."""

    def __init__(
        self,
        behaviour: Behaviour,
        channel: FakeChannel | None = None,
        *,
        loading: Answer | None = NOTHING,
    ) -> None:
        self.fake_qemu = FakeQemu()
        own = channel is None
        channel = channel or FakeChannel()
        super().__init__(
            cast(Qemu, self.fake_qemu), channel, Hardware(), Accel.TCG, owns_channel=own
        )
        channel.guest = self
        # What another machine has left undone is none of this one's business.
        channel.header.done_seq, channel.header.preloaded = channel.header.req_seq, 0
        self._silent = False
        self._behaviour = behaviour
        self._loading = loading
        self.ran: list[bytes] = []
        """The programs that ran."""
        self.preloaded = b""
        """The calls by which the module was loaded for all programs."""
        self.late: list[bytes] = []
        """Log records that the kernel prints later, one each time that the host asks."""
        self._rested = 0.0

    def now(self) -> float:
        """Return the time by QEMU's clock, and all that was rested."""
        return self.fake_qemu.now() + self._rested

    def rest(self, seconds: float) -> None:
        """Let so many seconds pass."""
        self._rested += seconds

    def work(self) -> None:
        """Run the posted command, unless the guest has fallen silent."""
        header = self.channel.header
        command = Command(header.command)
        if self._silent:
            return
        if command is Command.PING:
            header.status = Status.OK
            self._print(self.late.pop(0) if self.late else b"")
            header.done_seq = header.req_seq
            return
        for number, program in enumerate(self._posted(command)):
            header.batch_at = number
            answer = self._preload(program) if command is Command.PRELOAD else self._run(program)
            if answer.silent:
                self._silent, self.fake_qemu.left = True, answer.left
                return
            if answer.log or answer.status:
                break
        header.done_seq = header.req_seq

    def _posted(self, command: Command) -> list[bytes]:
        channel, length = self.channel, self.channel.header.length
        if command is Command.BATCH:
            return unpack(bytes(channel.memory[BULK : BULK + length]))
        assert command in {Command.RUN, Command.PRELOAD}
        return [bytes(channel.memory[PROGRAM : PROGRAM + length])]

    def _preload(self, calls: bytes) -> Answer:
        self.preloaded = calls
        self.channel.header.preloaded = self._loading is not None
        answer = self._loading or Answer()
        self._answer(calls, answer)
        return answer

    def _run(self, program: bytes) -> Answer:
        self.ran.append(program)
        self.channel.header.programs += 1
        answer = self._behaviour(self.ran) or b""
        if isinstance(answer, bytes):
            answer = Answer(answer)
        self._answer(program, answer)
        return answer

    def _answer(self, program: bytes, answer: Answer) -> None:
        header = self.channel.header
        header.status = answer.status
        self._print(answer.log)
        memory = self.channel.memory
        memory[COUNTERS : COUNTERS + len(answer.counters)] = answer.counters
        self._return(len(split(program)), answer)

    def _print(self, log: bytes) -> None:
        self.channel.header.log_length = len(log)
        self.channel.memory[LOG : LOG + len(log)] = log

    def _return(self, calls: int, answer: Answer) -> None:
        self.channel.header.n_results = calls
        results = (RawResult * calls).from_buffer(self.channel.map, RESULTS)
        for index, raw in enumerate(results):
            raw.faulted = index in answer.faulted
            raw.tsc = answer.ticks[index] if index < len(answer.ticks) else 0


class FakeGuest(Guest):
    """A testbed of such machines; ``made`` are all of them.

    ``loading`` is what calls that are to load the module come to, None if it does not load.
    """

    # That of a frozen class with slots fails for classes derived from it.
    __setattr__ = object.__setattr__

    def __init__(
        self,
        behaviour: Behaviour,
        target: Target | None = None,
        *,
        loading: Answer | None = NOTHING,
        contexts: tuple[int, ...] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(
            template=Template(_NOWHERE, Hardware(), Accel.TCG),
            target=target or demo_target(),
            kernel=Kernel("full", _NOWHERE, _NOWHERE, "kernel"),
            driver=Driver("demo", _NOWHERE / "demo.ko", "driver"),
            blocks=(),
            load_blocks=frozenset(),
            table_base=0,
            table=b"",
            reset=b"",
            contexts=contexts,
        )
        self.clock = clock
        self.behaviour = behaviour
        self.loading = loading
        self.made: list[FakeMachine] = []

    def restore(self, channel: Channel | None = None) -> FakeMachine:
        """Return a fresh machine."""
        assert channel is None or isinstance(channel, FakeChannel)
        self.made.append(FakeMachine(self.behaviour, channel, loading=self.loading))
        self.made[-1].fake_qemu.now = self.clock
        return self.made[-1]

    def restore_awake(self, channel: Channel) -> FakeMachine:
        """Return a fresh machine on that channel."""
        return self.restore(channel)

    def start(self, post: Callable[[Channel], None], *, paused: bool = False) -> FakeMachine:
        """Return a fresh machine that has its first command."""
        machine = self.restore()
        post(machine.channel)
        return machine

    @property
    def ran(self) -> list[bytes]:
        """The programs that ran on all machines, in the order of these."""
        return [program for machine in self.made for program in machine.ran]

    @property
    def running(self) -> int:
        """The number of machines that nobody has ended."""
        return sum(machine.fake_qemu.running for machine in self.made)


@functools.cache
def demo_target() -> Target:
    """Return the description of a driver that exists only in tests."""
    return load_target(Path(__file__).parent / "unit" / "data" / "demo" / "demo.yaml")


Leaks: TypeAlias = Callable[[Sequence[bytes]], tuple[Outcome, int | None]]
"""The outcome of a search for lost memory, and the number of the program if that is known."""


class FakeSetups(Testbeds):
    """Testbeds of fake guests; those that are not given run nothing.

    ``leaks`` tells what kmemleak finds after programs, which no fake machine can.
    """

    def __init__(
        self,
        plain: FakeGuest,
        *,
        racing: FakeGuest | None = None,
        leaking: FakeGuest | None = None,
        exact: FakeGuest | None = None,
        leaks: Leaks = lambda programs: (Outcome(None, b""), None),
    ) -> None:
        given = {RACING: racing, LEAKING: leaking, EXACT: exact}

        def make(hardware: Hardware, _arguments: str) -> FakeGuest:
            return given.get(hardware) or FakeGuest(lambda ran: None)

        super().__init__(plain, make)
        self._leaks = leaks

    def leak_of(
        self, machine: Machine, programs: Sequence[bytes], wanted: Wanted | None = None
    ) -> tuple[Outcome, int | None]:
        """Return what programs lost, as they are said to."""
        return self._leaks(programs)
