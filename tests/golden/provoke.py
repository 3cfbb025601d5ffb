# SPDX-License-Identifier: Apache-2.0
"""Provoking a kernel report on a fresh machine, and its log as a console would show it."""

from __future__ import annotations

import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from fuzzer.driver.provision import Guest, driver_image
from fuzzer.errors import BadInputError
from fuzzer.kernel.kernel import Flavour
from fuzzer.machine.channel_layout import Command
from fuzzer.machine.machine import LostMachineError, Machine
from fuzzer.program.text import parse_program
from fuzzer.program.wire import encode
from fuzzer.splat.kmsg import console_lines
from tests.golden.index import Recipe

_DATA = Path(__file__).parent.parent / "data"
TARGET = _DATA / "provoke" / "provoke.yaml"
_USERFAULT = _DATA / "userfault" / "userfault.c"
_BUILD = "/build/provoke"
# A report is complete when nothing was printed for so many seconds.
_QUIET = 0.3
# A guest that says nothing for so many seconds longer than it may take is lost.
_SILENT = 4.0
# A guest that locks up has its console only, and prints a report slowly.
_CONSOLE_QUIET = 1.5


class GuestMaker(Protocol):
    """Makes guests that have the module."""

    def __call__(self, flavour: Flavour, *, cpus: int = 1, arguments: str = "") -> Guest:
        """Return the guest of a flavour, with other hardware or kernel arguments."""


def _shell(machine: Machine, script: str) -> str:
    done = machine.execute(["/bin/busybox", "sh", "-c", script])
    assert done.status == 0, done.output
    return done.output.decode(errors="replace")


def _userfault(directory: Path) -> bytes:
    binary = directory / "userfault"
    command = ["gcc", "-static", "-O1", str(_USERFAULT), "-o", str(binary)]
    subprocess.run(command, check=True, timeout=60)
    return binary.read_bytes()


def _load_patched(machine: Machine, guest: Guest, patch: tuple[str, str]) -> bytes:
    old, new = (part.encode() for part in patch)
    assert len(old) == len(new), patch
    image = driver_image(guest.target, guest.driver)
    assert old in image.image, patch
    try:
        machine.load(replace(image, image=image.image.replace(old, new)))
    except BadInputError:
        return machine.channel.log()
    raise AssertionError(f"a module with {patch} loads")


def _act(machine: Machine, guest: Guest, recipe: Recipe, scratch: Path) -> bytes:
    """Follow the recipe; return the log of that time."""
    if recipe.user:
        return machine.execute(["userfault", recipe.user], _userfault(scratch)).log
    if recipe.patch:
        machine.command(Command.UNLOAD)
        return _load_patched(machine, guest, recipe.patch)
    program = encode(parse_program(recipe.program, guest.target, "golden"))
    return machine.run(program, timeout=recipe.seconds + _SILENT).log


def _follow(machine: Machine, log: bytes, seconds: float) -> bytes:
    """Collect the log for so many seconds, and until nothing is printed any more."""
    start = quiet_since = time.monotonic()
    while time.monotonic() < max(start + seconds, quiet_since + _QUIET):
        time.sleep(0.1)
        machine.command(Command.PING, timeout=10.0)
        if more := machine.channel.log():
            log += more
            quiet_since = time.monotonic()
    return log


def _console(machine: Machine) -> list[str]:
    """Return the console's lines when nothing is printed any more."""
    text, quiet_since = "", time.monotonic()
    while time.monotonic() < quiet_since + _CONSOLE_QUIET and machine.qemu.is_running():
        time.sleep(0.1)
        if (now := machine.console_text()) != text:
            text, quiet_since = now, time.monotonic()
    return [line.rstrip("\r") for line in machine.console_text().split("\n") if line.strip()]


# A race takes both vCPUs to be at work at a time, which the host may be too busy for.
_CHANCES = 6


def provoke(recipe: Recipe, make: GuestMaker, scratch: Path) -> list[str]:
    """Return the lines of the log that a recipe leads to on a fresh machine.

    ``scratch`` is a directory for what is built on the way. Reports name the
    directory that the module was built in; that one is called ``_BUILD``.
    """
    guest = make(recipe.flavour, cpus=recipe.cpus, arguments=recipe.arguments)
    directory = str(guest.driver.object.parent)
    lines: list[str] = []
    for _ in range(_CHANCES if recipe.flavour is Flavour.KCSAN else 1):
        lines = lines or _log(guest, recipe, scratch)
    return [line.replace(directory, _BUILD) for line in lines]


def _log(guest: Guest, recipe: Recipe, scratch: Path) -> list[str]:
    with guest.restore() as machine:
        if recipe.prepare:
            _shell(machine, recipe.prepare)
        try:
            log = _act(machine, guest, recipe, scratch)
            if recipe.after:
                _shell(machine, recipe.after)
                log += machine.channel.log()
            log = _follow(machine, log, recipe.seconds)
        except LostMachineError:
            return _console(machine)
        if recipe.file:
            return _shell(machine, f"cat {recipe.file}").splitlines()
        return _console(machine) if recipe.console else console_lines(log)
