# SPDX-License-Identifier: Apache-2.0
"""Kernel builds: two flavours, cached by what goes into them."""

from __future__ import annotations

import enum
import functools
import os
import re
import shutil
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from fuzzer.cache import build_once, content_key, lookup
from fuzzer.errors import BadInputError, InfrastructureError
from fuzzer.lifetime import end_with_parent
from fuzzer.machine.source import (
    KernelSource,
    compiler_version,
    prepare_source,
    source_key,
)
from fuzzer.paths import project_root
from fuzzer.progress import Progress

# Lines that make prints for a build of 6.12; steers the time left, nothing else.
_TYPICAL_STEPS = 1380

# Without these the fuzzer cannot work at all; asked of a kernel that was built elsewhere.
NEEDED = (
    "MODULES", "KASAN", "KCOV", "DEBUG_FS", "DEVTMPFS", "DEVMEM", "PROC_FS", "SYSFS",
    "BLK_DEV_INITRD", "SERIAL_8250_CONSOLE", "KALLSYMS", "X86_MPPARSE",
)  # fmt: skip


class Flavour(enum.StrEnum):
    """What a kernel is for: fuzzing fast, or judging with every check on."""

    FAST = "fast"
    FULL = "full"


@dataclass(frozen=True, slots=True)
class KernelOptions:
    """Where kernels come from: the user's ``--kernel-source`` or ``--kernel-build``."""

    source: Path | None = None
    build: Path | None = None


@dataclass(frozen=True, slots=True)
class Kernel:
    """A built kernel: its build directory, ready for building modules against."""

    flavour: Flavour
    directory: Path
    source: Path
    key: str

    @property
    def image(self) -> Path:
        """The bootable image."""
        return self.directory / "arch" / "x86" / "boot" / "bzImage"


def parse_config(text: str) -> dict[str, str]:
    """Return the options of a ``.config`` or fragment; one that is not set is ``n``."""
    options = {}
    for line in text.splitlines():
        if match := re.match(r"(CONFIG_\w+)=(.*)$", line.strip()):
            options[match[1]] = match[2]
        elif match := re.match(r"# (CONFIG_\w+) is not set$", line.strip()):
            options[match[1]] = "n"
    return options


def lost_options(requested: dict[str, str], final: dict[str, str]) -> list[str]:
    """Return the requests that Kconfig did not honour, in words."""
    return [
        f"{name}={value} became {final.get(name, 'n')}"
        for name, value in requested.items()
        if final.get(name, "n") != value
    ]


def _fragments(flavour: Flavour) -> str:
    directory = project_root() / "vm" / "kernel"
    names = ("base.config", f"{flavour}.config")
    return "".join((directory / name).read_text() for name in names)


def _make_variables(flavour: Flavour) -> list[str]:
    """Return make variables that say which core objects get KASAN checks."""
    if flavour is Flavour.FULL:
        return []
    listing = (project_root() / "vm" / "kernel" / "fast.kasan").read_text()
    objects = [line for line in listing.splitlines() if line and not line.startswith("#")]
    return [
        "KASAN_SANITIZE=n",
        "KASAN_SANITIZE_lib_string=y",
        *(f"KASAN_SANITIZE_{name}=y" for name in objects),
    ]


def _configure(source: KernelSource, directory: Path, requested: dict[str, str]) -> None:
    """Write ``.config``: tinyconfig with the requests on top, each checked afterwards."""
    config = directory / ".config"
    for target in ("tinyconfig", "olddefconfig"):
        done = subprocess.run(
            ["make", "-s", "-C", str(source.directory), f"O={directory}", target],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        if done.returncode:
            last = " / ".join(done.stderr.splitlines()[-3:])
            raise InfrastructureError(f"make {target} of the kernel failed: {last}")
        if target == "tinyconfig":
            # The requests last: of two members of a choice, the later wins.
            tiny = parse_config(config.read_text())
            kept = {key: value for key, value in tiny.items() if key not in requested}
            kept |= requested
            config.write_text(
                "".join(
                    f"# {name} is not set\n" if value == "n" else f"{name}={value}\n"
                    for name, value in kept.items()
                )
            )
    lost = lost_options(requested, parse_config(config.read_text()))
    if lost:
        raise InfrastructureError(
            f"the kernel in {source.directory} cannot be configured as asked: "
            f"{'; '.join(lost)}. Look at vm/kernel/*.config"
        )


def _compile(
    flavour: Flavour,
    source: KernelSource,
    directory: Path,
    nice: int,
    progress: Progress,
) -> None:
    log = directory / "build.log"
    command = [
        "make",
        *("-C", str(source.directory), f"O={directory}", f"-j{os.cpu_count() or 1}"),
        *_make_variables(flavour),
        *("bzImage", "modules_prepare"),
    ]
    if nice:
        command = ["nice", "-n", str(nice), *command]
    with log.open("w") as file:
        file.write(f"$ {' '.join(command)}\n")
        file.flush()
        with subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            preexec_fn=functools.partial(end_with_parent, os.getpid(), signal.SIGTERM),
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
        kept = log.rename(directory.parent / f"failed-{flavour}-kernel.log")
        raise InfrastructureError(
            f"building the {flavour} kernel failed: {tail}. All of it: {kept}"
        )
    # Modules are checked against this; a full "make modules" would write it.
    shutil.copyfile(directory / "vmlinux.symvers", directory / "Module.symvers")
    progress.finish("done")


def _errors_in(log: str) -> list[str]:
    lines = [line.strip() for line in log.splitlines() if "error" in line.lower()]
    return lines[:3] or log.splitlines()[-3:]


def kernel_key(flavour: Flavour, source: str) -> str:
    """Return the key of a build: source, patches, config, objects, compiler."""
    return content_key(
        source, _fragments(flavour), " ".join(_make_variables(flavour)), compiler_version()
    )


def ready_kernel(flavour: Flavour, options: KernelOptions) -> Kernel | None:
    """Return the kernel if it is built already."""
    if options.build is not None:
        return _given_build(flavour, options.build)
    source = source_key(options.source)
    key = kernel_key(flavour, source)
    directory, tree = lookup(f"kernel-{flavour}", key), lookup("source", source)
    return Kernel(flavour, directory, tree, key) if directory and tree else None


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
    if options.build is not None:
        return _given_build(flavour, options.build)
    source = prepare_source(options.source)
    key = kernel_key(flavour, source.key)

    def build(directory: Path) -> None:
        requested = parse_config(_fragments(flavour))
        for name in source.missing_options:
            requested.pop(name, None)
        _configure(source, directory, requested)
        progress = Progress(f"building the {flavour} kernel", _TYPICAL_STEPS, stream)
        _compile(flavour, source, directory, nice, progress)

    directory = build_once(f"kernel-{flavour}", key, build, keep=3)
    return Kernel(flavour, directory, source.directory, key)


def _given_build(flavour: Flavour, directory: Path) -> Kernel:
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
    missing = [name for name in NEEDED if options.get(f"CONFIG_{name}", "n") == "n"]
    if options.get("CONFIG_STRICT_DEVMEM", "n") != "n":
        missing.append("STRICT_DEVMEM=n")
    if missing:
        raise BadInputError(
            f"--kernel-build {directory}: the fuzzer needs these options, and the kernel "
            f"has not got them: {', '.join(missing)}"
        )
    link = directory / "source"
    source = link.resolve() if link.exists() else directory
    key = content_key(config.read_bytes(), image.read_bytes())
    return Kernel(flavour, directory, source, key)
