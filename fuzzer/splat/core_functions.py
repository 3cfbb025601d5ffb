# SPDX-License-Identifier: Apache-2.0
"""The functions that the kernel's core defines, as a table made from its source.

``core_functions.txt.gz`` beside this file holds what several versions define: names come and
go. A name that is also defined outside the core, for example in a driver, is not in it,
unless it is the core's that is exported.
The table is made by

    python -m fuzzer.splat.core_functions KERNEL-SOURCE...

which writes it there.
"""

from __future__ import annotations

import functools
import gzip
import re
import sys
import textwrap
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from fuzzer.errors import BadInputError
from fuzzer.splat.core_files import ARCHITECTURES, CORES_ONLY, is_copied, is_core, is_left_out

_TABLE = Path(__file__).with_suffix(".txt.gz")
_TOP = (
    *("block", "crypto", "drivers", "fs", "include", "init", "io_uring", "ipc", "kernel", "lib"),
    *("mm", "net", "security", "sound", "virt", *(f"arch/{each}" for each in ARCHITECTURES)),
    *(
        f"arch/{each}/{part}"
        for each in CORES_ONLY
        for part in ("include/asm", "kernel", "lib", "mm")
    ),
)
# A definition in the kernel's style: it begins in the first column, its body with a brace.
_DEFINITION = re.compile(
    rb"^(?!\s)(?:[A-Za-z_](?:[\w \t*]|__\w+\([\d, ]*\))*[ \t*])?([A-Za-z_]\w*)[ \t]*"
    rb"\(([^;{}]*)\)[^;{}=()]*\{",
    re.MULTILINE,
)
_ATTRIBUTE = re.compile(rb"__attribute__\s*\(\(.*?\)\)\s*")
_EXPORT = re.compile(rb"^\s*EXPORT_SYMBOL\w*\((\w+)", re.MULTILINE)
_ASSEMBLY = re.compile(
    rb"^\s*(?:SYM_(?:TYPED_)?(?:FUNC|CODE)_START\w*|ENTRY|LEAF|NESTED|_GLOBAL(?:_TOC)?)\((\w+)",
    re.MULTILINE,
)
# Their functions were no inline ones in other versions.
_PROTOCOLS = re.compile(r"include/(?:crypto|net|trace)/")
_NO_FUNCTION = frozenset({b"if", b"for", b"while", b"switch", b"sizeof"})
_VERSION = re.compile(r"^(VERSION|PATCHLEVEL) = (\d+)$", re.MULTILINE)
_WIDTH = 100
_HEADING = re.compile(r"^\[(?P<versions>[\d. ]+)(?P<copied> copied)?\]$")


@dataclass(frozen=True, slots=True)
class CoreFunctions:
    """Names of functions of the core. ``copied`` are those that modules may have copies of."""

    core: frozenset[str]
    copied: frozenset[str]


def _defined(text: bytes, suffix: str) -> Iterator[bytes]:
    """Return the functions that a file's text defines."""
    if suffix == ".S":
        yield from _ASSEMBLY.findall(text)
        return
    if b"{" not in text:
        return
    text = _ATTRIBUTE.sub(b"", text)
    for match in _DEFINITION.finditer(text):
        name = match[1]
        # What runs while the kernel starts only; macros in capitals, which make functions.
        is_init = b"__init " in text[match.start() : match.start(1)]
        if not (is_init or name in _NO_FUNCTION or name.isupper() or b"\n#" in match[2]):
            yield name


def _files(tree: Path, below: Iterable[str]) -> Iterator[tuple[str, Path]]:
    for top in below:
        for path in sorted((tree / top).rglob("*.[chS]")):
            name = str(path.relative_to(tree))
            # Headers outside the core tell nothing that their sources do not.
            if not is_left_out(name) and (path.suffix != ".h" or is_core(name)):
                yield name, path


def functions_of(tree: Path, below: Iterable[str] = _TOP) -> CoreFunctions:
    """Return the functions that a kernel's core alone defines.

    ``below`` are the directories that are read.
    """
    core, headers, exported, others, exported_others, copied = (set[bytes]() for _ in range(6))
    for name, path in _files(tree, below):
        text = path.read_bytes()
        found = set(_defined(text, path.suffix))
        if not is_core(name):
            others |= found
            exported_others.update(_EXPORT.findall(text))
        elif path.suffix != ".h":
            core |= found
            exported.update(_EXPORT.findall(text))
        elif is_copied(name):
            copied |= found
        elif not _PROTOCOLS.match(name):
            # What a compiler does not inline is a function of the kernel's own.
            headers |= found
    # What everybody may call is meant, not a driver's static function of the same name.
    own = (core | headers) - others | exported - exported_others
    return CoreFunctions(_decoded(own), _decoded(copied - core - others))


def _decoded(names: Iterable[bytes]) -> frozenset[str]:
    return frozenset(name.decode() for name in names)


def version_of(tree: Path) -> str:
    """Return the version of a kernel's source, as ``6.12``.

    Raises:
        BadInputError: it is no kernel source.
    """
    try:
        found = dict(_VERSION.findall((tree / "Makefile").read_text()))
        return f"{found['VERSION']}.{found['PATCHLEVEL']}"
    except (OSError, KeyError) as error:
        raise BadInputError(
            f"reading the kernel's version in {tree}/Makefile: there is none. "
            "Give directories with kernel sources"
        ) from error


def table_text(functions: Mapping[str, CoreFunctions]) -> str:
    """Return the table of the functions of each version."""
    blocks: dict[str, list[str]] = defaultdict(list)
    for kind in ("core", "copied"):
        names: dict[str, list[str]] = defaultdict(list)
        for version, found in functions.items():
            for name in getattr(found, kind):
                names[name].append(version)
        for name, versions in names.items():
            suffix = " copied" if kind == "copied" else ""
            blocks[f"[{' '.join(versions)}{suffix}]"].append(name)
    lines = ["# Made by python -m fuzzer.splat.core_functions from linux-source packages."]
    for heading, names_of in sorted(blocks.items()):
        lines += [
            heading,
            *textwrap.wrap(" ".join(sorted(names_of)), _WIDTH, break_long_words=False),
        ]
    return "\n".join(lines) + "\n"


def read_table(text: str) -> dict[str, CoreFunctions]:
    """Return the functions of each version in a table."""
    found: dict[str, dict[bool, set[str]]] = defaultdict(lambda: {False: set(), True: set()})
    versions: list[str] = []
    is_copy = False
    for line in text.splitlines():
        if heading := _HEADING.match(line):
            versions, is_copy = heading["versions"].split(), heading["copied"] is not None
        elif not line.startswith("#"):
            for version in versions:
                found[version][is_copy].update(line.split())
    return {
        version: CoreFunctions(frozenset(each[False]), frozenset(each[True]))
        for version, each in found.items()
    }


def stored_table() -> str:
    """Return the text of the table beside this file."""
    return gzip.decompress(_TABLE.read_bytes()).decode()


@functools.cache
def known_functions() -> CoreFunctions:
    """Return the functions of all versions of the table."""
    names: dict[bool, set[str]] = {False: set(), True: set()}
    is_copy = False
    for line in stored_table().splitlines():
        if line.startswith(("[", "#")):
            is_copy = line.endswith(" copied]")
        else:
            names[is_copy].update(line.split())
    return CoreFunctions(frozenset(names[False]), frozenset(names[True]))


if __name__ == "__main__":
    trees = {version_of(tree): functions_of(tree) for tree in map(Path, sys.argv[1:])}
    _TABLE.write_bytes(gzip.compress(table_text(trees).encode(), mtime=0))
