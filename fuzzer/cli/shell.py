# SPDX-License-Identifier: Apache-2.0
"""``pkvfuzz shell``: a guest with the driver loaded, for people and for scripts."""

from __future__ import annotations

import argparse
import contextlib
import os
import select
import shlex
import sys
import termios
import tty
from pathlib import Path

from fuzzer.campaign.subject import Subject
from fuzzer.cli.given import open_crash
from fuzzer.cli.options import add_kernel, add_target_options
from fuzzer.cli.setting import subject_of
from fuzzer.crash.leaks import LEAK
from fuzzer.crash.outcome import log_lines
from fuzzer.driver.provision import Guest
from fuzzer.errors import BadInputError, ExitCode
from fuzzer.kernel.kernel import Flavour, ensure_kernel
from fuzzer.machine.channel_layout import Command
from fuzzer.machine.files import GUEST_TMP, HostFile, parse_file, put_bytes, put_files
from fuzzer.machine.machine import LostMachineError, Machine
from fuzzer.machine.session import Session
from fuzzer.progress import say, show
from fuzzer.splat.find import find_splat
from fuzzer.splat.kmsg import console_lines

_ESCAPE = b"\x1d"  # Ctrl-]
_MOST_TYPED = 1024
_READ = 1 << 16
# A guest that was told to power off stays as it is after that.
_HALTED = b"System halted"
_LINE = 2 * _READ
# What is looked through for a report if the guest can tell of none itself.
_MOST_KEPT = 4 << 20
# Seconds for what the kernel says after a command, and between two looks at the guest.
_LAST_WORDS = 0.3
_LOOK, _REST = 0.02, 0.5


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what ``shell`` takes."""
    parser.add_argument(
        "words",
        nargs="*",
        metavar="COMMAND",
        help="run this in the guest's /tmp, with standard input if that is no terminal, and end; "
        "behind -- with its arguments [a shell]",
    )
    parser.add_argument(
        "--put",
        action="append",
        default=[],
        metavar="LOCAL[:REMOTE]",
        help="put a file into the guest first, as /tmp/LOCAL if nothing else is said; may be "
        "repeated",
    )
    parser.add_argument(
        "--crash",
        type=Path,
        metavar="DIR",
        help="the driver, kernel and machine that this stored crash shows on",
    )
    add_kernel(parser, "the one that --crash was judged on, else full")
    add_target_options(parser)


def command(options: argparse.Namespace) -> int:
    """Run a command, standard input's commands or a terminal's in a fresh guest."""
    files = [parse_file(text) for text in options.put]
    subject, guest = _guest(options)
    with guest.restore() as machine:
        _furnish(machine, guest, files)
        _tell_loaded(subject, guest)
        if options.words or not sys.stdin.isatty():
            return _run(machine, options.words)
        machine.command(Command.SHELL)
        say("Ctrl-] or 'poweroff -f' leaves")
        _converse(machine)
    return int(ExitCode.NOTHING_FOUND)


def _guest(options: argparse.Namespace) -> tuple[Subject, Guest]:
    """Return the subject and its guest, of a crash the one that it shows on."""
    if options.crash is None:
        subject = subject_of(options)
        flavour = Flavour(options.kernel or Flavour.FULL)
        return subject, subject.guest(ensure_kernel(flavour, subject.kernels))
    if not options.crash.is_dir():
        raise BadInputError(f"--crash {options.crash}: no such directory")
    given = open_crash(options)
    setups = given.setups()
    place = setups.place(given.kind, given.reproducer.history, given.reproducer.program)
    if place.exact:
        # A schedule is nothing that a program of its own could keep to.
        return given.subject, setups.racing
    if given.kind == LEAK:
        say("kmemleak is on in this guest")
    return given.subject, place.guest


def _furnish(machine: Machine, guest: Guest, files: list[HostFile]) -> None:
    """Put the driver's module and the user's files into the guest."""
    if image := guest.driver.image():
        put_bytes(machine, _module_path(guest), image)
    put_files(machine, files)
    for file in files:
        say(f"put {file.local} into the guest as {file.remote}")


def _module_path(guest: Guest) -> str:
    return f"{GUEST_TMP}/{guest.driver.name}.ko"


def _tell_loaded(subject: Subject, guest: Guest) -> None:
    """Say which module is loaded in the guest, on which kernel."""
    module = subject.target.module
    name = guest.driver.name
    what = f"{name} with {subject.bug.name}" if subject.bug else name
    if module.params:
        what += f" ({module.params})"
    kernel = f"the {guest.kernel.flavour} kernel {guest.kernel.release()}"
    if guest.driver.parts:
        say(f"{what} is a part of {kernel}, {guest.target.device} is there")
    elif module.fails:
        say(f"{what} is not loaded, as its init function fails: {_module_path(guest)}, on {kernel}")
    else:
        say(
            f"{what} is loaded from {_module_path(guest)} on {kernel}, "
            f"{guest.target.device} is there"
        )


def _run(machine: Machine, words: list[str]) -> int:
    """Run a command, or what standard input has; returns 1 if the kernel reported something."""
    # A terminal's input is for a shell of its own.
    has_input = not sys.stdin.isatty()
    what = shlex.join(words) if words else "the commands of standard input"
    say(f"running {what}")
    session = Session(machine, words, has_input=has_input)
    shown = _pass_through(machine, session, sys.stdin.fileno() if has_input else None)
    log = session.log
    if session.status is None:
        show()
    else:
        with contextlib.suppress(LostMachineError):
            log = session.ended_log()
    # A guest that died says why on its console.
    splat = find_splat(console_lines(log)) or find_splat(log_lines(shown))
    ended = "the guest ended" if session.status is None else f"exit status {session.status}"
    said = f"the kernel reported: {splat.title}" if splat else "the kernel reported nothing"
    say(f"{ended}; {said}")
    return int(ExitCode.FOUND if splat else ExitCode.NOTHING_FOUND)


def _pass_through(machine: Machine, session: Session, stdin: int | None) -> bytes:
    """Connect a command with standard input and output until both it and its output ended.

    Returns the beginning of what was on the console.
    """
    console = machine.qemu.console
    console.setblocking(False)
    stdout = sys.stdout.fileno()
    kept = said = b""
    while machine.qemu.is_running():
        busy = session.push()
        sources = [console.fileno()]
        if stdin is not None and session.has_room:
            sources.append(stdin)
        timeout = _LAST_WORDS if session.status is not None else _LOOK if busy else _REST
        ready, _, _ = select.select(sources, [], [], timeout)
        if console.fileno() in ready:
            data = console.recv(_READ)
            if not data:
                break
            kept += data[: _MOST_KEPT - len(kept)]
            _write(stdout, session.output(data))
            said = (said + data)[-_LINE:]
            if _HALTED in said:
                break
        elif session.status is not None:
            break
        if stdin in ready and session.status is None:
            if data := os.read(stdin, _READ):
                session.feed(data)
            else:
                session.end_input()
    _write(stdout, session.rest())
    return kept


def _write(stdout: int, data: bytes) -> None:
    while data:
        data = data[os.write(stdout, data) :]


def _converse(machine: Machine) -> None:
    """Connect the terminal to the console until the guest ends or Ctrl-] is typed."""
    console = machine.qemu.console
    console.setblocking(False)
    stdin, stdout = sys.stdin.fileno(), sys.stdout.fileno()
    saved = termios.tcgetattr(stdin)
    typed = said = b""
    try:
        tty.setraw(stdin)
        while machine.qemu.is_running():
            # The console takes as much of a pasted text as it can.
            sources = [console.fileno()] if typed else [console.fileno(), stdin]
            sinks = [console.fileno()] if typed else []
            ready, writable, _ = select.select(sources, sinks, [], _REST)
            if console.fileno() in ready:
                data = console.recv(_READ)
                if not data:
                    break
                _write(stdout, data)
                said = (said + data)[-_LINE:]
                if _HALTED in said:
                    break
            if stdin in ready:
                typed = os.read(stdin, _MOST_TYPED)
                if not typed or _ESCAPE in typed:
                    break
            if writable:
                with contextlib.suppress(BlockingIOError):
                    typed = typed[console.send(typed) :]
    finally:
        termios.tcsetattr(stdin, termios.TCSADRAIN, saved)
    show()
