# SPDX-License-Identifier: Apache-2.0
"""Ioctl numbers in a driver's C text: macros made with ``_IO()`` and the like, ``case`` labels."""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from fuzzer.target.layout import StructLayout


class Direction(enum.StrEnum):
    """The direction of an ioctl's argument in its number, from the caller's point of view."""

    NONE = "none"
    WRITE = "write"
    READ = "read"
    BOTH = "both"


# _IOC_NONE, _IOC_WRITE and _IOC_READ of include/uapi/asm-generic/ioctl.h.
_DIRECTIONS = (Direction.NONE, Direction.WRITE, Direction.READ, Direction.BOTH)


@dataclass(frozen=True, slots=True)
class IoctlMacro:
    """A macro (or an enumerator) with an ioctl's number, and where it is defined.

    ``type`` is what ``_IOR()`` and the like were given, "" if there is none; ``struct`` the
    layout if that is a struct, a union or a pointer to one. ``size`` is in bytes. Of a number
    that was not made by ``_IO()`` and the like (``coded``) direction and size are not known.
    """

    name: str
    number: int
    type: str
    struct: StructLayout | None
    file: Path
    line: int
    coded: bool = True

    @property
    def direction(self) -> Direction:
        """The direction of the argument."""
        return _DIRECTIONS[self.number >> 30 & 3] if self.coded else Direction.NONE

    @property
    def size(self) -> int:
        """Bytes of the argument."""
        return self.number >> 16 & 0x3FFF if self.coded else 0


@dataclass(frozen=True, slots=True)
class Macro:
    """A macro without parameters, and where it is defined."""

    name: str
    file: Path
    line: int


_MARKER = re.compile(r'# (\d+) "((?:[^"\\]|\\.)*)"')
_DEFINE = re.compile(r"#define ([A-Za-z_]\w*)(?: |$)")
_UNDEF = re.compile(r"#undef (\w+)")
_ESCAPE = re.compile(r"\\([0-7]{3}|.)")


def read_macros(text: str, directory: Path) -> dict[str, Macro]:
    """Return the macros of what ``gcc -E -dD`` printed, by name; those without parameters.

    ``directory`` is the one it was run in.
    """
    macros: dict[str, Macro] = {}
    file, line = Path(), 0
    for row in text.split("\n"):
        if not row.startswith("#"):
            line += 1
        elif marker := _MARKER.match(row):
            file, line = directory / _unescaped(marker[2]), int(marker[1])
        else:
            if define := _DEFINE.match(row):
                macros[define[1]] = Macro(define[1], file, line)
            elif undef := _UNDEF.match(row):
                macros.pop(undef[1], None)
            line += 1
    return macros


def _unescaped(name: str) -> str:
    return _ESCAPE.sub(lambda m: chr(int(m[1], 8)) if len(m[1]) == 3 else m[1], name)


_CODED = "pkvfuzz_ioc"
_EXPANSION = re.compile(r'^"pkvfuzz:(\w+)" (.*)$', re.MULTILINE)
_SIZEOF = re.compile(r"sizeof\s*(?=\()")
_MAKERS = {
    "_IO": ("type, nr", ""),
    "_IOC": ("dir, type, nr, size", "size"),
    **{
        f"{name}{suffix}": ("type, nr, size", "sizeof(size)")
        for name in ("_IOR", "_IOW", "_IOWR")
        for suffix in ("", "_BAD")
    },
}


def expansion_probe(names: Iterable[str]) -> str:
    """Return C text in which the preprocessor shows how each macro makes its number."""
    lines = [
        f"#undef {name}\n#define {name}({parameters}) {_CODED}({size})\n"
        for name, (parameters, size) in _MAKERS.items()
    ]
    # Macros that expand to the size of a type.
    lines.append("#undef _IOC_TYPECHECK\n#define _IOC_TYPECHECK(type) sizeof(type)\n")
    return "".join([*lines, *(f'"pkvfuzz:{name}" {name}\n' for name in names)])


def coded_types(text: str) -> dict[str, str]:
    """Return the type that each macro was made with ("" for none), of a probe's expansion.

    Macros that are not made by ``_IO()`` and the like alone are left out.
    """
    found: dict[str, str] = {}
    for match in _EXPANSION.finditer(text):
        body = _bare(match[2].strip())
        if body.startswith(f"{_CODED}(") and _end(body, len(_CODED)) == len(body):
            found[match[1]] = _sized(_bare(body[len(_CODED) + 1 : -1].strip()))
    return found


def _sized(text: str) -> str:
    """Return what ``sizeof`` is applied to; "" if the text is something else."""
    size = _SIZEOF.match(text)
    if size is None or _end(text, size.end()) != len(text):
        return ""
    return " ".join(text[size.end() + 1 : -1].split())


def _bare(text: str) -> str:
    """Return a C expression without the parentheses around it."""
    while text.startswith("(") and _end(text, 0) == len(text):
        text = text[1:-1].strip()
    return text


def _end(text: str, start: int) -> int:
    """Return the place behind what closes the bracket at ``start``; -1 if nothing does."""
    depth = 0
    for at in range(start, len(text)):
        depth += text[at] in "({"
        depth -= text[at] in ")}"
        if not depth:
            return at + 1
    return -1


_NOT_CODE = re.compile(
    r"//(?:\\\n|[^\n])*|/\*.*?\*/|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'", re.DOTALL
)
_HANDLER = re.compile(r"\.\s*(?:unlocked_|compat_)?ioctl\s*=\s*&?\s*([A-Za-z_]\w*)")
_PARAMETERS = re.compile(r"\s*\(([^(){};]*)\)\s*\{")
_SWITCH = re.compile(r"\bswitch\s*\(([^;{}]*)\)\s*\{")
_CASE = re.compile(r"\bcase\s+\(?\s*([A-Za-z_]\w*)\s*\)?\s*:(?!:)")


def code_of(text: str) -> str:
    """Return C text with comments and literals left out, and lines that go on joined."""
    return _NOT_CODE.sub(
        lambda match: " " if match[0][0] == "/" else match[0][0] * 2, text
    ).replace("\\\n", " ")


def ioctl_handlers(code: str) -> set[str]:
    """Return the functions that file operations name as their ioctl handlers."""
    return set(_HANDLER.findall(code))


def case_labels(code: str, handlers: Iterable[str]) -> Iterator[str]:
    """Yield the names that ioctl handlers compare the ioctl's number with.

    ``code`` is that of one file, without comments.
    """
    for handler in handlers:
        for found in re.finditer(rf"\b{handler}\b", code):
            parameters = _PARAMETERS.match(code, found.end())
            if parameters is None:
                continue
            body = code[parameters.end() - 1 : _end(code, parameters.end() - 1)]
            names = [words[-1] for each in parameters[1].split(",") if (words := _words(each))]
            yield from _labels(body, names)


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text)


def _labels(body: str, parameters: list[str]) -> Iterator[str]:
    """Yield the labels of switches over the parameter before the last, the ioctl's number."""
    for switch in _SWITCH.finditer(body):
        if len(parameters) > 1 and _bare(switch[1]) == parameters[-2]:
            inside = body[switch.end() : _end(body, switch.end() - 1)]
            yield from _CASE.findall(_without_switches(inside))


def _without_switches(code: str) -> str:
    """Return code without what the switches in it contain."""
    kept, at = "", 0
    for switch in _SWITCH.finditer(code):
        if switch.start() >= at:
            kept += code[at : switch.end()]
            at = max(switch.end(), _end(code, switch.end() - 1))
    return kept + code[at:]


def made_ioctls(
    macros: Mapping[str, Macro],
    types: Mapping[str, str],
    numbers: Mapping[str, int],
    layouts: Mapping[str, StructLayout],
    elsewhere: Path,
) -> Iterator[IoctlMacro]:
    """Yield the ioctls of one translation unit; numbers beyond 32 bits are none.

    ``types`` of coded ones, ``layouts`` by type; names without a macro are enumerators, of
    which is known no more than that the file ``elsewhere`` has them.
    """
    for name, number in numbers.items():
        if not 0 <= number < 1 << 32:
            continue
        macro = macros.get(name) or Macro(name, elsewhere, 0)
        coded, c_type = name in types, types.get(name, "")
        yield IoctlMacro(
            name, number, c_type, layouts.get(c_type), macro.file, macro.line, coded=coded
        )
