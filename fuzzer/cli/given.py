# SPDX-License-Identifier: Apache-2.0
"""A stored crash or a ``.prog`` file that a command is given, with the driver it is for."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

from fuzzer.campaign.subject import Subject, description_of
from fuzzer.cli.setting import subject_of
from fuzzer.crash.crash import Crash
from fuzzer.crash.leaks import LEAK
from fuzzer.crash.poison import INFO_LEAK
from fuzzer.crash.reproducer import Reproducer
from fuzzer.crash.store import read_crash
from fuzzer.crash.testbeds import Testbeds
from fuzzer.driver.source_build import driver_directory
from fuzzer.errors import BadInputError
from fuzzer.flavour import NAMES
from fuzzer.kernel.kernel import Flavour, Kernel, ensure_kernel
from fuzzer.kernel.versions import default_version, installed_versions, version_of
from fuzzer.program.text import load_program
from fuzzer.program.wire import encode
from fuzzer.progress import say
from fuzzer.splat.splat import Splat
from fuzzer.target.target import load_shape


@dataclass(frozen=True, slots=True)
class CommandInput:
    """A reproducer to run, and the subject and flavour of kernel to run it on.

    ``crash`` is None if a program was given. ``flavour`` is that of the kernel which the
    options name, else of the one that judged the crash.
    """

    subject: Subject
    reproducer: Reproducer
    crash: Crash | None
    kind: str
    flavour: Flavour

    @property
    def bug(self) -> Splat | None:
        """The bug that it shows; None if any splat will do."""
        return self.crash.splat if self.crash else None

    def kernel(self) -> Kernel:
        """Return the kernel to run it on, built if need be."""
        return ensure_kernel(self.flavour, self.subject.kernels)

    def setups(self) -> Testbeds:
        """Return the machines to run it on."""
        return self.subject.setups(self.kernel())


def open_crash(
    options: argparse.Namespace, *, fitting: bool = True, plants_bug: bool = True
) -> CommandInput:
    """Open what ``options.crash`` names; options not given become what a crash was found with.

    Without ``fitting`` the driver as it is now need not build, without ``plants_bug`` it is
    without the bug that the crash was found with.

    Raises:
        BadInputError: it is not there, or is damaged, or its driver is not here.
    """
    path: Path = options.crash
    if not path.exists():
        raise BadInputError(f"{path}: no such file or directory")
    crash = stored_crash(options) if path.is_dir() else None
    if not plants_bug:
        options.bug = None
    subject = subject_of(options, fitting=fitting)
    if crash is None:
        start = Reproducer(encode(load_program(path, subject.target)))
        kind = _kind_asked_for(options)
        return CommandInput(subject, start, None, kind, Flavour(options.kernel or Flavour.FULL))
    flavour = Flavour(options.kernel or _judging_flavour(crash))
    return CommandInput(
        subject, Reproducer(crash.program, crash.history), crash, crash.kind, flavour
    )


def _kind_asked_for(options: argparse.Namespace) -> str:
    """Return the kind of crash that a program is looked at for; empty: what the kernel reports."""
    if getattr(options, "info_leaks", False):
        return INFO_LEAK
    return LEAK if getattr(options, "leaks", False) else ""


def stored_crash(options: argparse.Namespace) -> Crash:
    """Return the stored crash that is named; options not given become what it was found with.

    Raises:
        BadInputError: it is damaged, or its driver's description is not here.
    """
    crash = read_crash(options.crash)
    if options.target is None:
        options.target = description_of(crash.identity, options.crash)
        if options.target is None:
            raise BadInputError(
                f"{options.crash}: found with {crash.identity.description}, which is not here. "
                "Give the driver's description with --target"
            )
        if options.target.parent == options.crash:
            _check_copy(options.crash, options.target)
    if options.bug is None:
        options.bug = crash.identity.bug
    if options.params is None:
        options.params = crash.identity.params
    if not (options.kernel_source or options.kernel_build or options.kernel_version):
        options.kernel_version = _version_found_on(crash)
    return crash


def _version_found_on(crash: Crash) -> str | None:
    """Return the kernel's version that a crash was found on, if it can be had; say if not."""
    release = crash.identity.release
    version = version_of(release)
    if not version:
        return None
    if version in installed_versions():
        if version != default_version():
            say(f"on kernel {version}: it was found on {release}")
        return version
    say(
        f"WARNING: found on kernel {release}, of which there is no source here; "
        f"using another. To have it, if the distribution does: --kernel-version {version}"
    )
    return None


def _check_copy(crash: Path, description: Path) -> None:
    """Complain about a copied description whose driver is not where it says."""
    try:
        source = load_shape(description).module.source
        if source is not None:
            place = driver_directory(source)
            say(f"the driver that came with the crash is built, in a sandbox, from {place}")
    except BadInputError as error:
        raise BadInputError(
            f"{crash}: the description that is stored with it is of no use here: {error}. "
            "Give the driver's own with --target"
        ) from error


def _judging_flavour(crash: Crash) -> Flavour:
    """Return the flavour of the kernel that judged a crash."""
    return Flavour(crash.judged_on) if crash.judged_on in NAMES else Flavour.FULL
