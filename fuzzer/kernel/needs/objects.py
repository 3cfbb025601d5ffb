# SPDX-License-Identifier: Apache-2.0
"""The symbols that a driver's objects are without, before anything links them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from elftools.common.exceptions import ELFError
from elftools.construct.core import ConstructError
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from fuzzer.kernel.kbuild import BuiltKernel

# A driver's build has some dozen objects of a megabyte; more is not looked at.
_MOST_OBJECTS = 300
_MOST_BYTES = 32 << 20
# Defined by what modpost adds, or by the linker.
_NEVER_MISSING = frozenset({"", "__this_module", "_GLOBAL_OFFSET_TABLE_"})


def missing_symbols(directory: Path, kernel: BuiltKernel) -> frozenset[str]:
    """Return what the objects below a directory call and neither they nor the kernel export."""
    defined: set[str] = set()
    undefined: set[str] = set()
    objects = (path for path in sorted(directory.rglob("*.o")) if path.is_file())
    for path in islice(objects, _MOST_OBJECTS):
        if path.stat().st_size <= _MOST_BYTES:
            for name, is_defined in _globals(path):
                (defined if is_defined else undefined).add(name)
    return frozenset(undefined - defined - _exported(kernel) - _NEVER_MISSING)


def _exported(kernel: BuiltKernel) -> frozenset[str]:
    lines = (kernel.directory / "Module.symvers").read_text().splitlines()
    return frozenset(fields[1] for line in lines if len(fields := line.split("\t")) > 1)


def _globals(path: Path) -> Iterator[tuple[str, bool]]:
    """Yield an object's global symbols, each with whether it defines them; none of a broken one."""
    try:
        with path.open("rb") as file:
            for section in ELFFile(file).iter_sections():
                if isinstance(section, SymbolTableSection):
                    for symbol in section.iter_symbols():
                        if symbol["st_info"]["bind"] != "STB_LOCAL":
                            yield symbol.name, symbol["st_shndx"] != "SHN_UNDEF"
    except (ELFError, ConstructError, OSError, ValueError, LookupError, UnicodeDecodeError):
        return
