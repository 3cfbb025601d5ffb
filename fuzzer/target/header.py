# SPDX-License-Identifier: Apache-2.0
"""Constants and struct layouts of C headers, found by compiling them for user space.

A header is tried as it is, then with headers before it that its users may include.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from fuzzer.errors import BadInputError
from fuzzer.target.dwarf import type_names
from fuzzer.target.header_places import header_compiler, header_places
from fuzzer.target.layout import StructLayout
from fuzzer.target.probe import (
    Answers,
    Compiler,
    CompilerRun,
    NotCompiledError,
    UnknownSymbolError,
    ask,
)

_COMMAND = ("gcc", "-x", "c", "-std=gnu11", "-O0")
_INCLUDES = (
    *("stddef.h", "stdint.h", "stdbool.h", "sys/types.h", "sys/ioctl.h"),
    *("linux/types.h", "linux/ioctl.h"),
)
_KERNEL_TYPES = tuple(f"{sign}{bits}" for sign in "us" for bits in (8, 16, 32, 64))
_ANNOTATIONS = ("__user", "__iomem", "__kernel", "__force")
_AS_INCLUDED = tuple(f"#include <{name}>" for name in _INCLUDES)
# Preludes that a header is compiled behind; the first that will do is taken.
_PRELUDES = (
    (),
    _AS_INCLUDED,
    (
        *_AS_INCLUDED,
        *(f"#define {name}" for name in _ANNOTATIONS),
        *(f"#define {name} __{name}" for name in _KERNEL_TYPES),
        "#define __packed __attribute__((packed))",
    ),
)
_DEFINE = re.compile(r"^#define (\w+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Header:
    """Names found in headers: values by macro or enumerator, layouts by tag or typedef.

    ``prelude`` are the lines of C that a program in user space needs before it includes the
    headers; None: it cannot have these names by including anything.
    """

    constants: Mapping[str, int]
    structs: Mapping[str, StructLayout]
    prelude: tuple[str, ...] | None = ()


def read_headers(
    headers: Sequence[Path],
    *,
    home: Path | None = None,
    include: Sequence[Path] = (),
    constants: Sequence[str] = (),
    structs: Sequence[str] = (),
) -> Header:
    """Compile headers for user space with gcc, in this order, and return the values asked for.

    ``include`` are extra ``-I`` directories; ``constants`` are macros or
    enumerators with an integer value; ``structs`` are tags without ``struct``
    or ``union``, or typedefs. ``home`` is the directory of the description that names the
    headers, that of the first one if None; see :mod:`fuzzer.target.header_places`.

    Raises UnknownSymbolError for a name that is not what it is used as,
    BadInputError with gcc's first error when a header does not compile, and
    InfrastructureError when gcc is missing or does not work.
    """
    names = ", ".join(header.name for header in headers)
    home = home or headers[0].absolute().parent
    places = header_places(home, [*(path.absolute().parent for path in headers), *include])
    run = header_compiler(places)
    unknown: UnknownSymbolError | None = None
    broken: NotCompiledError | None = None
    for prelude in _PRELUDES:
        compiler = _compiler(headers, include, prelude, run)
        try:
            answers = ask(compiler, constants=constants, structs=structs)
        except NotCompiledError as error:
            broken = broken or error
            continue
        if not answers.problems:
            return Header(answers.constants, answers.structs, prelude)
        unknown = unknown or unknown_symbol(
            names, answers, _defined(compiler, _compiler((), (), prelude, run))
        )
    if unknown is not None:
        raise unknown
    unseen = f"; what is outside of {places[0]} is seen if 'include' names its directory"
    hint = unseen if "No such file" in str(broken) else ""
    raise BadInputError(f"{names} does not compile in user space: {broken}{hint}")


def unknown_symbol(where: str, answers: Answers, defined: Iterable[str] = ()) -> UnknownSymbolError:
    """Return the error for the first name that a compiler did not know.

    ``where`` it should be known; ``defined`` are the names that are.
    """
    symbol, reason = next(iter(answers.problems.items()))
    close = difflib.get_close_matches(symbol, {*defined} - {symbol}, n=1, cutoff=0.75)
    hint = f", did you mean {close[0]}?" if close else ""
    return UnknownSymbolError(symbol, f"{where} has no usable {symbol}{hint} ({reason})")


def _compiler(
    headers: Sequence[Path], include: Sequence[Path], prelude: Sequence[str], run: CompilerRun
) -> Compiler:
    for path in headers:
        if '"' in str(path) or "\n" in str(path):
            raise BadInputError(f"{path}: C cannot include a file of that name; rename it")
    directories = dict.fromkeys((*(path.absolute().parent for path in headers), *include))
    start = [*prelude, *(f'#include "{path.absolute()}"' for path in headers)]
    return Compiler(
        (*_COMMAND, *(f"-I{path.absolute()}" for path in directories)),
        Path("/"),
        ", ".join(map(str, headers)),
        "".join(f"{line}\n" for line in start),
        run,
    )


def _defined(compiler: Compiler, bare: Compiler) -> set[str]:
    """Return the names that headers define beyond what a compiler knows without them."""
    with suppress(NotCompiledError):
        return _names(compiler) - _names(bare)
    return set()


def _names(compiler: Compiler) -> set[str]:
    macros = set(_DEFINE.findall(compiler.output(["-E", "-dM"], "")))
    return macros | compiler.object_of(["-fno-eliminate-unused-debug-types"], type_names)
