# SPDX-License-Identifier: Apache-2.0
"""Stand-ins for hardware that is not there: a driver's probe runs all the same.

A driver does nothing until a device of its name exists on its bus, or fails without
the adapter, controller or line that it asks for by number. Modules of ours register
these before it is loaded.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from fuzzer.driver.author_build import BuildFailedError
from fuzzer.driver.modinfo import ModuleInfo
from fuzzer.driver.source_build import build_source
from fuzzer.errors import InfrastructureError
from fuzzer.kernel.kernel import Kernel, parse_config
from fuzzer.machine.machine import DriverImage, Machine
from fuzzer.paths import project_root
from fuzzer.target.equipment import BUSES, Equipment, listed, ordered

# Options of the kernel for the module that registers devices of a bus.
_OPTIONS = {
    "gpio": ("GPIOLIB",),
    "i2c": ("I2C",),
    "spi": ("SPI",),
    "usb": ("USB", "USB_GADGET", "USB_DUMMY_HCD"),
    "platform": (),
}
# Lines that belong to a device are asked for by their functions.
_BY_FUNCTION = (
    *("gpiod_get", "gpiod_get_optional", "gpiod_get_index", "devm_gpiod_get"),
    *("devm_gpiod_get_optional", "devm_gpiod_get_index"),
)
# A driver that calls one of these takes what has a number, and needs no device.
_ASKS = {
    "gpio": (
        *("gpio_request", "gpio_request_one", "gpio_request_array", "devm_gpio_request"),
        *("devm_gpio_request_one", "gpio_to_desc", "gpio_to_irq", "gpiod_to_irq"),
        *("gpio_direction_input", "gpio_direction_output", "gpio_get_value", "gpio_set_value"),
        *_BY_FUNCTION,
    ),
    "i2c": ("i2c_get_adapter",),
    "spi": ("spi_busnum_to_master", "spi_busnum_to_controller", "spi_new_device"),
}
# What a subsystem makes no file for without an option of its own.
_INTERFACES = {
    "input_register_device": "INPUT_EVDEV",
    "__devm_rtc_register_device": "RTC_INTF_DEV",
}
_LINE_FUNCTION = re.compile(r'gpiod_get(?:_\w+)?\s*\([^";]*?,\s*"([^"]*)"')
_I2C_DRIVER = "i2c_register_driver"
# Without a table of names, they go by one for device trees.
_DEVICE_TREE = re.compile(r"of:N\*T\*C(?:[^,]*,)?([^,]+?)(?:C\*)?")
_USB_ID = re.compile(
    r"usb:v([0-9A-F]{4}|\*)p([0-9A-F]{4}|\*)d.*?"
    r"ic([0-9A-F]{2}|\*)isc([0-9A-F]{2}|\*)ip([0-9A-F]{2}|\*)in.*"
)
# An id that no vendor has, for a driver that takes any device of a vendor or a class.
_ANY_USB_ID = ("1209", "0001")
# Buses whose drivers take devices by the drivers' own names.
_BY_DRIVER = ("platform", "i2c", "spi")
_LIST = "cd /sys/bus && ls -d " + " ".join(f"{bus}/drivers/*" for bus in _BY_DRIVER)
_SECONDS = 30.0


def equipment_modules(
    equipment: Sequence[Equipment], kernel: Kernel
) -> tuple[tuple[Path, str], ...]:
    """Return the modules that register equipment, built for a kernel, and their parameters.

    Raises:
        BuildFailedError: the kernel lacks options that they take.
        InfrastructureError: one does not build.
    """
    require(equipment, kernel)
    return tuple((_module(each.bus, kernel), _params(each)) for each in equipment)


def _module(bus: str, kernel: Kernel) -> Path:
    name = f"pkvfuzz_{bus}"
    source = project_root() / "module" / "devices"
    built = build_source(source, kernel, variables=[f"PKVFUZZ_DEVICES={bus}"]).module(name)
    if built is None or built.undefined:
        raise InfrastructureError(f"{name}.ko cannot be built for the {kernel.name} kernel")
    return built.path


def _params(equipment: Equipment) -> str:
    return f"names={','.join(equipment.names)}" if equipment.names else ""


def require(equipment: Sequence[Equipment], kernel: Kernel, *, device_tree: bool = False) -> None:
    """Check that a kernel can register equipment, with ``device_tree`` also that drivers find it.

    Raises:
        BuildFailedError: it has not all of them.
    """
    options = _options(equipment, device_tree=device_tree)
    require_options(options, kernel, f"registering {listed(equipment)}")


def require_options(options: Sequence[str], kernel: Kernel, what: str) -> None:
    """Check that a kernel has the options that something needs, which ``what`` names.

    Raises:
        BuildFailedError: it has not all of them.
    """
    lacking = _lacking(options, kernel)
    if lacking:
        told = f"{what} takes a kernel with {', '.join(lacking)}"
        raise BuildFailedError(told, "", kconfig=_kconfig(lacking))


def interfaces(info: ModuleInfo) -> tuple[str, ...]:
    """Return options by which a subsystem makes files for what a module registers with it."""
    image = info.path.read_bytes()
    return tuple(option for name, option in _INTERFACES.items() if _mentions(image, (name,)))


def lacks(
    equipment: Sequence[Equipment], kernel: Kernel, *, device_tree: bool = False
) -> list[str]:
    """Return the options that a kernel is without, of those that equipment takes."""
    return _lacking(_options(equipment, device_tree=device_tree), kernel)


def _lacking(options: Iterable[str], kernel: Kernel) -> list[str]:
    config = parse_config((kernel.directory / ".config").read_text())
    return [option for option in options if config.get(f"CONFIG_{option}", "n") != "y"]


def wish(equipment: Sequence[Equipment], *, device_tree: bool = False) -> str:
    """Return the options that equipment takes of a kernel, as text of a driver's Kconfig."""
    return _kconfig(_options(equipment, device_tree=device_tree))


def _options(equipment: Sequence[Equipment], *, device_tree: bool) -> list[str]:
    found = [option for each in equipment for option in _OPTIONS[each.bus]]
    return [*found, "OF"] if device_tree else found


def _kconfig(options: Iterable[str]) -> str:
    return "".join(f"depends on {option}\n" for option in options)


def asked_for(info: ModuleInfo) -> tuple[Equipment, ...]:
    """Return the equipment a module asks for, by functions that it calls and ids in its tables.

    A kernel without a subsystem may have stubs of its functions: their names are known from
    the module's debug information.
    """
    image = info.path.read_bytes()
    alone = [bus for bus, names in _ASKS.items() if _mentions(image, names)]
    by_function = _mentions(image, _BY_FUNCTION)
    functions = _usable("gpio", _line_functions(info.path.parent)) if by_function else ()
    found = [Equipment(bus, functions if bus == "gpio" else ()) for bus in alone]
    taken = {each.bus for each in found}
    for bus in ("i2c", "spi"):
        names = _usable(bus, _ids(info, bus))
        if names and bus not in taken:
            found.append(Equipment(bus, names))
    if needs_device_tree(info):
        found.append(Equipment("i2c", _usable("i2c", _compatibles(info))))
    if ids := _usable("usb", _usb_ids(info.aliases)):
        found.append(Equipment("usb", ids))
    return ordered(found)


def needs_device_tree(info: ModuleInfo) -> bool:
    """Return whether a module's devices are found by its table for device trees alone."""
    image = info.path.read_bytes()
    named = _ids(info, "i2c") or _mentions(image, _ASKS["i2c"])
    by_tree = _mentions(image, (_I2C_DRIVER,)) and _usable("i2c", _compatibles(info))
    return bool(by_tree and not named)


def _line_functions(source: Path) -> list[str]:
    """Return the functions of lines that a driver's source asks for, such as ``reset``."""
    texts = (path.read_text(errors="replace") for path in sorted(source.rglob("*.c")))
    return [name for text in texts for name in _LINE_FUNCTION.findall(text)]


def _mentions(image: bytes, names: Iterable[str]) -> bool:
    return any(b"\0%s\0" % name.encode() in image for name in names)


def _ids(info: ModuleInfo, bus: str) -> list[str]:
    start = f"{bus}:"
    return sorted(each.removeprefix(start) for each in info.aliases if each.startswith(start))


def _compatibles(info: ModuleInfo) -> list[str]:
    return [match[1] for each in info.aliases if (match := _DEVICE_TREE.fullmatch(each))]


def _usb_ids(aliases: Iterable[str]) -> list[str]:
    """Return devices that a driver takes: those that are named wholly, or else any that fit."""
    matches = [match for each in aliases if (match := _USB_ID.fullmatch(each))]
    exact = [match for match in matches if "*" not in match.group(1, 2)]
    partly = [match for match in matches if match[1] != "*" or match[3] != "*"]
    return list(map(_usb_id, exact or partly))


def _usb_id(match: re.Match[str]) -> str:
    vendor, product = (
        given if given != "*" else other
        for given, other in zip(match.group(1, 2), _ANY_USB_ID, strict=True)
    )
    kind = "".join(match.group(3, 4, 5)).replace("*", "00") if match[3] != "*" else ""
    return f"{vendor}:{product}:{kind}".rstrip(":")


def _usable(bus: str, names: Iterable[str]) -> tuple[str, ...]:
    fitting = filter(BUSES[bus].name.match, dict.fromkeys(names))
    return tuple(fitting)[: BUSES[bus].most]


def bus_devices(
    machine: Machine, driver: DriverImage, info: ModuleInfo, known: Sequence[Equipment] = ()
) -> tuple[Equipment, ...]:
    """Return the devices that a driver takes, by the buses on which it is once loaded.

    A driver with a table of ids takes no others. Of buses that are ``known`` nothing is said.

    Raises:
        BadInputError: the kernel refuses it.
        InfrastructureError: the guest cannot list them, or is lost.
    """
    before = _listed(machine)
    machine.load(driver)
    new = sorted(_listed(machine) - before)
    found = []
    for bus in _BY_DRIVER:
        drivers = [name for name_bus, name in new if name_bus == bus]
        names = _usable(bus, _ids(info, bus) or drivers) if drivers else ()
        if names and bus not in {each.bus for each in known}:
            found.append(Equipment(bus, names))
    return tuple(found)


def _listed(machine: Machine) -> set[tuple[str, str]]:
    """Return the drivers that there are, each with its bus."""
    done = machine.execute(["/bin/busybox", "sh", "-c", _LIST], timeout=_SECONDS)
    paths = (line.split("/", 2) for line in done.output.decode(errors="replace").splitlines())
    return {(path[0], path[2]) for path in paths if len(path) == 3}
