# SPDX-License-Identifier: Apache-2.0
"""A machine as a test of a driver sees it: calls, and what the kernel reported."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import NoReturn, Self, TypeAlias

from fuzzer.crash.observe import PROGRAM_TIMEOUT, is_killed, listener, outcome_of, silent_guest
from fuzzer.crash.outcome import Outcome, log_lines
from fuzzer.driver.provision import Guest
from fuzzer.errors import BadInputError, InfrastructureError
from fuzzer.machine.channel import CallResult
from fuzzer.machine.channel_layout import FLAG_STAY, Status
from fuzzer.machine.machine import Execution, LostMachineError, Machine, Run
from fuzzer.program.ops import FLAG_VALUE, Op
from fuzzer.program.program import MAX_PAYLOAD, N_FILES, Call, Program, at_position
from fuzzer.program.text import parse_program
from fuzzer.program.wire import encode
from fuzzer.splat.find import find_splat
from fuzzer.splat.splat import Splat
from fuzzer.target.calls import IoctlSpec
from fuzzer.target.layout import StructLayout
from fuzzer.testing.members import pack_members

IoctlArgument: TypeAlias = int | bytes | Mapping[str, object] | None
"""The argument of an ioctl: a value, the bytes of a buffer, or the members of its struct."""

# Processes that the executor has lost cannot make calls any more.
_OVER = (Status.STUCK, Status.DIED)


class MachineOverError(InfrastructureError):
    """The guest can make no more calls: the kernel died, or a call does not return."""


@dataclass(frozen=True, slots=True)
class Reply:
    """The result of an ioctl, and its buffer afterwards: ``reply["member"]`` is a member of it.

    Numbers are integers, other members bytes.
    """

    ret: int
    data: bytes
    layout: StructLayout | None = None

    def __getitem__(self, name: str) -> int | bytes:
        member = self.layout.member(name) if self.layout else None
        if member is None:
            known = ", ".join(each.name for each in self.layout.every()) if self.layout else ""
            raise KeyError(f"no member {name!r}; there are: {known or 'none'}")
        if member.kind.value == "bytes":
            end = member.offset + member.size if member.count else len(self.data)
            return self.data[member.offset : end]
        return member.read(self.data)


class DriverFile:
    """An open file of the driver. Its calls raise OSError as those of :mod:`os` do."""

    def __init__(self, machine: DriverMachine, slot: int, path: str) -> None:
        self._machine = machine
        self._slot = slot
        self.path = path
        self.closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if not self.closed and not self._machine.over:
            self.close()

    def read(self, count: int) -> bytes:
        """Read at most so many bytes."""
        return self._call(Op.READ, "read", arg=count).output

    def pread(self, count: int, offset: int) -> bytes:
        """Read at most so many bytes at an offset."""
        call = at_position(Call(Op.PREAD, self._slot, arg=count), offset)
        return self._made(call, "pread").output

    def write(self, data: bytes) -> int:
        """Write bytes; return how many were taken."""
        return self._call(Op.WRITE, "write", data=_payload(data)).ret

    def pwrite(self, data: bytes, offset: int) -> int:
        """Write bytes at an offset; return how many were taken."""
        call = at_position(Call(Op.PWRITE, self._slot, data=_payload(data)), offset)
        return self._made(call, "pwrite").ret

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Change the offset; return it."""
        return self._call(Op.LSEEK, "lseek", arg=offset & (1 << 64) - 1, cmd=whence).ret

    def poll(self, events: int) -> int:
        """Return which of these events there are; never waits."""
        return self._call(Op.POLL, "poll", cmd=events).ret

    def ioctl(self, request: str | int, argument: IoctlArgument = None) -> Reply:
        """Make an ioctl, by its name in the description or by its number.

        A mapping has members of the struct that the description says its argument is; others are
        zero. Bytes for a pointer are put into a buffer that it points to.
        """
        number, spec = self._machine.request(request)
        layout = spec.struct if spec else None
        call = Call(Op.IOCTL, self._slot, FLAG_VALUE, number)
        if isinstance(argument, int):
            call = Call(Op.IOCTL, self._slot, FLAG_VALUE, number, argument & (1 << 64) - 1)
        elif isinstance(argument, bytes | bytearray):
            call = Call(Op.IOCTL, self._slot, cmd=number, data=_payload(bytes(argument)))
        elif argument is not None:
            if layout is None:
                raise BadInputError(f"ioctl {request}: its argument is no struct; give bytes")
            try:
                data, fixups = pack_members(layout, argument)
            except ValueError as error:
                raise BadInputError(f"ioctl {request}: {error}") from None
            call = Call(Op.IOCTL, self._slot, cmd=number, data=data, fixups=fixups)
        result = self._made(call, f"ioctl {request}")
        return Reply(result.ret, result.output, layout)

    def close(self) -> None:
        """Close it."""
        self._call(Op.CLOSE, "close")
        self.closed = True

    def _call(
        self, op: Op, what: str, *, arg: int = 0, cmd: int = 0, data: bytes = b""
    ) -> CallResult:
        return self._made(Call(op, self._slot, cmd=cmd, arg=arg, data=data), what)

    def _made(self, call: Call, what: str) -> CallResult:
        if self.closed:
            raise ValueError(f"{self.path} is closed")
        result = self._machine.make(call)
        if result.error:
            raise OSError(result.error, os.strerror(result.error), f"{what} of {self.path}")
        return result


def _payload(data: bytes) -> bytes:
    if len(data) > MAX_PAYLOAD:
        raise BadInputError(f"{len(data)} bytes for one call; {MAX_PAYLOAD} are allowed")
    return data


class DriverMachine:
    """A fresh machine with the driver loaded, for one test.

    What the driver keeps stays from call to call: nothing is reset. ``log`` is all that the
    kernel printed, as raw kmsg records; ``vm`` is the machine itself.
    """

    def __init__(self, guest: Guest) -> None:
        self.guest = guest
        self.vm: Machine = guest.restore()
        self.log = b""
        self.over = False
        self._heard = 0
        self._unasked = True
        self._outcome: Outcome | None = None
        self._files: list[DriverFile | None] = [None] * N_FILES
        header = self.vm.channel.header
        header.reset_length = header.reset_reload = 0

    def open(self, path: str | None = None, flags: int = os.O_RDWR) -> DriverFile:
        """Open a file of the driver, the first of its description if no other is named."""
        devices = [device.path for device in self.guest.target.devices]
        path = devices[0] if path is None else path
        if path not in devices:
            raise BadInputError(f"no device {path}; the description's are {', '.join(devices)}")
        free = [slot for slot, file in enumerate(self._files) if file is None or file.closed]
        if not free:
            raise BadInputError(f"{N_FILES} files are open, and no more can be")
        call = Call(Op.OPEN, free[0], cmd=flags, arg=devices.index(path))
        result = self.make(call)
        if result.error:
            raise OSError(result.error, os.strerror(result.error), path)
        self._files[free[0]] = file = DriverFile(self, free[0], path)
        return file

    def run(self, text: str) -> list[CallResult]:
        """Run a program, given as text; return what each of its calls returned.

        Its file f0 is the first device, open. All files are closed when it ends, also those
        that :meth:`open` opened.
        """
        program = parse_program(text, self.guest.target, "program")
        results = self._run(program, stays=False)
        self._forget_files()
        return results

    def shell(self, script: str, *, check: bool = True) -> str:
        """Run a shell script in the guest, as root, and return what it printed.

        With ``check``, an exit status other than 0 is an error.
        """
        done = self.execute(["/bin/busybox", "sh", "-c", script])
        printed = done.output.decode(errors="replace")
        if check and done.status:
            raise RuntimeError(f"the script ended with status {done.status}: {printed.strip()}")
        return printed

    def execute(self, argv: Sequence[str], image: bytes = b"", timeout: float = 60.0) -> Execution:
        """Run another program in the guest, as root, and wait for its end.

        ``image`` is a static executable that ``argv`` is handed to; without one ``argv[0]`` is
        a path in the guest. It is killed after ``timeout`` seconds.
        """
        self._check_usable()
        try:
            done = self.vm.execute(argv, image, timeout)
        except LostMachineError:
            self._lost()
        self.log += done.log
        return done

    def report(self) -> Splat | None:
        """Return the first report that the kernel made since this was last asked; None: no report.

        A report that was asked for does not fail the test.
        """
        if self._unasked and not self.over:
            self._finish()
        self._unasked = False
        found = self._found()
        self._heard = len(self.log)
        self._outcome = None
        return found

    def _found(self) -> Splat | None:
        if self._outcome is not None:
            return self._outcome.splat
        return find_splat(log_lines(self.log[self._heard :]))

    def _finish(self) -> None:
        """Close all files, and wait a moment for what the kernel may still say."""
        try:
            outcome = outcome_of(self.vm, partial(self._raw_run, ()), late=True)
        except LostMachineError:
            self.over = True
            raise
        self._forget_files()
        self.log += outcome.log
        if outcome.lost:
            self.over, self._outcome = True, outcome

    def log_lines(self) -> list[str]:
        """Return all that the kernel printed, as the lines of a console."""
        return log_lines(self.log)

    def close(self) -> None:
        """End the machine."""
        self.vm.close()

    def request(self, name: str | int) -> tuple[int, IoctlSpec | None]:
        """Return the number of an ioctl and what the description says of it."""
        target = self.guest.target
        specs = [spec for spec in target.calls if isinstance(spec, IoctlSpec)]
        number = target.constants.get(name) if isinstance(name, str) else name
        spec = next((each for each in specs if name in (each.name, each.number)), None)
        if spec is not None:
            number = spec.number
        if number is None:
            known = ", ".join(each.name for each in specs if each.name)
            raise BadInputError(f"no ioctl {name}; the description's are: {known or 'none'}")
        return number, spec

    def make(self, call: Call) -> CallResult:
        """Make one call; files stay open."""
        return self._run((call,), stays=True)[0]

    def _run(self, program: Program, *, stays: bool) -> list[CallResult]:
        self._check_usable()
        try:
            run = self._raw_run(program, stays=stays)
        except LostMachineError:
            self._lost()
        self.log += run.log
        if run.status in _OVER:
            self.over = True
            self._outcome = outcome_of(self.vm, lambda: run, late=True)
            self.log += self._outcome.log.removeprefix(run.log)
            raise MachineOverError(self._why())
        if run.status is Status.ERROR:
            message = self.vm.channel.header.message.decode(errors="replace")
            raise InfrastructureError(f"the guest cannot run the program: {message}")
        return run.results

    def _raw_run(self, program: Program, *, stays: bool = False) -> Run:
        header = self.vm.channel.header
        header.flags = header.flags & ~FLAG_STAY | (FLAG_STAY if stays else 0)
        return self.vm.run(encode(program), PROGRAM_TIMEOUT, listener(self.vm))

    def _lost(self) -> NoReturn:
        if is_killed(self.vm):
            raise InfrastructureError("QEMU was killed")
        self.over = True
        self._outcome = silent_guest(self.vm)
        self.log += self._outcome.log
        raise MachineOverError(self._why())

    def _why(self) -> str:
        title = self._outcome.splat.title if self._outcome and self._outcome.splat else "it died"
        return f"the guest can make no more calls: {title}"

    def _check_usable(self) -> None:
        self._unasked = True
        if self.over:
            raise MachineOverError("the guest can make no more calls: its kernel died before")

    def _forget_files(self) -> None:
        for file in self._files:
            if file is not None:
                file.closed = True
