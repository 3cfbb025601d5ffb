# SPDX-License-Identifier: Apache-2.0
"""Building the driver under test, as it is or with a planted bug."""

from __future__ import annotations

import enum
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fuzzer.cache import content_key
from fuzzer.driver.author_build import BuildFailedError
from fuzzer.driver.blocks import TRACE_PC, Block, read_blocks, read_builtin_blocks, read_functions
from fuzzer.driver.equipment import equipment_modules
from fuzzer.driver.loadable import loadable
from fuzzer.driver.objects import object_that_fits
from fuzzer.driver.renaming import renamed
from fuzzer.driver.source_build import BuiltModule, SourceBuild, build_source
from fuzzer.errors import BadInputError
from fuzzer.kernel.kernel import Kernel
from fuzzer.target.equipment import Equipment
from fuzzer.target.target import ModuleSpec, Target, module_name
from fuzzer.untrusted import read_bytes, read_text

_DIFF_STARTS = ("--- ", "diff ", "Index: ")


@dataclass(frozen=True, slots=True)
class Needed:
    """A module that is loaded before a driver, and its parameters."""

    path: Path
    params: str = ""


@dataclass(frozen=True, slots=True)
class Driver:
    """A built module. ``key`` names its content.

    Built from source, it lies in its build directory: sources (with the bug,
    if one was planted), objects and, of a build for gcov, the ``.gcno`` files.
    Of a driver that is a part of the kernel, ``object`` is ``vmlinux`` and
    ``parts`` are the driver's own objects. ``needs`` are to be loaded before it, in
    order. ``trace_pc`` is the function of theirs that its blocks call, in place of KCOV's.
    """

    name: str
    object: Path
    key: str
    parts: tuple[Path, ...] = ()
    needs: tuple[Needed, ...] = ()
    trace_pc: str = ""

    def image(self) -> bytes:
        """Return the module's bytes; none if there is nothing to load."""
        if self.parts:
            return b""
        image = loadable(self.object)
        return renamed(image, TRACE_PC, self.trace_pc) if self.trace_pc else image

    def needed_images(self) -> tuple[tuple[bytes, str, str], ...]:
        """Return the bytes, name and parameters of each module to load before it."""
        return tuple((loadable(each.path), each.path.stem, each.params) for each in self.needs)

    def blocks(self) -> tuple[Block, ...]:
        """Return the instrumented blocks, in order.

        Raises:
            BadInputError: it was not built for x86-64.
        """
        return (
            read_builtin_blocks(self.parts, self.object) if self.parts else read_blocks(self.object)
        )

    def frame_marks(self) -> tuple[str, ...]:
        """Return what a line of a stack trace has if it is one of the driver's."""
        if not self.parts:
            return (f" [{module_name(self.name)}]",)
        return tuple(f" {name}+0x" for part in self.parts for name in read_functions(part))


class Difficulty(enum.StrEnum):
    """The difficulty of finding a planted bug."""

    EASY = "easy"
    MEDIUM = "medium"
    HARD = "hard"


@dataclass(frozen=True, slots=True)
class PlantedBug:
    """A planted bug: a patch for the driver, and what its header says.

    ``expect`` is the title it is reported with; where no report comes,
    ``oracle`` says how else it shows (empty: by its report). ``needs`` are the
    abilities that finding it takes: sequence, value, fault, race and so on.
    ``also`` are titles that it may come with instead: which side of a deadlock is
    told depends on which was first. ``kernel`` is the flavour that alone reports it;
    empty: fast, full or both.
    """

    name: str
    path: Path
    kind: str
    cwe: str
    expect: str
    level: Difficulty = Difficulty.EASY
    needs: tuple[str, ...] = ()
    oracle: str = ""
    description: str = ""
    kernel: str = ""
    also: tuple[str, ...] = ()

    @property
    def titles(self) -> tuple[str, ...]:
        """The titles that a report of it may have."""
        return (self.expect, *self.also)


def _read_header(text: str) -> dict[str, str]:
    """Return the fields that stand before a patch's diff.

    A field goes on in the lines below it that are indented.
    """
    fields: dict[str, str] = {}
    name = ""
    for line in text.splitlines():
        if line.startswith(_DIFF_STARTS) or line == "---":
            break
        if line[:1] in (" ", "\t") and line.strip() and name:
            fields[name] = f"{fields[name]} {line.strip()}".strip()
        elif match := re.match(r"([A-Z][\w-]*):(?: (.*))?$", line):
            name = match[1]
            fields[name] = (match[2] or "").strip()
    return fields


def _read_bug(path: Path) -> PlantedBug:
    try:
        fields = _read_header(read_text(path, within=path.parent, errors="replace"))
    except OSError as error:
        raise BadInputError(f"{path}: cannot read it: {error.strerror}") from error
    level = fields.get("Level", Difficulty.EASY)
    if level not in list(Difficulty):
        raise BadInputError(
            f"{path}: Level: {level} is not known; it is one of {', '.join(Difficulty)}"
        )
    needs = [need.strip() for need in fields.get("Needs", "").split(",")]
    return PlantedBug(
        path.stem,
        path,
        fields.get("Class", ""),
        fields.get("CWE", ""),
        fields.get("Expect", ""),
        Difficulty(level),
        tuple(need for need in needs if need),
        fields.get("Oracle", ""),
        fields.get("Description", ""),
        fields.get("Kernel", ""),
        tuple(title.strip() for title in fields.get("Also", "").split(";") if title.strip()),
    )


def list_bugs(target: Target) -> list[PlantedBug]:
    """Return the planted bugs beside a target's description, by name.

    Raises:
        BadInputError: a patch's header says what has no meaning.
    """
    patches = sorted((target.path.parent / "bugs").glob("*.patch"))
    return [_read_bug(path) for path in patches]


def find_bug(target: Target, name: str) -> PlantedBug:
    """Return a planted bug.

    Raises:
        BadInputError: there is none of that name.
    """
    bugs = list_bugs(target)
    for bug in bugs:
        if bug.name == name:
            return bug
    allowed = ", ".join(bug.name for bug in bugs) or "none"
    raise BadInputError(
        f"--bug {name}: no such bug in {target.path.parent / 'bugs'}; there are: {allowed}"
    )


def build_driver(
    target: Target,
    kernel: Kernel,
    bug: PlantedBug | None = None,
    variables: Sequence[str] = (),
) -> Driver:
    """Build a target's driver against a kernel; from the cache when nothing changed.

    ``variables`` are given to make as well, such as ``GCOV_PROFILE=y``.

    Raises:
        BadInputError: it does not compile, or the bug's patch does not apply;
            the message has the compiler's errors. Or the driver comes ready
            built, so that neither bug nor variables can have an effect.
    """
    module = target.module
    if module.builtin:
        if bug is not None or variables:
            raise BadInputError(f"{target.name} is built into the kernel: no --bug can be planted")
        return builtin_driver(module, kernel, str(target.path))
    if module.object is not None:
        if bug is not None:
            raise BadInputError("--bug needs a driver in source form")
        if variables:
            raise BadInputError(
                f"{target.name} is built already, so it cannot be built with "
                f"{' '.join(variables)}; give the driver in source form"
            )
        path = object_that_fits(module, kernel)
        return Driver(module.name, path, content_key(read_bytes(path, limit=1 << 30)))
    assert module.source is not None
    build = build_source(
        module.source, kernel, patch=bug.path if bug else None, variables=variables
    )
    driver = pick_module(build, module.name, target.path, module.needs)
    return with_equipment(driver, module.equipment, kernel)


def builtin_driver(module: ModuleSpec, kernel: Kernel, place: str = "") -> Driver:
    """Return a driver that is a part of the kernel; ``place`` is where its files are named.

    Raises:
        BadInputError: the kernel was built without one of its files.
    """
    parts = tuple((kernel.directory / name).with_suffix(".o") for name in module.builtin)
    for path in parts:
        if not path.is_file():
            raise BadInputError(
                f"{place or module.name}: the kernel was built without {path.name}; "
                "'config' must have the options that build it in"
            )
    key = content_key(kernel.key, *module.builtin)
    return Driver(module.name, kernel.directory / "vmlinux", key, parts)


def with_equipment(driver: Driver, equipment: Sequence[Equipment], kernel: Kernel) -> Driver:
    """Return a driver before which stand-ins for its hardware are registered.

    Raises:
        BuildFailedError: the kernel has not what they take.
        InfrastructureError: the module that registers them does not build.
    """
    if not equipment:
        return driver
    needs = [Needed(path, params) for path, params in equipment_modules(equipment, kernel)]
    parts = [part for each in equipment for part in (each.bus, *each.names)]
    return replace(driver, key=content_key(driver.key, *parts), needs=(*needs, *driver.needs))


class MissingSymbolsError(BuildFailedError):
    """The kernel lacks symbols that a driver needs."""


def pick_module(
    build: SourceBuild, name: str, description: Path, others: Sequence[str] = ()
) -> Driver:
    """Return the module of that name out of a build, as the description asks for it.

    ``others`` are modules of the build to load before it, beside those that it depends on.

    Raises:
        MissingSymbolsError: the kernel lacks symbols that it needs.
        BadInputError: the build made no module of the name.
    """
    module = _module_of(build, name, description)
    first = [_module_of(build, other, description) for other in others]
    names = [name for each in first for name in (*each.needs, each.name)]
    found = [build.module(each) for each in dict.fromkeys((*names, *module.needs))]
    needs = [each for each in found if each is not None and each is not module]
    for each in (*needs, module):
        if each.undefined:
            raise MissingSymbolsError(
                f"{each.path.name} needs what the kernel does not have: "
                f"{', '.join(each.undefined[:8])}",
                build.log(),
            )
    key = content_key(build.key, module.name, *others)
    return Driver(module.name, module.path, key, (), tuple(Needed(each.path) for each in needs))


def _module_of(build: SourceBuild, name: str, description: Path) -> BuiltModule:
    module = build.module(name)
    if module is None:
        made = ", ".join(each.name for each in build.modules)
        raise BadInputError(
            f"the build made no {name}.ko but {made}. Name one of these in {description}"
        )
    return module
