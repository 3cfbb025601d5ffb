# SPDX-License-Identifier: Apache-2.0
"""Two kernels that only the tests use: one takes signed modules alone, one has a driver built in.

No campaign runs on them: they have neither KASAN nor KCOV, so that each is
built in under two minutes.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TextIO

from fuzzer.cache import build_once, content_key
from fuzzer.errors import BadInputError
from fuzzer.kernel.kbuild import (
    BuiltKernel,
    Recipe,
    build_kernel,
    compile_kernel,
    configure,
    kconfig_symbols,
    parse_config,
    recipe_key,
)
from fuzzer.kernel.source import prepare_source
from fuzzer.progress import Progress
from fuzzer.tools import find_tool

_SIGNED = Recipe("signed", ("base.config", "small.config", "signed.config"), steps=1310)
_BUILTIN = Recipe("builtin", ("base.config", "small.config", "builtin.config"), steps=1250)

_PARENT = Path("drivers", "char")
# What a patch that adds a driver to the kernel would add.
_DRIVER_FILES = ("*.c", "*.h", "Kbuild", "Kconfig")


@dataclass(frozen=True, slots=True)
class BuiltinKernel(BuiltKernel):
    """A kernel with a driver built in; ``module`` is the same driver, built as a module there."""

    module: Path


def ensure_signed_kernel(*, stream: TextIO | None = None) -> BuiltKernel:
    """Return the kernel that takes modules signed with its own key alone.

    Raises:
        InfrastructureError: the build failed; the message says where its log is.
    """
    source = prepare_source()
    key = recipe_key(_SIGNED, source.key)

    def build(directory: Path) -> None:
        find_tool("openssl", "making the key that signs modules")
        build_kernel(_SIGNED, source, directory, stream=stream)

    directory = build_once("kernel-signed", key, build, keep=3)
    return BuiltKernel(_SIGNED.name, directory, source.directory, key)


def ensure_builtin_kernel(
    driver: Path, name: str, *, stream: TextIO | None = None
) -> BuiltinKernel:
    """Return a kernel with a driver built in, as ``drivers/char/NAME`` of its source.

    ``driver`` is the driver's directory. Every symbol of its Kconfig file is
    turned on. Then the driver is built once more, as the module ``NAME.ko``.

    Raises:
        BadInputError: the directory has no Kconfig and Kbuild file.
        InfrastructureError: the build failed; the message says where its log is.
    """
    for required in ("Kconfig", "Kbuild"):
        if not (driver / required).is_file():
            raise BadInputError(f"{driver} has no {required}: it cannot be built into a kernel")
    files = _driver_files(driver)
    symbols = kconfig_symbols(driver / "Kconfig")
    tristates = [symbol for symbol, kind in symbols.items() if kind == "tristate"]
    if len(tristates) != 1:
        raise BadInputError(
            f"{driver / 'Kconfig'} must have one tristate, the driver; it has {len(tristates)}"
        )
    as_module = {f"CONFIG_{symbol}": "m" if symbol in tristates else "y" for symbol in symbols}
    recipe = replace(_BUILTIN, options=dict.fromkeys(as_module, "y"))
    source = prepare_source()
    contents = [part for path in files for part in (path.name, path.read_bytes())]
    key = content_key(recipe_key(recipe, source.key), name, *contents)
    module = _PARENT / name / f"{name}.ko"

    def build(directory: Path) -> None:
        tree = directory / "tree"
        graft(source.directory, files, name, tristates[0], tree)
        grafted = replace(source, directory=tree)
        build_kernel(recipe, grafted, directory, stream=stream)
        # Beside .config, which goes on to tell what the image has.
        requested = parse_config(recipe.fragment_text()) | as_module
        configure(tree, directory, requested, config="module.config")
        progress = Progress(f"building {name}.ko in the kernel's tree", stream=stream)
        arguments = ["KCONFIG_CONFIG=module.config", str(module)]
        compile_kernel(recipe.name, tree, directory, arguments, progress)

    directory = build_once("kernel-builtin", key, build, keep=3)
    return BuiltinKernel(recipe.name, directory, directory / "tree", key, directory / module)


def _driver_files(driver: Path) -> list[Path]:
    found = (path for pattern in _DRIVER_FILES for path in driver.glob(pattern))
    # Whoever builds in the driver's own directory leaves a .mod.c there.
    return sorted(path for path in found if not path.name.endswith(".mod.c"))


def graft(source: Path, files: list[Path], name: str, symbol: str, tree: Path) -> None:
    """Make ``tree``: the kernel ``source`` with ``files`` as its ``drivers/char/NAME``.

    Built if ``CONFIG_SYMBOL`` says so. The source is shared with other builds
    and not written to: only what lies on the way to the driver is a directory
    of ``tree``, and all else a link to the source.
    """
    parent = tree / _PARENT
    way = (tree, tree / "drivers", parent)
    for directory in way:
        directory.mkdir()
        for path in (source / directory.relative_to(tree)).iterdir():
            link = directory / path.name
            if link not in way:
                link.symlink_to(path)
    (parent / name).mkdir()
    for path in files:
        shutil.copyfile(path, parent / name / path.name)
    makefile = (parent / "Makefile").read_text() + f"obj-$(CONFIG_{symbol}) += {name}/\n"
    # The menu ends with the file, and the driver belongs into it.
    before, end, after = (parent / "Kconfig").read_text().rpartition("endmenu\n")
    kconfig = f'{before}source "{_PARENT}/{name}/Kconfig"\n{end}{after}'
    for listing, text in (("Makefile", makefile), ("Kconfig", kconfig)):
        (parent / listing).unlink()  # a link to the source's own
        (parent / listing).write_text(text)
