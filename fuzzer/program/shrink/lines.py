# SPDX-License-Identifier: Apache-2.0
"""Text of many lines: what matters is mostly how many there are, or that no two are the same.

Byte by byte such text takes thousands of runs to become smaller, and looks like none that
a person would write.
"""

from __future__ import annotations

import re

WORD = re.compile(rb"[0-9A-Za-z_\x80-\xff]+")

MANY = 16
"""Lines, or words, of which there are too many to look at each of their letters."""


def lines_of(data: bytes) -> list[bytes]:
    """Return the lines of a text, each with its end."""
    return [line for line in re.split(rb"(?<=\n)", data) if line]


def has_many_lines(data: bytes) -> bool:
    """Whether a text has more lines than are looked at letter by letter."""
    return data.count(b"\n") > MANY


def uniform(data: bytes) -> list[bytes]:
    """Return text of many lines with lines that are alike, the simplest first.

    Their first words are a letter, or numbered; other words are left out. None
    is longer or less simple than the text itself.
    """
    lines = lines_of(data)
    if not has_many_lines(data):
        return []
    width = len(str(len(lines) - 1))
    short = [_with_first_alone(line) for line in lines]
    found = []
    for each in (short, lines):
        same = [_with_first(line, b"a") for line in each]
        numbered = [_with_first(line, b"%0*d" % (width, i)) for i, line in enumerate(each)]
        found += [b"".join(same), b"".join(numbered), b"".join(each)]
    return [each for each in found[: found.index(data)] if len(each) <= len(data)]


def _with_first(line: bytes, word: bytes) -> bytes:
    return WORD.sub(word, line, count=1)


def _with_first_alone(line: bytes) -> bytes:
    first = WORD.search(line)
    if first is None:
        return line
    return line[: first.end()] + WORD.sub(b"", line[first.end() :])
