# SPDX-License-Identifier: Apache-2.0
"""Settings that several commands derive from their options."""

from __future__ import annotations

import argparse
import functools
import sys
from pathlib import Path

from fuzzer.campaign.subject import (
    Subject,
    load_subject,
    symbols_for,
    with_fitting_kernels,
)
from fuzzer.driver.fitting import Confirm
from fuzzer.errors import BadInputError
from fuzzer.kernel.kernel import Flavour, KernelOptions
from fuzzer.kernel.versions import (
    checked_version,
)
from fuzzer.machine.accel import Accel, choose_accel
from fuzzer.paths import own_description
from fuzzer.progress import say
from fuzzer.target.target import Target, load_target
from fuzzer.wording import visible


def target_path(options: argparse.Namespace) -> Path:
    """Return the description file: the one given, else that of our own driver."""
    given: Path | None = options.target
    return given if given is not None else own_description()


def target_of(options: argparse.Namespace) -> Target:
    """Return the target that the options name.

    Its driver is built when a name can be had in no other way.
    """
    return load_target(target_path(options), symbols_for(kernel_options(options)))


def kernel_options(options: argparse.Namespace) -> KernelOptions:
    """Return the origin of kernels.

    Raises:
        BadInputError: two sources at once, a directory that does not exist, or what
            is no version.
    """
    source = getattr(options, "kernel_source", None)
    build = getattr(options, "kernel_build", None)
    version = getattr(options, "kernel_version", None)
    given = {"--kernel-version": version, "--kernel-source": source, "--kernel-build": build}
    names = [name for name, value in given.items() if value is not None]
    if len(names) > 1:
        raise BadInputError(f"{' and '.join(names)} exclude each other")
    if version is not None:
        checked_version(version, "--kernel-version")
    for name, path in (("--kernel-source", source), ("--kernel-build", build)):
        if path is not None and not path.is_dir():
            raise BadInputError(f"{name} {path}: no such directory")
    return KernelOptions(source, build, version=version or "")


def confirmer(*, yes: bool) -> Confirm:
    """Return a function that asks the user before a long build, if there is a terminal."""
    asks = not yes and sys.stdin.isatty() and sys.stderr.isatty()

    def confirm(what: str) -> bool:
        if not asks:
            say(what)
            return True
        question = f"pkvfuzz: {visible(what)}. Go on? [Y/n] "
        print(question, end="", file=sys.stderr, flush=True)
        return sys.stdin.readline().strip().lower() in {"", "y", "yes"}

    return confirm


def accel_of(options: argparse.Namespace) -> Accel:
    """Return the accelerator that the options ask for, or that works here, and say which once."""
    return _accel(options.accel)


@functools.cache
def _accel(name: str) -> Accel:
    choice = choose_accel(name)
    if choice.degraded:
        say(f"WARNING: using {choice.accel}: {choice.reason} Override: --accel kvm")
    else:
        say(f"using {choice.accel}: {choice.reason}")
    return choice.accel


def subject_of(
    options: argparse.Namespace, *, fitting: bool = True, fuzzed_on: Flavour = Flavour.FAST
) -> Subject:
    """Return the subject that the options name, on the accelerator that works here.

    Its driver is built, for kernels that have what it needs, unless ``fitting`` is False.
    """
    kernels = kernel_options(options)
    path = target_path(options)
    accel = accel_of(options)
    subject = load_subject(path, options.bug, kernels, accel, options.params, fuzzed_on=fuzzed_on)
    if not fitting:
        return subject
    return with_fitting_kernels(subject, confirmer(yes=getattr(options, "yes", False)))
