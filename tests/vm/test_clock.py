# SPDX-License-Identifier: Apache-2.0
"""The guest's clock is a good one, however busy the host was when it booted."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from fuzzer.kernel.kernel import Kernel
from fuzzer.machine.accel import Accel
from fuzzer.machine.boot import boot
from fuzzer.machine.channel_layout import Command
from fuzzer.machine.guest import ensure_initrd
from fuzzer.machine.qemu import Hardware

pytestmark = pytest.mark.vm

CLOCK = "/sys/devices/system/clocksource/clocksource0/current_clocksource"
GOOD = {Accel.TCG: b"clock=tsc\r\n", Accel.KVM: b"clock=kvm-clock\r\n"}


@pytest.fixture
def busy_host() -> Iterator[None]:
    """Keep the host's processors from the guest half of the time and more."""
    burners = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(4)]
    try:
        yield
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()


@pytest.mark.parametrize("cpus", [1, 2])
@pytest.mark.usefixtures("busy_host")
def test_a_guest_that_boots_on_a_busy_host_has_a_clock_of_nanoseconds(
    fast_kernel: Kernel, accel: Accel, cpus: int
) -> None:
    initrd, _ = ensure_initrd()
    with boot(fast_kernel.image, initrd, Hardware(cpus=cpus), accel, None) as machine:
        machine.command(Command.SHELL)
        console = machine.qemu.console
        console.settimeout(20.0)
        console.sendall(f"echo clock=$(cat {CLOCK})\r".encode())
        seen = b""
        while GOOD[accel] not in seen:
            seen += console.recv(4096)
