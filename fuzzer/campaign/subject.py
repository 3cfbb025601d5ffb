# SPDX-License-Identifier: Apache-2.0
"""The subject of a command: a target, maybe with a planted bug, on kernels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from fuzzer import __version__
from fuzzer.crash.crash import Identity
from fuzzer.crash.testbeds import Testbeds
from fuzzer.driver.driver import Driver, PlantedBug, build_driver, find_bug
from fuzzer.driver.fitting import Confirm, fitted
from fuzzer.driver.provision import Guest, ensure_guest
from fuzzer.driver.stack_module import with_stack_module
from fuzzer.driver.symbols import symbol_source
from fuzzer.kernel.kernel import Flavour, Kernel, KernelOptions, Variant, ensure_kernel
from fuzzer.kernel.source import compiler_version
from fuzzer.machine.accel import Accel
from fuzzer.machine.qemu import VIRTUAL_CLOCK, Hardware, qemu_version
from fuzzer.paths import project_root
from fuzzer.target.target import SymbolSource, Target, load_target, with_params


@dataclass(frozen=True, slots=True)
class Subject:
    """A driver under test and the means to make guests with it.

    ``fuzzed_on`` is the flavour of kernel that it is fuzzed on. If ``virtual``, waiting
    takes no time on its machines, and threads take turns on their only vCPU. With ``deferred``,
    coverage is also of what the driver does outside of calls.
    """

    target: Target
    bug: PlantedBug | None
    kernels: KernelOptions
    accel: Accel
    fuzzed_on: Flavour = Flavour.FAST
    virtual: bool = False
    deferred: bool = True

    @property
    def judged_on(self) -> Flavour:
        """The flavour of kernel that sightings are judged on."""
        return self.fuzzed_on.judged_on

    def guest(
        self,
        kernel: Kernel,
        *,
        hardware: Hardware | None = None,
        arguments: str = "",
        poisons_stack: bool = False,
    ) -> Guest:
        """Return the guest on a kernel, building the driver and templates if need be.

        ``arguments`` are added to the kernel's command line. If it ``poisons_stack``, free
        stack can be filled with a byte.
        """
        if self.virtual and not (hardware and hardware.icount):
            hardware = VIRTUAL_CLOCK
        # Only software emulation can count instructions.
        counting = hardware is not None and hardware.icount
        driver = build_driver(self.target, kernel, self.bug)
        return ensure_guest(
            self.target,
            kernel,
            with_stack_module(driver, kernel) if poisons_stack else driver,
            Accel.TCG if counting else self.accel,
            hardware,
            arguments=arguments,
            deferred=self.deferred,
        )

    def setups(self, kernel: Kernel) -> Testbeds:
        """Return the testbed on a kernel: the guests that it takes to see any crash."""
        return Testbeds(
            self.guest(kernel),
            lambda hardware, arguments: self.guest(kernel, hardware=hardware, arguments=arguments),
            make_poisoned=lambda arguments: self.guest(
                kernel, arguments=arguments, poisons_stack=True
            ),
        )


def load_subject(
    description: Path,
    bug: str | None,
    kernels: KernelOptions,
    accel: Accel,
    params: str | None = None,
    *,
    fuzzed_on: Flavour = Flavour.FAST,
) -> Subject:
    """Return the subject of a description file.

    ``params`` replaces the module parameters that the description gives.

    Raises:
        BadInputError: the description, the bug's name or the parameters are wrong.
    """
    target = load_target(description, symbols_for(kernels))
    if params is not None:
        target = with_params(target, params)
    kernels = kernels_for(target, kernels)
    return Subject(target, find_bug(target, bug) if bug else None, kernels, accel, fuzzed_on)


def kernels_for(target: Target, kernels: KernelOptions) -> KernelOptions:
    """Return the options of the kernels that a target needs.

    The version that its description asks for gives way to what the user asks for.
    """
    module = target.module
    chosen = kernels.version or kernels.source or kernels.build
    version = kernels.version if chosen else module.kernel
    return replace(kernels, variant=Variant(module.config, module.builtin), version=version)


def with_fitting_kernels(subject: Subject, confirm: Confirm) -> Subject:
    """Return the subject on kernels that have what its driver needs.

    To find them, the driver is built on the kernel that it is fuzzed on.

    Raises:
        BadInputError: it does not build.
    """
    if subject.target.module.source is None:
        return subject

    def build(kernel: Kernel) -> Driver:
        return build_driver(subject.target, kernel, subject.bug)

    _, kernels = fitted(build, subject.kernels, subject.fuzzed_on, confirm)
    return replace(subject, kernels=kernels)


def symbols_for(kernels: KernelOptions) -> SymbolSource:
    """Return a source of the names in a target's driver, for ``load_target``.

    It builds the driver for the kernel that is fuzzed, when a header does not explain a name.
    """

    def kernel_for(target: Target) -> Kernel:
        def build(kernel: Kernel) -> Kernel:
            build_driver(target, kernel)
            return kernel

        if target.module.source is None:
            return ensure_kernel(Flavour.FAST, kernels_for(target, kernels))
        return fitted(build, kernels_for(target, kernels), Flavour.FAST)[0]

    return symbol_source(kernel_for)


def identify(subject: Subject, guest: Guest) -> Identity:
    """Return the identity of a crash on this guest: the builds and settings that it shows with."""
    path = subject.target.path.resolve()
    root = project_root()
    compiler = guest.kernel.compiler_name()
    return Identity(
        target=subject.target.name,
        description=str(path.relative_to(root) if path.is_relative_to(root) else path),
        bug=subject.bug.name if subject.bug else None,
        kernel=f"{guest.kernel.flavour} {guest.kernel.key}",
        driver=guest.driver.key,
        qemu=qemu_version(),
        accel=guest.template.accel.value,
        params=subject.target.module.params,
        release=guest.kernel.release(),
        compiler=guest.kernel.compiler(),
        config=guest.kernel.config_key(),
        driver_compiler="" if subject.target.module.object else compiler_version(compiler),
        pkvfuzz=__version__,
    )


def description_of(identity: Identity, directory: Path) -> Path | None:
    """Return the description file of a crash that is stored in a directory; None if it is gone.

    If it is not the project's, it is looked for where it was, and as a copy in the directory.
    """
    path = Path(identity.description)
    places = [directory.resolve() / path, directory / path.name]
    if ".." not in path.parts:
        places.insert(0, project_root() / path)
    return next((place for place in places if place.is_file()), None)
