# SPDX-License-Identifier: Apache-2.0
"""Reproducers in C: compiled as their first lines say, and run in a guest on their own."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from fuzzer.crash.leaks import find_leak, forget_leaks
from fuzzer.crash.observe import listener, silent_guest
from fuzzer.driver.provision import Guest
from fuzzer.machine.channel_layout import Command
from fuzzer.machine.machine import LostMachineError, Machine
from fuzzer.splat.find import find_splat
from fuzzer.splat.kmsg import console_lines

_MODULE = "/tmp/driver.ko"
_TIMEOUT = 50.0
_BUILD = "cc -Wall -Wextra -static -pthread repro.c -o repro"


def compiled(directory: Path) -> bytes:
    """Return what the ``repro.c`` of a directory becomes; a warning is an error."""
    assert f" * Build: {_BUILD}\n" in (directory / "repro.c").read_text()
    command = [*_BUILD.split(), "-Werror"]
    done = subprocess.run(
        command, cwd=directory, capture_output=True, text=True, timeout=60, check=False
    )
    assert not done.returncode, done.stderr
    return (directory / "repro").read_bytes()


def _put_module(machine: Machine, image: bytes) -> None:
    """Put a file into the guest: it is carried behind the shell that writes it there."""
    found = shutil.which("busybox")
    assert found
    script = f"tail -c {len(image)} /proc/$$/exe > {_MODULE}"
    done = machine.execute(["sh", "-c", script], Path(found).read_bytes() + image)
    assert done.status == 0, done.output


def _execute(guest: Guest, machine: Machine, binary: bytes) -> bytes:
    """Run it and return the kernel's log."""
    arguments = ["repro"]
    if b"MODULE.ko" in binary:
        _put_module(machine, guest.driver.image())
        arguments.append(_MODULE)
    machine.channel.post_execution(arguments, binary, _TIMEOUT)
    # A program that hangs need not be waited for once the kernel has said so.
    machine.await_answer(_TIMEOUT + 10, total=True, is_lost=listener(machine, hurried=True))
    return machine.executed("repro").log


def title_of(guest: Guest, binary: bytes) -> str | None:
    """Return the title of what a program shows on a fresh machine."""
    with guest.restore() as machine:
        try:
            log = _execute(guest, machine, binary)
            if find_splat(console_lines(log)) is None:
                machine.command(Command.PING)
                log += machine.channel.log()
            splat = find_splat(console_lines(log))
        except LostMachineError:
            splat = silent_guest(machine).splat
        return splat.title if splat else None


def leak_of(guest: Guest, binary: bytes) -> str | None:
    """Return the title of what a program loses on a fresh machine with kmemleak."""
    with guest.restore() as machine:
        forget_leaks(machine)
        assert find_splat(console_lines(_execute(guest, machine, binary))) is None
        leak = find_leak(machine, guest.driver.frame_marks())
        return leak.title if leak else None
