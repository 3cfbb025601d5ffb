# SPDX-License-Identifier: Apache-2.0
"""Machines that stand before a program, with the real gdb."""

from __future__ import annotations

import subprocess
from pathlib import Path

from fuzzer.crash.debugging import debugged, is_known
from fuzzer.crash.exact import EXACT
from fuzzer.crash.testbeds import Place
from fuzzer.driver.driver import build_driver
from fuzzer.driver.provision import ensure_guest
from fuzzer.kernel.kernel import Flavour, Kernel
from fuzzer.machine.accel import Accel
from fuzzer.target.target import Target
from tests.vm.guests import GuestFactory, wire

READ = "read(f0, 64)\n"


def ask(script: Path, *commands: str) -> str:
    """Return what gdb prints when it has stopped and is told some commands."""
    words = [word for command in commands for word in ("-ex", command)]
    done = subprocess.run(
        ["gdb", "-q", "-nx", "-batch", "-x", script, *words],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    return done.stdout + done.stderr


def test_what_is_to_run_before_a_program_has_run_when_gdb_comes(
    guest: GuestFactory, tmp_path: Path
) -> None:
    place = Place(guest(Flavour.FULL))
    target = place.guest.target
    history = [wire('write(f0, "a=1\\n")\n', target)] * 2
    with debugged(place, history, wire(READ, target), "pkv_store_last", tmp_path) as session:
        channel = session.machine.channel
        ran = channel.header.programs
        assert not channel.finished()
        assert not session.stub.was_left()
        said = ask(session.script, "backtrace 3")
        assert "Breakpoint 1, pkv_store_last (" in said
        assert "pkv_store.c:" in said
        assert channel.header.programs == ran + 1
        assert not session.stub.is_attached()
        assert session.stub.was_left()
    assert not session.machine.qemu.is_running()


LOADING = 'close(f0)\nunload()\nload("lock=rcu")\nopen(f0)\n'


def test_gdb_knows_the_module_that_a_programs_first_calls_load(
    guest: GuestFactory, tmp_path: Path
) -> None:
    place = Place(guest(Flavour.FULL))
    target = place.guest.target
    program = wire(f'{LOADING}write(f0, "a=1\\n")\n{READ}', target)
    with debugged(place, (), program, "pkv_store_last", tmp_path) as session:
        assert session.machine.channel.header.preloaded
        said = ask(session.script, "backtrace 3")
        assert "Breakpoint 1, pkv_store_last (" in said
        assert "pkv_store.c:" in said


def test_calls_that_do_not_load_it_are_part_of_what_gdb_sees(
    guest: GuestFactory, tmp_path: Path
) -> None:
    place = Place(guest(Flavour.FULL))
    program = wire(LOADING.replace("rcu", "none") + READ, place.guest.target)
    with debugged(place, (), program, "param_set_charp", tmp_path) as session:
        assert not session.machine.channel.header.preloaded
        assert "Breakpoint 1" in ask(session.script, "backtrace 1")


def test_a_program_with_a_schedule_stops_too(
    fast_kernel: Kernel, pkv_target: Target, tmp_path: Path
) -> None:
    driver = build_driver(pkv_target, fast_kernel)
    place = Place(ensure_guest(pkv_target, fast_kernel, driver, Accel.TCG, EXACT), exact=True)
    program = wire(f'write(f0, "a=1\\n")\n[1] {READ}[2] wait(900)\n[2] {READ}', pkv_target)
    with debugged(place, (), program, "pkv_store_last", tmp_path) as session:
        # It has not begun to run, not even to see that there is a program.
        ran = session.machine.channel.header.programs
        assert session.machine.qemu.execute("query-status")["running"] is False
        said = ask(session.script, "continue", "info threads")
        assert said.count("Breakpoint 1, pkv_store_last (") == 2
        assert "Thread 1.4" in said
        assert session.machine.channel.header.programs == ran + 1


def test_where_no_function_is_known_it_stops_before_the_program(
    guest: GuestFactory, tmp_path: Path
) -> None:
    place = Place(guest(Flavour.FULL))
    assert is_known("vfs_read", place.guest)
    assert not is_known("no_such_function", place.guest)
    program = wire(READ, place.guest.target)
    with debugged(place, (), program, "no_such_function", tmp_path) as session:
        assert session.function is None
        ran = session.machine.channel.header.programs
        said = ask(session.script, "info registers rip")
        assert "rip " in said
        assert session.machine.channel.header.programs in {ran, ran + 1}
