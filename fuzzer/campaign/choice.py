# SPDX-License-Identifier: Apache-2.0
"""The user's choice of a driver to fuzz."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Choice:
    """A driver to fuzz, as the user chose it.

    ``path`` is a driver's directory or a .ko, or in the kernel's tree ``tree`` a C file or a
    directory. ``module`` chooses one of several that come out of it; ``devices`` are files to
    fuzz, instead of all that it makes.
    """

    path: Path
    module: str = ""
    devices: tuple[str, ...] = ()
    params: str = ""
    tree: Path | None = None
