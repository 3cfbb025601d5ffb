# SPDX-License-Identifier: Apache-2.0
"""Crashes of planted bugs, among calls that have nothing to do with them, made minimal."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from fuzzer.cli.main import main
from fuzzer.crash.dedup import same_bug
from fuzzer.crash.exact import find_schedule
from fuzzer.crash.minimizer.minimize import Minimized, Minimizer
from fuzzer.crash.reproducer import Reproducer
from fuzzer.crash.testbeds import Testbeds
from fuzzer.driver.driver import build_driver, find_bug
from fuzzer.driver.provision import Guest, ensure_guest
from fuzzer.kernel.kernel import Kernel
from fuzzer.machine.accel import Accel
from fuzzer.machine.qemu import Hardware
from fuzzer.paths import project_root
from fuzzer.program.ops import Op
from fuzzer.program.program import Program
from fuzzer.program.schedule import is_scheduled
from fuzzer.program.text import format_program, load_program, parse_program
from fuzzer.program.wire import decode, encode, split
from fuzzer.splat.splat import Splat
from fuzzer.target.target import Target

pytestmark = pytest.mark.vm

NOISE = """\
write(f0, "key=value\\nother=2\\n")
read(f0, 64)
read(f0, 64) cut=8
ioctl(f0, PKV_IOC_LIST, {buf: &[96], room: 2})
lseek(f0, 7, SEEK_SET)
poll(f0, 0x5)
write(f0, "x") fail=1
open(f2)
read(f2, 100)
close(f2)
"""
IDLE = "poll(f3, 0x5)\nclose(f4)\n"
CALLS = 40
SetupsFactory = Callable[[Kernel, str], Testbeds]


@pytest.fixture(scope="module")
def setups(pkv_target: Target, accel: Accel) -> SetupsFactory:
    """Return a function that makes the guests of a planted bug."""

    def make(kernel: Kernel, bug: str) -> Testbeds:
        driver = build_driver(pkv_target, kernel, find_bug(pkv_target, bug))

        def guest(hardware: Hardware, arguments: str) -> Guest:
            mode = Accel.TCG if hardware.icount else accel
            return ensure_guest(pkv_target, kernel, driver, mode, hardware, arguments=arguments)

        return Testbeds(guest(Hardware(), ""), guest)

    return make


def stored(target: Target, bug: str) -> Program:
    return load_program(project_root() / "module" / "bugs" / f"{bug}.prog", target)


def among_noise(target: Target, needed: Program) -> bytes:
    """Return a program of CALLS calls; between the needed ones are some that change nothing."""
    noise = parse_program(NOISE, target, "noise")
    idle = parse_program(IDLE, target, "idle")
    rng = random.Random(1)
    calls = [call for each in needed for call in (each, *idle)]
    n_before = (CALLS - len(calls)) // 2
    before = [rng.choice(noise) for _ in range(n_before)]
    after = [rng.choice(noise) for _ in range(CALLS - len(calls) - n_before)]
    return encode((*before, *calls, *after))


def minimized(
    setups: Testbeds, target: Target, program: bytes, limit: float = 600.0
) -> tuple[Minimized, Splat]:
    outcome, _ = setups.observe("")((), program)
    assert outcome.splat, "the program shows nothing to begin with"
    found = Minimizer(setups, target, Reproducer(program), outcome.splat, limit=limit).run()
    assert found
    return found, outcome.splat


@pytest.mark.parametrize("bug", ["stale-last", "read-refcount", "list-null"])
def test_forty_calls_become_those_that_are_needed(
    bug: str, setups: SetupsFactory, full_kernel: Kernel, pkv_target: Target
) -> None:
    needed = stored(pkv_target, bug)
    program = among_noise(pkv_target, needed)
    assert len(split(program)) == CALLS
    found, splat = minimized(setups(full_kernel, bug), pkv_target, program)
    assert same_bug(found.splat, splat)
    assert (found.hits, found.runs, found.complete) == (3, 3, True)
    left = decode(found.reproducer.program)
    assert len(left) <= len(needed), format_program(left, pkv_target)
    assert found.reproducer.size <= len(encode(needed))
    assert sorted(call.fault for call in left) == sorted(call.fault for call in needed)


def test_a_hang_becomes_the_call_that_hangs(
    setups: SetupsFactory, full_kernel: Kernel, pkv_target: Target
) -> None:
    needed = stored(pkv_target, "parse-hang")
    noise = parse_program(NOISE, pkv_target, "noise")
    found, splat = minimized(
        setups(full_kernel, "parse-hang"), pkv_target, encode((*noise[:2], *needed, noise[3]))
    )
    assert splat.title == "BUG: soft lockup in pkv_store_write"
    assert found.complete
    assert len(decode(found.reproducer.program)) == 1
    assert (found.hits, found.runs) == (3, 3)


def test_a_race_keeps_a_schedule_that_shows_it_each_time(
    setups: SetupsFactory, fast_kernel: Kernel, pkv_target: Target
) -> None:
    guests = setups(fast_kernel, "delete-race")
    needed = encode(stored(pkv_target, "delete-race"))
    title = "KASAN: slab-use-after-free Read in pkv_store_delete"
    noise = encode(parse_program('write(f0, "b=2\\n")\nread(f0, 64)\n', pkv_target, "noise"))
    found = find_schedule(guests.exact, noise + needed, random.Random(1), title=title)
    assert found
    # Calls are what goes first; the rest would take minutes.
    left, _ = minimized(guests, pkv_target, found.program, limit=30.0)
    calls = decode(left.reproducer.program)
    assert is_scheduled(split(left.reproducer.program))
    assert [call.op for call in calls if call.op is not Op.WAIT] == [
        Op.WRITE,
        Op.IOCTL,
        Op.IOCTL,
    ]
    assert (left.hits, left.runs) == (3, 3)


def test_the_command_writes_the_minimal_program(
    full_kernel: Kernel, tmp_path: Path, capsys: pytest.CaptureFixture[str], pkv_target: Target
) -> None:
    program, output = tmp_path / "long.prog", tmp_path / "short.prog"
    program.write_text(
        NOISE + 'write(f0, "a=1\\n")\nioctl(f0, PKV_IOC_DELETE, {key_len: 1, key: "a"})\n'
        "read(f0, 1)\n"
    )
    arguments = ["minimize", str(program), "-o", str(output), "--bug", "stale-last"]
    assert main(arguments) == 1
    assert len(load_program(output, pkv_target)) == 3
    assert "3 of 3" in capsys.readouterr().err
    arguments = ["minimize", str(output), "-o", str(program)]
    assert main(arguments) == 0, "the driver without the bug shows nothing"
