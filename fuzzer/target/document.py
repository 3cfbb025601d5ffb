# SPDX-License-Identifier: Apache-2.0
"""YAML read with every mistake located: ``file:line: what is wrong; what is allowed``."""

from __future__ import annotations

import base64
import binascii
import difflib
import re
from collections.abc import Sequence
from pathlib import Path

import yaml

from fuzzer.checked import compose_yaml
from fuzzer.errors import BadInputError
from fuzzer.target import traps
from fuzzer.target.traps import TAG as _TAG
from fuzzer.untrusted import read_bytes

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_INTEGER = re.compile(r"[-+]?(0[xX][0-9a-fA-F]{1,40}|[1-9][0-9]{0,40}|0)\Z")
_MOST_BYTES = 4 << 20
_KINDS = {
    "str": "a string",
    "int": "an integer",
    "bool": "true or false",
    "null": "nothing",
    "float": "a number with a fraction",
    "binary": "binary data",
    "seq": "a list",
    "map": "a mapping",
    "timestamp": "a date",
    "merge": "the sign",
    "value": "the sign",
}


class LocatedError(BadInputError):
    """A mistake in a description, with the place of it.

    ``node`` is where it is, if it is known; ``line`` and ``column`` count from
    1, and ``column`` is 0 where only the line is known. ``missing`` is the key
    that is not there, if that is the mistake.
    """

    def __init__(
        self,
        path: Path,
        line: int,
        column: int,
        problem: str,
        *,
        node: yaml.Node | None = None,
        missing: str = "",
    ) -> None:
        super().__init__(f"{path}:{line}: {problem}")
        self.line = line
        self.column = column
        self.problem = problem
        self.node = node
        self.missing = missing


class Document:
    """One YAML file: its root node, and typed access to nodes with located errors."""

    def __init__(self, path: Path) -> None:
        """Read ``path``; BadInputError when it is not one YAML document in UTF-8."""
        self.path = path
        try:
            data = read_bytes(path, limit=_MOST_BYTES)
        except OSError as error:
            raise BadInputError(f"{path}: cannot read it: {error.strerror}") from None
        try:
            text = data.decode()
        except UnicodeDecodeError as error:
            line = data.count(b"\n", 0, error.start) + 1
            raise LocatedError(path, line, 0, f"not UTF-8: {error.reason}") from None
        self._lines = text.split("\n")
        try:
            root = compose_yaml(text)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line, column = (mark.line + 1, mark.column + 1) if mark else (1, 0)
            problem = " ".join(filter(None, (error.context, error.problem)))
            guess = traps.in_broken(error, text)
            problem = f"broken YAML: {problem}" + (f"; {guess}" if guess else "")
            raise LocatedError(path, line, column, problem) from None
        except yaml.reader.ReaderError as error:
            line = text.count("\n", 0, error.position) + 1
            raise LocatedError(path, line, 0, f"broken YAML: {error.reason}") from None
        except (yaml.YAMLError, RecursionError) as error:
            raise LocatedError(path, 1, 0, f"broken YAML: {error}") from None
        if root is None:
            raise LocatedError(path, 1, 0, "it is empty; a target description is expected")
        self.root: yaml.Node = root

    def error(self, where: yaml.Node | int, problem: str, *, missing: str = "") -> LocatedError:
        """Return an error at a node or a line (from 1)."""
        line, column = self.place(where)
        node = None if isinstance(where, int) else where
        return LocatedError(self.path, line, column, problem, node=node, missing=missing)

    def place(self, where: yaml.Node | int) -> tuple[int, int]:
        """Return line and column of a node, from 1, or a line and 0."""
        if isinstance(where, int):
            return where, 0
        return where.start_mark.line + 1, where.start_mark.column + 1

    def line(self, where: yaml.Node | int) -> int:
        """Return the line of a node, from 1."""
        return self.place(where)[0]

    def mapping(
        self,
        node: yaml.Node,
        what: str,
        *,
        allowed: Sequence[str] | None = None,
        required: Sequence[str] = (),
    ) -> dict[str, yaml.Node]:
        """Return the values of a mapping by key; ``allowed`` None means any key."""
        if not isinstance(node, yaml.MappingNode):
            hint = f" with the keys {', '.join(allowed)}" if allowed else ""
            raise self._unexpected(node, what, f"a mapping{hint}")
        entries: dict[str, yaml.Node] = {}
        for key, value in node.value:
            name = self.string(key, f"a key of {what}")
            if name in entries:
                first = self.line(entries[name])
                raise self.error(
                    key, f"{what} has {name!r} twice, on line {first} too; each key once is allowed"
                )
            if allowed is not None and name not in allowed:
                raise self.error(key, f"{what} has no {name!r}; {one_of(name, allowed)}")
            entries[name] = value
        for name in required:
            if name not in entries:
                problem = f"{what} lacks {name!r}, which is required"
                raise self.error(node, problem, missing=name)
        return entries

    def sequence(self, node: yaml.Node, what: str, *, least: int = 1) -> list[yaml.Node]:
        """Return the items of a list with at least ``least`` of them."""
        if not isinstance(node, yaml.SequenceNode):
            raise self._unexpected(node, what, "a list")
        if len(node.value) < least:
            raise self.error(node, f"{what} has too few items; at least {least} is needed")
        return list(node.value)

    def string(self, node: yaml.Node, what: str) -> str:
        """Return a string that is not empty."""
        text = self.text(node, what)
        if not text:
            raise self.error(node, f"{what} is empty; a non-empty string is expected")
        return text

    def text(self, node: yaml.Node, what: str) -> str:
        """Return a string, which may be empty."""
        if not isinstance(node, yaml.ScalarNode) or node.tag != _TAG + "str":
            quotes = " (put it in quotes)" if isinstance(node, yaml.ScalarNode) else ""
            trap = traps.in_text(node, self._line_of(node))
            raise self._unexpected(node, what, f"a string{quotes}", trap)
        return str(node.value)

    def matching(self, node: yaml.Node, what: str, pattern: re.Pattern[str], allowed: str) -> str:
        """Return a string that matches ``pattern``; ``allowed`` is that in words."""
        text = self.text(node, what)
        if not pattern.match(text):
            raise self.error(node, f"{what} is {text!r}; {allowed} is allowed")
        return text

    def bytes(self, node: yaml.Node, what: str) -> bytes:
        r"""Return a byte string: ``!!binary``, or a string.

        A character up to U+00FF is one byte, so that "\xff" is what it looks
        like; others are UTF-8.
        """
        if isinstance(node, yaml.ScalarNode) and node.tag == _TAG + "binary":
            try:
                return base64.b64decode("".join(node.value.split()), validate=True)
            except (binascii.Error, ValueError) as error:
                raise self.error(node, f"{what} is not base64: {error}") from None
        text = self.text(node, what)
        try:
            return b"".join(bytes((ord(c),)) if ord(c) < 256 else c.encode() for c in text)
        except UnicodeEncodeError as error:
            raise self.error(node, f"{what} cannot be bytes: {error.reason}") from None

    def is_integer(self, node: yaml.Node) -> bool:
        """Return whether the node is written as an integer."""
        return isinstance(node, yaml.ScalarNode) and node.tag == _TAG + "int"

    def integer(self, node: yaml.Node, what: str, low: int, high: int) -> int:
        """Return an integer between ``low`` and ``high``, both included."""
        if not self.is_integer(node) or not _INTEGER.match(node.value):
            expected = f"an integer from {low} to {high}"
            raise self._unexpected(node, what, expected, traps.in_integer(node))
        return self.in_range(node, what, int(node.value, 0), low, high)

    def in_range(self, node: yaml.Node, what: str, value: int, low: int, high: int) -> int:
        """Return ``value`` when it lies between ``low`` and ``high``."""
        if not low <= value <= high:
            raise self.error(node, f"{what} is {value}; {low} to {high} is allowed")
        return value

    def true(self, node: yaml.Node, what: str, *, otherwise: str = "") -> None:
        """Accept ``true`` alone; ``otherwise`` is what else is allowed, for the message."""
        if node.tag != _TAG + "bool" or node.value.lower() not in ("true", "yes", "on"):
            expected = f"{otherwise} or true" if otherwise else "true"
            raise self._unexpected(node, what, f"{expected} (leave the key out otherwise)")

    def unused_anchors(self) -> list[tuple[str, int, int]]:
        """Return name, line and column of anchors that nothing refers to: text, probably."""
        anchors: dict[str, tuple[str, int, int]] = {}
        for event in yaml.parse("\n".join(self._lines), Loader=_LOADER):
            if not isinstance(event, yaml.NodeEvent) or not event.anchor:
                continue
            if isinstance(event, yaml.AliasEvent):
                anchors.pop(event.anchor, None)
            elif mark := event.start_mark:
                anchors[event.anchor] = (event.anchor, mark.line + 1, mark.column + 1)
        return list(anchors.values())

    def _line_of(self, node: yaml.Node) -> str:
        """Return the text of the line that a node begins on."""
        line = self.line(node)
        return self._lines[line - 1] if line <= len(self._lines) else ""

    def _unexpected(
        self, node: yaml.Node, what: str, expected: str, trap: str = ""
    ) -> LocatedError:
        kind = node.tag.removeprefix(_TAG)
        value = f" {node.value[:40]!r}" if isinstance(node, yaml.ScalarNode) and node.value else ""
        return self.error(
            node,
            f"{what} is {_KINDS.get(kind, kind)}{value}; {expected} is expected"
            + (f"; {trap}" if trap else ""),
        )


def one_of(given: str, allowed: Sequence[str]) -> str:
    """Return what is allowed, with a guess at what ``given`` was meant to be."""
    close = difflib.get_close_matches(given, allowed, n=1)
    guess = f"did you mean {close[0]!r}? " if close else ""
    return f"{guess}allowed: {', '.join(allowed) if allowed else 'none'}"
