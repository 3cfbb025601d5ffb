# SPDX-License-Identifier: Apache-2.0
"""Trial loads of a module, which show the files that it makes.

A module that makes none alone is loaded after others of its build, with stand-ins for its
hardware, and with parameters, until it makes some.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from fuzzer.campaign.choice import Choice
from fuzzer.driver.driver import Driver, pick_module, with_equipment
from fuzzer.driver.equipment import (
    asked_for,
    bus_devices,
    interfaces,
    lacks,
    needs_device_tree,
    require,
    require_options,
)
from fuzzer.driver.modinfo import ModuleInfo, read_modinfo
from fuzzer.driver.operations import read_operations
from fuzzer.driver.provision import ensure_base
from fuzzer.driver.source_build import BuiltModule, SourceBuild
from fuzzer.driver.stubs import failing_stubs
from fuzzer.errors import BadInputError, PkvfuzzError
from fuzzer.kernel.kernel import Kernel
from fuzzer.machine.accel import Accel
from fuzzer.machine.machine import DriverImage, LostMachineError, Machine
from fuzzer.machine.nodes import added_devices, find_devices, list_files
from fuzzer.machine.qemu import Hardware
from fuzzer.progress import say
from fuzzer.splat.find import find_splat
from fuzzer.splat.kmsg import console_lines
from fuzzer.splat.splat import Splat
from fuzzer.target.device import Device
from fuzzer.target.equipment import Equipment, listed, ordered

# Values tried for parameters of a driver that makes no file without them: a count, a size.
_PARAMETER_VALUES = ("1", "65536")
_PARAMETER_KINDS = frozenset({"int", "uint", "long", "ulong", "bool", "byte", "short", "ushort"})
_MOST_PARAMETERS = 16


@dataclass(frozen=True, slots=True)
class Loaded:
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


class TrialLoads:
    """Loads modules on fresh machines to see which files they make.

    With ``is_given`` the user gave a built kernel, so that there is no other one.
    """

    def __init__(self, choice: Choice, accel: Accel, *, is_given: bool) -> None:
        self._choice = choice
        self._accel = accel
        self._is_given = is_given
        # Of the last load: a summary of the kernel's messages if no file was made, all of its log,
        # and the problem if the machine was lost.
        self._said = ""
        self._log = b""
        self._lost = ""

    def alone(self, driver: Driver, kernel: Kernel) -> Loaded:
        """Load a module with nothing besides.

        Raises:
            PkvfuzzError: it cannot be loaded.
        """
        params = self._choice.params
        return Loaded(driver, self.wanted(self._try(driver, kernel, params)), params)

    def together(self, build: SourceBuild, found: Sequence[Loaded], kernel: Kernel) -> list[Loaded]:
        """Return the modules that make files once the others are loaded before them."""
        names = [each.driver.name for each in found if not each.problem]
        if len(names) < 2:
            return []
        say("none of them makes a device node alone: loading each after the others")
        tried = (self._try_after(build, name, names, kernel) for name in names)
        return [each for each in tried if each is not None]

    def _try_after(
        self, build: SourceBuild, name: str, others: Sequence[str], kernel: Kernel
    ) -> Loaded | None:
        """Load a module after as few of the others as it needs; None if it makes no file so."""

        def tried(needs: Sequence[str]) -> Loaded | None:
            driver = pick_module(build, name, self._choice.path, needs)
            try:
                devices = self._try(driver, kernel, self._choice.params)
            except PkvfuzzError:
                return None
            return Loaded(driver, devices, self._choice.params, needs=tuple(needs))

        needs = [each for each in others if each != name]
        found = tried(needs)
        if found is None or not found.devices:
            return None
        for each in tuple(needs) if len(needs) > 1 else ():
            fewer = [other for other in needs if other != each]
            without = tried(fewer)
            if without is not None and set(found.devices) <= set(without.devices):
                found, needs = without, fewer
        return replace(found, devices=self.wanted(found.devices))

    def load(
        self, driver: Driver, kernel: Kernel, info: ModuleInfo, build: SourceBuild | None = None
    ) -> Loaded:
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
                plain = Loaded(driver, self.wanted(devices), params)
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

    def built_in(self, plain: Kernel, kernel: Kernel) -> tuple[Device, ...]:
        """Return the files that a kernel has beside those of the plain one.

        Raises:
            InfrastructureError: a machine does not start, or cannot list its files.
        """
        before, _ = ensure_base(plain, self._accel, Hardware())
        with Machine.restore(before) as machine:
            known = list_files(machine)
        after, _ = ensure_base(kernel, self._accel, Hardware())
        with Machine.restore(after) as machine:
            return added_devices(machine, known)

    def _failing(
        self, driver: Driver, params: str, equipment: tuple[Equipment, ...] = ()
    ) -> Loaded:
        """Return a driver whose loading fails, so that programs do little but load it."""
        devices = tuple(map(Device, self._choice.devices or (f"/dev/{driver.name}",)))
        return Loaded(driver, devices, params, equipment=equipment, fails=True)

    def _try_equipped(
        self, driver: Driver, kernel: Kernel, info: ModuleInfo
    ) -> tuple[Loaded | None, tuple[Equipment, ...], str]:
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
        found = Loaded(equipped, self.wanted(devices), params, equipment=equipment)
        return found, equipment, ""

    def _with_parts(self, found: Loaded, kernel: Kernel, info: ModuleInfo) -> Loaded:
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
            devices = self.wanted(self._try(equipped, kernel, found.params))
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

    def _try_parameters(self, driver: Driver, kernel: Kernel, info: ModuleInfo) -> Loaded | None:
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
                    return Loaded(driver, self.wanted(devices), params)
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

    def wanted(self, devices: tuple[Device, ...]) -> tuple[Device, ...]:
        """Return the devices that were asked for; all, if none was."""
        asked = self._choice.devices
        if not asked:
            return devices
        known = {device.path: device for device in devices}
        return tuple(known.get(path, Device(path)) for path in asked)


def leading(build: SourceBuild) -> list[BuiltModule]:
    """Return the modules that no other one of the build needs."""
    needed = {name for module in build.modules for name in module.needs}
    leading = [module for module in build.modules if module.name not in needed]
    return leading or list(build.modules)


def _others(build: SourceBuild, name: str) -> list[BuiltModule]:
    """Return the modules of a build that can be loaded before the one of a name."""
    return [
        each
        for each in leading(build)
        if each.name != name and name not in each.needs and not each.undefined
    ]


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
