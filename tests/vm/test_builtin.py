# SPDX-License-Identifier: Apache-2.0
"""A driver of the kernel's own tree as target: built in on demand, covered as a module is."""

from __future__ import annotations

import errno

import pytest

from fuzzer.campaign.seeds import load_seeds
from fuzzer.campaign.subject import kernels_for
from fuzzer.crash.observe import run_program
from fuzzer.driver.driver import build_driver
from fuzzer.driver.provision import Guest, ensure_guest
from fuzzer.errors import BadInputError
from fuzzer.kernel.kernel import Flavour, KernelOptions, ensure_kernel
from fuzzer.machine.accel import Accel
from fuzzer.paths import project_root
from fuzzer.target.target import load_target
from tests.vm.guests import returned, run, wire

pytestmark = pytest.mark.vm

# A keyboard's only key is pressed.
PRESS = r"""
ioctl(f0, UI_SET_EVBIT, 1)
ioctl(f0, UI_SET_KEYBIT, 30)
ioctl(f0, UI_DEV_SETUP, {name: "a"})
ioctl(f0, UI_DEV_CREATE)
write(f0, "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x1e\x00\x01\x00\x00\x00")
"""  # noqa: E501


@pytest.fixture(scope="module")
def uinput(accel: Accel) -> Guest:
    """Return a guest whose kernel has uinput built in."""
    target = load_target(project_root() / "vm" / "targets" / "uinput" / "uinput.yaml")
    kernel = ensure_kernel(Flavour.FAST, kernels_for(target, KernelOptions()))
    return ensure_guest(target, kernel, build_driver(target, kernel), accel)


def test_its_code_is_covered(uinput: Guest) -> None:
    assert len(uinput.blocks) > 200
    with uinput.restore() as machine:

        def covered(text: str) -> set[int]:
            machine.channel.clear_counters(len(uinput.blocks))
            run(machine, uinput, text)
            counters = machine.channel.counters(len(uinput.blocks))
            return {number for number, count in enumerate(counters) if count}

        opened, pressed = covered("poll(f0, 1)"), covered(PRESS)
    assert 0 < len(opened) < len(uinput.blocks)
    assert len(pressed - opened) > 10


def test_its_calls_do_what_they_do(uinput: Guest) -> None:
    with uinput.restore() as machine:
        result = run(machine, uinput, PRESS)
        assert returned(result) == [(0, 0)] * 4 + [(24, 0)]
        result = run(machine, uinput, "ioctl(f0, UI_DEV_CREATE)")
        assert returned(result) == [(-1, errno.EINVAL)]


def test_its_seeds_are_silent(uinput: Guest) -> None:
    with uinput.restore() as machine:
        for program in load_seeds(uinput.target, None, 1):
            assert run_program(machine, program).splat is None


def test_it_cannot_be_unloaded_and_nothing_comes_of_trying(uinput: Guest) -> None:
    with uinput.restore() as machine:
        tried = run(machine, uinput, 'unload()\nload("")\npoll(f0, 1)')
        assert [result[1] for result in returned(tried)[:2]] == [errno.ENOENT] * 2
        assert not machine.run(wire(PRESS, uinput.target)).status


def test_nothing_can_be_planted_in_it(uinput: Guest) -> None:
    with pytest.raises(BadInputError, match="built into the kernel"):
        build_driver(uinput.target, uinput.kernel, variables=["GCOV_PROFILE=y"])
