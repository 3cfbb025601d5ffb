# SPDX-License-Identifier: Apache-2.0
"""A driver with several files whose nodes are left to user space, in a guest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from fuzzer.driver.driver import Needed
from fuzzer.driver.provision import Guest, driver_image, ensure_base
from fuzzer.kernel.kernel import Flavour, Kernel
from fuzzer.machine.accel import Accel
from fuzzer.machine.machine import Machine
from fuzzer.machine.nodes import find_devices
from fuzzer.machine.qemu import Hardware
from fuzzer.program.csource.source import c_source
from fuzzer.program.text import load_program, parse_program
from fuzzer.program.wire import encode
from fuzzer.target.device import Device
from fuzzer.target.target import load_target
from tests.vm.guests import GuestFactory, returned, run, wire
from tests.vm.reproducers import compiled

pytestmark = pytest.mark.vm

_DRIVER = Path(__file__).parent.parent / "drivers" / "no-nodes"
TARGET = load_target(_DRIVER / "no-nodes.yaml")
SEED = load_program(_DRIVER / "seeds" / "each-file.prog", TARGET)
# What the seed reads of the driver's files, in order.
SEEN = [b"abc", b"3 3\n", b"\3" + bytes(7) + b"abc" + bytes(5)]
NODES = ("/dev/no-nodes0", "/dev/no-nodes1", "/dev/no-nodes-ctl")


@pytest.fixture(scope="module")
def several(guest: GuestFactory) -> Guest:
    """Return a guest with the driver."""
    return guest(Flavour.FAST, target=TARGET)


def shell(machine: Machine, script: str) -> str:
    done = machine.execute(["/bin/busybox", "sh", "-c", script])
    assert done.status == 0, done.output
    return done.output.decode()


def covered(guest: Guest, machine: Machine, text: str) -> set[int]:
    """Return the driver's blocks that a program reaches on a machine."""
    n = len(guest.blocks)
    machine.channel.clear_counters(n)
    run(machine, guest, text)
    return {index for index, count in enumerate(machine.channel.counters(n)) if count}


def test_each_file_of_a_driver_is_opened(several: Guest) -> None:
    with several.restore() as machine:
        done = machine.run(encode(SEED))
    assert all(ret >= 0 for ret, _ in returned(done))
    assert [call.output for call in done.results if call.output] == SEEN


def test_code_behind_each_file_is_covered(several: Guest) -> None:
    programs = [
        'write(f0, "a")\n',
        'open(f0, "/dev/no-nodes1")\nread(f0, 1)\n',
        'open(f0, "/dev/no-nodes-ctl")\nioctl(f0, 0x4e01, 1)\n',
        'open(f0, "/proc/no-nodes")\nwrite(f0, "a")\n',
        'open(f0, "/sys/kernel/debug/no-nodes/peek")\nread(f0, 1)\n',
        'open(f0, "/sys/kernel/no-nodes/level", O_RDONLY)\nread(f0, 1)\n',
    ]
    with several.restore() as machine:
        found = [covered(several, machine, text) for text in programs]
    for number, blocks in enumerate(found):
        others = set[int]().union(*found[:number], *found[number + 1 :])
        assert blocks - others, programs[number]


def test_a_load_makes_nodes_with_the_numbers_that_the_driver_has_then(several: Guest) -> None:
    with several.restore() as machine:
        before = shell(machine, f"stat -c %t:%T {' '.join(NODES)}")
        for node in NODES:
            shell(machine, f"rm {node}; mknod {node} c 1 3")
        reload = 'close(f0)\nunload()\nload("")\nopen(f0)\nwrite(f0, "abc")\n'
        done = run(machine, several, reload + 'open(f1, "/proc/no-nodes")\nread(f1, 64)\n')
        assert done.results[-1].output == b"3 0\n"
        assert shell(machine, f"stat -c %t:%T {' '.join(NODES)}") == before


def test_a_driver_that_is_gone_leaves_no_node(several: Guest) -> None:
    # In place of it something else could have its number.
    with several.restore() as machine:
        machine.channel.set_devices([Device("/dev/null"), Device(NODES[0], "nobody")])
        run(machine, several, 'close(f0)\nunload()\nload("")\n')
        assert shell(machine, f"ls {NODES[0]} 2>/dev/null || true") == ""


def test_a_reset_is_done_on_the_first_device(several: Guest) -> None:
    reset = wire('write(f0, "12")\n', TARGET)
    with replace(several, reset=reset).restore() as machine:
        run(machine, several, 'open(f0, "/dev/no-nodes1")\n')
        assert shell(machine, "cat /proc/no-nodes") == "2 0\n"


def test_a_reproducer_in_c_makes_the_nodes_that_it_opens(several: Guest, tmp_path: Path) -> None:
    program = parse_program('open(f0, "/dev/no-nodes1")\nwrite(f0, "abcd")\n', TARGET, "test")
    (tmp_path / "repro.c").write_text(c_source(program, TARGET))
    binary = compiled(tmp_path)
    with several.restore() as machine:
        shell(machine, f"rm {' '.join(NODES)}")
        done = machine.execute(["repro"], binary)
        assert (done.status, done.output) == (0, b"")
        assert shell(machine, "cat /proc/no-nodes") == "0 4\n"
        assert shell(machine, f"ls {NODES[2]} 2>/dev/null || true") == ""


def test_the_files_of_a_driver_are_found(several: Guest, fast_kernel: Kernel, accel: Accel) -> None:
    base, _ = ensure_base(fast_kernel, accel, Hardware())
    with Machine.restore(base) as machine:
        found = find_devices(machine, driver_image(several.target, several.driver))
    assert found == (
        Device("/dev/no-nodes0", "no-nodes", 0),
        Device("/dev/no-nodes1", "no-nodes", 1),
        Device("/dev/no-nodes-ctl", "no-nodes-ctl", 0),
        *TARGET.devices[3:],
    )


def test_a_module_that_another_needs_is_loaded_first_and_stays(
    guest: GuestFactory, several: Guest, fast_kernel: Kernel, accel: Accel
) -> None:
    needed = guest(Flavour.FAST).driver
    driver = replace(several.driver, needs=(Needed(needed.object),))
    base, _ = ensure_base(fast_kernel, accel, Hardware())
    with Machine.restore(base) as machine:
        image = driver_image(TARGET, driver)
        known = machine.load(image)
        assert known.load_pcs
        assert loaded(machine) == ["no_nodes", "pkv"]
        run(machine, several, 'close(f0)\nunload()\nload("")\nopen(f0)\n')
        assert loaded(machine) == ["no_nodes", "pkv"]
        assert shell(machine, "ls /dev/pkv") == "/dev/pkv\n"


def loaded(machine: Machine) -> Sequence[str]:
    return sorted(line.split()[0] for line in shell(machine, "cat /proc/modules").splitlines())
