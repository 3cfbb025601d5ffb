# SPDX-License-Identifier: Apache-2.0
"""Text of many lines: mostly their number matters, or that no two are equal.

Minimised byte by byte, such text would take thousands of runs, and would not look like one
that a person writes.
"""

from __future__ import annotations

import re

WORD = re.compile(rb"[0-9A-Za-z_\x80-\xff]+")

MANY = 16
"""The number of lines, or words, from which on single letters are not looked at."""


def lines_of(data: bytes) -> list[bytes]:
    """Return the lines of a text, each with its newline."""
    return [line for line in re.split(rb"(?<=\n)", data) if line]


def has_many_lines(data: bytes) -> bool:
    """Tell whether a text has too many lines to look at single letters."""
    return data.count(b"\n") > MANY


def uniform(data: bytes) -> list[bytes]:
    """Return forms of a text of many lines in which the lines are alike, the simplest first.

    The first word of each line is a letter, or a number; other words are left out. No form
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
