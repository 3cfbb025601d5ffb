# SPDX-License-Identifier: Apache-2.0
"""Compiler commands that Kbuild wrote down, taken apart: one ``.NAME.o.cmd`` for each object.

They come from a stranger's Makefile. What is kept of one are the options that say how C is
read, from a list; the rest is dropped, and an option that makes gcc run something else is refused.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fuzzer.errors import BadInputError
from fuzzer.untrusted import open_regular

# savedcmd_ since Linux 6.3 (commit 92215e7a801d), cmd_ before.
_COMMAND = re.compile(r"(?:saved)?cmd_\S+ := (.*)")
_COMPILER = re.compile(r"(?:[^\n]*/)?((?:x86_64-linux-gnu-)?(?:gcc|clang)(?:-\d+)?|cc)\Z")
_WITH_VALUE = frozenset(
    ("-I", "-D", "-U", "-include", "-imacros", "-isystem", "-iquote", "-idirafter")
)
# Options of clang's parts, each with a value; none is needed to read the source.
_OF_PARTS = frozenset(("-mllvm", "-Xclang"))
_JOINED = re.compile(r"-(?:I|D|U|isystem|iquote|idirafter|std=|O)[^\n]+\Z|-O\Z|-nostdinc\Z|-ansi\Z")
_MACHINE = re.compile(r"-m[a-z0-9][a-z0-9-]*(?:=[\w.+,-]+)?\Z")
_LANGUAGE = re.compile(
    r"-f(?:no-)?(?:short-wchar|(?:un)?signed-char|(?:un)?signed-bitfields|short-enums|common"
    r"|pack-struct(?:=\d+)?|ms-extensions|plan9-extensions|freestanding|hosted|gnu89-inline"
    r"|builtin(?:-\w+)?|asm|pic|PIC|pie|PIE|strict-aliasing|strict-overflow|jump-tables"
    r"|delete-null-pointer-checks|cf-protection(?:=\w+)?|stack-protector(?:-\w+)?"
    r"|omit-frame-pointer|strict-flex-arrays(?:=\d)?|randomize-layout-seed-file=.*)\Z"
)
# What runs other programs, or reads further options from a file.
_REFUSED = re.compile(r"@|-B|-fplugin|-specs|--specs|-wrapper|-no-integrated-cpp|-x(?!c\Z)")
_MODULE_NAME = re.compile(r'-DKBUILD_MODNAME="?([^"]*)"?\Z')
# A command has a few kilobytes; a file larger than this is no proper one.
_MOST_TEXT = 1 << 20


@dataclass(frozen=True, slots=True)
class Unit:
    """A translation unit: its object, its source, the compiler and its options.

    ``directory`` is where the compiler was run. ``modules`` are the names of the modules that
    the object is a part of, as Kbuild tells it.
    """

    object: Path
    source: Path
    command: tuple[str, ...]
    directory: Path
    modules: tuple[str, ...] = ()


def read_units(directory: Path, kernel: Path) -> tuple[Unit, ...]:
    """Return the translation units in C that were built in a directory, by the object's name.

    Raises:
        BadInputError: a command would run something else than the compiler.
    """
    # What Kbuild adds to every module begins with a dot.
    paths = [path for path in directory.rglob(".*.o.cmd") if not path.name.startswith("..")]
    found = (read_unit(path, kernel) for path in sorted(paths))
    return tuple(unit for unit in found if unit is not None)


def read_unit(path: Path, kernel: Path) -> Unit | None:
    """Return the translation unit of a ``.cmd`` file; None if it is not one in C.

    ``kernel`` is the directory of the kernel's build.

    Raises:
        BadInputError: its command would run something else than the compiler.
    """
    words = _words(path)
    if words and words[0] == "ccache":
        del words[0]
    compiler = _COMPILER.match(words[0]) if words else None
    if compiler is None or "-c" not in words:
        return None
    # By its name alone: no program that came with the driver is run. Debian's cc is gcc.
    words[0] = "gcc" if compiler[1] == "cc" else compiler[1]
    own = path.parent
    sources = [word for word in words if word.endswith(".c") and not word.startswith("-")]
    if not sources or sources[-1].endswith(".mod.c"):
        return None
    # Kbuild changes to the kernel's directory; since Linux 6.13, to the module's.
    for directory in (kernel, own, *own.parents):
        source = directory / sources[-1]
        if source.is_file():
            break
    else:
        return None
    command, modules = _kept(path, words)
    built = path.with_name(path.name.removeprefix(".").removesuffix(".cmd"))
    return Unit(built, source, command, directory, modules)


def _words(path: Path) -> list[str]:
    """Return the words of the first command in a file, without what quotes them."""
    try:
        with open_regular(path) as file:
            line = file.readline(_MOST_TEXT).decode(errors="surrogateescape")
    except OSError as error:
        raise BadInputError(f"{path}: cannot read it: {error.strerror}") from error
    found = _COMMAND.match(line)
    if found is None:
        return []
    # Kbuild quotes for make, which has read the file again before a shell would.
    text = found[1].replace("$(pound)", "#").replace("$$", "$")
    lexer = shlex.shlex(text, posix=True, punctuation_chars=";&|<>()")
    lexer.whitespace_split = True
    lexer.commenters = ""
    words: list[str] = []
    try:
        for word in lexer:
            if word[:1] in set(";&|<>()"):
                break
            words.append(word)
    except ValueError:
        return []
    return words


def _kept(path: Path, words: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the compiler with the options that matter, and the modules' names."""
    kept = [words[0]]
    modules: tuple[str, ...] = ()
    for word in words:
        # Also where an option's value is expected: gcc reads such a file first of all.
        if _REFUSED.match(word):
            raise BadInputError(
                f"{path}: the driver was compiled with {word}, with which the compiler runs "
                "something else; it is not run again. Name the driver's headers with 'header'"
            )
    rest = iter(words[1:])
    for word in rest:
        if word in _WITH_VALUE:
            kept += [word, next(rest, "")]
        elif word in _OF_PARTS:
            next(rest, "")
        elif _JOINED.match(word) or _MACHINE.match(word) or _LANGUAGE.match(word):
            kept.append(word)
        elif word == "-o":
            next(rest, "")
        if name := _MODULE_NAME.match(word):
            modules = tuple(name[1].replace("-", "_").split(":"))
    return tuple(kept), modules
