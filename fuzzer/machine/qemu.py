# SPDX-License-Identifier: Apache-2.0
"""One QEMU process: its command line, QMP, its console, its end."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import signal
import socket
import subprocess
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from qemu.qmp import QMPClient, QMPError

from fuzzer.errors import InfrastructureError
from fuzzer.lifetime import deferring_signals, start
from fuzzer.machine.accel import Accel
from fuzzer.machine.channel import Channel
from fuzzer.machine.channel_layout import SIZE as CHANNEL_SIZE
from fuzzer.tools import run_tool, tool_error

QEMU = "qemu-system-x86_64"
QMP_TIMEOUT = 60.0
# A process whose thread waited longer for a CPU than it could run or sleep is starved.
_STARVED = 0.5
# The niceness of machines whose threads need not run at the same time.
_STANDS_BACK = 7
_MIB = 1 << 20
# Where /proc/PID/stat has the user and the system time, behind the name (proc(5)).
_CPU_TIMES = slice(11, 13)
# QEMU's message on SIGTERM and other signals, after which it exits with 0.
_ASKED_TO_END = b"terminating on signal"


class QemuKilledError(InfrastructureError):
    """A signal from outside ended QEMU. Start another one."""


@dataclass(frozen=True, slots=True)
class Hardware:
    """The guest's hardware; a template only fits the hardware it was made on."""

    ram_mib: int = 256
    cpus: int = 1
    icount: bool = False

    @property
    def is_exact(self) -> bool:
        """True if parallel parts of programs run as their waits say, the same each time."""
        return self.icount and self.cpus > 1

    @property
    def is_virtual(self) -> bool:
        """True if a wait takes no time, and programs have no schedule."""
        return self.icount and self.cpus == 1

    @property
    def niceness(self) -> int:
        """The niceness of QEMU: 0 where several vCPUs need a CPU each for calls to meet."""
        return 0 if self.cpus > 1 and not self.icount else _STANDS_BACK

    @property
    def channel_address(self) -> int:
        """Guest-physical address of the channel: right above the RAM."""
        return self.ram_mib * _MIB


VIRTUAL_CLOCK = Hardware(icount=True)
"""A machine whose clock counts instructions, and goes on at once to the next timer where the
guest has nothing to do: a wait takes no time."""


@functools.cache
def qemu_version() -> str:
    """Return QEMU's version line.

    Raises:
        InfrastructureError: QEMU is not installed.
    """
    done = run_tool([QEMU, "--version"], "starting a machine", timeout=20)
    return done.stdout.splitlines()[0] if done.stdout else f"unknown (exit {done.returncode})"


def command_line(
    hardware: Hardware,
    accel: Accel,
    *,
    ram: Path | None,
    ram_shared: bool,
    channel_fd: int,
) -> list[str]:
    """Return the QEMU arguments that define the machine, without I/O channels.

    The chardev ``bell``, which a device of it needs, is one of those.

    ``ram`` is the file behind guest memory (None: anonymous memory); with
    ``ram_shared`` the guest writes to it, without it the guest's writes stay
    in private copy-on-write pages.
    """
    size = f"size={hardware.ram_mib}M"
    if ram is None:
        backend = f"memory-backend-ram,id=ram,{size}"
    else:
        share = "on" if ram_shared else "off"
        # QEMU splits on commas; a doubled comma is a literal one.
        path = str(ram).replace(",", ",,")
        backend = f"memory-backend-file,id=ram,{size},mem-path={path},share={share}"
    channel = (
        f"memory-backend-file,id=channel,size={CHANNEL_SIZE // _MIB}M,"
        f"mem-path=/proc/self/fd/{channel_fd},share=on"
    )
    # The kernel is not told of the bell, which the executor finds: no driver is to take it.
    machine = "microvm,acpi=off,rtc=on,pit=on,pic=on,auto-kernel-cmdline=off"
    # A baseline CPU: no rdrand, no instructions that differ between hosts.
    cpu = "host" if accel is Accel.KVM else "qemu64"
    threads = "single" if hardware.icount else "multi"
    accel_option = "kvm" if accel is Accel.KVM else f"tcg,thread={threads}"
    arguments = [
        QEMU,
        *("-machine", machine),
        *("-accel", accel_option),
        *("-cpu", cpu),
        *("-m", f"{hardware.ram_mib + CHANNEL_SIZE // _MIB}M"),
        *("-smp", str(hardware.cpus)),
        *("-object", backend, "-numa", "node,memdev=ram"),
        *("-object", channel, "-numa", "node,memdev=channel"),
        *("-nodefaults", "-no-user-config", "-no-reboot"),
        *("-display", "none", "-nic", "none"),
        *("-rtc", "base=2020-01-01,clock=vm"),
        *("-device", "virtio-serial-device", "-device", "virtconsole,chardev=bell"),
        *("-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"),
    ]
    if hardware.icount:
        arguments += ["-icount", "shift=0,sleep=off"]
    return arguments


@dataclass(slots=True)
class _Resources:
    """The host's resources that a running QEMU holds, and their release.

    Apart from :class:`Qemu`, so that a finalizer can hold it: a machine that
    nobody closed is ended when it is collected, or when Python exits.
    """

    loop: asyncio.AbstractEventLoop
    qmp: QMPClient
    output: int
    record: int
    owner: int
    process: subprocess.Popen[bytes] | None = None
    console: socket.socket | None = None

    def release(self) -> None:
        if os.getpid() != self.owner:
            return  # a forked copy; the machine is not its own
        with deferring_signals():
            self._release()

    def _release(self) -> None:
        if self.process is not None:
            if self.process.poll() is None:
                self.process.kill()
            self.process.wait()
        # Operations that Ctrl-C left half done would be reported at length when they are collected.
        self.loop.set_exception_handler(lambda _loop, _context: None)
        with contextlib.suppress(QMPError, OSError, EOFError, TimeoutError, AssertionError):
            # qemu.qmp raises from its reader when QEMU is gone, and asserts in its
            # clean-up when a connection was cut short by Ctrl-C: both expected here.
            self.loop.run_until_complete(asyncio.wait_for(self.qmp.disconnect(), QMP_TIMEOUT))
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                self.loop.run_until_complete(task)
        self.loop.close()
        if self.console is not None:
            self.console.close()
        os.close(self.output)
        os.close(self.record)


class Qemu:
    """A running QEMU, ended with :meth:`kill` or with its parent, whichever is first.

    Its parent is the thread that made it: Linux counts that thread's end as
    the parent's.

    The guest's console goes to memory, where :meth:`console_text` finds it,
    until somebody wants :attr:`console`. A socket that nobody reads would
    stop the guest as soon as its kernel prints an oops.

    Raises:
        InfrastructureError: QEMU did not start, or does not answer on QMP.
    """

    def __init__(
        self,
        arguments: list[str],
        channel: Channel,
        *,
        interactive: bool = False,
        niceness: int = 0,
    ) -> None:
        self._began = time.monotonic()
        with deferring_signals():
            self._resources = _Resources(
                asyncio.new_event_loop(),
                QMPClient("pkvfuzz"),
                # Both in memory: what is said there must be readable when the disk is full.
                os.memfd_create("qemu-output", os.MFD_CLOEXEC),
                os.memfd_create("qemu-console", os.MFD_CLOEXEC),
                os.getpid(),
            )
            self._release = weakref.finalize(self, self._resources.release)
        try:
            self._start(arguments, channel, interactive, niceness)
        except BaseException:
            self.kill()
            raise

    def _start(
        self, arguments: list[str], channel: Channel, interactive: bool, niceness: int
    ) -> None:
        resources = self._resources
        with contextlib.ExitStack() as stack:
            ours, theirs = socket.socketpair()
            stack.callback(theirs.close)
            passed = [theirs.fileno(), channel.fd, channel.bell, resources.record]
            if interactive:
                resources.console, console = socket.socketpair()
                stack.callback(console.close)
                passed.append(console.fileno())
                backend = f"socket,id=console,fd={console.fileno()}"
            else:
                backend = f"file,id=console,path=/proc/self/fd/{resources.record}"
            full = [
                *arguments,
                *("-chardev", f"socket,id=qmp,fd={theirs.fileno()}"),
                *("-mon", "chardev=qmp,mode=control"),
                *("-chardev", backend, "-serial", "chardev:console"),
                *("-chardev", f"file,id=bell,path=/proc/self/fd/{channel.bell}"),
            ]
            try:
                # Ctrl-C is meant for a campaign, or gdb. QEMU would end by it, even if
                # told to ignore it.
                with deferring_signals():
                    resources.process = start(
                        full,
                        signal.SIGKILL,
                        own_group=True,
                        niceness=niceness,
                        stdin=subprocess.DEVNULL,
                        stdout=resources.output,
                        stderr=resources.output,
                        pass_fds=passed,
                    )
            except OSError as error:
                ours.close()
                raise tool_error(full[0], "starting a machine", error) from error
        try:
            self._run(resources.qmp.connect, ours)
        except (QMPError, OSError, TimeoutError) as error:
            ours.close()
            raise self.lost(f"QEMU does not answer ({type(error).__name__})") from error

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The process; it has ended once :meth:`kill` was called."""
        assert self._resources.process is not None
        return self._resources.process

    @property
    def console(self) -> socket.socket:
        """The guest's console, both ways.

        What was printed before the first use is there to be read. From then
        on it must be read, or given back with :meth:`record_console`.
        """
        if self._resources.console is None:
            ours, theirs = socket.socketpair()
            with theirs:
                theirs.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    theirs.send(os.pread(self._resources.record, 4096, 0))
                theirs.setblocking(True)
                self._resources.console = ours
                self.pass_fd("console", theirs.fileno())
                address = {"type": "fd", "data": {"str": "console"}}
                self._change_console("socket", {"addr": address, "server": False})
        return self._resources.console

    def record_console(self) -> None:
        """Send the console to memory again, and close the socket."""
        console = self._resources.console
        if console is None:
            return
        self._change_console("file", {"out": f"/proc/self/fd/{self._resources.record}"})
        self._resources.console = None
        console.close()

    def _change_console(self, kind: str, data: dict[str, object]) -> None:
        self.execute("chardev-change", id="console", backend={"type": kind, "data": data})

    def console_text(self) -> str:
        """Return what the guest printed on the recorded console."""
        if not self._release.alive:
            return ""
        size = os.fstat(self._resources.record).st_size
        return os.pread(self._resources.record, size, 0).decode(errors="replace")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.kill()

    def _run(self, function: Callable[..., Any], *arguments: object) -> Any:
        # A signal's exception in the middle of it would leave the connection
        # half read, and asyncio to say so at length.
        with deferring_signals():
            loop = self._resources.loop
            return loop.run_until_complete(asyncio.wait_for(function(*arguments), QMP_TIMEOUT))

    def execute(self, command: str, **arguments: object) -> Any:
        """Run one QMP command and return its result.

        Raises:
            InfrastructureError: it failed, or QEMU is gone.
        """
        named = {key.replace("_", "-"): value for key, value in arguments.items()}
        try:
            return self._run(self._resources.qmp.execute, command, named or None)
        except (QMPError, OSError, TimeoutError) as error:
            raise self.lost(f"QMP {command}: {error}") from error

    def pass_fd(self, name: str, fd: int) -> None:
        """Hand QEMU a file descriptor, to be used by ``name``."""
        self._resources.qmp.send_fd_scm(fd)
        self.execute("getfd", fdname=name)

    def wait_migration(self) -> None:
        """Wait until a started migration is complete."""
        for _ in range(20000):
            state = self.execute("query-migrate").get("status")
            if state == "completed":
                return
            if state in {"failed", "cancelled"}:
                raise self.lost(f"the migration {state}")
            self._run(asyncio.sleep, 0.001)
        raise self.lost("the migration did not end")

    def is_running(self) -> bool:
        """Tell whether the process is alive."""
        return self.process.poll() is None

    def cpu_seconds(self) -> float:
        """Return the CPU time that it has taken; 0 once it has ended."""
        try:
            fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return 0.0
        user, system = map(int, fields[_CPU_TIMES])
        return (user + system) / os.sysconf("SC_CLK_TCK")

    def starved_seconds(self) -> float:
        """Return how long it has waited for a CPU of the host; 0 if that is not known.

        Of its threads the one that waited longest counts: it is a CPU of the guest
        (Documentation/scheduler/sched-stats.rst).
        """
        waited = [0]
        for task in Path(f"/proc/{self.process.pid}/task").glob("[0-9]*"):
            with contextlib.suppress(OSError, ValueError, IndexError):
                waited.append(int((task / "schedstat").read_text().split()[1]))
        return max(waited) / 1e9

    def clock(self) -> float:
        """Return a time in seconds that stands still while QEMU waits for a CPU of the host."""
        return time.monotonic() - self.starved_seconds()

    def is_starved(self) -> bool:
        """Tell whether it has waited for the host for most of the time since its start."""
        return self.starved_seconds() > _STARVED * (time.monotonic() - self._began)

    def was_left(self) -> bool:
        """Tell whether the guest ended the machine itself: it was reset, and not QEMU killed."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            # Its sockets close a moment before it can be waited for.
            self.process.wait(0.2)
        # With -no-reboot it exits with 0, as it does after a signal that asks it to end.
        ended = self._release.alive and self.process.poll() == 0
        return ended and _ASKED_TO_END not in self.output()

    def lost(self, what: str) -> InfrastructureError:
        """Kill QEMU and return an error that says what it printed."""
        printed = self._printed()
        with contextlib.suppress(subprocess.TimeoutExpired):
            # Its sockets close a moment before it can be waited for.
            self.process.wait(0.2)
        code = self.process.poll()
        self.kill()
        if code is not None and code < 0:
            return QemuKilledError(f"{what}: QEMU was killed by signal {-code}")
        state = "" if code is None else f" (exit status {code})"
        detail = f": {printed}" if printed else ""
        return InfrastructureError(f"{what}{state}{detail}. Try: pkvfuzz doctor")

    def _printed(self) -> str:
        if not self._release.alive:
            return ""
        text = self.output().decode(errors="replace")
        return " / ".join(line for line in text.splitlines()[-4:] if line)

    def output_size(self) -> int:
        """Return how many bytes QEMU itself has printed, its log included."""
        return os.fstat(self._resources.output).st_size

    def output(self, start: int = 0) -> bytes:
        """Return what QEMU itself has printed, from byte ``start`` on."""
        return os.pread(self._resources.output, self.output_size() - start, start)

    def kill(self) -> None:
        """End QEMU at once and release everything. May be called again."""
        self._release()
