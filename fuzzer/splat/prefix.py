# SPDX-License-Identifier: Apache-2.0
"""Learned prefixes: what a log has before the kernel's text, as where a report starts tells.

The first line of a report is known by its text. What stands before that text has a shape
(numbers vary, and so does what is in brackets), and lines that follow have the same.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

from fuzzer.splat.rules import HARMLESS, Rule, anchored_match, first_match, has_hint, is_frame

_MAX_PREFIX = 240
_MAX_PLACES = 32
# What the kernel itself puts before the first line of a report.
_OWN = re.compile(
    r"(?:(?:(?:NMI )?watchdog|rcu|traps|sched|kobject|usercopy|perf|x86/[\w ]+|mm|slub|dma-debug"
    r"|DMA-API|kfence|sysfs|XFS \([\w-]+\)|XFS|VFS|SLUB|Oops|Internal error): ?|\[ )+$"
)
# KASAN of 4.x ends a line with these words, and without an end of line.
_PLACE = re.compile(r"(?<=[\s:\]>)|}/,;-])(?=\S)|(?<=[^\s ])(?=\ )|(?<=user memory access)")
_GUESS = re.compile(r"^kasan: GPF could be caused by ")
_TOKEN = re.compile(
    r"(?P<bracket>\[[^][]*\]|\([^()]*\)|<[^<>]*>)|(?P<number>\ *\d+)|(?P<blank>\s+)"
)
# Text before a report's first line that cannot be what each line of a log begins with.
_SENTENCE = re.compile(r"[^\W\d_]{2,} [^\W\d_]{2,} [^\W\d_]{2,}")


# Words before what is quoted after them.
_QUOTING = re.compile(r"[^\W\d_]{2,} [^\W\d_]{2,}.*[\"'“‘`]$")


@dataclass(frozen=True, slots=True)
class ReportStart:
    """The first line of a report: its rule, and how many characters stand before its text."""

    rule: Rule
    match: re.Match[str]
    before: int = 0


def find_start(text: str) -> ReportStart | None:
    """Return the start of a report in a line, None for most lines.

    Rules for the beginning of a text are tried inside the line too.
    """
    if not has_hint(text):
        return None
    if found := first_match(text):
        rule, match = found
        before = match.start()
        if before and (own := _OWN.search(text, 0, before)):
            before = own.start()
        # Groups and text as they are without what stands before.
        is_known = not rule.doubtful and before <= _MAX_PREFIX
        if before and is_known and (again := first_match(text[before:])):
            return ReportStart(*again, before)
        return ReportStart(rule, match)
    if HARMLESS.search(text) or is_frame(text):
        return None
    for number, place in enumerate(_PLACE.finditer(text, 0, _MAX_PREFIX)):
        if number >= _MAX_PLACES:
            break
        rest = text[place.start() :]
        if HARMLESS.search(rest):
            return None
        if found := anchored_match(rest):
            if _SENTENCE.search(text, 0, place.start()) and not _GUESS.search(text):
                return None
            return ReportStart(*found, place.start())
    return None


@functools.lru_cache(maxsize=64)
def shape_of(prefix: str) -> re.Pattern[str] | None:
    """Return the pattern of what stands before other lines where ``prefix`` stands before one."""
    if not prefix or len(prefix) > _MAX_PREFIX or _QUOTING.search(prefix):
        return None
    parts = ["^"]
    position = 0
    for token in _TOKEN.finditer(prefix):
        parts.append(_literal(prefix[position : token.start()]))
        if inside := token["bracket"]:
            opening, closing = re.escape(inside[0]), re.escape(inside[-1])
            parts.append(f"{opening}[^{closing}]{{0,80}}{closing}")
        elif token["number"]:
            parts.append(r"\ *+\d++")
        else:
            parts.append(re.escape(token["blank"]))
        position = token.end()
    parts.append(_literal(prefix[position:]))
    return re.compile("".join(parts))


def _literal(text: str) -> str:
    # grep writes "-" for ":" before lines of the context.
    return re.sub(r"[:-]", "[:-]", re.escape(text).replace(r"\-", "-"))


def without_prefix(shape: re.Pattern[str], text: str) -> str | None:
    """Return a text without what has the shape; None where nothing has."""
    if found := shape.match(text):
        return text[found.end() :]
    # A blank line: the blank at the end of what stands before it is often gone.
    if len(text) <= _MAX_PREFIX and (found := shape.match(text.rstrip() + " ")):
        return text[found.end() :] if found.end() <= len(text) else ""
    return None
