# SPDX-License-Identifier: Apache-2.0
"""The kernel's headers, and conditions under which names, structs and members are visible."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

from fuzzer.kernel.needs.conditions import Alternatives, either, guarded_lines
from fuzzer.kernel.needs.search import alternation, grep

_K = TypeVar("_K")
_COMMENT = re.compile(r"^\s*(\*|//|/\*)")


class SourceHeaders:
    """The headers that drivers include, of a kernel's source tree."""

    def __init__(self, tree: Path, arch: str = "x86") -> None:
        self._tree = tree
        self._places = ("include", f"arch/{arch}/include")

    def names(self, wanted: Sequence[str]) -> dict[str, Alternatives]:
        """Return when functions, macros and types are declared, without those that never are."""
        found: dict[str, Alternatives] = {}
        for name, path in self._mentions(wanted):
            word = re.compile(rf"\b{name}\b(?!\s*->)")
            _extend(found, name, self._conditions(path, word.search))
        return found

    def tags(self, wanted: Sequence[str]) -> dict[str, Alternatives]:
        """Return when structs and unions have a body, without those that never have."""
        found: dict[str, Alternatives] = {}
        for tag, path in self._mentions(wanted):
            body = re.compile(rf"\b(struct|union)\s+{tag}\s*\{{")
            _extend(found, tag, self._conditions(path, body.search))
        return found

    def members(self, wanted: Sequence[tuple[str, str]]) -> dict[tuple[str, str], Alternatives]:
        """Return when structs have the members, without those that never have."""
        found: dict[tuple[str, str], Alternatives] = {}
        asked = defaultdict(list)
        for tag, member in wanted:
            asked[tag].append(member)
        for tag, path in self._mentions(list(asked)):
            for member in asked[tag]:
                _extend(found, (tag, member), self._member(path, tag, member))
        return found

    def declaring(self, names: Sequence[str], tags: Sequence[str]) -> dict[str, str]:
        """Return the header to include for each name and each struct's tag, if there is one."""
        found: dict[str, str] = {}
        for wanted, pattern in ((names, _declaration), (tags, _body)):
            places = defaultdict(list)
            for name, path in self._mentions(wanted):
                if pattern(name).search((self._tree / path).read_text(errors="replace")):
                    places[name].append(path)
            found |= {name: self._included(min(places[name], key=_rank)) for name in places}
        return found

    def _included(self, path: str) -> str:
        """Return the name by which drivers include a header."""
        _, _, name = path.replace("/uapi/", "/").rpartition("include/")
        directory, _, rest = name.partition("/")
        # The one of all machines includes this machine's.
        general = directory in ("asm", "asm-generic")
        if general and (self._tree / "include" / "linux" / rest).is_file():
            return f"linux/{rest}"
        return f"asm/{rest}" if general else name

    def has(self, header: str) -> bool:
        """Tell whether there is such a header, as ``#include <...>`` names it."""
        places = (*self._places, *(f"{place}/uapi" for place in self._places))
        return any((self._tree / place / header).is_file() for place in places)

    def _mentions(self, wanted: Sequence[str]) -> Iterable[tuple[str, str]]:
        """Return the names with each header that has them, once."""
        names = alternation(wanted)
        if not names:
            return []
        lines = grep(self._tree, ["-o", "-w", "--include=*.h", names], self._places)
        # Sorted: what is found must not depend on the order of a directory.
        pairs = {(name, path) for path, _, name in (line.rpartition(":") for line in lines)}
        return sorted(pairs)

    def _conditions(self, path: str, matches: Callable[[str], object]) -> list[Alternatives]:
        text = (self._tree / path).read_text(errors="replace")
        return [
            condition()
            for line, condition in guarded_lines(text)
            if matches(line) and not _COMMENT.match(line)
        ]

    def _member(self, path: str, tag: str, member: str) -> list[Alternatives]:
        text = (self._tree / path).read_text(errors="replace")
        opening = re.compile(rf"^\s*(typedef\s+)?(struct|union)\s+{tag}\s*\{{")
        word = re.compile(rf"\b{member}\b\s*[;,:\[)]")
        found, depth = [], 0
        for line, condition in guarded_lines(text):
            if depth or opening.match(line):
                if depth and word.search(line) and not _COMMENT.match(line):
                    found.append(condition())
                depth += line.count("{") - line.count("}")
        return found


def _declaration(name: str) -> re.Pattern[str]:
    """Return a pattern for what declares a function, a macro, a type, a constant or a variable."""
    return re.compile(
        rf"^(?:[A-Za-z_][^\n;=#]*\W)?{name}\s*\(|^#\s*define\s+{name}\b"
        rf"|^typedef\b[^\n]*\b{name}\s*;|^\}}\s*{name}\s*;"
        rf"|^\s+{name}\s*[,=]|^extern\b[^\n]*\b{name}\b",
        re.MULTILINE,
    )


def _body(tag: str) -> re.Pattern[str]:
    return re.compile(rf"^(?:struct|union)\s+{tag}\s*\{{", re.MULTILINE)


def _rank(path: str) -> tuple[bool, bool, int, str]:
    """Return what sorts headers: the kernel's own first, then those that drivers name."""
    general = path.startswith(("include/linux/", "include/uapi/linux/"))
    machine = "/asm" in path
    return not general, machine, len(Path(path).parts), path


def _extend(found: dict[_K, Alternatives], key: _K, several: list[Alternatives]) -> None:
    if several:
        found[key] = either(found.get(key, ()), *several)
