# SPDX-License-Identifier: Apache-2.0
"""Symbols that a driver links against: the files that export them, and their conditions."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from fuzzer.kernel.needs.conditions import NEVER, Alternatives, both, either, guarded_lines
from fuzzer.kernel.needs.makefiles import Makefiles
from fuzzer.kernel.needs.search import Exports


@dataclass(frozen=True, slots=True)
class Export:
    """The files that export a symbol, and what must hold for one of them to do so.

    Without files, ``defined_in`` is one that defines it for the kernel alone;
    empty: the source has no such symbol.
    """

    files: tuple[str, ...]
    conditions: Alternatives = NEVER
    defined_in: str = ""


class SourceSymbols:
    """The symbols of a kernel's source tree."""

    def __init__(self, tree: Path) -> None:
        self._tree = tree
        self._exports = Exports(tree)
        self._makefiles = Makefiles(tree)

    def exports(self, symbols: Iterable[str]) -> dict[str, Export]:
        """Return the export of each symbol."""
        files = {symbol: self._exports.files(symbol) for symbol in symbols}
        unknown = [symbol for symbol, found in files.items() if not found]
        files |= self._exports.macro_files(unknown)
        unknown = [symbol for symbol, found in files.items() if not found]
        defined = self._exports.defined_in(unknown)
        return {
            symbol: Export(
                found,
                either(*(self._conditions(path, symbol) for path in found)),
                self._built_first(defined.get(symbol, ())),
            )
            for symbol, found in files.items()
        }

    def _built_first(self, paths: Iterable[str]) -> str:
        """Return one of some files, if possible one that can be a part of a kernel."""
        return min(paths, key=lambda path: (not self._makefiles.conditions(path), path), default="")

    def _conditions(self, path: str, symbol: str) -> Alternatives:
        built = self._makefiles.conditions(path) or self._including(path)
        return both(built, self._guards(path, re.compile(rf"\([^()]*\b{symbol}\b")))

    def _guards(self, path: str, line: re.Pattern[str]) -> Alternatives:
        """Return when a line of a file is compiled; a line at the margin counts."""
        text = (self._tree / path).read_text(errors="replace")
        found = [
            condition()
            for each, condition in guarded_lines(text)
            if not each[:1].isspace() and line.search(each)
        ]
        exports = [
            condition()
            for each, condition in guarded_lines(text)
            if "EXPORT" in each and line.search(each)
        ]
        return either(*(exports or found)) if exports or found else both()

    def _including(self, path: str) -> Alternatives:
        """Return what builds a C file that another one of its directory includes."""
        file = PurePosixPath(path)
        include = re.compile(rf'^\s*#\s*include\s+"{re.escape(file.name)}"')
        found = NEVER
        for other in sorted((self._tree / file.parent).glob("*.c")):
            text = other.read_text(errors="replace")
            if f'"{file.name}"' not in text:
                continue
            conditions = [when() for each, when in guarded_lines(text) if include.match(each)]
            built = self._makefiles.conditions(str(file.with_name(other.name)))
            found = either(found, both(built, either(*conditions)))
        return found
