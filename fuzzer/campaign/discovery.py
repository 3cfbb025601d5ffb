# SPDX-License-Identifier: Apache-2.0
"""Discovery of what there is to fuzz in a driver as its author published it.

The driver is built, on a kernel that has what it needs; loaded, to see which
files it makes; and read, for the operations of these files and their ioctls.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from fuzzer.campaign.choice import Choice
from fuzzer.campaign.description import OPERATIONS, DriverFacts
from fuzzer.campaign.source_calls import constant_names, record_names
from fuzzer.campaign.trial_loads import Loaded, TrialLoads, leading
from fuzzer.driver.author_build import BuildFailedError, first_error
from fuzzer.driver.driver import Driver, MissingSymbolsError, builtin_driver, pick_module
from fuzzer.driver.equipment import asked_for, needs_device_tree, wish
from fuzzer.driver.fitting import Confirm, fitted
from fuzzer.driver.imports import files_taken, looks_at_callers
from fuzzer.driver.ioctls import IoctlMacro
from fuzzer.driver.modinfo import read_modinfo
from fuzzer.driver.objects import object_that_fits
from fuzzer.driver.operations import OperationTable, operation_names, read_operations
from fuzzer.driver.source.interface import NOTHING, Interface
from fuzzer.driver.source_build import BuiltModule, SourceBuild, build_root, build_source
from fuzzer.driver.symbols import driver_interface, driver_ioctls, driver_known
from fuzzer.errors import BadInputError, PkvfuzzError
from fuzzer.kernel.in_tree import TreeDriver, same_in_distribution, tree_driver
from fuzzer.kernel.kernel import (
    Flavour,
    Kernel,
    KernelOptions,
    Variant,
    ensure_kernel,
    parse_config,
)
from fuzzer.kernel.needs.needs import options_that_build
from fuzzer.kernel.versions import default_version
from fuzzer.machine.accel import Accel
from fuzzer.progress import Progress, say
from fuzzer.target.device import Device, DeviceKind
from fuzzer.target.header import Header
from fuzzer.target.target import ModuleSpec, module_name

_EXPORT = re.compile(r"^\s*EXPORT_SYMBOL(?:_GPL)?\s*\(\s*(\w+)\s*\)", re.MULTILINE)
# Functions of subsystems that make files with operations of their own.
# Functions by which a file in /proc has operations that are none of the driver's own.
_SEQUENCES = ("proc_create_single", "proc_create_seq", "proc_create_net")
_SUBSYSTEMS = (
    "register_framebuffer", "snd_card_", "input_register_device", "tty_register_d",
    "device_add_disk", "add_disk", "rtc_register", "iio_device_", "drm_dev_", "media_device_",
    "usb_register_dev", "hwmon_device_", "gpiochip_add", "i2c_add_", "watchdog_register",
)  # fmt: skip


def discover(
    choice: Choice,
    options: KernelOptions,
    accel: Accel,
    flavour: Flavour,
    confirm: Confirm = lambda _what: True,
) -> tuple[DriverFacts, KernelOptions]:
    """Return what is known of a driver, and the options of the kernels that it needs.

    Raises:
        BadInputError: it cannot be built or loaded, or makes no file; the message says
            what to do.
        InfrastructureError: kernel, machine or sandbox failed.
    """
    loads = TrialLoads(choice, accel, is_given=options.build is not None)
    discovery = _Discovery(choice, loads, flavour, confirm)
    if choice.tree is not None:
        return discovery.of_tree(choice.tree, options)
    if choice.path.is_file():
        return discovery.of_object(options)
    return discovery.of_source(options)


class _Discovery:
    def __init__(
        self, choice: Choice, loads: TrialLoads, flavour: Flavour, confirm: Confirm
    ) -> None:
        self._choice = choice
        self._loads = loads
        self._flavour = flavour
        self._confirm = confirm
        # Objects that did not compile, if the others are of no use without them.
        self._failed: frozenset[str] = frozenset()

    def of_object(self, options: KernelOptions) -> tuple[DriverFacts, KernelOptions]:
        path = self._choice.path.resolve()
        info = read_modinfo(path)
        name = module_name(info.name)

        def take(kernel: Kernel) -> tuple[Driver, Kernel]:
            fitting = object_that_fits(ModuleSpec(None, path, name), kernel)
            return Driver(name, fitting, path.name), kernel

        (driver, kernel), options = fitted(take, options, self._flavour, self._confirm)
        found = self._loads.load(driver, kernel, info)
        return self._facts(found, kernel, DriverFacts(name, (), object=path)), options

    def of_tree(self, tree: Path, options: KernelOptions) -> tuple[DriverFacts, KernelOptions]:
        """Return the facts of a driver of the kernel's tree: it is built into the kernel."""
        part = tree_driver(tree, self._choice.path, self._choice.module)
        options = _kernels_of(tree, part, options)
        plain = ensure_kernel(self._flavour, options)
        needs = options_that_build(part.name, part.condition, plain)
        if needs.unexplained:
            why = "; ".join(each.reason for each in needs.unexplained)
            raise BadInputError(f"{part.name} cannot be built into the kernel: {why}")
        config = parse_config((plain.directory / ".config").read_text())
        wanted = config | Variant(needs.options).options
        sources = part.sources(plain.source, config, wanted)
        if core := sorted(set(sources) - set(part.parts)):
            say(f"{part.name} has no file operations; covering what has: {', '.join(core)}")
        options = replace(options, variant=Variant(needs.options, sources))
        target = ModuleSpec(None, None, part.name, builtin=sources)

        def use(kernel: Kernel) -> tuple[Driver, Kernel]:
            return builtin_driver(target, kernel), kernel

        (driver, kernel), options = fitted(use, options, self._flavour, self._confirm)
        made = _named_in(driver.parts, self._loads.built_in(plain, kernel))
        devices = self._loads.wanted(made)
        if not devices:
            raise BadInputError(
                f"{part.name} is built into the kernel, and makes no file to fuzz. If it needs "
                "hardware, there is none; if others make its files, name one with --device"
            )
        facts = DriverFacts(
            part.name,
            (),
            config=options.variant.config,
            kernel=options.version,
            builtin=options.variant.sources,
        )
        return self._facts(Loaded(driver, devices), kernel, facts), options

    def of_source(self, options: KernelOptions) -> tuple[DriverFacts, KernelOptions]:
        source = self._choice.path.resolve()

        def build(kernel: Kernel) -> tuple[Loaded, Kernel, Path | None]:
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
        facts = DriverFacts(
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

    def _pick_whole(self, build: SourceBuild, kernel: Kernel) -> Loaded:
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

    def _pick(self, build: SourceBuild, kernel: Kernel) -> Loaded:
        """Return the module to fuzz, loaded: the one asked for, or the one with most to fuzz."""
        modules = leading(build)
        if self._choice.module:
            name = module_name(Path(self._choice.module).stem)
            driver = _picked(build, name, Path("--module"))
            return self._loads.load(driver, kernel, read_modinfo(driver.object), build)
        if len(modules) == 1:
            driver = _picked(build, modules[0].name, self._choice.path)
            return self._loads.load(driver, kernel, read_modinfo(driver.object), build)
        return self._pick_of_many(build, modules, kernel)

    def _pick_of_many(
        self, build: SourceBuild, modules: Sequence[BuiltModule], kernel: Kernel
    ) -> Loaded:
        progress = Progress(f"loading {len(modules)} modules to see what they make", len(modules))
        found: list[Loaded] = []
        for number, module in enumerate(modules):
            progress.update(number, module.name)
            if module.undefined:
                continue
            driver = pick_module(build, module.name, self._choice.path)
            try:
                found.append(self._loads.alone(driver, kernel))
            except PkvfuzzError as error:
                found.append(Loaded(driver, problem=str(error)))
        progress.finish(f"{sum(bool(each.devices) for each in found)} make files")
        if not any(map(_has_node, found)):
            found += self._loads.together(build, found, kernel)
        useful = [each for each in found if each.devices]
        if not useful:
            for module in modules:
                if module.undefined:
                    # The error that this raises names what the kernel lacks.
                    _picked(build, module.name, self._choice.path)
            raise BadInputError(_why_none(self._choice.path, found))
        return self._best(useful, {module.name: module.blocks for module in modules}, kernel)

    def _best(self, found: list[Loaded], blocks: Mapping[str, int], kernel: Kernel) -> Loaded:
        """Return the module to fuzz, of several that make files."""

        def rank(each: Loaded) -> tuple[bool, bool, int]:
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

    def _facts(self, found: Loaded, kernel: Kernel, facts: DriverFacts) -> DriverFacts:
        driver = found.driver
        objects = driver.parts or (driver.object,)
        tables = tuple(table for path in objects for table in read_operations(path, kernel))
        ioctls: tuple[IoctlMacro, ...] = ()
        interface, known = facts.interface, facts.known
        if facts.source is not None or facts.builtin:
            ioctls = driver_ioctls(driver, kernel)
            interface, known = _from_source(driver, kernel)
        if not found.fails:
            say(f"{driver.name} makes {_listed(found.devices)}")
        return replace(
            facts,
            devices=found.devices,
            params=found.params,
            operations=_operations(objects, tables, found.devices),
            takes_files=files_taken(objects),
            ioctls=ioctls,
            parameters=() if driver.parts else read_modinfo(driver.object).parameters,
            interface=interface,
            known=known,
            root=str(kernel.source if driver.parts else build_root(driver.object.parent)),
        )


def _kernels_of(tree: Path, part: TreeDriver, options: KernelOptions) -> KernelOptions:
    """Return the options of kernels with a driver of a kernel's tree.

    Where the distribution's source has the same driver, its kernels are there already, or will
    be for others.
    """
    if options.version or options.source or options.build:
        return options
    version = same_in_distribution(tree, part)
    if not version:
        say(f"building kernels from {tree}")
        return replace(options, source=tree)
    say(f"{part.name} is the same in the distribution's source of {version}, which is taken")
    return options if version == default_version() else replace(options, version=version)


def _named_in(objects: Sequence[Path], devices: tuple[Device, ...]) -> tuple[Device, ...]:
    """Return the files whose names objects have, but for numbers; all if there is none.

    The others come from what the driver is made with.
    """
    content = b"".join(path.read_bytes() for path in objects)
    named = (
        each
        for each in devices
        if (name := each.path.rpartition("/")[2].rstrip("0123456789")) and name.encode() in content
    )
    return tuple(named) or devices


def _from_source(driver: Driver, kernel: Kernel) -> tuple[Interface, Header]:
    """Return what a driver's source tells, and the names in there; nothing if it is not read."""
    try:
        interface = driver_interface(driver, kernel)
        constants, structs = constant_names(interface), record_names(interface)
        if not constants and not structs:
            return interface, Header({}, {}, None)
        known = driver_known(driver, kernel, constants=constants, structs=structs)
    except PkvfuzzError as error:
        why, *_ = str(error).splitlines() or [type(error).__name__]
        say(f"the source of {driver.name} tells no more than its macros do: {why}")
        return NOTHING, Header({}, {}, None)
    return interface, known


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


def _why_none(path: Path, found: Sequence[Loaded]) -> str:
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


def _has_node(found: Loaded) -> bool:
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
    objects: Sequence[Path], tables: tuple[OperationTable, ...], devices: Sequence[Device]
) -> frozenset[str]:
    """Return the operations of a driver's files; all that there are if they are not known."""
    symbols = b"".join(path.read_bytes() for path in objects)
    if any(name.encode() in symbols for name in _SUBSYSTEMS):
        return OPERATIONS
    found = operation_names(tables)
    if looks_at_callers(objects):
        found |= {"child"}
    if "compat" in found:
        found |= {"ioctl"}
    own = {"/dev/"}
    has_sequences = any(name.encode() in symbols for name in _SEQUENCES)
    if not has_sequences and any(table.struct == "proc_ops" for table in tables):
        own.add("/proc/")
    if any(not device.path.startswith(tuple(own)) for device in devices):
        # The kernel's own operations lead to the driver's: attributes, sequences.
        found |= {"read", "write", "lseek"}
    if not found - {"open", "child"}:
        return OPERATIONS
    return found
