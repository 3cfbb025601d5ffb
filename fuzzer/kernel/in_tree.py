# SPDX-License-Identifier: Apache-2.0
"""Drivers of the kernel's own tree: their modules and C files, as Kbuild's Makefiles name them."""

from __future__ import annotations

import filecmp
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from fuzzer.errors import BadInputError, InfrastructureError
from fuzzer.kernel.needs.conditions import ALWAYS, Alternatives
from fuzzer.kernel.needs.makefiles import Makefiles, holds
from fuzzer.kernel.source import prepare_source
from fuzzer.kernel.versions import tarballs

_RELATIVE = re.compile(r"(?:[\w.+-]+/)+[\w.+-]+\.c\Z", re.ASCII)
_RELEASE = re.compile(r"^(?:VERSION|PATCHLEVEL) *= *(\d+) *$", re.MULTILINE)
_OPERATIONS = re.compile(
    r"\bstruct\s+(?:file_operations|proc_ops|block_device_operations|v4l2_file_operations)\b"
)
_MOST_LISTED = 12
# Of a path such as drivers/comedi/drivers: what is above is of all drivers.
_CORE_DEPTH = 2


@dataclass(frozen=True, slots=True)
class TreeDriver:
    """A driver of a kernel's tree: its module's name, and its C files relative to the tree.

    Each file has the condition that makes it a part of the module. ``condition`` is that of the
    module itself.
    """

    name: str
    parts: Mapping[str, Alternatives]
    condition: Alternatives

    def sources(
        self, tree: Path, before: Mapping[str, str], config: Mapping[str, str]
    ) -> tuple[str, ...]:
        """Return the files to cover in a kernel of the ``.config`` that it takes.

        These are its own. One that has no file operations is reached through the core of its
        subsystem: what that kernel has in the directories above beside one of ``before``.
        """
        own = tuple(name for name, condition in self.parts.items() if holds(condition, config))
        if any(_OPERATIONS.search((tree / name).read_text(errors="replace")) for name in own):
            return own
        makefiles = Makefiles(tree)
        added = makefiles.objects(config) - makefiles.objects(before)
        above = {
            str(parent)
            for name in own
            for parent in PurePosixPath(name).parents
            if len(parent.parts) >= _CORE_DEPTH
        }
        core = {
            str(path.with_suffix(".c"))
            for path in map(PurePosixPath, added)
            if str(path.parent) in above and (tree / path.with_suffix(".c")).is_file()
        }
        return (*own, *sorted(core - set(own)))


def kernel_tree(path: Path) -> Path | None:
    """Return the kernel's source tree that a path lies in; None if it is in none."""
    for parent in path.resolve().parents:
        if (parent / "Kconfig").is_file() and (parent / "kernel").is_dir():
            return parent if _RELEASE.search(_makefile(parent)) else None
    return None


def _makefile(tree: Path) -> str:
    try:
        return (tree / "Makefile").read_text(errors="replace")
    except OSError:
        return ""


def in_source(path: Path, given: Path | None = None, version: str = "") -> Path | None:
    """Return a C file of a kernel's source: of the tree given, else of the distribution's.

    ``path`` is relative to the tree, as ``drivers/misc/x.c``. Returns None if there is no such
    file.

    Raises:
        InfrastructureError: there is no source of that version, or it cannot be unpacked.
    """
    if not _RELATIVE.match(str(path)) or ".." in path.parts:
        return None
    found = (given or prepare_source(version=version).directory) / path
    return found if found.is_file() else None


def same_in_distribution(tree: Path, driver: TreeDriver) -> str:
    """Return the version of the distribution's source with the same driver; empty if none is.

    The driver's files are compared, and the headers beside them.
    """
    numbers = tuple(map(int, _RELEASE.findall(_makefile(tree))))
    for tarball in tarballs():
        if tarball.numbers[:2] != numbers:
            continue
        try:
            own = prepare_source(version=tarball.version).directory
        except (BadInputError, InfrastructureError):
            continue
        names = {*driver.parts}
        for directory in {PurePosixPath(name).parent for name in driver.parts}:
            headers = (tree / directory).glob("*.h")
            names |= {str(directory / path.name) for path in headers}
        if own == tree or all(_same(own / name, tree / name) for name in names):
            return tarball.version
    return ""


def _same(one: Path, other: Path) -> bool:
    return one.is_file() and other.is_file() and filecmp.cmp(one, other, shallow=False)


def tree_driver(tree: Path, path: Path, module: str = "") -> TreeDriver:
    """Return the driver of a kernel's tree that a C file, or a directory, is of.

    ``module`` chooses one of several.

    Raises:
        BadInputError: there is none, or there are several and none is chosen.
    """
    place = path.resolve().relative_to(tree.resolve())
    directory = place if path.is_dir() else place.parent
    found = _drivers(Makefiles(tree), str(directory))
    if not path.is_dir():
        found = {name: each for name, each in found.items() if str(place) in each.parts}
    wanted = module.removesuffix(".ko").replace("-", "_")
    if wanted:
        found = {name: each for name, each in found.items() if name == wanted}
    if len(found) == 1:
        return next(iter(found.values()))
    which = f"{path}: no driver named {module}" if wanted else f"{path}: no driver"
    if not found:
        raise BadInputError(
            f"{which} is made of this by the Makefile of {directory} in the kernel's tree {tree}"
        )
    names = sorted(found)
    more = f" and {len(names) - _MOST_LISTED} more" if len(names) > _MOST_LISTED else ""
    raise BadInputError(
        f"{path}: {len(names)} drivers of the kernel's tree are made here: "
        f"{', '.join(names[:_MOST_LISTED])}{more}. Choose one with --module NAME"
    )


def _drivers(makefiles: Makefiles, directory: str) -> dict[str, TreeDriver]:
    """Return the drivers that a directory's Makefile builds, by module."""
    rules = makefiles.rules(directory)
    found: dict[str, TreeDriver] = {}
    for rule in rules:
        if rule.stem != "obj" or rule.directory != directory:
            continue
        for word in rule.words:
            if not word.endswith(".o"):
                continue
            stem = word.removesuffix(".o")
            parts = {
                f"{directory}/{each.removesuffix('.o')}.c": other.condition
                for other in rules
                if other.stem == stem
                for each in other.words
                if each.endswith(".o")
            } or {f"{directory}/{stem}.c": ALWAYS}
            parts = {name: of for name, of in parts.items() if (makefiles.tree / name).is_file()}
            condition = makefiles.conditions(f"{directory}/{word}")
            if parts and condition:
                name = stem.rpartition("/")[2].replace("-", "_")
                found[name] = TreeDriver(name, dict(sorted(parts.items())), condition)
    return found
