# SPDX-License-Identifier: Apache-2.0
"""The files of the cache that an archive has: what running and building modules takes."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator
from pathlib import Path, PurePosixPath

from fuzzer.archive.manifest import kind_of
from fuzzer.kernel.kbuild import MAKEFILE, SOURCE_LINK

# What make left behind, and needs for nothing but making the kernel again.
_LEFT_OVER = re.compile(
    r"(?:^|/)(?:\.tmp_[^/]*|\.[^/]*\.cmd|[^/]*\.(?:o|a|d|order|i|lst|log)|vmlinux\.(?:o|a|unstripped)"
    r"|\.vmlinux\.export\.c|\.complete)$|^usr/|^arch/x86/boot/(?!bzImage$)"
    r"|^arch/x86/(?:entry|kernel|lib|mm|tools|realmode|purgatory)/"
)
# Of a kernel's source, what modules are built with and Kconfig reads.
_OF_SOURCE = re.compile(
    r"(?:^|/)(?:Kconfig|Makefile|Kbuild)[^/]*$|^(?:include|arch/x86|scripts|tools/include)/|^\.pkvfuzz"
)
_OBJECTS = (".o", ".a", ".cmd")


def is_kernel(entry: str) -> bool:
    """Tell whether an entry is a kernel's build directory."""
    return kind_of(entry).startswith(("kernel-", "variant-"))


def kernel_files(directory: Path, parts: Collection[Path]) -> Iterator[Path]:
    """Yield the files of a kernel's build directory; ``parts`` are objects that are kept."""
    for path in every_file(directory):
        name = path.relative_to(directory).as_posix()
        if name not in (SOURCE_LINK, MAKEFILE) and (path in parts or not _LEFT_OVER.search(name)):
            yield path


def source_files(directory: Path) -> Iterator[Path]:
    """Yield the files of a kernel's source that modules are built with."""
    for path in every_file(directory):
        name = path.relative_to(directory).as_posix()
        if _OF_SOURCE.search(name) and not name.endswith(_OBJECTS):
            yield path


def entry_files(directory: Path) -> Iterator[Path]:
    """Yield all files of an entry."""
    return (path for path in every_file(directory) if path.name != ".complete")


def every_file(directory: Path) -> Iterator[Path]:
    """Yield files and links below a directory, and directories that are empty, by their names."""
    for place, directories, files in os.walk(directory):
        directories.sort()
        here = Path(place)
        links = [name for name in directories if (here / name).is_symlink()]
        yield from (here / name for name in sorted([*files, *links]))
        if not files and not directories and here != directory:
            yield here


def stays_inside(name: str, target: str) -> bool:
    """Tell whether a link of that name, with that target, leads to a place below its entry."""
    if target.startswith("/") or "\0" in target:
        return False
    depth = len(PurePosixPath(name).parts) - 1
    for part in PurePosixPath(target).parts:
        depth += -1 if part == ".." else 1
        if depth < 0:
            return False
    return True
