# SPDX-License-Identifier: Apache-2.0
"""Discovery of what there is to fuzz in a driver as its author published it.

The driver is built, on a kernel that has what it needs; loaded, to see which
files it makes; and read, for the operations of these files and their ioctls.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from fuzzer.campaign.description import OPERATIONS, Facts
from fuzzer.driver.author_build import BuildFailedError, first_error
from fuzzer.driver.driver import Driver, MissingSymbolsError, pick_module, with_equipment
from fuzzer.driver.equipment import (
    asked_for,
    bus_devices,
    interfaces,
    lacks,
    needs_device_tree,
    require,
    require_options,
    wish,
)
from fuzzer.driver.fitting import Confirm, fitted
from fuzzer.driver.modinfo import ModuleInfo, read_modinfo
from fuzzer.driver.objects import object_that_fits
from fuzzer.driver.operations import OperationTable, operation_names, read_operations
from fuzzer.driver.provision import ensure_base
from fuzzer.driver.source_build import BuiltModule, SourceBuild, build_source
from fuzzer.driver.stubs import failing_stubs
from fuzzer.driver.symbols import driver_ioctls
from fuzzer.errors import BadInputError, PkvfuzzError
from fuzzer.kernel.kernel import Flavour, Kernel, KernelOptions
from fuzzer.machine.accel import Accel
from fuzzer.machine.machine import DriverImage, LostMachineError, Machine
from fuzzer.machine.nodes import find_devices
from fuzzer.machine.qemu import Hardware
from fuzzer.progress import Progress, say
from fuzzer.splat.find import find_splat
from fuzzer.splat.kmsg import console_lines
from fuzzer.splat.splat import Splat
from fuzzer.target.device import Device, DeviceKind
from fuzzer.target.equipment import Equipment, listed, ordered
from fuzzer.target.target import ModuleSpec, module_name

_T = TypeVar("_T")
# Values tried for parameters of a driver that makes no file without them: a count, a size.
_PARAMETER_VALUES = ("1", "65536")
_PARAMETER_KINDS = frozenset({"int", "uint", "long", "ulong", "bool", "byte", "short", "ushort"})
_MOST_PARAMETERS = 16
_EXPORT = re.compile(r"^\s*EXPORT_SYMBOL(?:_GPL)?\s*\(\s*(\w+)\s*\)", re.MULTILINE)
# Functions of subsystems that make files with operations of their own.
_SUBSYSTEMS = (
    "register_framebuffer", "snd_card_", "input_register_device", "tty_register_d",
    "device_add_disk", "add_disk", "rtc_register", "iio_device_", "drm_dev_", "media_device_",
    "usb_register_dev", "hwmon_device_", "gpiochip_add", "i2c_add_", "watchdog_register",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Choice:
    """A driver to fuzz, as the user chose it.

    ``path`` is a driver's directory or a .ko. ``module`` chooses one of several that
    come out of it; ``devices`` are files to fuzz, instead of all that it makes.
    """

    path: Path
    module: str = ""
    devices: tuple[str, ...] = ()
    params: str = ""


@dataclass(frozen=True, slots=True)
class _Found:
    """A module that was loaded: the files that it made, or the ``problem`` if it made none.

    ``needs`` are other modules of its build that were loaded before it.
    """

    driver: Driver
    devices: tuple[Device, ...] = ()
    params: str = ""
    problem: str = ""
    needs: tuple[str, ...] = ()
    equipment: tuple[Equipment, ...] = ()
    fails: bool = False


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
        # Objects that did not compile, if the others are of no use without them.
        self._failed: frozenset[str] = frozenset()
        # True if the user gave a built kernel, so that there is no other one.
        self._is_given = False
        # Of the last load: a summary of the kernel's messages if no file was made, all of its log,
        # and the problem if the machine was lost.
        self._said = ""
        self._log = b""
        self._lost = ""

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
        self._is_given = options.build is not None

        def build(kernel: Kernel) -> tuple[_Found, Kernel, Path | None]:
            began = time.monotonic()
            made = build_source(source, kernel)
            _tell(made, time.monotonic() - began)
            return self._pick_whole(made, kernel), kernel, made.source

        def compiles(kernel: Kernel) -> SourceBuild:
            made = build_source(source, kernel)
            same = self._failed and self._failed <= set(made.failed)
            if made.failed and (same or lacks_its_own(made)):
                raise _left_out(made)
            return made

        (found, kernel, place), options = fitted(
            build, options, self._flavour, self._confirm, compiles
        )
        facts = Facts(
            found.driver.name,
            (),
            # The directory in which the driver was found, so that it need not be searched again.
            source=place or source,
            params=found.params,
            config=options.variant.config,
            kernel=options.version,
            needs=found.needs,
            equipment=found.equipment,
            fails=found.fails,
        )
        return self._facts(found, kernel, facts), options

    # Which module, and which files it makes.

    def _pick_whole(self, build: SourceBuild, kernel: Kernel) -> _Found:
        """Return the module to fuzz.

        Raises:
            BuildFailedError: none is of use, but some did not compile.
        """
        try:
            return self._pick(build, kernel)
        except BadInputError as error:
            if isinstance(error, BuildFailedError) or not self._lacks_some(build):
                raise
            if self._choice.module and build.module(Path(self._choice.module).stem) is not None:
                raise  # It was made, whatever else was not.
            self._failed = frozenset(build.failed)
            raise _left_out(build) from error

    def _lacks_some(self, build: SourceBuild) -> bool:
        """Return whether the module to fuzz may be one that did not compile."""
        if not self._choice.module:
            return bool(build.failed)
        name = module_name(Path(self._choice.module).stem)
        return build.module(name) is None and bool(build.failed)

    def _pick(self, build: SourceBuild, kernel: Kernel) -> _Found:
        """Return the module to fuzz, loaded: the one asked for, or the one with most to fuzz."""
        modules = _leading(build)
        if self._choice.module:
            name = module_name(Path(self._choice.module).stem)
            driver = _picked(build, name, Path("--module"))
            return self._load(driver, kernel, read_modinfo(driver.object), build)
        if len(modules) == 1:
            driver = _picked(build, modules[0].name, self._choice.path)
            return self._load(driver, kernel, read_modinfo(driver.object), build)
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
                devices = self._wanted(self._try(driver, kernel, self._choice.params))
                found.append(_Found(driver, devices, self._choice.params))
            except PkvfuzzError as error:
                found.append(_Found(driver, problem=str(error)))
        progress.finish(f"{sum(bool(each.devices) for each in found)} make files")
        if not any(map(_has_node, found)):
            found += self._try_together(build, found, kernel)
        useful = [each for each in found if each.devices]
        if not useful:
            for module in modules:
                if module.undefined:
                    # The error that this raises names what the kernel lacks.
                    _picked(build, module.name, self._choice.path)
            raise BadInputError(_why_none(self._choice.path, found))
        return self._best(useful, {module.name: module.blocks for module in modules}, kernel)

    def _best(self, found: list[_Found], blocks: Mapping[str, int], kernel: Kernel) -> _Found:
        """Return the module to fuzz, of several that make files."""

        def rank(each: _Found) -> tuple[bool, bool, int]:
            idle = not read_operations(each.driver.object, kernel)
            return not _has_node(each), idle, -blocks[each.driver.name]

        found = sorted(found, key=rank)
        for each in found[1:]:
            if each.driver.name not in {found[0].driver.name, *found[0].needs}:
                say(f"not now: {each.driver.name}: {_listed(each.devices)}")
        first = found[0]
        after = f", after {', '.join(first.needs)}," if first.needs else ""
        say(
            f"{len({each.driver.name for each in found})} modules make files; fuzzing "
            f"{first.driver.name}{after} which has most to cover. Choose another with --module NAME"
        )
        return first

    # Modules that need each other without saying so: a driver, and what registers its device.

    def _try_together(
        self, build: SourceBuild, found: Sequence[_Found], kernel: Kernel
    ) -> list[_Found]:
        """Return the modules that make files once the others are loaded before them."""
        names = [each.driver.name for each in found if not each.problem]
        if len(names) < 2:
            return []
        say("none of them makes a device node alone: loading each after the others")
        tried = (self._try_after(build, name, names, kernel) for name in names)
        return [each for each in tried if each is not None]

    def _try_after(
        self, build: SourceBuild, name: str, others: Sequence[str], kernel: Kernel
    ) -> _Found | None:
        """Load a module after as few of the others as it needs; None if it makes no file so."""

        def tried(needs: Sequence[str]) -> _Found | None:
            driver = pick_module(build, name, self._choice.path, needs)
            try:
                devices = self._try(driver, kernel, self._choice.params)
            except PkvfuzzError:
                return None
            return _Found(driver, devices, self._choice.params, needs=tuple(needs))

        needs = [each for each in others if each != name]
        found = tried(needs)
        if found is None or not found.devices:
            return None
        for each in tuple(needs) if len(needs) > 1 else ():
            fewer = [other for other in needs if other != each]
            without = tried(fewer)
            if without is not None and set(found.devices) <= set(without.devices):
                found, needs = without, fewer
        return replace(found, devices=self._wanted(found.devices))

    def _load(
        self, driver: Driver, kernel: Kernel, info: ModuleInfo, build: SourceBuild | None = None
    ) -> _Found:
        """Load a module; if it makes no file, after others, with equipment, or with parameters.

        Raises:
            BadInputError: it cannot be loaded, or makes no file.
        """
        params, problem, is_loaded = self._choice.params, "", True
        try:
            devices = self._try(driver, kernel, params)
        except BadInputError as error:
            problem, is_loaded = str(error), False
        else:
            if devices or self._choice.devices:
                plain = _Found(driver, self._wanted(devices), params)
                return self._with_parts(plain, kernel, info) if build else plain
            problem = _no_file(driver.name, self._said)
        complaint = self._complaint()
        if build and self._lost:
            # Each further attempt may take a minute.
            say(f"{self._lost}. Only loading is fuzzed")
            return self._failing(driver, params)
        others = [each.name for each in _others(build, driver.name)] if build else []
        if build and others:
            say(f"{driver.name} makes no file alone: loading it after {', '.join(others)}")
            if found := self._try_after(build, driver.name, others, kernel):
                return found
        equipment: tuple[Equipment, ...] = ()
        if build:
            found, equipment, refused = self._try_equipped(driver, kernel, info)
            if found:
                return found
            if equipment:
                # The attempt with stand-ins for its hardware says more than the one without.
                problem, is_loaded = refused or _no_file(driver.name, self._said), not refused
                complaint = self._complaint() or complaint
        if not params and (found := self._try_parameters(driver, kernel, info)):
            say(f"{driver.name} needs parameters: taking {found.params!r}. Others: --params")
            return found
        options = interfaces(info) if build and is_loaded and not self._is_given else ()
        require_options(options, kernel, f"a file for what {driver.name} registers")
        stubs = failing_stubs(info.path, kernel) if build else {}
        calling = f"calling {', '.join(f'{name}()' for name in stubs)}"
        options = tuple(sorted(set(stubs.values())))
        require_options(() if self._is_given else options, kernel, calling)
        if complaint and build:
            why, _, _ = problem.partition(" The kernel said")
            say(f"{why} And the kernel complained of it: {complaint.title}. Only loading is fuzzed")
            return self._failing(with_equipment(driver, equipment, kernel), params, equipment)
        if stubs:
            problem += f"\nThe kernel is without {', '.join(options)}: {calling} only fails"
        if not read_operations(driver.object, kernel):
            problem += "\nIt has no file operations: it may have nothing that could be fuzzed"
        raise BadInputError(_why_nothing(info, problem, equipment, is_loaded=is_loaded))

    def _failing(
        self, driver: Driver, params: str, equipment: tuple[Equipment, ...] = ()
    ) -> _Found:
        """Return a driver whose loading fails, so that programs do little but load it."""
        devices = tuple(map(Device, self._choice.devices or (f"/dev/{driver.name}",)))
        return _Found(driver, devices, params, equipment=equipment, fails=True)

    def _try_equipped(
        self, driver: Driver, kernel: Kernel, info: ModuleInfo
    ) -> tuple[_Found | None, tuple[Equipment, ...], str]:
        """Load a driver with stand-ins for its hardware.

        Returns what was found, None if it makes no file; the stand-ins; and why it does not
        load, empty if it does.

        Raises:
            BuildFailedError: it takes a kernel with more options.
        """
        params, equipment = self._choice.params, asked_for(info)
        if equipment:
            say(f"registering {listed(equipment)} for {driver.name}")
        require(equipment, kernel, device_tree=needs_device_tree(info))
        if not any(each.has_devices for each in equipment):
            more = self._on_buses(with_equipment(driver, equipment, kernel), kernel, equipment)
            if more:
                say(f"registering {listed(more)} for {driver.name}")
            equipment = ordered((*equipment, *more))
        if not equipment:
            return None, (), ""
        equipped = with_equipment(driver, equipment, kernel)
        try:
            devices = self._try(equipped, kernel, params)
        except PkvfuzzError as error:
            return None, equipment, str(error)
        if not devices:
            return None, equipment, ""
        found = _Found(equipped, self._wanted(devices), params, equipment=equipment)
        return found, equipment, ""

    def _with_parts(self, found: _Found, kernel: Kernel, info: ModuleInfo) -> _Found:
        """Return a driver with the equipment besides devices that it asks for, such as GPIO lines.

        Raises:
            BuildFailedError: it takes a kernel with more options.
        """
        equipment = tuple(each for each in asked_for(info) if not each.has_devices)
        if not equipment or (self._is_given and lacks(equipment, kernel)):
            return found
        say(f"registering {listed(equipment)} for {found.driver.name}")
        require(equipment, kernel)
        equipped = with_equipment(found.driver, equipment, kernel)
        try:
            devices = self._wanted(self._try(equipped, kernel, found.params))
        except PkvfuzzError:
            devices = ()
        if not set(found.devices) <= set(devices):
            say(f"it makes its files without alone: {listed(equipment)} left out")
            return found
        return replace(found, driver=equipped, devices=devices, equipment=equipment)

    def _on_buses(
        self, driver: Driver, kernel: Kernel, known: Sequence[Equipment]
    ) -> tuple[Equipment, ...]:
        """Return devices for a driver on the buses that it registers with when it is loaded."""
        base, _ = ensure_base(kernel, self._accel, Hardware())
        params = self._choice.params
        image = DriverImage(driver.image(), driver.name, (), params, driver.needed_images())
        try:
            with Machine.restore(base) as machine:
                return bus_devices(machine, image, read_modinfo(driver.object), known)
        except PkvfuzzError:
            return ()  # It does not load, which is told elsewhere.

    def _try_parameters(self, driver: Driver, kernel: Kernel, info: ModuleInfo) -> _Found | None:
        """Load a module with one of its parameters set; None if it makes no file with any."""
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
                try:
                    devices = find_devices(machine, image)
                finally:
                    self._log = machine.load_log
                self._said = "" if devices else machine.said()
                return devices
        except LostMachineError as error:
            self._lost = f"loading {driver.name} took the machine down: {error}"
            raise BadInputError(self._lost) from error

    def _complaint(self) -> Splat | None:
        """Return the kernel's report from the last load of a module, None if there was none."""
        return find_splat(console_lines(self._log))

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
        if not found.fails:
            say(f"{driver.name} makes {_listed(found.devices)}")
        return replace(
            facts,
            devices=found.devices,
            params=found.params,
            operations=_operations(driver.object, tables, found.devices),
            ioctls=ioctls,
            parameters=read_modinfo(driver.object).parameters,
        )


def _picked(build: SourceBuild, name: str, description: Path) -> Driver:
    """Return a module of a build.

    Raises:
        MissingSymbolsError: the kernel lacks symbols that it needs. The error also has the
        options for stand-ins of its hardware, so that one kernel has both.
        BadInputError: there is no such module.
    """
    try:
        return pick_module(build, name, description)
    except MissingSymbolsError as error:
        if module := build.module(name):
            info = read_modinfo(module.path)
            error.kconfig += wish(asked_for(info), device_tree=needs_device_tree(info))
        raise


def _leading(build: SourceBuild) -> list[BuiltModule]:
    """Return the modules that no other one of the build needs."""
    needed = {name for module in build.modules for name in module.needs}
    leading = [module for module in build.modules if module.name not in needed]
    return leading or list(build.modules)


def _others(build: SourceBuild, name: str) -> list[BuiltModule]:
    """Return the modules of a build that can be loaded before the one of a name."""
    return [
        each
        for each in _leading(build)
        if each.name != name and name not in each.needs and not each.undefined
    ]


def lacks_its_own(build: SourceBuild) -> bool:
    """Return whether each module that compiled calls parts of the driver that did not."""
    exported: set[str] = set()
    for path in build.directory.rglob("*.c"):
        exported.update(_EXPORT.findall(path.read_text(errors="replace")))
    return all(exported.intersection(module.undefined) for module in build.modules)


def _left_out(build: SourceBuild) -> BuildFailedError:
    """Return the error that parts of a driver do not compile."""
    log = build.log()
    error = first_error(log, build.directory)
    return BuildFailedError(f"{', '.join(build.failed)} does not compile:\n{error}", log)


def _why_none(path: Path, found: Sequence[_Found]) -> str:
    lines = [f"{path}: none of its modules makes a file to fuzz:"]
    for each in found[:8]:
        problem = each.problem.splitlines()[0] if each.problem else "loaded, and made no file"
        buses = read_modinfo(each.driver.object).buses
        waits = f"; it waits for a device on a bus ({', '.join(buses)})" if buses else ""
        lines.append(f"    {each.driver.name}: {problem}{waits}")
    lines.append(
        "Choose one with --module: hardware is stood in for then. Give it --params if it needs any"
    )
    return "\n".join(lines)


def _has_node(found: _Found) -> bool:
    return any(device.kind in (DeviceKind.CHAR, DeviceKind.BLOCK) for device in found.devices)


def _listed(devices: Sequence[Device]) -> str:
    more = f" and {len(devices) - 6} more" if len(devices) > 6 else ""
    return ", ".join(device.path for device in devices[:6]) + more


def _tell(build: SourceBuild, seconds: float) -> None:
    names = [module.name for module in build.modules]
    shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    when = f"built {shown} in {seconds:.0f} s" if seconds >= 1 else f"{shown}: built before"
    say(f"{when}, by: {build.how}")
    if build.failed:
        say(f"left out, as they do not compile: {', '.join(build.failed)}")
    if build.licences:
        say(
            f"the kernel's lock checks are for modules under the GPL, and the licence of this is "
            f"{', '.join(build.licences)}: MODULE_LICENSE says GPL in the copy that is fuzzed"
        )


def _operations(
    module: Path, tables: tuple[OperationTable, ...], devices: Sequence[Device]
) -> frozenset[str]:
    """Return the operations of a driver's files; all that there are if they are not known."""
    symbols = module.read_bytes()
    if any(name.encode() in symbols for name in _SUBSYSTEMS):
        return OPERATIONS
    found = operation_names(tables)
    if "compat" in found:
        found |= {"ioctl"}
    if any(not device.path.startswith("/dev/") for device in devices):
        # The kernel's own operations lead to the driver's: attributes, sequences.
        found |= {"read", "write", "lseek"}
    if not found - {"open"}:
        return OPERATIONS
    return found


def _no_file(name: str, said: str) -> str:
    return f"{name} was loaded, but made no file to fuzz.{said}"


def _why_nothing(
    info: ModuleInfo,
    problem: str,
    equipment: Sequence[Equipment] = (),
    *,
    is_loaded: bool = True,
) -> str:
    """Return advice on a module that does not load, or makes no file.

    ``equipment`` was registered for it in vain.
    """
    lines = [problem]
    if equipment:
        lines.append(
            f"Registered for it: {listed(equipment)}, without hardware behind it. A module in "
            "the same directory that registers something better would be loaded first"
        )
    elif info.buses:
        ids = ", ".join(info.aliases[:6])
        lines.append(
            f"It is for a device on a bus ({', '.join(info.buses)}), and the guest has none of "
            f"those that it asks for: {ids}"
        )
    if info.parameters:
        named = ", ".join(f"{each.name} ({each.kind})" for each in info.parameters[:12])
        lines.append(f"It has parameters: {named}. Give them with --params 'NAME=VALUE ...'")
    if not is_loaded:
        lines.append("Nothing can be fuzzed before it loads: see what its init function asks for")
    elif not (info.buses or info.parameters or equipment):
        lines.append("If it makes a file later, name it with --device")
    return "\n".join(lines)
