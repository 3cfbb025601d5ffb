# SPDX-License-Identifier: Apache-2.0
"""The share of a kernel that is compiled again when its configuration changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fuzzer.kernel.kbuild import BUILD_SECONDS
from fuzzer.kernel.needs.makefiles import Makefiles
from fuzzer.kernel.needs.search import alternation, grep

# Copying the build, configuring and linking, in objects of the kernel that take as long.
_CONSTANT_OBJECTS = 150


@dataclass(frozen=True, slots=True)
class Rebuild:
    """``compiled`` of a kernel's ``objects`` must be compiled, which takes about ``seconds``."""

    compiled: int
    objects: int
    seconds: float


def estimate_rebuild(
    source: Path, directory: Path, before: Mapping[str, str], after: Mapping[str, str]
) -> Rebuild:
    """Return how much of a build is made anew when its options change; nothing is run but grep."""
    makefiles = Makefiles(source)
    old, new = makefiles.objects(before), makefiles.objects(after)
    compiled = len((_touched(directory, before, after) & new) | (new - old))
    share = (compiled + _CONSTANT_OBJECTS) / (len(old) + _CONSTANT_OBJECTS)
    return Rebuild(compiled, len(new), share * _build_seconds(directory))


def _touched(
    directory: Path, before: Mapping[str, str], after: Mapping[str, str]
) -> frozenset[str]:
    """Return the objects of a build that were compiled with options that have changed since."""
    names = [
        name.removeprefix("CONFIG_")
        for name in before.keys() | after.keys()
        if before.get(name, "n") != after.get(name, "n")
    ]
    changed = alternation(names, most=len(names))
    if not changed:
        return frozenset()
    # Kbuild notes each option that a source file or its headers name.
    pattern = rf"include/config/({changed})\)"
    found = grep(directory, ["-l", "--include=.*.o.cmd", pattern], ["."])
    paths = (Path(line) for line in found)
    return frozenset(
        str(path.with_name(path.name.removeprefix(".").removesuffix(".cmd"))) for path in paths
    )


def _build_seconds(directory: Path) -> float:
    """Return how long the plain kernel took, of which a build is a copy or which it is."""
    try:
        return float((directory / BUILD_SECONDS).read_text())
    except (OSError, ValueError):
        # Made by an earlier version: from the first file that make writes to the last.
        first = directory / "include" / "config" / "auto.conf"
        last = directory / "arch" / "x86" / "boot" / "bzImage"
        return max(last.stat().st_mtime - first.stat().st_mtime, 1.0)
