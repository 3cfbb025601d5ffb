# SPDX-License-Identifier: Apache-2.0
"""Platform devices for drivers whose hardware is not there: a driver's probe runs all the same.

A driver of the platform bus does nothing until a device of its name exists. A
module of ours registers such devices, without resources, before it is loaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fuzzer.errors import InfrastructureError
from fuzzer.machine.kernel import Kernel
from fuzzer.machine.machine import DriverImage, Machine
from fuzzer.machine.source_build import build_source
from fuzzer.paths import project_root
from fuzzer.target.target import MAX_PLATFORM_DEVICES, PLATFORM_NAME

_MODULE = "pkvfuzz_devices"
_LIST = "ls /sys/bus/platform/drivers"
_SECONDS = 30.0
# What an alias of a device of the bus begins with.
_ID = "platform:"


def devices_module(kernel: Kernel) -> Path:
    """Return the module that registers devices, built for a kernel.

    Raises:
        InfrastructureError: it does not build.
    """
    built = build_source(project_root() / "module" / "devices", kernel).module(_MODULE)
    if built is None or built.undefined:
        raise InfrastructureError(f"{_MODULE}.ko cannot be built for the {kernel.name} kernel")
    return built.path


def devices_params(names: Sequence[str]) -> str:
    """Return the parameters by which the module registers devices of these names."""
    return f"names={','.join(names)}"


def platform_drivers(
    machine: Machine, driver: DriverImage, aliases: Sequence[str] = ()
) -> tuple[str, ...]:
    """Return the names of devices that a driver takes, if it is on the platform bus once loaded.

    A driver with a table of ids, which are among its module's ``aliases``, takes no others.

    Raises:
        BadInputError: the kernel refuses it.
        InfrastructureError: the guest cannot list them, or is lost.
    """
    before = _listed(machine)
    machine.load(driver)
    new = sorted(_listed(machine) - before)
    ids = [alias.removeprefix(_ID) for alias in aliases if alias.startswith(_ID)]
    names = dict.fromkeys(sorted(ids) or new) if new else {}
    return tuple(filter(PLATFORM_NAME.match, names))[:MAX_PLATFORM_DEVICES]


def _listed(machine: Machine) -> set[str]:
    done = machine.execute(["/bin/busybox", "sh", "-c", _LIST], timeout=_SECONDS)
    return set(done.output.decode(errors="replace").split())
