# SPDX-License-Identifier: Apache-2.0
"""Reproducers in C, run in a guest as ordinary programs: each shows its bug."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from fuzzer.crash.judge import silent_guest
from fuzzer.machine.channel import Command
from fuzzer.machine.driver import list_bugs
from fuzzer.machine.kernel import Flavour
from fuzzer.machine.machine import LostMachineError, Machine
from fuzzer.machine.provision import Guest
from fuzzer.paths import project_root
from fuzzer.program.csource.source import c_source
from fuzzer.program.text import load_program
from fuzzer.splat.find import find_splat
from fuzzer.splat.kmsg import console_lines
from fuzzer.target.target import Target, load_target
from tests.vm.guests import GuestFactory

pytestmark = pytest.mark.vm

BUGS = [
    bug.name
    for bug in list_bugs(load_target(project_root() / "module" / "pkv.yaml"))
    if bug.expect != "wrong answer" and not bug.expect.startswith("memory leak") and not bug.kernel
]
MODULE = "/tmp/driver.ko"


def compiled(name: str, target: Target, directory: Path) -> bytes:
    """Return a planted bug's program as a static executable."""
    assert target.header is not None
    shutil.copy(target.header, directory)
    program = load_program(target.path.parent / "bugs" / f"{name}.prog", target)
    (directory / "repro.c").write_text(c_source(program, target))
    command = [
        "gcc",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-static",
        "-pthread",
        "repro.c",
        "-o",
        "repro",
    ]
    subprocess.run(command, cwd=directory, check=True, timeout=60)
    return (directory / "repro").read_bytes()


def put_module(machine: Machine, image: bytes) -> None:
    """Put a file into the guest: it is carried behind the shell that writes it there."""
    found = shutil.which("busybox")
    assert found
    script = f"tail -c {len(image)} /proc/$$/exe > {MODULE}"
    done = machine.execute(["sh", "-c", script], Path(found).read_bytes() + image)
    assert done.status == 0, done.output


def title_of(guest: Guest, binary: bytes) -> str | None:
    """Return the title of what a program shows on a fresh machine."""
    with guest.restore() as machine:
        arguments = ["repro"]
        if b"MODULE.ko" in binary:
            put_module(machine, guest.driver.image())
            arguments.append(MODULE)
        try:
            log = machine.execute(arguments, binary, timeout=50.0).log
            if find_splat(console_lines(log)) is None:
                machine.command(Command.PING)
                log += machine.channel.log()
            splat = find_splat(console_lines(log))
        except LostMachineError:
            splat = silent_guest(machine).splat
        return splat.title if splat else None


@pytest.mark.parametrize("name", BUGS)
def test_a_bug_shows_without_the_executor(
    name: str, guest: GuestFactory, pkv_target: Target, tmp_path: Path
) -> None:
    (bug,) = (each for each in list_bugs(pkv_target) if each.name == name)
    patched = guest(Flavour.FULL, name, cpus=2 if "race" in bug.needs else 1)
    assert title_of(patched, compiled(name, pkv_target, tmp_path)) in bug.titles
