# SPDX-License-Identifier: Apache-2.0
"""A running VM: booted to make a template, or restored from one."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self

from fuzzer.errors import BadInputError, InfrastructureError
from fuzzer.machine.accel import Accel
from fuzzer.machine.channel import CallResult, Channel
from fuzzer.machine.channel_layout import (
    BULK,
    BULK_SIZE,
    FLAG_KEEP,
    OUTPUT,
    OUTPUT_SIZE,
    Command,
    Status,
)
from fuzzer.machine.qemu import Hardware, Qemu, QemuKilledError, command_line
from fuzzer.machine.refusal import refusal
from fuzzer.machine.template import Template, copy_memory, freeze, thaw
from fuzzer.program.comparison import Comparison
from fuzzer.target.device import Device
from fuzzer.target.target import module_name

COMMAND_TIMEOUT = 60.0
LOAD_TIMEOUT = 60.0
BY_PROGRAMS = (
    " Where 'module' in its description says 'fails: true', programs load it, and what goes "
    "wrong is found as other bugs are"
)
# Seconds that a guest has to end a program which it was told to run for so long.
_GRACE = 10.0


class LostMachineError(InfrastructureError):
    """The guest stopped answering, or QEMU is gone. Restore and go on."""


@dataclass(frozen=True, slots=True)
class Run:
    """The result of one program: the calls' results and the kernel's log.

    ``waited`` are the indices of the calls that were left waiting.
    """

    status: Status
    results: list[CallResult]
    stopped_call: int
    log: bytes
    tsc: int
    waited: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Execution:
    """The result of a program that is not a wire program.

    ``status`` is its exit status, or ``-n`` if signal ``n`` ended it, which is
    SIGKILL when its time was over (``timed_out``). ``output`` is what it wrote
    to standard output and error, without the end when it was ``truncated``.
    ``log`` has the kernel's messages (raw kmsg records).
    """

    status: int
    output: bytes
    log: bytes
    truncated: bool = False
    timed_out: bool = False


@dataclass(frozen=True, slots=True)
class DriverImage:
    """A driver to load: the module's bytes, its name and parameters, its files.

    ``needs`` are modules to load before it, in this order: their bytes, names and
    parameters.
    """

    image: bytes
    name: str
    devices: tuple[Device, ...]
    params: str = ""
    needs: tuple[tuple[bytes, str, str], ...] = ()


# Lines of the kernel's log in an error message.
_LAST_LINES = 5
# Seconds between two looks at whether QEMU is still there.
_SLICE = 0.2


class Machine:
    """A VM with its channel. Use as a context manager, or :meth:`close` it."""

    def __init__(
        self,
        qemu: Qemu,
        channel: Channel,
        hardware: Hardware,
        accel: Accel,
        *,
        owns_channel: bool = True,
    ) -> None:
        self.qemu = qemu
        self.channel = channel
        self.hardware = hardware
        self.accel = accel
        self._owns_channel = owns_channel
        # The kernel's log of the last driver's load, also if it was refused.
        self.load_log = b""

    @classmethod
    def restore(
        cls,
        template: Template,
        *,
        memory: Path | None = None,
        channel: Channel | None = None,
        prepare: Callable[[Channel], None] | None = None,
        paused: bool = False,
    ) -> Self:
        """Restore a machine from a template.

        With ``memory``, a copy of the template's memory is made there and the
        machine writes to it, so that it can be frozen again. With ``channel``,
        that one is used, and outlives the machine: libFuzzer's counters are in
        it. No other machine may be using it. ``prepare`` is called with the
        channel before the machine runs; what it posts there is seen at an
        instant that does not depend on the host. With ``paused``, it begins to
        run when QEMU is told to.

        Raises:
            LostMachineError: QEMU was killed meanwhile; another try may do.
            InfrastructureError: QEMU does not start, or refuses the template.
        """
        owns_channel = channel is None
        channel = channel or Channel()
        try:
            channel.restore_header(template.header())
            if prepare is not None:
                prepare(channel)
            if memory is not None:
                copy_memory(template.ram, memory)
            arguments = [
                *command_line(
                    template.hardware,
                    template.accel,
                    ram=memory or template.ram,
                    ram_shared=memory is not None,
                    channel_fd=channel.fd,
                ),
                *("-incoming", "defer"),
            ]
            qemu = Qemu(arguments, channel, niceness=template.hardware.niceness)
            try:
                thaw(qemu, template, paused=paused)
            except BaseException:
                qemu.kill()
                raise
        except BaseException as error:
            if owns_channel:
                channel.close()
            if isinstance(error, QemuKilledError):
                raise LostMachineError(str(error)) from error
            raise
        return cls(qemu, channel, template.hardware, template.accel, owns_channel=owns_channel)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the machine. May be called again."""
        self.qemu.kill()
        if self._owns_channel:
            self.channel.close()

    def await_answer(
        self,
        timeout: float,
        *,
        total: bool = False,
        is_lost: Callable[[], bool] = lambda: False,
    ) -> None:
        """Wait for the posted command, not counting time in which QEMU waits for the host.

        ``is_lost`` is asked several times a second whether waiting is in vain.

        Raises:
            LostMachineError: neither an answer nor a further call within
                ``timeout`` seconds (with ``total``: no answer), or QEMU is gone.
        """
        clock = self.qemu.clock
        deadline, progress = clock() + timeout, self.channel.header.progress
        # In slices, so that a QEMU that was killed is noticed at once.
        while not self.channel.wait(min(_SLICE, timeout)):
            if not self.qemu.is_running():
                what = "the guest rebooted" if self.qemu.was_left() else "QEMU ended"
                raise LostMachineError(f"{what} while it was working{self._last_words()}")
            if self.channel.header.progress != progress and not total:
                deadline, progress = clock() + timeout, self.channel.header.progress
            elif is_lost():
                raise LostMachineError(f"the guest hangs{self._last_words()}")
            elif clock() > deadline:
                raise LostMachineError(
                    f"the guest did not answer within {timeout:.1f} s{self._last_words()}"
                )

    def now(self) -> float:
        """Return the time in seconds by the clock that limits waiting for the guest."""
        return time.monotonic()

    def rest(self, seconds: float) -> None:
        """Wait while the guest goes on."""
        time.sleep(seconds)

    def console_text(self) -> str:
        """Return what the guest printed on its console since it was restored.

        A kernel panic is reported there and nowhere else.
        """
        return self.qemu.console_text()

    def is_starved(self) -> bool:
        """Tell whether the host gave it so little time that durations prove nothing."""
        return self.qemu.is_starved()

    def _last_words(self) -> str:
        lines = [line for line in self.console_text().splitlines() if line.strip()]
        return f"; the last line on its console: {lines[-1]}" if lines else ""

    def command(
        self, command: Command, length: int = 0, timeout: float = COMMAND_TIMEOUT
    ) -> Status:
        """Run a command and return its status; CH_ERROR becomes an exception."""
        self.channel.post(command, length)
        self.await_answer(timeout)
        return self._status(command)

    def _status(self, command: Command) -> Status:
        status = self.channel.status
        if status is Status.ERROR:
            message = self.channel.header.message.decode(errors="replace")
            raise InfrastructureError(f"{command.name} failed in the guest: {message}")
        return status

    def load(self, driver: DriverImage) -> Template:
        """Load a driver; return it as a template without a directory.

        The modules that it needs are loaded first, and stay when programs load it anew.

        Raises:
            BadInputError: the kernel refused a module, or its first file is not there.
        """
        channel = self.channel
        header = channel.header
        self._load_before(driver)
        self._load(driver.image, driver.name, driver.params)
        listing = bytes(channel.memory[OUTPUT : OUTPUT + header.output_length]).decode()
        sections = {
            name: int(address, 16) for name, address in map(str.split, listing.splitlines())
        }
        words = channel.memory[BULK : BULK + 8 * header.n_pcs].cast("Q")
        log = self.load_log.decode(errors="replace")
        return Template(Path(), self.hardware, self.accel, sections, tuple(set(words)), log)

    def keep(self, driver: DriverImage) -> Template:
        """Keep a driver ready for programs to load it; return it as a template without a directory.

        The modules that it needs are loaded.

        Raises:
            BadInputError: the kernel refused a module that it needs.
        """
        self._load_before(driver)
        self.channel.header.flags |= FLAG_KEEP
        try:
            self._load(driver.image, driver.name, driver.params)
        finally:
            self.channel.header.flags &= ~FLAG_KEEP
        return Template(Path(), self.hardware, self.accel)

    def _load_before(self, driver: DriverImage) -> None:
        self.load_log = b""
        for image, name, params in driver.needs:
            self.channel.set_devices(())
            self._load(image, name, params)
        self.channel.set_devices(driver.devices)

    def _load(self, image: bytes, name: str, params: str) -> None:
        if len(image) > BULK_SIZE:
            raise BadInputError(
                f"the module {name} has {len(image)} bytes without debug information, "
                f"at most {BULK_SIZE} fit"
            )
        channel = self.channel
        channel.header.module_name = module_name(name).encode()
        channel.header.module_params = params.encode()
        channel.memory[BULK : BULK + len(image)] = image
        try:
            try:
                status = self.command(Command.LOAD, len(image), LOAD_TIMEOUT)
            finally:
                self.load_log += channel.log()
        except LostMachineError:
            raise
        except InfrastructureError as error:
            told = refusal(str(error), channel.header.error, self.said())
            raise BadInputError(f"loading {name}: {told}") from error
        if status is not Status.OK:
            what = "did not return" if status is Status.STUCK else "did not survive"
            raise BadInputError(
                f"loading {name}: its init function {what}.{self.said()}{BY_PROGRAMS}"
            )

    def said(self) -> str:
        """Return what the kernel printed last, as a sentence; empty if it printed nothing."""
        log = self.channel.log().decode(errors="replace")
        lines = [line.split(";", 1)[-1] for line in log.splitlines() if ";" in line]
        # These are printed for every module, and explain nothing.
        last = [line for line in lines if "taints kernel" not in line][-_LAST_LINES:]
        return f" The kernel said: {' / '.join(last)}" if last else ""

    def freeze(self, directory: Path, known: Template | None = None) -> Template:
        """Freeze into a directory whose ``ram`` file this machine runs on."""
        base = known or Template(directory, self.hardware, self.accel)
        template = replace(base, directory=directory)
        freeze(self.qemu, self.channel, template)
        return template

    def run(
        self, program: bytes, timeout: float = 10.0, is_lost: Callable[[], bool] = lambda: False
    ) -> Run:
        """Run a wire program and return its result, see :meth:`finish`.

        Raises:
            LostMachineError: the guest hangs or QEMU is gone.
        """
        self.channel.post_program(program)
        return self.finish(timeout, is_lost)

    def finish(self, timeout: float = 10.0, is_lost: Callable[[], bool] = lambda: False) -> Run:
        """Wait for the program that was posted and return its result.

        ``is_lost`` is asked now and then whether the guest is known to hang.

        Raises:
            LostMachineError: the guest hangs or QEMU is gone.
        """
        self.await_answer(timeout, is_lost=is_lost)
        header = self.channel.header
        return Run(
            Status(header.status),
            self.channel.results(),
            header.stopped_call,
            self.channel.log(),
            header.tsc,
            self.channel.waited(),
        )

    def preload(self, calls: bytes, timeout: float = 10.0) -> Run:
        """Load the module anew by a program's first calls, and stay with that.

        Programs that begin with the same bytes skip these calls from then on,
        unless they did not load it (``channel.header.preloaded``).

        Raises:
            LostMachineError: the guest hangs or QEMU is gone.
        """
        self.channel.post_preload(calls)
        return self.finish(timeout)

    def compare(self, program: bytes, timeout: float = 10.0) -> tuple[Comparison, ...]:
        """Run a wire program and return what the driver compared in its serial calls.

        They are none where the kernel cannot record them. The program's results,
        status and log are in the channel.

        Raises:
            LostMachineError: the guest hangs or QEMU is gone.
        """
        self.channel.post_comparing(program)
        self.await_answer(timeout)
        return self.channel.comparisons().found

    def execute(self, argv: Sequence[str], image: bytes = b"", timeout: float = 60.0) -> Execution:
        """Run another program in the guest, as root, and wait for its end.

        ``image`` is a static executable that ``argv`` is handed to; without
        one ``argv[0]`` is a path in the guest, as ``/bin/busybox``. It is
        killed after ``timeout`` seconds, with its process group. Processes that it
        leaves in the background live on.

        Raises:
            BadInputError: the image or the arguments do not fit the channel.
            InfrastructureError: it cannot be run; the message says why.
            LostMachineError: the guest hangs, its executor is dead, or QEMU is gone.
        """
        self.channel.post_execution(argv, image, timeout)
        self.await_answer(timeout + _GRACE, total=True)
        return self.executed(argv[0])

    def executed(self, name: str) -> Execution:
        """Return the result of the posted program that is not a wire program, which is over.

        Raises:
            InfrastructureError: it could not be run; the message says why.
            LostMachineError: the guest's executor is dead.
        """
        status = self._status(Command.EXEC)
        if status in {Status.STUCK, Status.DIED}:
            raise LostMachineError(f"{name} cannot be run: the executor has {status.name}")
        header, channel = self.channel.header, self.channel
        length = min(header.output_length, OUTPUT_SIZE)
        return Execution(
            header.exec_status,
            bytes(channel.memory[OUTPUT : OUTPUT + length]),
            channel.log(),
            truncated=header.output_length > OUTPUT_SIZE,
            timed_out=status is Status.TIMEOUT,
        )
