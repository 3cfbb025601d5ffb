# SPDX-License-Identifier: Apache-2.0
"""The kernel's source: found, unpacked and patched in the cache."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from fuzzer.cache import build_once, content_key, file_stamp
from fuzzer.errors import BadInputError, InfrastructureError
from fuzzer.machine.versions import ensure_source_package, find_tarball, is_preferred
from fuzzer.paths import project_root
from fuzzer.progress import Progress, say

_PATCHES = Path("vm", "kernel", "patches")


@dataclass(frozen=True, slots=True)
class KernelSource:
    """A patched kernel tree. ``provided`` are the options that its patches add."""

    directory: Path
    key: str
    missing_options: frozenset[str]


@dataclass(frozen=True, slots=True)
class Patch:
    """A patch for the kernel; ``provides`` lists the config options it adds.

    ``older`` is what does the same to older kernels, if there is such a patch.
    """

    path: Path
    provides: frozenset[str]
    older: Path | None


def kernel_patches() -> list[Patch]:
    """Return the patches in ``vm/kernel/patches``, in order."""
    found = []
    for path in sorted((project_root() / _PATCHES).glob("*.patch")):
        provides = re.findall(r"^Provides: (\S+)$", path.read_text(), re.MULTILINE)
        older = path.parent / "older" / path.name
        found.append(Patch(path, frozenset(provides), older if older.is_file() else None))
    return found


def _run(command: list[str], what: str, timeout: float, cwd: Path | None = None) -> None:
    try:
        done = subprocess.run(
            command, cwd=cwd, capture_output=True, text=True, timeout=timeout, check=False
        )
    except OSError as error:
        raise InfrastructureError(f"{what}: {command[0]}: {error.strerror}") from error
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise InfrastructureError(f"{what}: {' / '.join(lines[-3:])}")


def _apply_patches(tree: Path) -> None:
    for patch in kernel_patches():
        for path in filter(None, (patch.path, patch.older)):
            command = ["patch", "-p1", "--batch", "--silent", "-i", str(path)]
            dry = subprocess.run(
                [*command, "--dry-run"], cwd=tree, capture_output=True, timeout=60, check=False
            )
            if dry.returncode == 0:
                _run(command, f"applying {path.name}", 60, tree)
                break
        else:
            say(f"{patch.path.name} does not fit this kernel and is left out; fast is slower")
            options = "\n".join(sorted(patch.provides))
            with (tree / ".pkvfuzz-missing").open("a") as file:
                file.write(options + "\n")


def _tree_stamp(directory: Path) -> str:
    """Identify a source directory by its files' sizes and times of change."""
    entries = []
    for path in directory.rglob("*"):
        if ".git" in path.parts or path.suffix in {".o", ".cmd", ".ko"}:
            continue
        if path.is_file() and not path.is_symlink():
            entries.append(f"{path.relative_to(directory)} {file_stamp(path)}")
    return "\n".join(sorted(entries))


def source_key(given: Path | None = None, version: str = "") -> str:
    """Return the key of a patched tree, without unpacking it.

    Raises:
        BadInputError: the directory given is not a kernel tree.
        InfrastructureError: there is no kernel source, or none of that version.
    """
    patches = [patch.path.read_bytes() for patch in kernel_patches()]
    older = [patch.older.read_bytes() for patch in kernel_patches() if patch.older]
    if given is None:
        tarball = find_tarball(version=version)
        # The patches are made for the preferred version, and no other is tried on it.
        parts = patches if is_preferred(tarball) else patches + older
        return content_key(file_stamp(tarball), *parts)
    if not (given / "Kconfig").is_file() or not (given / "kernel").is_dir():
        raise BadInputError(f"--kernel-source {given}: not a kernel source tree (no Kconfig)")
    return content_key(_tree_stamp(given.resolve()), *patches, *older)


def prepare_source(given: Path | None = None, version: str = "") -> KernelSource:
    """Return a patched tree: of the directory given, else of the distribution's package.

    A given directory is copied, never changed. The package of a ``version`` that
    was asked for is installed if need be.

    Raises:
        BadInputError: the directory is not a kernel tree, or there is no such version.
        InfrastructureError: installing or unpacking failed.
    """
    if given is None and version:
        ensure_source_package(version)
    key = source_key(given, version)
    origin = given.resolve() if given else find_tarball(version=version)

    def build(directory: Path) -> None:
        progress = Progress("unpacking the kernel source")
        if given is not None:
            _run(
                ["cp", "-a", "--reflink=auto", f"{origin}/.", str(directory)],
                f"copying {given}",
                1200,
            )
            if (directory / ".config").exists() or (directory / "include" / "config").exists():
                _run(["make", "mrproper"], "cleaning the copied kernel tree", 300, directory)
        else:
            _run(
                ["tar", "-xf", str(origin), "--strip-components=1", "-C", str(directory)],
                f"unpacking {origin}",
                1200,
            )
        _apply_patches(directory)
        progress.finish(origin.name)

    directory = build_once("source", key, build, keep=3)
    missing = directory / ".pkvfuzz-missing"
    options = frozenset(missing.read_text().split()) if missing.exists() else frozenset[str]()
    return KernelSource(directory, key, options)


def compiler_version() -> str:
    """Return the first line of ``gcc --version``.

    Raises:
        InfrastructureError: there is no gcc.
    """
    if shutil.which("gcc") is None:
        raise InfrastructureError("gcc is not on PATH. Install it: apt-get install gcc")
    done = subprocess.run(
        ["gcc", "--version"], capture_output=True, text=True, timeout=20, check=False
    )
    return done.stdout.splitlines()[0] if done.stdout else "gcc"
