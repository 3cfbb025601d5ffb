# SPDX-License-Identifier: Apache-2.0
"""Names of Rust functions as their source has them.

The kernel prints the names that the compiler gives them, in the form of Rust's RFC 2603 ("v0").
What tells a function are the names of its crate, modules, type and itself:
``drv::Device::open``. A function of a trait is named by the type, not by the trait.
"""

from __future__ import annotations

import functools
import re

_START = re.compile(r"_?_R(?=[A-Z])")
_BASE = re.compile(r"(?P<digits>[0-9a-zA-Z]*)_")
_IDENTIFIER = re.compile(r"u?(?P<length>\d{1,4})_?")
_DEPTH = 64
# What the compiler, its libraries and the kernel's own crates define.
_CRATES = frozenset(
    {"__rustc", "alloc", "bindings", "build_error", "compiler_builtins", "core"}
    | {"ffi", "kernel", "macros", "pin_init", "std", "uapi"}
)
_HELPER = re.compile(r"^(?:rust_helper_|rust_begin_unwind$|rust_panic$|_?_rust_)")


class _NotMangledError(Exception):
    """The name is of no form that is read here."""


class _MangledName:
    """Reads a mangled name from ``at`` on; each method returns the names of what it has read."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._depth = 0

    def _next(self) -> str:
        if self._at >= len(self._text):
            raise _NotMangledError
        self._at += 1
        return self._text[self._at - 1]

    def _is(self, tag: str) -> bool:
        if self._text.startswith(tag, self._at):
            self._at += len(tag)
            return True
        return False

    def _number(self) -> int:
        """Read a number of base 62, which ends with an underscore."""
        found = _BASE.match(self._text, self._at)
        if found is None or len(found["digits"]) > 12:
            raise _NotMangledError
        self._at = found.end()
        value = 0
        for digit in found["digits"]:
            value = value * 62 + (int(digit, 36) if not digit.isupper() else ord(digit) - 29)
        return value + 1 if found["digits"] else 0

    def _identifier(self) -> str:
        if self._is("s"):
            self._number()
        found = _IDENTIFIER.match(self._text, self._at)
        if found is None:
            raise _NotMangledError
        end = found.end() + int(found["length"])
        name, self._at = self._text[found.end() : end], end
        return name

    def _back(self, tag_at: int) -> list[str]:
        """Read again what a reference names."""
        target = self._number()
        if target >= tag_at:
            raise _NotMangledError
        here, self._at = self._at, target
        names = self.path()
        self._at = here
        return names

    def path(self) -> list[str]:
        """Return the names of a path; of a type that is no path there are none."""
        self._depth += 1
        if self._depth > _DEPTH:
            raise _NotMangledError
        try:
            return self._path()
        finally:
            self._depth -= 1

    def _path(self) -> list[str]:
        tag_at = self._at
        tag = self._next()
        if tag == "C":
            return [self._identifier()]
        if tag in "MX":
            if self._is("s"):
                self._number()
            self.path()
            names = self.path()
            if tag == "X":
                self.path()
            return names
        if tag == "Y":
            names = self.path()
            self.path()
            return names
        if tag == "N":
            self._next()
            names = self.path()
            own = self._identifier()
            return [*names, own] if own else names
        if tag == "I":
            names = self.path()
            while not self._is("E"):
                self._argument()
            return names
        if tag == "B":
            return self._back(tag_at)
        return self._type(tag)

    def _argument(self) -> None:
        if self._is("L"):
            self._number()
        elif self._is("K"):
            if self._is("B"):
                self._number()
            elif self._next() != "p":
                while self._next() != "_":
                    pass
        else:
            self.path()

    def _type(self, tag: str) -> list[str]:
        if tag.islower():
            return []
        if tag in "RQ":
            if self._is("L"):
                self._number()
            return self.path()
        if tag in "PO":
            return self.path()
        if tag in "AS":
            names = self.path()
            if tag == "A":
                self._argument_of_array()
            return names
        if tag == "T":
            while not self._is("E"):
                self.path()
            return []
        raise _NotMangledError

    def _argument_of_array(self) -> None:
        self._is("K")
        while self._next() != "_":
            pass


@functools.lru_cache(maxsize=4096)
def rust_name(name: str) -> str:
    """Return a function's name as the source has it; one that is not Rust's as it is."""
    start = _START.match(name)
    if start is None:
        return name
    try:
        return "::".join(_MangledName(name[start.end() :]).path()) or name
    except _NotMangledError:
        return name


def is_rust_core(function: str) -> bool:
    """Tell whether a function is of a crate that the kernel or the compiler brings."""
    crate, separator, _ = function.partition("::")
    return crate in _CRATES if separator else _HELPER.match(function) is not None
