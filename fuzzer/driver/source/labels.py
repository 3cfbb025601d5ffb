# SPDX-License-Identifier: Apache-2.0
"""Labels of switches, and the names and numbers that stand in conditions."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TypeAlias

from fuzzer.driver.source.tree import Kind, SyntaxNode
from fuzzer.driver.source.values import Key

Keys: TypeAlias = list[Key] | None
"""Alternatives of what is known of an ioctl's number; None if nothing is."""

_LONGEST_RANGE = 255
_NAME = re.compile(r"\(*\s*([A-Za-z_]\w*)\s*\)*\Z")
_PART_OF = re.compile(r"\(*\s*_IOC_(?:NR|TYPE)\s*\(\s*([A-Za-z_]\w*)\s*\)\s*\)*\Z")
_MASKED = re.compile(r"\(*\s*([A-Za-z_]\w*)\s*\)*\s*&")


def labels_of(part: SyntaxNode) -> tuple[list[SyntaxNode], SyntaxNode | None]:
    """Return the labels in front of a statement, and it."""
    labels: list[SyntaxNode] = []
    inner: SyntaxNode | None = part
    while inner is not None and inner.kind in (Kind.CASE, Kind.DEFAULT):
        labels.append(inner)
        inner = inner.parts[-1] if inner.parts else None
    return labels, inner


def is_error(node: SyntaxNode) -> bool:
    """Return True for a negative number, and for a statement that begins with returning one."""
    while node.kind in (Kind.BLOCK, Kind.RETURN) and node.parts:
        node = node.parts[0]
    return isinstance(node.value, int) and node.value < 0


def refuses_others(parts: Sequence[SyntaxNode]) -> bool:
    """Return True if a switch returns an error where no label fits."""
    for part in parts:
        labels, inner = labels_of(part)
        if any(each.kind is Kind.DEFAULT for each in labels):
            return inner is not None and inner.kind is not Kind.JUMP and is_error(inner)
    return False


def numbers_of(label: SyntaxNode) -> list[int]:
    """Return the numbers of a label, of a range the first ones."""
    numbers = [each.value for each in label.parts[:-1]]
    found = [each for each in numbers if isinstance(each, int)]
    if len(found) < len(numbers):
        return []
    return [*range(found[0], min(found[-1], found[0] + _LONGEST_RANGE) + 1)] if found else []


def name_of(text: str) -> str:
    match = _NAME.match(text)
    return match[1] if match else ""


def inside_of(operand: SyntaxNode) -> int | None:
    """Return the number that ``_IOC_NR()`` and the like are applied to."""
    for operator in ("&", ">>"):
        if operand.kind is Kind.BINARY and operand.operator == operator and operand.parts:
            operand = operand.parts[0]
    while operand.kind is Kind.CAST and operand.parts:
        operand = operand.parts[-1]
    return operand.value if isinstance(operand.value, int) else None


def part_of(text: str) -> str:
    """Return the ioctl that a text is a part of the number of; "" for none."""
    match = _PART_OF.match(text) or _MASKED.match(text)
    return match[1] if match else ""
