# SPDX-License-Identifier: Apache-2.0
"""Docstrings against the code that they describe."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from fuzzer.paths import project_root

SOURCES = sorted((project_root() / "fuzzer").rglob("*.py"))
# The subject of a sentence of a docstring: "``splat`` is of ...".
_SUBJECT = re.compile(r"(?:^|[.;:,]\s)``([a-z_]+)``\s(?:is|are|has|have|tells?|says?|holds?)\b")


def _records(tree: ast.Module) -> Iterator[ast.ClassDef]:
    """Yield the classes that are dataclasses or named tuples."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            kinds = " ".join(map(ast.unparse, (*node.decorator_list, *node.bases)))
            if "dataclass" in kinds or "NamedTuple" in kinds:
                yield node


def _members(record: ast.ClassDef) -> set[str]:
    fields = [
        node.target.id
        for node in record.body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    ]
    return {*fields, *(node.name for node in record.body if isinstance(node, ast.FunctionDef))}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_a_docstring_describes_fields_that_the_class_has(path: Path) -> None:
    for record in _records(ast.parse(path.read_text())):
        described = set(_SUBJECT.findall(ast.get_docstring(record) or ""))
        assert described <= _members(record), f"{path}: {record.name}"
