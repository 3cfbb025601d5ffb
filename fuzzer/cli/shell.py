# SPDX-License-Identifier: Apache-2.0
"""``pkvfuzz shell``: the guest's console, with the driver loaded."""

from __future__ import annotations

import argparse
import os
import select
import socket
import sys
import termios
import tty

from fuzzer.cli.setting import subject_of
from fuzzer.machine.channel import Command
from fuzzer.machine.kernel import Flavour, ensure_kernel
from fuzzer.machine.machine import Machine
from fuzzer.progress import say

_ESCAPE = b"\x1d"  # Ctrl-]


def command(options: argparse.Namespace) -> int:
    """Connect the terminal to a shell in a fresh guest until it ends or Ctrl-] is typed."""
    subject = subject_of(options)
    guest = subject.guest(ensure_kernel(Flavour(options.flavour), subject.kernels))
    with guest.restore() as machine:
        machine.command(Command.SHELL)
        say(f"{guest.target.device} is there; Ctrl-] or 'poweroff -f' leaves")
        _converse(machine)
    return 0


def _converse(machine: Machine) -> None:
    console: socket.socket = machine.qemu.console
    console.setblocking(False)
    interactive = sys.stdin.isatty()
    stdin, stdout = sys.stdin.fileno(), sys.stdout.fileno()
    saved = termios.tcgetattr(stdin) if interactive else None
    sources: list[int] = [stdin, console.fileno()]
    try:
        if interactive:
            tty.setraw(stdin)
        while machine.qemu.is_running():
            # A pipe on standard input has ended: give the guest a moment to answer.
            timeout = 0.5 if stdin in sources else 1.0
            ready, _, _ = select.select(sources, [], [], timeout)
            if console.fileno() in ready:
                data = console.recv(4096)
                if not data:
                    break
                os.write(stdout, data)
            if stdin in ready:
                data = os.read(stdin, 1024)
                if _ESCAPE in data:
                    break
                if data:
                    console.sendall(data.replace(b"\n", b"\r") if not interactive else data)
                else:
                    sources.remove(stdin)
            if not ready and stdin not in sources:
                break
    finally:
        if saved:
            termios.tcsetattr(stdin, termios.TCSADRAIN, saved)
    print()
