# SPDX-License-Identifier: Apache-2.0
"""One QEMU process: its command line, QMP, its console, its end."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import functools
import os
import shutil
import signal
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from qemu.qmp import QMPClient, QMPError

from fuzzer.errors import InfrastructureError
from fuzzer.machine.accel import Accel
from fuzzer.machine.channel import SIZE as CHANNEL_SIZE
from fuzzer.machine.channel import Channel

QEMU = "qemu-system-x86_64"
QMP_TIMEOUT = 20.0
_PR_SET_PDEATHSIG = 1
_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Hardware:
    """What the guest sees. A template only fits the hardware it was made on."""

    ram_mib: int = 256
    cpus: int = 1
    icount: bool = False

    @property
    def channel_address(self) -> int:
        """Guest-physical address of the channel: right above the RAM."""
        return self.ram_mib * _MIB


@functools.cache
def qemu_version() -> str:
    """Return QEMU's version line.

    Raises:
        InfrastructureError: QEMU is not installed.
    """
    path = shutil.which(QEMU)
    if path is None:
        raise InfrastructureError(
            f"{QEMU} is not on PATH. Install it: apt-get install qemu-system-x86"
        )
    done = subprocess.run(
        [path, "--version"], capture_output=True, text=True, timeout=20, check=False
    )
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
    # A baseline CPU: no rdrand, no instructions that differ between hosts.
    cpu = "host" if accel is Accel.KVM else "qemu64"
    accel_option = "kvm" if accel is Accel.KVM else ("tcg,thread=single" if hardware.icount else "tcg,thread=multi")
    arguments = [
        QEMU,
        *("-machine", "microvm,acpi=off,rtc=on,pit=on,pic=on"),
        *("-accel", accel_option),
        *("-cpu", cpu),
        *("-m", f"{hardware.ram_mib + CHANNEL_SIZE // _MIB}M"),
        *("-smp", str(hardware.cpus)),
        *("-object", backend, "-numa", "node,memdev=ram"),
        *("-object", channel, "-numa", "node,memdev=channel"),
        *("-nodefaults", "-no-user-config", "-no-reboot"),
        *("-display", "none", "-nic", "none"),
        *("-rtc", "base=2020-01-01,clock=vm"),
        *("-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"),
    ]
    if hardware.icount:
        arguments += ["-icount", "shift=0,sleep=off"]
    return arguments


def _die_with_parent(parent: int) -> None:
    # Runs in the child between fork and exec: keep it to system calls.
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)
    # Ctrl-C is for the campaign to act on, not for its machines to die of.
    signal.signal(signal.SIGINT, signal.SIG_IGN)


class Qemu:
    """A running QEMU, ended with :meth:`kill` or with its parent, whichever is first.

    Raises:
        InfrastructureError: QEMU did not start, or does not answer on QMP.
    """

    def __init__(self, arguments: list[str], channel: Channel) -> None:
        self._loop = asyncio.new_event_loop()
        self._qmp = QMPClient("pkvfuzz")
        # In memory: what QEMU says must be readable when the disk is full.
        self._stderr: IO[bytes] = os.fdopen(os.memfd_create("qemu-output"), "w+b")
        ours, theirs = socket.socketpair()
        self.console, console_theirs = socket.socketpair()
        qmp_fd, console_fd = theirs.fileno(), console_theirs.fileno()
        full = [
            *arguments,
            *("-chardev", f"socket,id=qmp,fd={qmp_fd}", "-mon", "chardev=qmp,mode=control"),
            *("-chardev", f"socket,id=console,fd={console_fd}", "-serial", "chardev:console"),
        ]
        try:
            self.process = subprocess.Popen(
                full,
                stdin=subprocess.DEVNULL,
                stdout=self._stderr,
                stderr=self._stderr,
                pass_fds=(qmp_fd, console_fd, channel.fd),
                preexec_fn=functools.partial(_die_with_parent, os.getpid()),
            )
        except OSError as error:
            ours.close()
            raise InfrastructureError(
                f"starting {QEMU}: {error.strerror}. Install it: apt-get install qemu-system-x86"
            ) from error
        finally:
            theirs.close()
            console_theirs.close()
        try:
            self._run(self._qmp.connect(ours))
        except (QMPError, OSError, TimeoutError) as error:
            ours.close()
            raise self.lost(f"QEMU does not answer ({type(error).__name__})") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.kill()

    def _run(self, awaitable: Any) -> Any:
        return self._loop.run_until_complete(asyncio.wait_for(awaitable, QMP_TIMEOUT))

    def execute(self, command: str, **arguments: object) -> Any:
        """Run one QMP command and return its result.

        Raises:
            InfrastructureError: it failed, or QEMU is gone.
        """
        named = {key.replace("_", "-"): value for key, value in arguments.items()}
        try:
            return self._run(self._qmp.execute(command, named or None))
        except (QMPError, OSError, TimeoutError) as error:
            raise self.lost(f"QMP {command}: {error}") from error

    def pass_fd(self, name: str, fd: int) -> None:
        """Hand QEMU a file descriptor, to be used by ``name``."""
        self._qmp.send_fd_scm(fd)
        self.execute("getfd", fdname=name)

    def wait_migration(self) -> None:
        """Wait until a started migration is complete."""
        for _ in range(20000):
            state = self.execute("query-migrate").get("status")
            if state == "completed":
                return
            if state in {"failed", "cancelled"}:
                raise self.lost(f"the migration {state}")
            self._loop.run_until_complete(asyncio.sleep(0.001))
        raise self.lost("the migration did not end")

    def is_running(self) -> bool:
        """Tell whether the process is alive."""
        return self.process.poll() is None

    def lost(self, what: str) -> InfrastructureError:
        """Kill QEMU and return an error that says what it printed."""
        printed = self._printed()
        code = self.process.poll()
        self.kill()
        state = "" if code is None else f" (exit status {code})"
        detail = f": {printed}" if printed else ""
        return InfrastructureError(f"{what}{state}{detail}. Try: pkvfuzz doctor")

    def _printed(self) -> str:
        if self._stderr.closed:
            return ""
        self._stderr.seek(0)
        text = self._stderr.read().decode(errors="replace")
        return " / ".join(line for line in text.splitlines()[-4:] if line)

    def kill(self) -> None:
        """End QEMU at once and release everything. May be called again."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        if not self._loop.is_closed():
            with contextlib.suppress(QMPError, OSError, EOFError, TimeoutError):
                # qemu.qmp raises from its reader when QEMU is gone: expected here.
                self._run(self._qmp.disconnect())
            for task in asyncio.all_tasks(self._loop):
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError, Exception):
                    self._loop.run_until_complete(task)
            self._loop.close()
        self.console.close()
        self._stderr.close()
