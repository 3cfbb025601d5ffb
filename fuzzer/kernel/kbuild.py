# SPDX-License-Identifier: Apache-2.0
"""Making a kernel: its configuration, requests checked, and its compilation."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from fuzzer.cache import content_key
from fuzzer.errors import InfrastructureError
from fuzzer.kernel.kconfig import fit_requests, unknown_requests
from fuzzer.kernel.source import KernelSource, compiler_version
from fuzzer.lifetime import start
from fuzzer.paths import cache_dir, project_root
from fuzzer.progress import Progress, say
from fuzzer.tools import run_tool

_CONFIGURE_TIMEOUT_S = 300
_PATCH_TIMEOUT_S = 60
_ERROR = re.compile(r"\berror: |\*\*\* ", re.IGNORECASE)
# Options of a kernel in its title.
_TOLD = 3
BUILD_SECONDS = "build-seconds"
"""The file in a build directory that says how long all of it took."""

GCC, CLANG = "gcc", "clang"
"""The compilers that kernels are built with."""

TOP_KCONFIG = "Kconfig.pkvfuzz"
"""The file in a build directory that is read instead of the tree's Kconfig, if it is there."""


MAKEFILE, SOURCE_LINK = "Makefile", "source"
"""The parts of a build directory that say where the source is."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """Recipe for making a kernel from a source tree.

    ``fragments`` are files in ``vm/kernel``, of which a later one overrules an
    earlier one; ``options`` are requests on top of them. ``patch`` is one there
    too, or empty. ``variables`` go to make, with ``compiler`` where that is not
    make's own, gcc. ``steps`` is about how many lines
    make prints for 6.12: it steers the time left, nothing else.
    """

    name: str
    fragments: tuple[str, ...]
    variables: tuple[str, ...] = ()
    options: dict[str, str] = field(default_factory=dict)
    steps: int = 1380
    patch: str = ""
    compiler: str = GCC

    @property
    def toolchain(self) -> tuple[str, ...]:
        """The make variables that say which compiler builds it; none for gcc."""
        return _toolchain(self.compiler)

    @property
    def title(self) -> str:
        """The name for a reader, with a few of the options."""
        names = [f"{name.removeprefix('CONFIG_')}={value}" for name, value in self.options.items()]
        more = [f"{len(names) - _TOLD} more"] if len(names) > _TOLD else []
        told = ", ".join([*names[:_TOLD], *more])
        return f"{self.name} kernel with {told}" if told else f"{self.name} kernel"

    def fragment_text(self) -> str:
        """Return the fragments, one after the other."""
        return "".join(_recipe_file(name).read_text() for name in self.fragments)

    def patch_text(self) -> str:
        """Return the patch; empty if there is none."""
        return _recipe_file(self.patch).read_text() if self.patch else ""


def _toolchain(compiler: str) -> tuple[str, ...]:
    return () if compiler == GCC else (f"CC={compiler}",)


def _recipe_file(name: str) -> Path:
    return project_root() / "vm" / "kernel" / name


@dataclass(frozen=True, slots=True)
class BuiltKernel:
    """A built kernel: its build directory, ready for building modules against."""

    name: str
    directory: Path
    source: Path
    key: str

    @property
    def image(self) -> Path:
        """The bootable image."""
        return self.directory / "arch" / "x86" / "boot" / "bzImage"

    def release(self) -> str:
        """Return what ``uname -r`` prints in it; empty where the build does not tell."""
        try:
            return (self.directory / "include" / "config" / "kernel.release").read_text().strip()
        except OSError:
            return ""

    def options(self) -> dict[str, str]:
        """Return the options of its configuration, none if it has none: not set is ``n``."""
        try:
            return parse_config((self.directory / ".config").read_text())
        except OSError:
            return {}

    def compiler(self) -> str:
        """Return the version line of the compiler that built it."""
        return self.options().get("CONFIG_CC_VERSION_TEXT", "").strip('"')

    def compiler_name(self) -> str:
        """Return the program that built it, and that drivers for it are built with."""
        return compiler_of(self.options())

    def config_key(self) -> str:
        """Return a hash of its configuration."""
        return content_key((self.directory / ".config").read_bytes())


def parse_config(text: str) -> dict[str, str]:
    """Return the options of a ``.config`` or fragment; one that is not set is ``n``."""
    options = {}
    for line in text.splitlines():
        if match := re.match(r"(CONFIG_\w+)=(.*)$", line.strip()):
            options[match[1]] = match[2]
        elif match := re.match(r"# (CONFIG_\w+) is not set$", line.strip()):
            options[match[1]] = "n"
    return options


def compiler_of(options: Mapping[str, str]) -> str:
    """Return the compiler that a ``.config`` with these options was made for."""
    return CLANG if options.get("CONFIG_CC_IS_CLANG") == "y" else GCC


def toolchain_of(options: Mapping[str, str]) -> tuple[str, ...]:
    """Return the make variables that say for which compiler a ``.config`` was made."""
    return _toolchain(compiler_of(options))


def kconfig_symbols(kconfig: Path) -> dict[str, str]:
    """Return the type (``bool`` or ``tristate``) of each symbol a Kconfig file defines."""
    pattern = r"^config (\w+)\n\s+(bool|tristate)\b"
    return dict(re.findall(pattern, kconfig.read_text(), re.MULTILINE))


def lost_options(requested: dict[str, str], final: dict[str, str]) -> list[str]:
    """Return the requests that Kconfig did not honour, in words."""
    return [
        f"{name}={value} became {final.get(name, 'n')}"
        for name, value in requested.items()
        if final.get(name, "n") != value
    ]


def configure(
    source: Path,
    directory: Path,
    requested: Mapping[str, str],
    *,
    config: str = ".config",
    toolchain: Sequence[str] = (),
) -> None:
    """Write a build directory's ``config``: tinyconfig with the requests on top.

    ``toolchain`` are make variables: options depend on the compiler.

    Raises:
        InfrastructureError: Kconfig did not honour a request.
    """
    path = directory / config
    variables = (f"KCONFIG_CONFIG={config}", *toolchain)
    run_kconfig(source, directory, "tinyconfig", variables=variables)
    # The requests last: of two members of a choice, the later wins.
    tiny = parse_config(path.read_text())
    kept = {key: value for key, value in tiny.items() if key not in requested}
    write_config(path, kept | dict(requested))
    run_kconfig(source, directory, "olddefconfig", variables=variables)
    lost = lost_options(dict(requested), parse_config(path.read_text()))
    if lost:
        raise InfrastructureError(
            f"the kernel in {source} cannot be configured as asked: "
            f"{'; '.join(lost)}. Look at vm/kernel/*.config"
        )


def write_config(path: Path, options: Mapping[str, str]) -> None:
    """Write options as a ``.config`` has them, in the order given."""
    path.write_text(
        "".join(
            f"# {name} is not set\n" if value == "n" else f"{name}={value}\n"
            for name, value in options.items()
        )
    )


def run_kconfig(
    source: Path, directory: Path, target: str, *, variables: Sequence[str] = ()
) -> None:
    """Run one of make's configuration targets for a build directory.

    Raises:
        InfrastructureError: it failed.
    """
    variables = (*_top_kconfig(directory), *variables)
    command = ["make", "-s", "-C", str(source), f"O={directory}", *variables, target]
    done = run_tool(command, "configuring the kernel", timeout=_CONFIGURE_TIMEOUT_S)
    if done.returncode:
        last = " / ".join(done.stderr.splitlines()[-3:])
        raise InfrastructureError(f"make {target} of the kernel failed: {last}")


def _top_kconfig(directory: Path) -> tuple[str, ...]:
    # Make looks for it in the build directory first.
    return (f"KBUILD_KCONFIG={TOP_KCONFIG}",) if (directory / TOP_KCONFIG).is_file() else ()


def compile_kernel(
    name: str,
    source: Path,
    directory: Path,
    arguments: Sequence[str],
    progress: Progress,
    *,
    nice: int = 0,
) -> None:
    """Run make in a configured build directory; ``arguments`` are variables and targets.

    Raises:
        InfrastructureError: it failed; the message says where its output is.
    """
    log = directory / "build.log"
    jobs = f"-j{os.cpu_count() or 1}"
    arguments = (*_top_kconfig(directory), *arguments)
    command = ["make", "-C", str(source), f"O={directory}", jobs, *arguments]
    if nice:
        command = ["nice", "-n", str(nice), *command]
    with log.open("a") as file:
        file.write(f"$ {' '.join(command)}\n")
        file.flush()
        with start(
            command,
            signal.SIGTERM,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        ) as process:
            assert process.stdout is not None
            try:
                for step, line in enumerate(process.stdout):
                    file.write(line)
                    progress.update(step)
            except BaseException:
                process.terminate()
                raise
    if process.returncode:
        tail = " / ".join(_errors_in(log.read_text(errors="replace")))
        kept = log.rename(cache_dir() / f"failed-{name}-kernel.log")
        raise InfrastructureError(f"building the {name} kernel failed: {tail}. All of it: {kept}")
    progress.finish("done")


def point_to_source(directory: Path, source: Path) -> None:
    """Write into a build directory where its source is, as make does."""
    (directory / MAKEFILE).write_text(
        f"# Automatically generated by {source}/Makefile: don't edit\ninclude {source}/Makefile\n"
    )
    link = directory / SOURCE_LINK
    link.unlink(missing_ok=True)
    link.symlink_to(source)


def _errors_in(log: str) -> list[str]:
    # Not the names of files, such as error.o, that make prints.
    lines = [line.strip() for line in log.splitlines() if _ERROR.search(line)]
    return lines[:3] or log.splitlines()[-3:]


def copy_build(built: Path, directory: Path) -> None:
    """Copy a build directory into an empty one, times of change included.

    Raises:
        InfrastructureError: the disk is full.
    """
    # Without the stamp of the cache: the copy is not a complete kernel for long.
    entries = sorted(str(path) for path in built.iterdir() if path.name != ".complete")
    command = ["cp", "-a", "--reflink=auto", "-t", str(directory), *entries]
    done = run_tool(command, "copying a built kernel", timeout=600)
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["no reason given"]
        raise InfrastructureError(f"copying a built kernel failed: {last[0]}. Try: df -h")


def build_kernel(
    recipe: Recipe,
    source: KernelSource,
    directory: Path,
    *,
    nice: int = 0,
    stream: TextIO | None = None,
) -> None:
    """Make a kernel in an empty directory, and all that modules are built with.

    Raises:
        InfrastructureError: Kconfig did not honour a request, or make failed.
    """
    if unknown := unknown_requests(_asked(recipe, source), source.directory):
        say(f"left out of the {recipe.name} kernel, which does not know it: {', '.join(unknown)}")
    asked = requests(recipe, source)
    configure(source.directory, directory, asked, toolchain=recipe.toolchain)
    start = time.monotonic()
    build_configured(recipe, source, directory, nice=nice, stream=stream)
    (directory / BUILD_SECONDS).write_text(f"{time.monotonic() - start:.0f}\n")


def requests(recipe: Recipe, source: KernelSource) -> dict[str, str]:
    """Return all that a recipe asks of Kconfig; a later request overrules an earlier one.

    Of what its fragments ask for, options that the source does not have are left out.
    """
    return fit_requests(_asked(recipe, source), source.directory) | recipe.options


def _asked(recipe: Recipe, source: KernelSource) -> dict[str, str]:
    asked = parse_config(recipe.fragment_text())
    return {name: value for name, value in asked.items() if name not in source.missing_options}


def build_configured(
    recipe: Recipe,
    source: KernelSource,
    directory: Path,
    *,
    nice: int = 0,
    stream: TextIO | None = None,
) -> None:
    """Make a kernel in a directory that has its ``.config``, and maybe objects of another.

    Raises:
        InfrastructureError: make failed.
    """
    patch_copies(recipe, source.directory, directory)
    progress = Progress(f"building the {recipe.title}", recipe.steps, stream)
    arguments = [*recipe.toolchain, *recipe.variables, "bzImage", "modules_prepare"]
    compile_kernel(recipe.name, source.directory, directory, arguments, progress, nice=nice)
    # Modules are checked against this; a full "make modules" would write it.
    shutil.copyfile(directory / "vmlinux.symvers", directory / "Module.symvers")


def patch_copies(recipe: Recipe, source: Path, directory: Path) -> None:
    """Put patched copies of source files into a build directory, where make finds them first.

    A kernel that the patch does not fit is built as it is.

    Raises:
        InfrastructureError: there is no patch program.
    """
    text = recipe.patch_text()
    names = re.findall(r"^\+\+\+ b/(\S+)", text, re.MULTILINE)
    for name in names:
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        if (source / name).is_file():
            shutil.copyfile(source / name, directory / name)
    if not names:
        return
    command = ["patch", "-p1", "--batch", "--fuzz=0", "--no-backup-if-mismatch", "-r", "-"]
    done = run_tool(
        command,
        f"patching the {recipe.name} kernel",
        timeout=_PATCH_TIMEOUT_S,
        cwd=directory,
        text=text,
    )
    if done.returncode:
        for name in names:
            (directory / name).unlink(missing_ok=True)
        say(f"{recipe.patch} does not fit this kernel and is left out")


def recipe_key(recipe: Recipe, source: str) -> str:
    """Return the key of a build: source and patches, config, objects, compiler."""
    options = [f"{name}={value}" for name, value in recipe.options.items()]
    if recipe.patch:
        options.append(recipe.patch_text())
    compiler, variables = compiler_version(recipe.compiler), " ".join(recipe.variables)
    return content_key(source, recipe.fragment_text(), variables, compiler, *options)
