# SPDX-License-Identifier: Apache-2.0
"""Drivers that were built here, found again by their key: a crash and a campaign keep that alone.

An entry of the cache has the paths of a driver's object and of the copy of its source. When the
copy is removed from the cache, nothing is known of the driver any more.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from pathlib import Path

from fuzzer.cache import build_once, content_key, keep_entry, lookup
from fuzzer.driver.driver import Driver
from fuzzer.driver.source_build import build_root
from fuzzer.errors import InfrastructureError
from fuzzer.target.target import module_name

_VERSION = "build 1"
_KIND, _FILE, _KEEP = "symbols", "driver.json", 200


@dataclass(frozen=True, slots=True)
class KnownBuild:
    """A driver that was built here.

    ``module`` is its name in reports, None for a part of the kernel: ``object`` is ``vmlinux``
    then. ``root`` is the directory of its source as it was built.
    """

    key: str
    module: str | None
    object: Path
    root: Path

    def own_path(self, place: str) -> str | None:
        """Return a ``file`` or ``file:line`` relative to the driver's source; None if elsewhere."""
        path = Path(place)
        return str(path.relative_to(self.root)) if path.is_relative_to(self.root) else None


def note_build(driver: Driver) -> None:
    """Remember where a driver is; a cache that cannot be written is of no matter."""
    root = driver.object.parent if driver.parts else build_root(driver.object.parent)
    content = {
        "module": None if driver.parts else module_name(driver.name),
        "object": str(driver.object),
        "root": str(root),
    }

    def build(directory: Path) -> None:
        (directory / _FILE).write_text(json.dumps(content))

    with contextlib.suppress(InfrastructureError):
        build_once(_KIND, _key(driver.key), build, keep=_KEEP)


def find_build(key: str) -> KnownBuild | None:
    """Return the driver of a key, None if it was not built here, or is gone."""
    directory = lookup(_KIND, _key(key)) if key else None
    if directory is None:
        return None
    try:
        content = json.loads((directory / _FILE).read_text())
        found = KnownBuild(key, content["module"], Path(content["object"]), Path(content["root"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if not found.object.is_file():
        return None
    keep_entry(found.root)
    return found


def _key(driver_key: str) -> str:
    return content_key(_VERSION, driver_key)
