# SPDX-License-Identifier: Apache-2.0
"""Licences of modules: those that a kernel with lock checks takes, and a copy that has one.

Lock checks are exported to modules under the GPL alone, and loading any other
module turns them off. What is built to be fuzzed leaves no machine of ours.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from fuzzer.driver.modinfo import read_modinfo
from fuzzer.errors import BadInputError

# license_is_gpl_compatible() of include/linux/license.h.
_COMPATIBLE = frozenset(
    {
        *("GPL", "GPL v2", "GPL and additional rights"),
        *("Dual BSD/GPL", "Dual MIT/GPL", "Dual MPL/GPL"),
    }
)
_NONE = "none"
# What modpost says of a module before it refuses it.
_REFUSED = re.compile(r"modpost: (?:GPL-incompatible module |missing MODULE_LICENSE\(\))")
_MISSING = "missing MODULE_LICENSE()"
_STATED = re.compile(r"^(?!\s*#)(.*?)\bMODULE_LICENSE\s*\(\s*([^()]*?)\s*\)", re.MULTILINE)
_INIT = re.compile(r"^\s*module_\w+\s*\(|\binit_module\s*\(", re.MULTILINE)
_GPL = 'MODULE_LICENSE("GPL")'


def foreign_licences(source: Path, modules: Sequence[Path], output: str) -> tuple[str, ...]:
    """Return the licences of a driver under which a kernel with lock checks does not take it.

    ``modules`` came out of its build in the directory ``source``, ``output`` is what that
    printed. Without a licence it is "none".
    """
    found = {licence for path in modules if (licence := _licence(path))}
    if _REFUSED.search(output):
        statements = (match for text in _texts(source) for match in _STATED.finditer(text))
        found.update(match[2].strip('"') for match in statements)
        if _MISSING in output:
            found.add(_NONE)
    return tuple(sorted(found - _COMPATIBLE))


def put_under_gpl(source: Path) -> None:
    """Put the GPL into files of a driver's private copy that state another licence or none."""
    for path in _sources(source):
        text = path.read_bytes().decode(errors="surrogateescape")
        changed = _STATED.sub(_restated, text)
        if path.suffix == ".c" and _INIT.search(text) and not _STATED.search(text):
            # At its end, where no line of the author's changes its number.
            changed = f"{text.rstrip()}\n{_GPL};\n"
        if changed != text:
            path.write_bytes(changed.encode(errors="surrogateescape"))


def _restated(match: re.Match[str]) -> str:
    return match[0] if match[2].strip('"') in _COMPATIBLE else f"{match[1]}{_GPL}"


def _licence(module: Path) -> str:
    """Return what a module states; empty if it is none, which is told elsewhere."""
    try:
        return read_modinfo(module).licence
    except BadInputError:
        return ""


def _sources(source: Path) -> Iterable[Path]:
    paths = (path for suffix in ("c", "h") for path in sorted(source.rglob(f"*.{suffix}")))
    return [path for path in paths if path.is_file() and not path.name.endswith(".mod.c")]


def _texts(source: Path) -> Iterable[str]:
    return (path.read_text(errors="replace") for path in _sources(source))
