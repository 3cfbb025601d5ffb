# SPDX-License-Identifier: Apache-2.0
"""A symbol that a module takes from the kernel, under another name in a copy of the module."""

from __future__ import annotations

import io
import struct

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

# At the end of a module's file, where it is signed (kernel/module/signing.c).
_SIGNED = b"~Module signature appended~\n"
# The section of a kernel with CONFIG_MODVERSIONS: a checksum for each symbol's name.
_VERSIONS = "__versions"
# Where an Elf64_Shdr has its section's offset and size.
_SECTION_PLACE, _SIZES = 0x18, struct.Struct("<QQ")
# Elf64_Sym: name, info, other, section, value, size.
_SYMBOL, _NAME = struct.Struct("<IBBHQQ"), struct.Struct("<I")


def renamed(image: bytes, old: str, new: str) -> bytes:
    """Return a module's image in which an undefined symbol ``old`` is called ``new``.

    The same image if it has no such symbol, or if the kernel would not take it then: a
    module that is signed, or that has checksums of what it takes from the kernel.
    """
    try:
        elf = ELFFile(io.BytesIO(image))
        table = elf.get_section_by_name(".symtab")
        if (
            image.endswith(_SIGNED)
            or elf.get_section_by_name(_VERSIONS)
            or not isinstance(table, SymbolTableSection)
        ):
            return image
        names = elf.get_section(table["sh_link"]).data()
        wanted = old.encode() + b"\0"
        place = next(
            (
                place
                for place in range(0, table["sh_size"], _SYMBOL.size)
                if _is_undefined(image, table["sh_offset"] + place, names, wanted)
            ),
            None,
        )
    except (ELFError, struct.error):
        return image
    if place is None:
        return image
    # All names, with the new one behind them, at the end of the file: others may end like the
    # old one, and share its bytes.
    changed = bytearray(image + names + new.encode() + b"\0")
    header = elf["e_shoff"] + table["sh_link"] * elf["e_shentsize"] + _SECTION_PLACE
    _SIZES.pack_into(changed, header, len(image), len(changed) - len(image))
    _NAME.pack_into(changed, table["sh_offset"] + place, len(names))
    return bytes(changed)


def _is_undefined(image: bytes, symbol: int, names: bytes, wanted: bytes) -> bool:
    name, _, _, section, _, _ = _SYMBOL.unpack_from(image, symbol)
    return section == 0 and names.startswith(wanted, name)
