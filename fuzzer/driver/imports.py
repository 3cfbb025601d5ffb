# SPDX-License-Identifier: Apache-2.0
"""Functions of the kernel that a module uses, and what they tell of its interface."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from fuzzer.errors import BadInputError
from fuzzer.target.calls import FileKind

_ANY_FILE = (FileKind.MEMFD, FileKind.EVENTFD, FileKind.PIPE)
# Functions that find a file by its descriptor, with the kinds of files that they are for.
_TAKERS: Mapping[str, tuple[FileKind, ...]] = {
    "eventfd_ctx_fdget": (FileKind.EVENTFD,),
    "eventfd_fget": (FileKind.EVENTFD,),
    "sockfd_lookup": (FileKind.SOCKET,),
    "memfd_fcntl": (FileKind.MEMFD,),
    "dma_buf_get": (FileKind.DMA_BUF,),
    **dict.fromkeys(("fget", "fget_raw", "fget_task", "__fdget", "__fdget_raw"), _ANY_FILE),
}


# What a module has that looks at who calls it.
_CURRENT = frozenset({"current_task", "pcpu_hot", "const_pcpu_hot", "const_current_task"})


def read_imports(module: Path) -> frozenset[str]:
    """Return the names of other modules' and the kernel's symbols that a module uses.

    Raises:
        BadInputError: it is no kernel module.
    """
    try:
        with module.open("rb") as file:
            symbols = ELFFile(file).get_section_by_name(".symtab")
            if not isinstance(symbols, SymbolTableSection):
                return frozenset()
            return frozenset(
                each.name for each in symbols.iter_symbols() if each["st_shndx"] == "SHN_UNDEF"
            )
    except (OSError, ELFError, ValueError, OverflowError, MemoryError) as error:
        raise BadInputError(f"{module}: not a kernel module: {error}") from error


def looks_at_callers(objects: Sequence[Path]) -> bool:
    """Tell whether a driver may look at the process that calls it."""
    return any(not _CURRENT.isdisjoint(read_imports(each)) for each in objects)


def files_taken(objects: Sequence[Path]) -> tuple[FileKind, ...]:
    """Return the kinds of files not its own of which a driver may be given descriptors.

    ``objects`` are its module, or its parts in the kernel.
    """
    imports = frozenset[str]().union(*map(read_imports, objects))
    return tuple(
        dict.fromkeys(kind for name, kinds in _TAKERS.items() if name in imports for kind in kinds)
    )
