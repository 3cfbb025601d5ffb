# SPDX-License-Identifier: Apache-2.0
"""Drivers whose hardware is not there: what is registered in its place, they find and use."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from fuzzer.campaign.choice import Choice
from fuzzer.campaign.description import DriverFacts, describe
from fuzzer.campaign.discovery import discover
from fuzzer.campaign.subject import kernels_for
from fuzzer.driver.driver import build_driver
from fuzzer.driver.provision import ensure_guest
from fuzzer.kernel.kernel import Flavour, KernelOptions, ensure_kernel
from fuzzer.machine.accel import Accel
from fuzzer.target.equipment import Equipment
from fuzzer.target.target import Target, load_target
from tests.vm.guests import returned, run

pytestmark = pytest.mark.vm

TESTS = Path(__file__).parent.parent
Results = Callable[[Target, str], list[tuple[int, int]]]
RELOADED = 'close(f0)\nunload()\nload("")\nopen(f0)\n'


@pytest.fixture(scope="module")
def button() -> Target:
    """Return a target whose kernel has all that stand-ins for hardware take."""
    return load_target(TESTS / "data" / "button" / "button.yaml")


@pytest.fixture(scope="module")
def options(button: Target) -> KernelOptions:
    """Return the options of this kernel."""
    return kernels_for(button, KernelOptions())


@pytest.fixture(scope="module")
def results(options: KernelOptions, accel: Accel) -> Results:
    """Return what tells the results of a program's calls, for a target on this kernel."""
    kernel = ensure_kernel(Flavour.FAST, options)

    def run_calls(target: Target, text: str) -> list[tuple[int, int]]:
        guest = ensure_guest(target, kernel, build_driver(target, kernel), accel)
        with guest.restore() as machine:
            return returned(run(machine, guest, text))

    return run_calls


@pytest.fixture
def found(
    options: KernelOptions, accel: Accel, tmp_path: Path
) -> Callable[[str], tuple[DriverFacts, Target]]:
    """Return what finds out about a driver among the strangers, and describes it."""

    def find(stranger: str) -> tuple[DriverFacts, Target]:
        choice = Choice(TESTS / "drivers" / "strangers" / stranger)
        facts, taken = discover(choice, options, accel, Flavour.FAST)
        assert taken == options
        path = tmp_path / "made.yaml"
        path.write_text(describe(facts, "Made by a test."))
        return facts, load_target(path)

    return find


@pytest.mark.parametrize(
    ("stranger", "device", "equipment"),
    [
        ("i2c-client", "/dev/thermo", Equipment("i2c", ("thermo-9",))),
        ("i2c-adapter", "/dev/oled", Equipment("i2c")),
        ("spi-device", "/dev/flash", Equipment("spi", ("flash-9",))),
        ("usb-device", "/dev/skeletal0", Equipment("usb", ("FFF0:1234",))),
    ],
)
def test_a_driver_finds_what_stands_in_for_its_hardware(
    stranger: str,
    device: str,
    equipment: Equipment,
    found: Callable[[str], tuple[DriverFacts, Target]],
    results: Results,
) -> None:
    facts, target = found(stranger)
    assert ([each.path for each in facts.devices], facts.equipment) == ([device], (equipment,))
    # Its device is there for each load, and remembers what the probe has written.
    text = f"read(f0, 5)\nread(f0, 6)\n{RELOADED}read(f0, 5)\n"
    expected = [(5, 0), (-1, 22), *4 * [(0, 0)], (5, 0)]
    assert results(target, text) == expected


def test_lines_have_interrupts_which_come_when_a_program_changes_one(
    button: Target, results: Results
) -> None:
    text = "read(f0, 6)\nread(f0, 6)\nread(f0, 16)\n"
    assert results(button, text) == [(-1, 22), (6, 0), (-1, 22)]
