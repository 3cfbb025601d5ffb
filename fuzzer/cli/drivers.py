# SPDX-License-Identifier: Apache-2.0
"""A driver that is given by its path: a description is made of what can be found out."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from fuzzer.atomic import write_output
from fuzzer.campaign.campaign import default_workdir
from fuzzer.campaign.choice import Choice
from fuzzer.campaign.description import DriverFacts, describe, known_names
from fuzzer.campaign.discovery import discover
from fuzzer.cli.setting import accel_of, confirmer, kernel_options
from fuzzer.driver.source.interface import NOTHING
from fuzzer.errors import BadInputError
from fuzzer.kernel.in_tree import in_source, kernel_tree
from fuzzer.kernel.kernel import Flavour
from fuzzer.machine.accel import Accel
from fuzzer.progress import say
from fuzzer.target.device import PATH, PATH_ALLOWED
from fuzzer.target.header import Header
from fuzzer.target.target import Target, load_target
from fuzzer.untrusted import make_private

DESCRIPTION = "target.yaml"
_YAML = (".yaml", ".yml")

Finder = Callable[[Choice, argparse.Namespace, Accel], DriverFacts]
"""Finds out the facts of a driver."""


def choice_of(options: argparse.Namespace) -> Choice | None:
    """Return the driver that the options name by its path; None if they name a description.

    A description is moved to where ``--target`` puts it.

    Raises:
        BadInputError: there is nothing at that path, or options contradict each other.
    """
    path, module = options.driver, options.module or ""
    if path is None and module:
        # As it was before a driver could be given alone.
        path, module = Path(module), ""
    for device in options.device or ():
        if not PATH.match(device):
            raise BadInputError(f"--device {device}: {PATH_ALLOWED} is needed")
    if path is None:
        if options.device:
            raise BadInputError("--device goes with a driver: pkvfuzz run PATH --device /dev/NAME")
        return None
    if options.target is not None:
        raise BadInputError(f"{path} and --target {options.target}: give one of them")
    if path.is_file() and path.suffix in _YAML:
        if module or options.device:
            raise BadInputError(f"{path} says which module and devices: no --module, no --device")
        options.target = path
        return None
    if not path.exists():
        path = _in_source(path, options)
    tree = kernel_tree(path) if path.is_dir() or path.suffix == ".c" else None
    if not path.is_dir() and path.suffix != ".ko" and tree is None:
        raise BadInputError(f"{path}: a driver's directory, a .ko or a .yaml is needed")
    try:
        str(path.resolve()).encode()
    except UnicodeEncodeError:
        raise BadInputError(
            f"{str(path)!a}: a description cannot name a path that is not UTF-8. Rename it"
        ) from None
    if tree is not None and options.params:
        raise BadInputError(
            f"{path}: a driver of the kernel's tree is built into it: no --params can be given"
        )
    return Choice(path, module, tuple(options.device or ()), options.params or "", tree)


def _in_source(path: Path, options: argparse.Namespace) -> Path:
    """Return a C file of the kernel's source that is named from its top, as drivers/misc/x.c.

    Raises:
        BadInputError: it has none of that path.
    """
    kernels = kernel_options(options)
    found = None if kernels.build else in_source(path, kernels.source, kernels.version)
    if found is None:
        raise BadInputError(
            f"{path}: there is no such file or directory. Give a driver's directory, its .ko or "
            "its description (.yaml)"
        )
    return found


def found_out(choice: Choice, options: argparse.Namespace, accel: Accel) -> DriverFacts:
    """Return the facts of a driver; finding them out takes a minute."""
    flavour = Flavour(getattr(options, "kernel", Flavour.FAST))
    facts, kernels = discover(
        choice, kernel_options(options), accel, flavour, confirmer(yes=options.yes)
    )
    if kernels.source is not None:
        # That of the driver's own tree: what follows takes the same kernels.
        options.kernel_source = kernels.source
    return facts


def describe_driver(
    options: argparse.Namespace, find: Finder = found_out, *, relative: bool = False
) -> DriverFacts | None:
    """Make a description of a driver that is given by its path; return the facts in it.

    It is left in the working directory, which is named for the driver. Returns None if
    a description was given. It names the driver's place as seen from there if ``relative``.
    """
    choice = choice_of(options)
    if choice is None:
        return None
    facts = find(choice, options, accel_of(options))
    options.workdir = options.workdir or default_workdir(facts.name, options.bug)
    make_private(options.workdir)
    path = options.workdir / DESCRIPTION
    why = f"Made from {choice.path}. To change it: pkvfuzz init {choice.path}"
    if relative:
        facts = relative_to(facts, options.workdir.resolve())
    facts = write_checked(path, facts, why)
    options.target, options.params = path, None
    return facts


def relative_to(facts: DriverFacts, directory: Path) -> DriverFacts:
    """Return facts with the driver's place as a description in ``directory`` names it."""
    if facts.source is not None:
        return replace(facts, source=Path(os.path.relpath(facts.source, directory)))
    if isinstance(facts.object, Path):
        return replace(facts, object=Path(os.path.relpath(facts.object, directory)))
    return facts


def write_checked(path: Path, facts: DriverFacts, why: str) -> DriverFacts:
    """Write a description of what is known of a driver; return what is in it.

    What its source tells is left out where that makes no description.
    """

    def known(target: Target, *, constants: Sequence[str], structs: Sequence[str]) -> Header:
        return known_names(facts, constants, structs)

    write_output(path, describe(facts, why))
    if facts.interface == NOTHING:
        return facts
    try:
        load_target(path, known)
    except BadInputError as error:
        problem, *_ = str(error).splitlines()
        say(f"what the source of {facts.name} tells makes no description, left out: {problem}")
        facts = replace(facts, interface=NOTHING)
        write_output(path, describe(facts, why))
    return facts
