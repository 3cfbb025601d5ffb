# SPDX-License-Identifier: Apache-2.0
"""The kernel's source: found, unpacked and patched in the cache."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from fuzzer.cache import build_once, content_key, file_stamp
from fuzzer.errors import BadInputError, InfrastructureError
from fuzzer.kernel.versions import (
    ensure_source_package,
    find_tarball,
    installed_versions,
    is_preferred,
)
from fuzzer.paths import project_root
from fuzzer.progress import Progress, say
from fuzzer.tools import run_tool

PARTIAL_SOURCE = "devel"
"""The kind of entries that have a part of a tree, for building modules; they are imported."""

_PATCHES = Path("vm", "kernel", "patches")


@dataclass(frozen=True, slots=True)
class KernelSource:
    """A patched kernel tree.

    ``missing_options`` are those of patches that do not fit it and are left out.
    """

    directory: Path
    key: str
    missing_options: frozenset[str]


@dataclass(frozen=True, slots=True)
class Patch:
    """A patch for the kernel; ``provides`` lists the config options it adds."""

    path: Path
    provides: frozenset[str]


def kernel_patches() -> list[Patch]:
    """Return the patches in ``vm/kernel/patches``, in order."""
    return _patches_in(project_root() / _PATCHES)


def older_patches() -> dict[str, Patch]:
    """Return those for older kernels alone, by name.

    One with the name of another patch does the same as that. The others are for problems that
    only older kernels have.
    """
    return {patch.path.name: patch for patch in _patches_in(project_root() / _PATCHES / "older")}


def _patches_in(directory: Path) -> list[Patch]:
    found = []
    for path in sorted(directory.glob("*.patch")):
        provides = re.findall(r"^Provides: (\S+)$", path.read_text(), re.MULTILINE)
        found.append(Patch(path, frozenset(provides)))
    return found


def _run(command: list[str], what: str, timeout: float, cwd: Path | None = None) -> None:
    done = run_tool(command, what, timeout=timeout, cwd=cwd)
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise InfrastructureError(f"{what}: {' / '.join(lines[-3:])}")


def _apply_patches(tree: Path, *, preferred: bool) -> None:
    # Those that are not part of the preferred version's key are not tried on it.
    older = {} if preferred else older_patches()
    for patch in kernel_patches():
        instead = older.pop(patch.path.name, None)
        if not _applied(patch, tree) and not (instead and _applied(instead, tree)):
            say(f"{patch.path.name} does not fit this kernel and is left out; fast is slower")
            options = "\n".join(sorted(patch.provides))
            with (tree / ".pkvfuzz-missing").open("a") as file:
                file.write(options + "\n")
    for patch in older.values():
        _applied(patch, tree)


def _applied(patch: Patch, tree: Path) -> bool:
    """Apply a patch, if it fits; return whether it did."""
    # --batch would reverse a patch that is there already.
    command = ["patch", "-p1", "--force", "--silent", "-i", str(patch.path)]
    dry = subprocess.run(
        [*command, "--dry-run"], cwd=tree, capture_output=True, timeout=60, check=False
    )
    if dry.returncode == 0:
        _run(command, f"applying {patch.path.name}", 60, tree)
    return dry.returncode == 0


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
    older = [patch.path.read_bytes() for patch in older_patches().values()]
    if given is None:
        tarball = find_tarball(version=version)
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
        _apply_patches(directory, preferred=given is None and is_preferred(origin))
        progress.finish(origin.name)

    directory = build_once("source", key, build, keep=3)
    missing = directory / ".pkvfuzz-missing"
    options = frozenset(missing.read_text().split()) if missing.exists() else frozenset[str]()
    return KernelSource(directory, key, options)


def whole_source(tree: Path) -> Path:
    """Return all of a patched tree of which there may be a part only.

    Raises:
        InfrastructureError: the distribution's package with it is not installed any more.
    """
    kind, _, key = tree.name.rpartition("-")
    if kind != PARTIAL_SOURCE:
        return tree
    for version in ("", *installed_versions()):
        if source_key(version=version) == key:
            return prepare_source(version=version).directory
    raise InfrastructureError(
        f"only a part of the kernel's source is in {tree}, and the source that it was imported "
        "from is not installed. Remove it, and a kernel is built here: pkvfuzz cache clean"
    )


def compiler_version(compiler: str = "gcc") -> str:
    """Return the first line that a compiler prints for ``--version``.

    Raises:
        InfrastructureError: it is not installed.
    """
    done = run_tool([compiler, "--version"], "compiling for the guest", timeout=20)
    return done.stdout.splitlines()[0] if done.stdout else compiler
