# SPDX-License-Identifier: Apache-2.0
"""Debugging: a machine stopped right before the program that crashes it, for gdb."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from fuzzer.crash.dedup import Wanted
from fuzzer.crash.series import SeriesExecutor, post_programs
from fuzzer.crash.testbeds import Place
from fuzzer.driver.blocks import read_functions
from fuzzer.driver.gdbstub import Stub, gdb_symbols
from fuzzer.driver.provision import Guest
from fuzzer.errors import BadInputError
from fuzzer.machine.machine import Machine
from fuzzer.program.preload import preload_of
from fuzzer.splat.frames import plain_name

_SOCKET, _SCRIPT = "gdb.sock", "commands"


@dataclass(frozen=True, slots=True)
class DebugSession:
    """A machine that waits for gdb, with the script for ``gdb -x`` and the stub.

    gdb's script sets a breakpoint at ``function`` and lets the program begin; without a
    function, gdb stops before the program. ``repeats`` tells that the program runs several
    times, until the kernel reports something.
    """

    machine: Machine
    stub: Stub
    script: Path
    function: str | None
    repeats: bool


@contextlib.contextmanager
def debugged(
    place: Place,
    history: Sequence[bytes],
    program: bytes,
    function: str | None,
    directory: Path,
    *,
    wanted: Wanted | None = None,
) -> Iterator[DebugSession]:
    """Restore a machine and stop it before a program, with gdb's stub and script in ``directory``.

    The history has run by then, except on an exact machine. gdb is to stop at ``function``.

    Raises:
        BadInputError: an earlier program already shows the ``wanted`` bug, or any if None.
    """
    with _restored(place, history, program, wanted) as machine:
        symbols = gdb_symbols(place.guest, machine)
        stub = Stub(machine, directory / _SOCKET)
        if not place.exact:
            _post(machine, program, place.tries)
        known = function if function and is_known(function, place.guest) else None
        script = directory / _SCRIPT
        commands = [*symbols, f"target remote {directory / _SOCKET}", *_commands(known)]
        # Output of the script itself must not wait for a key.
        script.write_text("".join(f"with pagination off -- {each}\n" for each in commands))
        yield DebugSession(machine, stub, script, known, place.tries > 1)


def is_known(function: str, guest: Guest) -> bool:
    """Tell whether the driver or the kernel has a function of that name."""
    objects = dict.fromkeys([guest.driver.object, guest.kernel.directory / "vmlinux"])
    return any(function in map(plain_name, read_functions(path)) for path in objects)


def _commands(function: str | None) -> list[str]:
    # Hardware breakpoints: TCG has any number of them, and KVM does not change the guest's code.
    return [f"hbreak {function}", "continue"] if function else []


@contextlib.contextmanager
def _restored(
    place: Place, history: Sequence[bytes], program: bytes, wanted: Wanted | None
) -> Iterator[Machine]:
    if place.exact:
        with place.guest.start(
            lambda channel: post_programs(channel, history, program), paused=True
        ) as machine:
            yield machine
        return
    # If the program's first calls load the module, they run now, so that gdb knows its address.
    preload = preload_of(program)
    with SeriesExecutor(place.guest.restore, wanted) as executor:
        _run_before(executor, history)
        if preload and not _loads(executor, preload):
            executor.renew()
            _run_before(executor, history)
        yield executor.machine


def _run_before(executor: SeriesExecutor, history: Sequence[bytes]) -> None:
    for number, earlier in enumerate(history):
        outcome = executor.run(earlier)
        if executor.series.note(outcome, number) and (splat := outcome.splat):
            raise BadInputError(
                f"program {number + 1} of the {len(history)} before it already has the "
                f"kernel complain: {splat.title}. Give gdb that one, as a .prog file"
            )


def _loads(executor: SeriesExecutor, calls: bytes) -> bool:
    """Preload the module by a program's first calls; False if these crash, or do not load it."""
    outcome = executor.load(calls)
    return outcome.splat is None and bool(executor.machine.channel.header.preloaded)


def _post(machine: Machine, program: bytes, tries: int) -> None:
    """Post a program to a stopped machine, several times in a batch if it crashes by luck only."""
    if tries == 1:
        machine.channel.post_program(program)
    else:
        machine.channel.post_batch([program] * tries)
