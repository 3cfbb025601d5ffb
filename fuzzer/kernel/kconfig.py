# SPDX-License-Identifier: Apache-2.0
"""Requests for Kconfig options, fitted to the kernel that they are asked of.

Fragments are written for one version. In another an option may be called
something else, or not exist yet: its Kconfig files tell.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fuzzer.flavour import Flavour

_SYMBOL = re.compile(r"^[ \t]*(?:menu)?config[ \t]+(\w+)[ \t]*$", re.MULTILINE)
# Without these a kernel cannot fuzz or judge: never left out.
_INDISPENSABLE = frozenset(
    {"CONFIG_KCOV", "CONFIG_MODULES", *(f"CONFIG_{each.spec.sanitizer}" for each in Flavour)}
)


@dataclass(frozen=True, slots=True)
class _Spelling:
    """Another way to ask for the same, in kernels that have the option it names."""

    asked: tuple[str, str]
    instead: tuple[str, str]


_SPELLINGS = (
    # Before 6.10 it was a number that follows from its opposite.
    _Spelling(asked=("CONFIG_BASE_SMALL", "n"), instead=("CONFIG_BASE_FULL", "y")),
)


@functools.cache
def symbols(tree: Path) -> frozenset[str]:
    """Return the names of the options that a kernel's source has for x86, without ``CONFIG_``."""
    found: set[str] = set()
    seen: set[str] = set()
    # A tree may be one of links to another.
    for root, directories, files in os.walk(tree, followlinks=True):
        place = Path(root).relative_to(tree)
        if os.path.realpath(root) in seen:
            directories.clear()
            continue
        seen.add(os.path.realpath(root))
        if place == Path("arch"):
            directories[:] = ["x86"]
        for name in files:
            if name.startswith("Kconfig"):
                text = Path(root, name).read_text(errors="replace")
                found.update(_SYMBOL.findall(text))
    return frozenset(found)


def fit_requests(asked: Mapping[str, str], tree: Path) -> dict[str, str]:
    """Return requests as a tree spells them, without options that it does not have.

    Options that no campaign can do without stay.
    """
    unknown = unknown_requests(asked, tree)
    return {name: value for name, value in _spelled(asked, tree).items() if name not in unknown}


def unknown_requests(asked: Mapping[str, str], tree: Path) -> list[str]:
    """Return the names of options to turn on that a tree does not have, but may lack."""
    known = symbols(tree)
    return sorted(
        name
        for name, value in _spelled(asked, tree).items()
        if value != "n" and name not in _INDISPENSABLE and name.removeprefix("CONFIG_") not in known
    )


def _spelled(asked: Mapping[str, str], tree: Path) -> dict[str, str]:
    known = symbols(tree)
    requests = dict(asked)
    for spelling in _SPELLINGS:
        name, value = spelling.asked
        if requests.get(name) == value and spelling.instead[0].removeprefix("CONFIG_") in known:
            del requests[name]
            requests |= dict([spelling.instead])
    return requests
