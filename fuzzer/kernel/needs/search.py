# SPDX-License-Identifier: Apache-2.0
"""Searching a kernel's source tree with grep: exports, headers, definitions."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from fuzzer.cache import build_once, content_key, file_stamp
from fuzzer.errors import InfrastructureError
from fuzzer.tools import run_tool

_TIMEOUT_S = 300
_NOT_SEARCHED = frozenset(
    {"Documentation", "LICENSES", "arch", "include", "rust", "samples", "scripts", "tools", "usr"}
)
_EXPORT = r"\b[A-Za-z_]*EXPORT_?[A-Z_]*\( *[A-Za-z_]\w*"
# How names that one export line makes several of begin.
_PREFIXES = re.compile(r"__(?:tracepoint_|traceiter_|SC[KT]__(?:tp_func_)?|pfx_|per_cpu_)(?=\w)")
# More names at once would make a command line too long; a build names far fewer.
_MOST_NAMES = 400


def compiled_directories(tree: Path, arch: str = "x86") -> list[str]:
    """Return the directories whose C files can become a part of a kernel."""
    return (
        sorted(
            path.name
            for path in tree.iterdir()
            if path.is_dir() and path.name not in _NOT_SEARCHED and not path.name.startswith(".")
        )
        + [f"arch/{arch}"] * (tree / "arch" / arch).is_dir()
    )


def grep(tree: Path, arguments: Sequence[str], places: Iterable[str]) -> list[str]:
    """Return the lines that grep finds below some places of a tree.

    Raises:
        InfrastructureError: there is no grep, or it failed.
    """
    present = [place for place in places if (tree / place).exists()]
    if not present:
        return []
    command = ["grep", "-r", "-E", *arguments, "--", *present]
    environment = {"LC_ALL": "C", "PATH": "/usr/bin:/bin"}
    done = run_tool(command, f"searching {tree}", timeout=_TIMEOUT_S, cwd=tree, env=environment)
    if done.returncode > 1:
        raise InfrastructureError(f"searching {tree}: {done.stderr.strip()[:300]}")
    return done.stdout.splitlines()


def alternation(names: Iterable[str], most: int = _MOST_NAMES) -> str:
    """Return an expression for any of some identifiers."""
    return "|".join(sorted({name for name in names if re.fullmatch(r"\w+", name)})[:most])


class Exports:
    """The files of a kernel's source tree that export each symbol."""

    def __init__(self, tree: Path) -> None:
        """Read the index of the tree, making it if need be."""
        self._tree = tree
        self._files = _read_index(tree)

    def files(self, symbol: str) -> tuple[str, ...]:
        """Return the files that may export a symbol, relative to the tree."""
        plain = _PREFIXES.sub("", symbol, count=1)
        return self._files.get(symbol) or self._files.get(plain) or ()

    def macro_files(self, symbols: Iterable[str]) -> dict[str, tuple[str, ...]]:
        """Return the files that export symbols by a macro of their own, as ``DEFINE_X(symbol)``."""
        names = alternation(symbols)
        if not names:
            return {}
        pattern = rf"^([A-Za-z_]\w*)\(([^()]*, *)?({names})\b"
        found: dict[str, set[str]] = defaultdict(set)
        for line in grep(
            self._tree, ["--include=*.c", "-o", pattern], compiled_directories(self._tree)
        ):
            path, _, text = line.partition(":")
            macro, name = text.split("(", 1)[0], re.findall(r"\w+", text)[-1]
            source = (self._tree / path).read_text(errors="replace")
            body = re.search(rf"#\s*define\s+{macro}\((?:.*\\\n)*.*", source)
            if body and "EXPORT" in body[0]:
                found[name].add(path)
        return {name: tuple(sorted(paths)) for name, paths in found.items()}

    def defined_in(self, symbols: Iterable[str]) -> dict[str, set[str]]:
        """Return the files that seem to define each symbol, exported or not."""
        names = alternation(symbols)
        found: dict[str, set[str]] = defaultdict(set)
        if not names:
            return found
        pattern = rf"^[^/*#=;]*\b({names})(\(|\[|[ =].*=|,|$)|SYM_\w*START\w*\(({names})\)"
        places = compiled_directories(self._tree)
        for line in grep(self._tree, ["--include=*.[cS]", pattern], places):
            path, _, text = line.partition(":")
            if text[:1].isspace() or text.rstrip().endswith(";"):
                continue
            for name in set(re.findall(r"\w+", text)) & set(names.split("|")):
                found[name].add(path)
        return found


def _read_index(tree: Path) -> Mapping[str, tuple[str, ...]]:
    def build(directory: Path) -> None:
        arguments = ["--include=*.c", "--include=*.S", "-o", _EXPORT]
        lines = grep(tree, arguments, compiled_directories(tree))
        (directory / "exports").write_text("".join(f"{line}\n" for line in lines))

    # A tree in the cache has its content in its name; of another one its Makefile tells.
    key = content_key(str(tree.resolve()), file_stamp(tree / "Makefile"), _EXPORT)
    directory = build_once("exports", key, build, keep=4)
    files: dict[str, list[str]] = defaultdict(list)
    for line in (directory / "exports").read_text().splitlines():
        path, _, text = line.partition(":")
        files[text.rpartition("(")[2].strip()].append(path)
    return {symbol: tuple(sorted(set(paths))) for symbol, paths in files.items()}
