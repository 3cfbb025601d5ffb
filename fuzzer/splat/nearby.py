# SPDX-License-Identifier: Apache-2.0
"""Symbols that are on this machine: of a build tree here, or of the kernel that is installed.

The user did not name them, so unreadable files are ignored.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from fuzzer.errors import BadInputError
from fuzzer.splat.splat import Splat
from fuzzer.splat.symbols import Symbols

_DEPTH = 3
_MAX_DIRECTORIES = 500
_RELEASE = re.compile(r"[\w.+~-]+")


def symbols_nearby(records: Sequence[Splat], tree: Path | None = None) -> Symbols | None:
    """Return the symbols of the modules and the kernels of records; None: there are none here.

    ``tree`` is where a build tree is looked for: the current directory.
    """
    crashes = [record for record in records if record.crash and record.stacks]
    modules = {record.module.name for record in crashes if record.module}
    releases = {r.kernel for r in crashes if r.kernel and _RELEASE.fullmatch(r.kernel)}
    if not crashes:
        return None
    tree = tree or Path.cwd()
    found = {name: path for path in _modules_in(tree) if (name := _name(path)) in modules}
    usable = [path for path in found.values() if _is_usable(path)]
    kernel = next((v for r in sorted(releases) for v in _kernels(tree, r) if v.is_file()), None)
    if kernel and not _is_usable(kernel, is_kernel=True):
        kernel = None
    return Symbols(kernel, usable) if usable or kernel else None


def _name(path: Path) -> str:
    return path.stem.replace("-", "_")


def _modules_in(tree: Path) -> Iterator[Path]:
    """Return the modules in a directory and a few levels below it."""
    top = len(tree.parts)
    for directory, below, files in itertools.islice(os.walk(tree), _MAX_DIRECTORIES):
        if len(Path(directory).parts) - top >= _DEPTH:
            below.clear()
        below[:] = sorted(each for each in below if not each.startswith("."))
        yield from (Path(directory, name) for name in sorted(files) if name.endswith(".ko"))


def _kernels(tree: Path, release: str) -> Iterator[Path]:
    """Return paths at which a kernel with debugging information may be."""
    if (tree / "Kconfig").is_file():
        yield tree / "vmlinux"
    yield Path("/usr/lib/debug/boot", f"vmlinux-{release}")
    yield Path("/usr/lib/debug/lib/modules", release, "vmlinux")
    yield Path("/lib/modules", release, "build", "vmlinux")


def _is_usable(path: Path, *, is_kernel: bool = False) -> bool:
    try:
        Symbols(path if is_kernel else None, [] if is_kernel else [path])
    except BadInputError:
        return False
    return True
