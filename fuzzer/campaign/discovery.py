# SPDX-License-Identifier: Apache-2.0
"""From a driver as its author published it to what there is to fuzz.

The driver is built, on a kernel that has what it needs; loaded, to see which
files it makes; and read, for the operations that these have and their ioctls.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from fuzzer.campaign.description import OPERATIONS, Facts
from fuzzer.errors import BadInputError, PkvfuzzError
from fuzzer.machine.accel import Accel
from fuzzer.machine.driver import Driver, pick_module
from fuzzer.machine.fitting import Confirm, fitted
from fuzzer.machine.kernel import Flavour, Kernel, KernelOptions
from fuzzer.machine.machine import DriverImage, LostMachineError, Machine
from fuzzer.machine.modinfo import ModuleInfo, read_modinfo
from fuzzer.machine.nodes import find_devices
from fuzzer.machine.objects import object_that_fits
from fuzzer.machine.operations import OperationTable, operation_names, read_operations
from fuzzer.machine.provision import ensure_base
from fuzzer.machine.qemu import Hardware
from fuzzer.machine.source_build import BuiltModule, SourceBuild, build_source
from fuzzer.machine.symbols import driver_ioctls
from fuzzer.progress import Progress, say
from fuzzer.target.device import Device, DeviceKind
from fuzzer.target.target import ModuleSpec, module_name

_T = TypeVar("_T")
# Tried for a driver that makes no file without parameters: one of something, a size.
_PARAMETER_VALUES = ("1", "65536")
_PARAMETER_KINDS = frozenset({"int", "uint", "long", "ulong", "bool", "byte", "short", "ushort"})
_MOST_PARAMETERS = 16
# Of subsystems that make files whose operations are their own.
_SUBSYSTEMS = (
    "register_framebuffer", "snd_card_", "input_register_device", "tty_register_d",
    "device_add_disk", "add_disk", "rtc_register", "iio_device_", "drm_dev_", "media_device_",
    "usb_register_dev", "hwmon_device_", "gpiochip_add", "i2c_add_", "watchdog_register",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Choice:
    """What to fuzz, as it was asked for.

    ``path`` is a driver's directory or a .ko. ``module`` chooses one of several that
    come out of it; ``devices`` are files to fuzz, instead of all that it makes.
    """

    path: Path
    module: str = ""
    devices: tuple[str, ...] = ()
    params: str = ""


@dataclass(frozen=True, slots=True)
class _Found:
    """A module that was loaded: the files that it made, or why it has none."""

    driver: Driver
    devices: tuple[Device, ...] = ()
    params: str = ""
    problem: str = ""


def discover(
    choice: Choice,
    options: KernelOptions,
    accel: Accel,
    flavour: Flavour,
    confirm: Confirm = lambda _what: True,
) -> tuple[Facts, KernelOptions]:
    """Return what is known of a driver, and the options of the kernels that it needs.

    Raises:
        BadInputError: it cannot be built or loaded, or makes no file; the message says
            what to do.
        InfrastructureError: kernel, machine or sandbox failed.
    """
    if choice.path.is_file():
        return _Discovery(choice, accel, flavour, confirm).of_object(options)
    return _Discovery(choice, accel, flavour, confirm).of_source(options)


class _Discovery:
    def __init__(self, choice: Choice, accel: Accel, flavour: Flavour, confirm: Confirm) -> None:
        self._confirm = confirm
        self._choice = choice
        self._accel = accel
        self._flavour = flavour

    def of_object(self, options: KernelOptions) -> tuple[Facts, KernelOptions]:
        path = self._choice.path.resolve()
        info = read_modinfo(path)
        name = module_name(info.name)

        def take(kernel: Kernel) -> tuple[Driver, Kernel]:
            fitting = object_that_fits(ModuleSpec(None, path, name), kernel)
            return Driver(name, fitting, path.name), kernel

        (driver, kernel), options = fitted(take, options, self._flavour, self._confirm)
        found = self._load(driver, kernel, info)
        return self._facts(found, kernel, Facts(name, (), object=path)), options

    def of_source(self, options: KernelOptions) -> tuple[Facts, KernelOptions]:
        source = self._choice.path.resolve()

        def build(kernel: Kernel) -> tuple[_Found, Kernel]:
            began = time.monotonic()
            say(f"building {source} for the {kernel.name} kernel ({kernel.release()})")
            made = build_source(source, kernel)
            _tell(made, time.monotonic() - began)
            return self._pick(made, kernel), kernel

        def compiles(kernel: Kernel) -> SourceBuild:
            return build_source(source, kernel)

        (found, kernel), options = fitted(build, options, self._flavour, self._confirm, compiles)
        facts = Facts(
            found.driver.name,
            (),
            source=source,
            params=found.params,
            config=options.variant.config,
            kernel=options.version,
        )
        return self._facts(found, kernel, facts), options

    # Which module, and which files it makes.

    def _pick(self, build: SourceBuild, kernel: Kernel) -> _Found:
        """Return the module to fuzz, loaded: the one asked for, or the one with most to fuzz."""
        if self._choice.module:
            name = module_name(Path(self._choice.module).stem)
            driver = pick_module(build, name, self._choice.path)
            return self._load(driver, kernel, read_modinfo(driver.object))
        modules = _leading(build)
        if len(modules) == 1:
            driver = pick_module(build, modules[0].name, self._choice.path)
            return self._load(driver, kernel, read_modinfo(driver.object))
        return self._pick_of_many(build, modules, kernel)

    def _pick_of_many(
        self, build: SourceBuild, modules: Sequence[BuiltModule], kernel: Kernel
    ) -> _Found:
        progress = Progress(f"loading {len(modules)} modules to see what they make", len(modules))
        found: list[_Found] = []
        for number, module in enumerate(modules):
            progress.update(number, module.name)
            if module.undefined:
                continue
            driver = pick_module(build, module.name, self._choice.path)
            try:
                found.append(_Found(driver, self._wanted(self._try(driver, kernel, ""))))
            except PkvfuzzError as error:
                found.append(_Found(driver, problem=str(error)))
        progress.finish(f"{sum(bool(each.devices) for each in found)} make files")
        useful = [each for each in found if each.devices]
        if not useful:
            names = ", ".join(module.name for module in modules)
            raise BadInputError(
                f"{self._choice.path}: none of its modules makes a file to fuzz when it is loaded "
                f"without parameters: {names}. Choose one with --module, and give it --params"
            )
        blocks = {module.name: module.blocks for module in modules}
        useful.sort(key=lambda each: (not _has_node(each), -blocks[each.driver.name]))
        for each in useful[1:]:
            say(f"not now: {each.driver.name}: {_listed(each.devices)}")
        say(
            f"{len(useful)} modules make files; fuzzing {useful[0].driver.name}, which has most "
            "to cover. Choose another with --module NAME"
        )
        return useful[0]

    def _load(self, driver: Driver, kernel: Kernel, info: ModuleInfo) -> _Found:
        """Load a module; with parameters, if it makes nothing without.

        Raises:
            BadInputError: it cannot be loaded, or makes no file.
        """
        params, problem = self._choice.params, ""
        try:
            devices = self._try(driver, kernel, params)
            if devices or self._choice.devices:
                return _Found(driver, self._wanted(devices), params)
        except BadInputError as error:
            problem = str(error)
        if not params and (found := self._try_parameters(driver, kernel, info)):
            say(f"{driver.name} needs parameters: taking {found.params!r}. Others: --params")
            return found
        raise BadInputError(_why_nothing(driver.name, info, problem))

    def _try_parameters(self, driver: Driver, kernel: Kernel, info: ModuleInfo) -> _Found | None:
        """Return what the module makes with one of its parameters set; None if nothing."""
        names = [each.name for each in info.parameters if each.kind in _PARAMETER_KINDS]
        for value in _PARAMETER_VALUES:
            for name in names[:_MOST_PARAMETERS]:
                params = f"{name}={value}"
                try:
                    devices = self._try(driver, kernel, params)
                except BadInputError:
                    continue
                if devices:
                    return _Found(driver, self._wanted(devices), params)
        return None

    def _try(self, driver: Driver, kernel: Kernel, params: str) -> tuple[Device, ...]:
        """Return the files that a driver makes when it is loaded."""
        base, _ = ensure_base(kernel, self._accel, Hardware())
        image = DriverImage(driver.image(), driver.name, (), params, driver.needed_images())
        try:
            with Machine.restore(base) as machine:
                return find_devices(machine, image)
        except LostMachineError as error:
            raise BadInputError(f"loading {driver.name} took the machine down: {error}") from error

    def _wanted(self, devices: tuple[Device, ...]) -> tuple[Device, ...]:
        """Return the devices that were asked for; all, if none was."""
        asked = self._choice.devices
        if not asked:
            return devices
        known = {device.path: device for device in devices}
        return tuple(known.get(path, Device(path)) for path in asked)

    # What its files can do.

    def _facts(self, found: _Found, kernel: Kernel, facts: Facts) -> Facts:
        driver = found.driver
        tables = read_operations(driver.object, kernel)
        ioctls = driver_ioctls(driver, kernel) if facts.source is not None else ()
        say(f"{driver.name} makes {_listed(found.devices)}")
        return replace(
            facts,
            devices=found.devices,
            params=found.params,
            operations=_operations(driver.object, tables, found.devices),
            ioctls=ioctls,
            parameters=read_modinfo(driver.object).parameters,
        )


def _leading(build: SourceBuild) -> list[BuiltModule]:
    """Return the modules that no other one of the build needs."""
    needed = {name for module in build.modules for name in module.needs}
    leading = [module for module in build.modules if module.name not in needed]
    return leading or list(build.modules)


def _has_node(found: _Found) -> bool:
    return any(device.kind in (DeviceKind.CHAR, DeviceKind.BLOCK) for device in found.devices)


def _listed(devices: Sequence[Device]) -> str:
    more = f" and {len(devices) - 6} more" if len(devices) > 6 else ""
    return ", ".join(device.path for device in devices[:6]) + more


def _tell(build: SourceBuild, seconds: float) -> None:
    names = [module.name for module in build.modules]
    listed = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    say(f"built {listed} in {seconds:.0f} s, by: {build.how}")
    if build.failed:
        say(f"left out, as they do not compile: {', '.join(build.failed)}")


def _operations(
    module: Path, tables: tuple[OperationTable, ...], devices: Sequence[Device]
) -> frozenset[str]:
    """Return what the files of a driver can do; all there is where that is not known."""
    symbols = module.read_bytes()
    if any(name.encode() in symbols for name in _SUBSYSTEMS):
        return OPERATIONS
    found = operation_names(tables)
    if any(device.kind is DeviceKind.SYSFS for device in devices):
        found |= {"read", "write"}
    if not found - {"open"}:
        return OPERATIONS
    return found


def _why_nothing(name: str, info: ModuleInfo, problem: str) -> str:
    """Return what to do about a module that is not loaded, or makes no file."""
    lines = [
        problem
        or f"{name} was loaded, but made no file to fuzz: no device node, no number "
        "in /proc/devices, nothing in /proc, debugfs or sysfs."
    ]
    if info.buses:
        ids = ", ".join(info.aliases[:6])
        lines.append(
            f"It is for a device on a bus ({', '.join(info.buses)}), and the guest has none of "
            f"those that it asks for: {ids}"
        )
    if info.parameters:
        listed = ", ".join(f"{each.name} ({each.kind})" for each in info.parameters[:12])
        lines.append(f"It has parameters: {listed}. Give them with --params 'NAME=VALUE ...'")
    if not info.buses and not info.parameters:
        lines.append("If it makes a file later, name it with --device")
    return "\n".join(lines)
