# SPDX-License-Identifier: Apache-2.0
"""The Debian packages pkvfuzz needs, and which of them a host lacks.

Standard library only, as :mod:`fuzzer.bootstrap` asks before anything is
installed, and on every start: what only some starts need is imported there.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from fuzzer.cli.commands import BY_NAME
from fuzzer.paths import cache_dir

PREFERRED_KERNEL_SOURCE = "linux-source-6.12"

KERNEL_VERSION = re.compile(r"[1-9]\d{0,2}(?:\.(?:0|[1-9]\d{0,2})){1,2}\Z")
"""A kernel's version as it is asked for: ``6.1``."""

_ROOT = Path("/")
_KERNEL_SOURCE_NAME = re.compile(r"linux-source-(\d+(?:\.\d+)+)")
_ELF_PT_INTERP = 3


class Package(NamedTuple):
    """A Debian or Ubuntu package, and what shows that it is there.

    Looking for what the package is wanted for, not asking dpkg, is fast, works
    on any distribution and accepts what a user built. A named tuple, as the
    import of :mod:`dataclasses` alone takes as long as the whole check.
    """

    name: str
    why: str
    program: str = ""  # found on PATH
    static: bool = False  # and linked statically
    files: tuple[str, ...] = ()  # any of them; glob patterns below /


_LIBC = ("usr/lib/x86_64-linux-gnu/libc.a", "usr/lib64/libc.a", "usr/lib/libc.a")

PACKAGES = (
    Package("gcc", "compiles kernel, driver and executor", program="gcc"),
    Package("libc6-dev", "static C library for the executor", files=_LIBC),
    Package("make", "builds the kernel", program="make"),
    Package("flex", "builds the kernel's Kconfig", program="flex"),
    Package("bison", "builds the kernel's Kconfig", program="bison"),
    Package("bc", "makes the kernel's time constants", program="bc"),
    Package("perl", "runs the kernel's scripts", program="perl"),
    Package("libelf-dev", "builds the kernel's objtool", files=("usr/include/libelf.h",)),
    Package("libssl-dev", "builds the kernel's tools", files=("usr/include/openssl/evp.h",)),
    Package("xz-utils", "unpacks the kernel source", program="xz"),
    Package("patch", "applies kernel patches and planted bugs", program="patch"),
    Package("bubblewrap", "builds drivers in a sandbox", program="bwrap"),
    Package("cpio", "packs the guest's file system", program="cpio"),
    Package("busybox-static", "the guest's shell", program="busybox", static=True),
    Package("qemu-system-x86", "runs the virtual machines", program="qemu-system-x86_64"),
)
ARCHIVE_PACKAGES = (Package("zstd", "packs and unpacks the cache", program="zstd"),)
TEST_PACKAGES = (
    Package("openssl", "makes the key of a kernel that takes signed modules", program="openssl"),
    Package("sparse", "checks the driver's address spaces", program="sparse"),
    Package("zstd", "compressed logs", program="zstd"),
    Package("lz4", "compressed logs", program="lz4"),
)
BROWSER_PACKAGES = (
    Package("chromium", "shows the tests the report on a campaign", program="chromium"),
)
DEBUG_PACKAGES = (Package("gdb", "debugs a guest's kernel: replay --gdb", program="gdb"),)
CLANG_PACKAGES = (
    Package("clang", "compiles the kmsan kernel and drivers for it", program="clang"),
)
# The flavour of kernels that takes clang.
_BY_CLANG = "kmsan"


_PACKAGES = {
    "machine": PACKAGES,
    "archive": ARCHIVE_PACKAGES,
    "tests": TEST_PACKAGES,
    "debugger": DEBUG_PACKAGES,
    "clang": CLANG_PACKAGES,
}
_OWN_KERNEL = frozenset({"--kernel-source", "--kernel-build", "--kernel-version"})


def required_packages(argv: Sequence[str], root: Path = _ROOT) -> tuple[Package, ...]:
    """Return the packages that the command line ``argv`` needs, by what its command says.

    For a machine the distribution's kernel source is among them, unless ``argv`` says which
    kernel to use; ``root`` is where to look for a source that is installed.
    """
    groups = _needs_of(argv)
    packages = [package for group in groups for package in _PACKAGES[group]]
    names = {word.partition("=")[0] for word in argv}
    if "machine" in groups and any(word.rpartition("=")[2] == _BY_CLANG for word in argv):
        packages.extend(CLANG_PACKAGES)
    if "tests" in groups and _has_browser(root):
        packages.extend(BROWSER_PACKAGES)
    if "machine" in groups and not names & _OWN_KERNEL:
        packages.append(kernel_source_package(root))
    return tuple(packages)


def _has_browser(root: Path) -> bool:
    """Tell whether the distribution has Chromium as a package.

    Ubuntu's package of that name asks for a snap, which a container has not.
    """
    try:
        lines = (root / "etc/os-release").read_text().splitlines()
    except OSError:
        return False
    return "ID=debian" in lines


def _needs_of(argv: Sequence[str]) -> list[str]:
    """Return the groups of packages that a command line needs."""
    before = argv[: argv.index("--")] if "--" in argv else argv
    if {"-h", "--help", "--version"} & set(before):
        return []
    words = [word for word in before if not word.startswith("-")]
    names = (" ".join(words[:2]), words[0]) if words else ()
    command = next((BY_NAME[name] for name in names if name in BY_NAME), None)
    needs = command.needs if command else ()
    return [need.packages for need in needs if not need.option or need.option in before]


def venv_packages() -> tuple[Package, ...]:
    """Return the package a virtual environment needs with Debian's own Python."""
    if sys.base_prefix != "/usr":
        return ()
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    ensurepip = f"usr/lib/{name}/ensurepip/__init__.py"
    return (Package(f"{name}-venv", "makes the virtual environment", files=(ensurepip,)),)


def missing_packages(packages: Sequence[Package], root: Path = _ROOT) -> tuple[Package, ...]:
    """Return those of ``packages`` that are not on PATH or below ``root``."""
    return tuple(package for package in packages if not _is_present(package, root))


def install_command(missing: Sequence[Package]) -> str:
    """Return the one shell command that installs ``missing``."""
    sudo = "" if os.geteuid() == 0 else "sudo "
    names = " ".join(package.name for package in missing)
    install = "apt-get install --no-install-recommends"
    return f"{sudo}apt-get update && {sudo}{install} {names}"


def kernel_source_package(root: Path = _ROOT) -> Package:
    """Return the kernel source to use: 6.12 where apt knows it, else the newest.

    Asking apt takes half a second, so an answer whose source is installed is
    kept in the cache.
    """
    preferred = kernel_package(PREFERRED_KERNEL_SOURCE)
    if _is_present(preferred, root):
        return preferred
    kept = cache_dir() / "kernel-source-package"
    if kept.is_file():
        chosen = kernel_package(kept.read_text().strip())
        if _is_present(chosen, root):
            return chosen
    installed = [
        found[0]
        for path in (root / "usr/src").glob("linux-source-*.tar.*")
        if (found := _KERNEL_SOURCE_NAME.match(path.name))
    ]
    chosen = kernel_package(choose_kernel_source([*installed, *apt_kernel_sources()]))
    if _is_present(chosen, root):
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(chosen.name + "\n")
    return chosen


def choose_kernel_source(names: Sequence[str]) -> str:
    """Return the preferred of the package ``names``, else the newest version."""
    versions = {
        name: tuple(int(part) for part in found[1].split("."))
        for name in names
        if (found := _KERNEL_SOURCE_NAME.fullmatch(name))
    }
    if PREFERRED_KERNEL_SOURCE in versions or not versions:
        return PREFERRED_KERNEL_SOURCE
    return max(versions, key=lambda name: versions[name])


def kernel_package(name: str) -> Package:
    """Return the package of that name, which has a kernel's source."""
    return Package(name, "the kernel to build", files=(f"usr/src/{name}.tar.*",))


def _is_present(package: Package, root: Path) -> bool:
    if package.files:
        return any(next(root.glob(pattern), None) is not None for pattern in package.files)
    path = shutil.which(package.program)
    return path is not None and (not package.static or _is_static(Path(path)))


def _is_static(program: Path) -> bool:
    """Tell whether a 64-bit ELF ``program`` asks for no dynamic loader."""
    with program.open("rb") as stream:
        head = stream.read(4096)
    if head[:5] != b"\x7fELF\x02" or len(head) < 64:
        return False
    start, size, count = (
        int.from_bytes(head[at : at + length], "little")
        for at, length in ((32, 8), (54, 2), (56, 2))
    )
    types = (head[start + i * size :][:4] for i in range(count))
    return all(int.from_bytes(kind, "little") != _ELF_PT_INTERP for kind in types)


def apt_kernel_sources() -> list[str]:
    """Return the names of the packages with a kernel's source that apt knows."""
    if shutil.which("apt-cache") is None:
        return []
    import subprocess

    argv = ["apt-cache", "search", "--names-only", r"^linux-source-[0-9.]+$"]
    try:
        result = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
    except subprocess.TimeoutExpired:
        return []
    return [line.split(" ", 1)[0] for line in result.stdout.splitlines()]
