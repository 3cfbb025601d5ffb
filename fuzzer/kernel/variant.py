# SPDX-License-Identifier: Apache-2.0
"""Variants of a kernel: the plain one of a flavour with what a driver needs besides.

A variant is made from a copy of the plain build, so that only objects which an option
changes are compiled again. Options that become visible with the requested ones stay off:
a driver asks for those that it needs, and each default costs time to build and boot.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from fuzzer.errors import BadInputError
from fuzzer.kernel.kbuild import (
    TOP_KCONFIG,
    lost_options,
    parse_config,
    run_kconfig,
    toolchain_of,
    write_config,
)
from fuzzer.kernel.needs.kconfig import OptionTree

_REQUEST = re.compile(r"([A-Z0-9][A-Z0-9_]*)=(.+)")


@dataclass(frozen=True, slots=True)
class Variant:
    """Kconfig options on top of a flavour's, and C files of the tree that are under test.

    ``config`` are options as ``NAME=y``: sorted, each once, whatever order they
    were given in. ``sources`` are instrumented as a module is; they are relative
    to the kernel's tree.

    Raises:
        BadInputError: an option is asked for twice, with different values.
    """

    config: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        values: dict[str, str] = {}
        for request in self.config:
            name, value = _parse(request)
            if values.setdefault(name, value) != value:
                raise BadInputError(
                    f"config: {name}={values[name]} and {name}={value} are both asked for"
                )
        ordered = tuple(f"{name}={value}" for name, value in sorted(values.items()))
        object.__setattr__(self, "config", ordered)

    def __bool__(self) -> bool:
        """Tell whether anything is asked for."""
        return bool(self.config or self.sources)

    @property
    def options(self) -> dict[str, str]:
        """The requests as a ``.config`` has them, by name."""
        return {f"CONFIG_{name}": value for name, value in map(_parse, self.config)}

    def variables(self, sanitizer: str) -> tuple[str, ...]:
        """Return make variables that instrument the sources as a module is."""
        return tuple(
            f"{what}_{Path(source).stem}.o=y"
            for source in self.sources
            for what in ("KCOV_INSTRUMENT", f"{sanitizer}_SANITIZE", "UBSAN_SANITIZE")
        )


def _parse(request: str) -> tuple[str, str]:
    match = _REQUEST.fullmatch(request)
    if not match:
        raise BadInputError(f"config: {request!r}; NAME=y, without CONFIG_, is allowed")
    return match[1], match[2]


PLAIN = Variant()
"""The kernel of a flavour as it is."""


def extend_config(source: Path, directory: Path, variant: Variant) -> dict[str, str]:
    """Add a variant's options to a build directory's ``.config``; return all its options.

    An option without a prompt cannot be asked for in a ``.config``: one of ours selects it,
    from a Kconfig file in the build directory.

    Raises:
        InfrastructureError: Kconfig failed.
    """
    path, top = directory / ".config", directory / TOP_KCONFIG
    before = parse_config(path.read_text())
    # The requests last: of two members of a choice, the later wins.
    kept = {name: value for name, value in before.items() if name not in variant.options}
    seed = directory / ".config.requests"
    write_config(seed, kept | variant.options)
    arguments = (f"KCONFIG_ALLCONFIG={seed}", *toolchain_of(before))
    top.unlink(missing_ok=True)
    run_kconfig(source, directory, "allnoconfig", variables=arguments)
    if lost_options(variant.options, parse_config(path.read_text())):
        # Its title must come first, so it is not sourced.
        tree = (source / "Kconfig").read_text()
        top.write_text(tree + _selections(OptionTree(source, path), variant))
        run_kconfig(source, directory, "allnoconfig", variables=arguments)
    seed.unlink()
    return parse_config(path.read_text())


def _selections(options: OptionTree, variant: Variant) -> str:
    """Return options for a Kconfig file that select the requested ones without a prompt.

    Kconfig does not look at what a selected option depends on: the selecting one does.
    """
    text = ""
    for request in variant.config:
        name, value = _parse(request)
        if value == "y" and options.selectable(name):
            text += f"\nconfig PKVFUZZ_{name}\n\tdef_bool y\n"
            if needed := options.dependencies(name):
                text += f"\tdepends on {needed}\n"
            text += f"\tselect {name}\n"
    return text
