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
from fuzzer.paths import project_root
from fuzzer.progress import Progress, say

# The version that pkvfuzz is developed on; the newest other one is next best.
PREFERRED = "6.12"
_TARBALL = re.compile(r"linux-source-(\d+(?:\.\d+)*)\.tar\.(?:xz|bz2|zst)$")


@dataclass(frozen=True, slots=True)
class KernelSource:
    """A patched kernel tree. ``provided`` are the options that its patches add."""

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
    found = []
    for path in sorted((project_root() / "vm" / "kernel" / "patches").glob("*.patch")):
        provides = re.findall(r"^Provides: (\S+)$", path.read_text(), re.MULTILINE)
        found.append(Patch(path, frozenset(provides)))
    return found


def find_tarball(directory: Path = Path("/usr/src")) -> Path:
    """Return the distribution's kernel source: 6.12 where it exists, else the newest.

    Raises:
        InfrastructureError: there is none.
    """
    candidates: list[tuple[tuple[int, ...], Path]] = []
    # Ubuntu keeps the tarball in a directory of the same name.
    name = "linux-source-*.tar.*"
    for path in [*directory.glob(name), *directory.glob(f"*/{name}")]:
        match = _TARBALL.search(path.name)
        if match:
            version = tuple(int(number) for number in match[1].split("."))
            candidates.append((version, path.resolve()))
    for version, path in candidates:
        if ".".join(map(str, version[:2])) == PREFERRED:
            return path
    if not candidates:
        raise InfrastructureError(
            f"no kernel source in {directory}. Install it: apt-get install "
            f"linux-source-{PREFERRED} (or linux-source), or give --kernel-source DIR"
        )
    return max(candidates)[1]


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
        command = ["patch", "-p1", "--batch", "--silent", "-i", str(patch.path)]
        dry = subprocess.run(
            [*command, "--dry-run"], cwd=tree, capture_output=True, timeout=60, check=False
        )
        if dry.returncode:
            say(f"{patch.path.name} does not fit this kernel and is left out; fast is slower")
            options = "\n".join(sorted(patch.provides))
            with (tree / ".pkvfuzz-missing").open("a") as file:
                file.write(options + "\n")
            continue
        _run(command, f"applying {patch.path.name}", 60, tree)


def _tree_stamp(directory: Path) -> str:
    """Identify a source directory by its files' sizes and times of change."""
    entries = []
    for path in directory.rglob("*"):
        if ".git" in path.parts or path.suffix in {".o", ".cmd", ".ko"}:
            continue
        if path.is_file() and not path.is_symlink():
            entries.append(f"{path.relative_to(directory)} {file_stamp(path)}")
    return "\n".join(sorted(entries))


def source_key(given: Path | None = None) -> str:
    """Return the key of a patched tree, without unpacking it.

    Raises:
        BadInputError: the directory given is not a kernel tree.
        InfrastructureError: there is no kernel source.
    """
    patches = [patch.path.read_bytes() for patch in kernel_patches()]
    if given is None:
        return content_key(file_stamp(find_tarball()), *patches)
    if not (given / "Kconfig").is_file() or not (given / "kernel").is_dir():
        raise BadInputError(f"--kernel-source {given}: not a kernel source tree (no Kconfig)")
    return content_key(_tree_stamp(given.resolve()), *patches)


def prepare_source(given: Path | None = None) -> KernelSource:
    """Return a patched tree: of the directory given, else of the distribution's package.

    A given directory is copied, never changed.

    Raises:
        BadInputError: the directory is not a kernel tree.
        InfrastructureError: unpacking failed.
    """
    key = source_key(given)
    origin = given.resolve() if given else find_tarball()

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
