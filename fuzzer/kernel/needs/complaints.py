# SPDX-License-Identifier: Apache-2.0
"""Complaints of a failed build of a driver, as make, gcc and modpost say them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

_T = TypeVar("_T", str, tuple[str, str])

# Complaints that are read, at most: a build may go wrong in its every line.
_MOST_CHARACTERS = 8 << 20
_MOST_OF_A_KIND = 400
_Q = "['\u2018\u2019\"`]"
_SYMBOL = re.compile(r'"(\w+)" \[[^\]]*\] undefined!')
_FUNCTION = re.compile(rf"implicit declaration of function {_Q}(\w+){_Q}")
_NAME = re.compile(rf"{_Q}(\w+){_Q} undeclared|unknown type name {_Q}(\w+){_Q}")
_TAG = re.compile(
    rf"(?:undefined|incomplete) (?:type|typedef) {_Q}(?:const |volatile )*(?:struct|union) (\w+)"
    rf"|has incomplete type {_Q}?(?:struct|union) (\w+)"
)
_MEMBER = re.compile(
    rf"{_Q}(?:const |volatile )*(?:struct|union) (\w+)[ *]*{_Q}(?: \{{aka .*?\}})? "
    rf"has no member named {_Q}(\w+){_Q}"
)
_HEADER = re.compile(r"fatal error: ([\w./+-]+\.h): No such file or directory")
_ERROR = re.compile(r"error: #error\b(.*)")
_ERROR_IN_HEADER = re.compile(r"/include/(\w+)/[\w./-]+:\d+:\d+: error: #error\b(.*)")
_LICENCE = re.compile(rf"GPL-incompatible module \S+ uses GPL-only symbol {_Q}(\w+){_Q}")
_NAMESPACE = re.compile(
    r"module (\S+) uses symbol (\w+) from namespace (\w+), but does not import it"
)


@dataclass(frozen=True, slots=True)
class Complaints:
    """Things that a build did not find, each kind sorted and without repetition.

    ``symbols`` were not there to link against; ``names`` (functions, macros and
    types), struct ``tags`` and ``members`` (of a struct) not to compile with.
    ``errors`` are the texts of ``#error``, with the directory below ``include`` of one in
    a header of the kernel, else an empty text. ``licences`` are symbols for GPL modules
    alone, ``namespaces`` symbols whose namespace is not imported, with it.
    """

    symbols: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    members: tuple[tuple[str, str], ...] = ()
    headers: tuple[str, ...] = ()
    errors: tuple[tuple[str, str], ...] = ()
    licences: tuple[str, ...] = ()
    namespaces: tuple[tuple[str, str], ...] = ()


def read_complaints(output: str) -> Complaints:
    """Return the complaints in the output of a build."""
    text = output[:_MOST_CHARACTERS]
    # One that is undeclared is often undefined as well: linking says the same better.
    symbols = set(_SYMBOL.findall(text))
    names = {*_FUNCTION.findall(text), *_either(_NAME, text)} - symbols
    return Complaints(
        symbols=_some(symbols),
        names=_some(names),
        tags=_some(_either(_TAG, text)),
        members=_some(_MEMBER.findall(text)),
        headers=_some(_HEADER.findall(text)),
        errors=_some(_errors(text)),
        licences=_some(_LICENCE.findall(text)),
        namespaces=_some(match[1:] for match in _NAMESPACE.findall(text)),
    )


def _some(found: Iterable[_T]) -> tuple[_T, ...]:
    return tuple(sorted(set(found))[:_MOST_OF_A_KIND])


def _errors(text: str) -> Iterable[tuple[str, str]]:
    places = {error.strip(): place for place, error in _ERROR_IN_HEADER.findall(text)}
    return ((error.strip(), places.get(error.strip(), "")) for error in _ERROR.findall(text))


def _either(pattern: re.Pattern[str], text: str) -> list[str]:
    return ["".join(groups) for groups in pattern.findall(text)]


def read_dependencies(kconfig: str) -> tuple[str, ...]:
    """Return the expressions that a driver's own Kconfig depends on, and the options it selects.

    The file is not evaluated: it is a stranger's, and Kconfig's macros run commands.
    """
    found: list[str] = []
    indent: int | None = None
    for line in kconfig[:_MOST_CHARACTERS].expandtabs().splitlines():
        text = line.strip()
        depth = len(line) - len(line.lstrip())
        if indent is not None:
            # A help text is as long as it is indented.
            if not text or depth >= indent > 0:
                continue
            indent = None
        if text in ("help", "---help---"):
            indent = depth + 1
        elif match := re.match(r"(?:depends on|select)\s+(.+)", text):
            expression, _, _ = match[1].partition("#")
            if "$" not in expression:
                found.append(re.split(r"\s+if\s+", expression)[0].strip())
    return tuple(found)
