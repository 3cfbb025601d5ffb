# SPDX-License-Identifier: Apache-2.0
"""The guests of a session of tests, each made once."""

from __future__ import annotations

from pathlib import Path

from fuzzer.cache import build_once, content_key, file_stamp
from fuzzer.campaign.choice import Choice
from fuzzer.campaign.discovery import discover
from fuzzer.campaign.subject import Subject, load_subject, with_fitting_kernels
from fuzzer.cli.drivers import DESCRIPTION, write_checked
from fuzzer.driver.driver import build_driver, find_bug
from fuzzer.driver.driver_tree import read_tree
from fuzzer.driver.provision import Guest, ensure_guest
from fuzzer.kernel.in_tree import kernel_tree
from fuzzer.kernel.kernel import Flavour, KernelOptions, ensure_kernel
from fuzzer.machine.accel import Accel, choose_accel
from fuzzer.machine.qemu import Hardware
from fuzzer.target.target import Target
from fuzzer.testing.configuration import Configuration

_YAML = (".yaml", ".yml")


class Guests:
    """Makes guests, each once. ``accel`` is the accelerator, the best of this host."""

    def __init__(self) -> None:
        self.accel = choose_accel().accel
        self._made: dict[tuple[object, ...], Guest] = {}
        self._subjects: dict[Configuration, Guest] = {}

    def __call__(
        self,
        target: Target,
        flavour: Flavour,
        bug: str | None = None,
        *,
        cpus: int = 1,
        icount: bool = False,
        arguments: str = "",
    ) -> Guest:
        """Return the guest of a target on a flavour's kernel, with a planted bug if one is named.

        With ``icount`` it counts instructions, and waiting takes no time.
        ``arguments`` are added to the kernel's command line.
        """
        key = (flavour, bug, target.path, target.module.params, cpus, icount, arguments)
        if key not in self._made:
            kernel = ensure_kernel(flavour)
            self._made[key] = ensure_guest(
                target,
                kernel,
                build_driver(target, kernel, find_bug(target, bug) if bug else None),
                Accel.TCG if icount else self.accel,
                Hardware(cpus=cpus, icount=icount),
                arguments=arguments,
            )
        return self._made[key]

    def configured(self, configuration: Configuration) -> Guest:
        """Return the guest of a configuration; its driver is built, and explored if need be.

        Raises:
            BadInputError: there is no such driver, or it does not build or load.
            InfrastructureError: a kernel does not build, or machines cannot be run.
        """
        if configuration not in self._subjects:
            subject = self._subject(configuration)
            kernel = ensure_kernel(subject.fuzzed_on, subject.kernels)
            hardware = Hardware(cpus=configuration.cpus)
            self._subjects[configuration] = subject.guest(kernel, hardware=hardware)
        return self._subjects[configuration]

    def _subject(self, configuration: Configuration) -> Subject:
        subject = load_subject(
            self._description(configuration),
            configuration.bug,
            KernelOptions(),
            self.accel,
            configuration.params,
            fuzzed_on=Flavour(configuration.kernel),
        )
        return with_fitting_kernels(subject, lambda _what: True)

    def _description(self, configuration: Configuration) -> Path:
        """Return the description of a driver; one that is found out is kept in the cache."""
        path = configuration.driver
        if path.suffix in _YAML:
            return path
        tree = kernel_tree(path) if path.is_dir() or path.suffix == ".c" else None
        choice = Choice(path, configuration.module, configuration.devices, "", tree)

        def find(directory: Path) -> None:
            facts, _ = discover(choice, KernelOptions(), self.accel, Flavour.FAST)
            write_checked(directory / DESCRIPTION, facts, f"Made from {path}")

        kernel = ensure_kernel(Flavour.FAST)
        parts = [kernel.key, str(choice), *self._content(choice)]
        return build_once("description", content_key(*parts), find, keep=40) / DESCRIPTION

    def _content(self, choice: Choice) -> list[str | bytes]:
        if choice.path.is_file():
            return [file_stamp(choice.path)]
        return [] if choice.tree else list(read_tree(choice.path.resolve()).content())
