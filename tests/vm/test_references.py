# SPDX-License-Identifier: Apache-2.0
"""References that a driver hands out, which end with a program, and those that it forgets."""

from __future__ import annotations

from pathlib import Path

import pytest

from fuzzer.crash.observe import run_program
from fuzzer.driver.driver import build_driver
from fuzzer.driver.provision import Guest, ensure_guest
from fuzzer.kernel.kernel import Kernel
from fuzzer.machine.accel import Accel
from fuzzer.machine.channel_layout import Status
from fuzzer.splat.silence import Silence
from fuzzer.target.target import load_target
from tests.vm.guests import returned, run, wire

pytestmark = pytest.mark.vm

SOURCE = Path(__file__).parent.parent / "drivers" / "strangers" / "keeper"
HAND_OUT = "ioctl(f0, 0x6b01, 0)"
# More than a process can have.
MANY = 1100


@pytest.fixture(scope="module")
def keeper(tmp_path_factory: pytest.TempPathFactory, fast_kernel: Kernel, accel: Accel) -> Guest:
    """Return a guest with a driver that hands out descriptors and forgets references."""
    path = tmp_path_factory.mktemp("keeper") / "keeper.yaml"
    path.write_text(
        f"version: 1\nname: keeper\ndevice: /dev/keeper\n"
        f"module: {{source: {SOURCE}, name: keeper}}\ncalls:\n  - write: ['', abc]\n"
    )
    target = load_target(path)
    return ensure_guest(target, fast_kernel, build_driver(target, fast_kernel), accel)


def test_descriptors_that_are_handed_out_end_with_the_program(keeper: Guest) -> None:
    with keeper.restore() as machine:
        for _ in range(MANY):
            ((descriptor, _),) = returned(run(machine, keeper, HAND_OUT))
            assert descriptor > 2
        # They are no reason that it cannot be unloaded, either.
        result = run(machine, keeper, f"{HAND_OUT}\nclose(f0)\nunload()")
        assert result.status is Status.OK
        assert returned(run(machine, keeper, 'write(f0, "a")')) == [(1, 0)]


def test_descriptors_behind_a_gap_end_with_the_program(keeper: Guest) -> None:
    many = [HAND_OUT] * 40
    # A file of the program is closed before those that it knows nothing of.
    many[16] = f"h0 = {HAND_OUT}\nadopt(f5, h0)"
    with keeper.restore() as machine:
        numbers = [tuple(returned(run(machine, keeper, "\n".join(many)))) for _ in range(60)]
    assert len(set(numbers)) == 1


def test_files_that_are_open_keep_the_module_and_are_no_leak(keeper: Guest) -> None:
    with keeper.restore() as machine:
        for _ in range(2):
            result = run(machine, keeper, "open(f1, O_RDWR)\nclose(f0)\nunload()")
            assert result.status is Status.OK
            assert returned(result)[2][0] == -1


def test_a_reference_that_is_forgotten_is_a_finding(keeper: Guest) -> None:
    leaks = wire('write(f0, "abc")\nclose(f0)\nunload()', keeper.target)
    with keeper.restore() as machine:
        assert machine.run(leaks).status is Status.HELD
    with keeper.restore() as machine:
        splat = run_program(machine, leaks).splat
    assert splat is not None
    assert splat.title == Silence.HELD
