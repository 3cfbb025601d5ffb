# SPDX-License-Identifier: Apache-2.0
"""Constants and struct layouts of a C header, found by compiling it.

A generated C file uses every wanted name on a line of its own, so that a
compiler error says which name is unknown. The object file is only read:
constants from a section of their own, layouts from its DWARF.
"""

from __future__ import annotations

import difflib
import os
import re
import struct
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from elftools.elf.elffile import ELFFile

from fuzzer.errors import BadInputError, InfrastructureError
from fuzzer.target.dwarf import struct_layout, variable_types
from fuzzer.target.layout import StructLayout

_COMPILE_SECONDS = 60
_SECTION = ".pkvfuzz"
_STRUCT = "pkvfuzz_struct_"
_IDENTIFIER = re.compile(r"[A-Za-z_]\w*")


class UnknownSymbolError(BadInputError):
    """A name the header does not define as a constant or a struct."""

    def __init__(self, symbol: str, problem: str) -> None:
        super().__init__(problem)
        self.symbol = symbol


@dataclass(frozen=True, slots=True)
class Header:
    """What was asked of a header: values by macro or enumerator name, layouts by tag."""

    constants: Mapping[str, int]
    structs: Mapping[str, StructLayout]


def read_header(
    header: Path,
    *,
    include: Sequence[Path] = (),
    constants: Sequence[str] = (),
    structs: Sequence[str] = (),
) -> Header:
    """Compile ``header`` for user space with gcc and return the values asked for.

    ``include`` are extra ``-I`` directories; ``constants`` are macros or
    enumerators with an integer value; ``structs`` are tags without ``struct``.

    Raises UnknownSymbolError for a name that is not what it is used as,
    BadInputError with gcc's text when the header does not compile, and
    InfrastructureError when gcc is missing or does not work.
    """
    attribute = f'__attribute__((section("{_SECTION}")))'
    lines = [f"const unsigned long long pkvfuzz_constants[][2] {attribute} = {{"]
    symbols: dict[int, str] = {}
    for name in constants:
        # "&" refuses what is not an integer: an address would need a relocation.
        lines.append(f"{{({name}) & ~0ull, ({name}) < 0}},")
        symbols[len(lines)] = name
    lines.append("};")
    if not constants:
        lines.clear()
    for number, name in enumerate(structs):
        lines.append(f"struct {name} {_STRUCT}{number};")
        symbols[len(lines)] = name

    with tempfile.TemporaryDirectory(prefix="pkvfuzz-header-") as directory:
        source = Path(directory, "probe.c")
        source.write_text("\n".join(lines) + "\n")
        _compile(header.absolute(), include, source, symbols)
        with source.with_suffix(".o").open("rb") as file:
            elf = ELFFile(file)
            return Header(_read_constants(elf, constants), _read_structs(elf, structs))


def _compile(
    header: Path, include: Sequence[Path], source: Path, symbols: Mapping[int, str]
) -> None:
    command = ["gcc", "-x", "c", "-std=gnu11", "-w", "-O0", "-gdwarf-5", "-c"]
    # Errors inside a macro are reported where it is used: on the line of its name.
    command += ["-ftrack-macro-expansion=0", "-fdiagnostics-color=never"]
    command += [f"-I{path.absolute()}" for path in (header.parent, *include)]
    command += ["-include", str(header), source.name, "-o", source.with_suffix(".o").name]
    try:
        done = subprocess.run(
            command,
            cwd=source.parent,
            env={**os.environ, "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=_COMPILE_SECONDS,
            check=False,
        )
    except FileNotFoundError:
        raise InfrastructureError(
            f"cannot read {header}: there is no gcc; install it: apt-get install gcc libc6-dev"
        ) from None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InfrastructureError(f"cannot read {header}: gcc does not work: {error}") from None
    if done.returncode == 0:
        return
    text = done.stderr.decode(errors="replace").strip()
    first = re.search(r"^([^\s:][^:\n]*):(\d+):(?:\d+:)? (?:fatal )?error: (.*)$", text, re.M)
    if first is None:
        raise InfrastructureError(f"cannot read {header}: gcc failed:\n{text}")
    symbol = symbols.get(int(first[2])) if first[1] == source.name else None
    if symbol is None:
        raise BadInputError(f"{header} does not compile in user space:\n{text}")
    raise UnknownSymbolError(symbol, _describe(header, symbol, first[3]))


def _describe(header: Path, symbol: str, compiler_text: str) -> str:
    known = set(_IDENTIFIER.findall(header.read_text(errors="replace"))) - {symbol}
    close = difflib.get_close_matches(symbol, sorted(known), n=1, cutoff=0.75)
    hint = f", did you mean {close[0]}?" if close else ""
    return f"{header.name} has no usable {symbol}{hint} (gcc: {compiler_text})"


def _read_constants(elf: ELFFile, names: Sequence[str]) -> dict[str, int]:
    if not names:
        return {}
    section = elf.get_section_by_name(_SECTION)
    if section is None:
        raise InfrastructureError("gcc left out the constants' section; is it really gcc?")
    pairs = struct.iter_unpack("<QQ", section.data())
    return {
        name: value - (1 << 64) if negative else value
        for name, (value, negative) in zip(names, pairs, strict=True)
    }


def _read_structs(elf: ELFFile, names: Sequence[str]) -> dict[str, StructLayout]:
    if not names:
        return {}
    layouts: dict[str, StructLayout] = {}
    for unit in elf.get_dwarf_info().iter_CUs():
        for variable, die in variable_types(unit.get_top_DIE()):
            if variable.startswith(_STRUCT):
                name = names[int(variable.removeprefix(_STRUCT))]
                layouts[name] = struct_layout(name, die)
    return layouts
