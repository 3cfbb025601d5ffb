# SPDX-License-Identifier: Apache-2.0
"""Names in a description that its header defines.

A description is parsed twice: once to check its shape and to learn which
macros and structs it needs (``HeaderSymbols.header`` is None and every name has a
stand-in value), then, after one compiler run for all of them, with their
values.
"""

from __future__ import annotations

import re

import yaml

from fuzzer.target.document import Document
from fuzzer.target.header import Header
from fuzzer.target.layout import NUMBERS, StructLayout
from fuzzer.target.traps import in_integer

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


class HeaderSymbols:
    """Looks up macros and structs, and remembers where each one is used first: node or line."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self.header: Header | None = None
        self.constants: dict[str, yaml.Node | int] = {}
        self.structs: dict[str, yaml.Node | int] = {}

    def integer(self, node: yaml.Node, what: str, low: int, high: int) -> int:
        """Return the value of an integer or a macro, from ``low`` to ``high``."""
        document = self._document
        if document.is_integer(node) or in_integer(node):
            return document.integer(node, what, low, high)
        name = self._identifier(node, what, "an integer or a macro of the header")
        value = self.constant(name, node)
        if value is None:
            return low
        return document.in_range(node, f"{what} ({name})", value, low, high)

    def constant(self, name: str, where: yaml.Node | int) -> int | None:
        """Return the value of a macro used at a node or line, None while it is unknown."""
        self.constants.setdefault(name, where)
        return None if self.header is None else self.header.constants[name]

    def struct(self, node: yaml.Node) -> StructLayout | None:
        """Return the layout of the struct a node names, None while it is unknown."""
        name = self._identifier(node, "struct", "the name of a struct of the header")
        if name in NUMBERS:
            return NUMBERS[name]
        self.structs.setdefault(name, node)
        return None if self.header is None else self.header.structs[name]

    def _identifier(self, node: yaml.Node, what: str, expected: str) -> str:
        if not isinstance(node, yaml.ScalarNode) or not _IDENTIFIER.match(node.value):
            given = f"{node.value!r}" if isinstance(node, yaml.ScalarNode) else "not a scalar"
            raise self._document.error(node, f"{what} is {given}; {expected} is expected")
        return str(node.value)
