# SPDX-License-Identifier: Apache-2.0
"""Counts, ranges and tables as people read them."""

from __future__ import annotations

from collections.abc import Collection, Sequence


def visible(text: str) -> str:
    """Return text from anywhere so that a terminal takes none of it for a command.

    Control characters are shown as Python escapes them, among them those that change the
    direction of text, and bytes of a name that are no UTF-8.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in "\n\t" else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()


def shortened(text: str, most: int) -> str:
    """Return text of at most so many characters, with dots in its middle if it was longer."""
    if len(text) <= most:
        return text
    half = (most - 3) // 2
    return f"{text[:half]}...{text[-half:]}"


def count(number: int, noun: str) -> str:
    """Return a number of things: ``1 run``, ``3 runs``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def ranges(numbers: Sequence[int]) -> str:
    """Return ascending numbers in short: ``3, 7-9``."""
    found: list[list[int]] = []
    for number in numbers:
        if found and number == found[-1][-1] + 1:
            found[-1][1:] = [number]
        else:
            found.append([number])
    return ", ".join("-".join(map(str, pair)) for pair in found)


def table(rows: Sequence[Sequence[str]], right: Collection[int] = ()) -> list[str]:
    """Return rows as lines of aligned columns, two spaces apart.

    Columns ``right`` end in one line, the others begin in one. Nothing trails a line.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if at in right else cell.ljust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def time_span(seconds: float) -> str:
    """Return a span of time in its two largest units: ``45 s``, ``3 min``, ``2 h 5 min``."""
    left = max(0, round(seconds))
    parts = []
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        number, left = divmod(left, size)
        if number:
            parts.append(f"{number} {unit}")
        elif parts:
            break
    return " ".join(parts[:2]) or "0 s"


def size_text(size: float) -> str:
    """Return a number of bytes in the unit that suits it."""
    value, unit = size / (1 << 20), "MiB"
    if value >= 1024:
        value, unit = value / 1024, "GiB"
    return f"{value:.0f} {unit}" if value >= 10 else f"{value:.1f} {unit}"
