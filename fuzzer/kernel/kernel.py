# SPDX-License-Identifier: Apache-2.0
"""The kernels that fuzz and judge: flavours and variants, built and cached by their contents."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TextIO

from fuzzer.cache import build_once, content_key, lookup
from fuzzer.errors import BadInputError
from fuzzer.flavour import STANDARD, Flavour
from fuzzer.kernel.kbuild import (
    SOURCE_LINK,
    BuiltKernel,
    Recipe,
    build_configured,
    build_kernel,
    compile_kernel,
    configure,
    copy_build,
    lost_options,
    parse_config,
    point_to_source,
    recipe_key,
    requests,
)
from fuzzer.kernel.needs.rebuild import estimate_rebuild
from fuzzer.kernel.source import PARTIAL_SOURCE, prepare_source, source_key
from fuzzer.kernel.variant import PLAIN, Variant, extend_config
from fuzzer.kernel.versions import default_version, ensure_source_package
from fuzzer.paths import project_root
from fuzzer.progress import Progress, say

__all__ = [
    "NEEDED",
    "STANDARD",
    "Flavour",
    "Kernel",
    "KernelOptions",
    "Variant",
    "ensure_kernel",
    "flavour_requests",
    "kernel_key",
    "parse_config",
    "ready_kernel",
]

# Without these the fuzzer cannot work at all; asked of a kernel that was built elsewhere.
NEEDED = (
    "MODULES", "KCOV", "DEBUG_FS", "DEVTMPFS", "DEVMEM", "PROC_FS", "SYSFS",
    "BLK_DEV_INITRD", "SERIAL_8250_CONSOLE", "KALLSYMS", "X86_MPPARSE",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class KernelOptions:
    """The origin of kernels: the user's ``--kernel-source`` or ``--kernel-build``, if given.

    ``version`` is that of the distribution's source, as ``6.1``; empty for the default.
    ``variant`` is what the driver under test needs beyond the plain kernels.
    """

    source: Path | None = None
    build: Path | None = None
    variant: Variant = PLAIN
    version: str = ""


class Kernel(BuiltKernel):
    """A kernel that fuzzes or judges; its name is its flavour."""

    __slots__ = ()

    @property
    def flavour(self) -> Flavour:
        """Its flavour, which its name is."""
        return Flavour(self.name)


# Lines that make prints for a variant beside those of what is compiled.
_VARIANT_STEPS = 120


def _recipe(flavour: Flavour, variant: Variant = PLAIN) -> Recipe:
    spec = flavour.spec
    checked = (f"{spec.sanitizer}_SANITIZE_{name}=y" for name in _checked_objects(spec.checked))
    variables = (*spec.variables, *checked, *variant.variables(spec.sanitizer))
    return Recipe(
        flavour,
        spec.fragments,
        variables,
        variant.options,
        patch=spec.patch,
        compiler=spec.compiler,
    )


def _checked_objects(listing: str) -> list[str]:
    """Return the objects that a file of ``vm/kernel`` lists, one a line."""
    if not listing:
        return []
    lines = (project_root() / "vm" / "kernel" / listing).read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def kernel_key(flavour: Flavour, source: str) -> str:
    """Return the key of a flavour's build from the source of that key."""
    return recipe_key(_recipe(flavour), source)


def flavour_requests(flavour: Flavour) -> dict[str, str]:
    """Return the options that a flavour asks Kconfig for, with values as in a ``.config``."""
    return parse_config(_recipe(flavour).fragment_text())


def ready_kernel(flavour: Flavour, options: KernelOptions) -> Kernel | None:
    """Return the kernel if it is built already."""
    if options.build is not None:
        return _given_build(flavour, options.build, options.variant)
    source = source_key(options.source, options.version)
    key = recipe_key(_recipe(flavour, options.variant), source)
    directory = lookup(_entry(flavour, options), key)
    tree = _source_of(directory, source) if directory else None
    return Kernel(flavour, directory, tree, key) if directory and tree else None


def _source_of(directory: Path, key: str) -> Path | None:
    """Return the source that a build directory was made from, as far as it is there.

    What was imported has a part of it, for building modules.
    """
    tree, part = lookup("source", key), lookup(PARTIAL_SOURCE, key)
    return part if part and (directory / SOURCE_LINK).resolve() == part.resolve() else tree


def _entry(flavour: Flavour, options: KernelOptions) -> str:
    # Not "kernel-...": removing old variants must not touch the plain kernels.
    return f"variant-{flavour}" if options.variant else f"kernel-{flavour}"


def ensure_kernel(
    flavour: Flavour,
    options: KernelOptions | None = None,
    *,
    nice: int = 0,
    stream: TextIO | None = None,
) -> Kernel:
    """Return a kernel of the flavour, building it (minutes) if need be.

    Progress goes to ``stream``, standard error if None.

    Raises:
        BadInputError: the directory given cannot be used.
        InfrastructureError: the build failed; the message says where its log is.
    """
    options = options or KernelOptions()
    variant = options.variant
    if options.build is not None:
        return _given_build(flavour, options.build, variant)
    if options.version:
        ensure_source_package(options.version)
    if ready := ready_kernel(flavour, options):
        return ready
    source = prepare_source(options.source, options.version)
    recipe = _recipe(flavour, variant)
    key = recipe_key(recipe, source.key)

    def build(directory: Path) -> None:
        if not variant:
            build_kernel(recipe, source, directory, nice=nice, stream=stream)
            return
        _check_sources(variant, source.directory)
        # Most objects are those of the plain kernel: make finds out which are not.
        plain = ensure_kernel(flavour, replace(options, variant=PLAIN), nice=nice, stream=stream)
        copy_build(plain.directory, directory)
        final = extend_config(source.directory, directory, variant)
        if lost := lost_options(requests(recipe, source), final):
            raise BadInputError(
                f"the {flavour} kernel cannot be configured with {' '.join(variant.config)}: "
                f"{'; '.join(lost)}. Kconfig wants other options for it as well, or forbids it: "
                f"look at 'depends on' in {source.directory}"
            )
        before = parse_config((plain.directory / ".config").read_text())
        rebuild = estimate_rebuild(source.directory, directory, before, final)
        counted = replace(recipe, steps=_VARIANT_STEPS + rebuild.compiled)
        build_configured(counted, source, directory, nice=nice, stream=stream)

    def tell(text: str) -> None:
        if stream is None:
            say(text)
        else:
            stream.write(f"{text}\n")

    directory = build_once(_entry(flavour, options), key, build, keep=3, tell=tell)
    if not (directory / SOURCE_LINK).exists():
        # It was imported, and the part of the source that came with it is gone.
        point_to_source(directory, source.directory)
    return Kernel(flavour, directory, source.directory, key)


def prepared_kernel(flavour: Flavour, options: KernelOptions) -> Kernel:
    """Return a kernel that modules can be compiled against, but that is not built itself.

    It is of the version, and has the options, that are asked for. No symbol of it is known,
    so nothing that is made can be loaded.

    Raises:
        InfrastructureError: it cannot be prepared.
    """
    source = prepare_source(options.source, options.version)
    recipe, variant = _recipe(flavour), options.variant
    key = content_key(recipe_key(_recipe(flavour, variant), source.key), "prepared")

    def build(directory: Path) -> None:
        asked = requests(recipe, source)
        configure(source.directory, directory, asked, toolchain=recipe.toolchain)
        if variant:
            extend_config(source.directory, directory, variant)
        version = options.version or options.source or default_version()
        added = f" with {', '.join(variant.config)}" if variant else ""
        progress = Progress(f"preparing kernel {version}{added} to compile the driver against")
        arguments = [*recipe.toolchain, *recipe.variables, "modules_prepare"]
        compile_kernel(recipe.name, source.directory, directory, arguments, progress)
        (directory / "Module.symvers").touch()

    directory = build_once("prepared", key, build, keep=6)
    return Kernel(flavour, directory, source.directory, key)


def _check_sources(variant: Variant, tree: Path) -> None:
    for name in variant.sources:
        if not (tree / name).is_file():
            raise BadInputError(
                f"builtin: {name} is not in the kernel's source {tree}. "
                "Give the path of a .c file, relative to the source tree"
            )


def _given_build(flavour: Flavour, directory: Path, variant: Variant) -> Kernel:
    directory = directory.resolve()
    config, image = directory / ".config", directory / "arch" / "x86" / "boot" / "bzImage"
    for path in (config, image, directory / "Module.symvers"):
        if not path.is_file():
            raise BadInputError(
                f"--kernel-build {directory}: {path.relative_to(directory)} is missing; "
                "it must be a kernel build directory, after make bzImage modules_prepare "
                "(and cp vmlinux.symvers Module.symvers)"
            )
    options = parse_config(config.read_text())
    needed = (*NEEDED, flavour.spec.sanitizer)
    missing = [name for name in needed if options.get(f"CONFIG_{name}", "n") == "n"]
    if options.get("CONFIG_STRICT_DEVMEM", "n") != "n":
        missing.append("STRICT_DEVMEM=n")
    if missing:
        raise BadInputError(
            f"--kernel-build {directory}: the fuzzer needs these options, and the kernel "
            f"has not got them: {', '.join(missing)}"
        )
    lost = lost_options(variant.options, options)
    if lost:
        raise BadInputError(
            f"--kernel-build {directory}: the driver needs {' '.join(variant.config)}, and in this "
            f"kernel {'; '.join(lost).replace('became', 'is')}. Build it with these options"
        )
    link = directory / "source"
    source = link.resolve() if link.exists() else directory
    key = content_key(config.read_bytes(), image.read_bytes())
    return Kernel(flavour, directory, source, key)
