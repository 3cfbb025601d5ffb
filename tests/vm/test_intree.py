# SPDX-License-Identifier: Apache-2.0
"""The driver as a part of the kernel: built in, its KUnit suites run at boot, and as a module."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator

import pytest

from fuzzer.machine.accel import Accel
from fuzzer.machine.boot import boot
from fuzzer.machine.guest import ensure_initrd
from fuzzer.machine.machine import Machine
from fuzzer.machine.qemu import Hardware
from fuzzer.selftest.kernels import BuiltinKernel, ensure_builtin_kernel
from fuzzer.target.device import Device
from fuzzer.target.target import Target
from tests.vm.guests import returned, wire

_READS = 16
_READ_SIZE = 0x4000


@pytest.fixture(scope="module")
def kernel(pkv_target: Target) -> BuiltinKernel:
    """Return the kernel that has the driver built in."""
    assert pkv_target.module.source is not None
    return ensure_builtin_kernel(pkv_target.module.source, pkv_target.module.name)


@pytest.fixture(scope="module")
def machine(kernel: BuiltinKernel, accel: Accel) -> Iterator[Machine]:
    """Return a machine with that kernel, and no module."""
    initrd, _ = ensure_initrd()
    with boot(kernel.image, initrd, Hardware(), accel, None) as booted:
        yield booted


@pytest.fixture(scope="module")
def boot_log(machine: Machine, pkv_target: Target) -> str:
    """Return what the kernel printed until now, read from /proc/kmsg as from a driver."""
    machine.channel.set_devices([Device("/proc/kmsg")])
    reads = f"read(f0, {_READ_SIZE})\n" * _READS
    result = machine.run(wire(f"open(f0, O_RDONLY|O_NONBLOCK)\n{reads}", pkv_target), 30.0)
    assert returned(result)[-1] == (-1, errno.EAGAIN), "there is more than was read"
    return b"".join(call.output for call in result.results if call.ret > 0).decode()


def _ktap(log: str) -> list[str]:
    """Return the log's lines without the level, time and task in front."""
    return [re.sub(r"^(?:<\d+>)?(?:\[[^]]*\])+ ", "", line) for line in log.splitlines()]


def test_the_built_in_driver_is_there_without_loading_anything(
    machine: Machine, pkv_target: Target
) -> None:
    machine.channel.set_devices(pkv_target.devices)
    result = machine.run(wire('write(f0, "a=1\\n")\nread(f0, 64)', pkv_target), 30.0)
    assert returned(result) == [(4, 0), (1, 0)]
    assert result.results[1].output == b"1"


def test_the_kunit_suites_pass_at_boot(boot_log: str, pkv_target: Target) -> None:
    lines = _ktap(boot_log)
    assert "KTAP version 1" in lines
    assert not [line for line in lines if re.match(r" *not ok ", line)]
    suites = [line for line in lines if re.match(rf"ok \d+ {pkv_target.module.name}", line)]
    cases = [line for line in lines if re.match(r" +ok \d+ ", line)]
    assert suites
    assert len(cases) > len(suites)


def test_the_driver_also_builds_as_a_module_in_the_tree(kernel: BuiltinKernel) -> None:
    assert kernel.module.name == "pkv.ko"
    assert b"\0intree=Y\0" in kernel.module.read_bytes()
