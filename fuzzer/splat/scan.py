# SPDX-License-Identifier: Apache-2.0
"""Finds the reports in a log of any size, handed over as chunks of bytes.

Almost all of a log is no report. Each block is searched for a few byte strings,
one of which is in the first line of every kind of report; only the lines around
a hit are looked at. Searching for one string after the other is 1.5 times as
fast as a regular expression with all of them as alternatives.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator

from fuzzer.splat.line import decode_line, parse_line, split_glued
from fuzzer.splat.parts import has_remnant
from fuzzer.splat.report import Report
from fuzzer.splat.rules import NEEDLES
from fuzzer.splat.splitter import LEAD_LINES, LEAVING, Splitter
from fuzzer.splat.wrapped import wrapped_start

BLOCK = 256 * 1024
"""Bytes that are searched at a time; chunks of about this size are fastest."""

_MAX_LINE = 1 << 20
# Characters of it that are taken apart: more than the splitter keeps.
_MAX_TEXT = 8192
# Bytes at the beginning of a log in which the rest of a report is looked for.
_BEGINNING = 32 * 1024
# How a line begins that is no rest of another one, in most logs; and a block's end.
_STAMPED = (b"[", b"<", b"")
_NEEDLES = tuple(hint.encode() for hint in (*NEEDLES, LEAVING))
# Short ones are found faster by their first character, but for a blank, which is everywhere.
_LONG = tuple(needle for needle in _NEEDLES if len(needle) > 12 or needle.startswith(b" "))
# Drivers print "DEBUG: ..." by the thousand; "ODEBUG: " is a report.
_SHORT = tuple(
    re.compile(rb"BUG(?:(?<!DEBUG)|(?<=ODEBUG))" if needle == b"BUG" else re.escape(needle))
    for needle in _NEEDLES
    if needle not in _LONG
)


class Scanner:
    """Takes chunks of a log; gives back reports. Memory does not grow with the log.

    ``lines`` and ``size`` count what was looked at, in lines and bytes.
    """

    def __init__(self) -> None:
        self._splitter = Splitter()
        self._rest = b""
        self._overlong = False
        self._start: bytes | None = b""
        self._is_wrapped = False
        self.lines = 0
        self.size = 0

    def feed(self, chunk: bytes) -> list[Report]:
        """Take the next chunk; return the reports that ended in it."""
        self.size += len(chunk)
        if self._start is not None:
            self._start += chunk
            return [] if len(self._start) < _BEGINNING else self._begin()
        return self._take(chunk)

    def _begin(self) -> list[Report]:
        """Take the beginning of a log."""
        start, self._start = self._start or b"", None
        if not has_remnant(start[:_BEGINNING]):
            self._splitter.skip_beginning()
        return self._take(start)

    def _take(self, chunk: bytes) -> list[Report]:
        if self._overlong:
            # The rest of a line of which the first megabyte was looked at.
            _, newline, chunk = chunk.partition(b"\n")
            if not newline:
                return []
            self._overlong = False
        data = self._rest + chunk
        end = data.rfind(b"\n") + 1
        self._rest = data[end:]
        done = self._block(data[:end]) if end else []
        if len(self._rest) > _MAX_LINE:
            done += self._block(self._rest)
            self._rest, self._overlong = b"", True
        return done

    def finish(self) -> list[Report]:
        """End the log; return the reports that were not over."""
        done = self._begin() if self._start is not None else []
        # A line that is cut before its text is not an empty line, which ends a stack.
        cut = not parse_line(decode_line(self._rest[:_MAX_LINE])).text.strip()
        self.lines += bool(self._rest) and cut
        done += [] if cut else self._block(self._rest)
        self._rest = b""
        return done + self._splitter.finish()

    def _block(self, block: bytes) -> list[Report]:
        """Look at whole lines."""
        done: list[Report] = []
        hits = _hits(block)
        position, end = 0, len(block)
        while position < end:
            if self._splitter.idle:
                start = self._next_start(block, position, hits)
                self._pass_over(block, position, start)
                position = start
                if position == end:
                    break
            stop = _line_end(block, position)
            done += self._line(block[position:stop])
            if self._is_wrapped:
                # Of the first line of a report.
                position, stop = stop, _line_end(block, stop)
                done += self._line(block[position:stop])
                self._is_wrapped = False
            position, self.lines = self._splitter.take_plain(block, stop, self.lines)
        return done

    def _pass_over(self, block: bytes, position: int, start: int) -> None:
        """Count the lines from ``position`` to ``start``, and look at the last few only."""
        near = start
        for _ in range(LEAD_LINES):
            if near > position:
                near = max(block.rfind(b"\n", position, near - 1) + 1, position)
        self.lines += block.count(b"\n", position, near)
        while near < start:
            stop = _line_end(block, near)
            self._line(block[near:stop])
            near = stop

    def _next_start(self, block: bytes, position: int, hits: deque[int]) -> int:
        """Return where the next line begins that starts a report, the end when there is none."""
        while hits:
            hit = hits.popleft()
            if hit < position:
                continue
            start = max(block.rfind(b"\n", position, hit) + 1, position)
            # Other hits in this line say nothing more.
            position = _line_end(block, hit)
            raw = decode_line(block[start:position][:_MAX_LINE])
            parts = [parse_line(part[:_MAX_TEXT]) for part in split_glued(raw)]
            if any(self._splitter.begins(part.text) for part in parts):
                return start
            if (wrapped := self._wrapped_at(block, start, raw)) is not None:
                self._is_wrapped = True
                return wrapped
        return len(block)

    def _wrapped_at(self, block: bytes, start: int, raw: str) -> int | None:
        """Return where a line that starts a report begins, if it is in two; one is at ``start``."""
        stop = _line_end(block, start)
        if block[stop : stop + 1] not in _STAMPED:
            following = decode_line(block[stop : _line_end(block, stop)][:_MAX_TEXT])
            if wrapped_start(parse_line(raw[:_MAX_TEXT]).text, following, len(raw)):
                return start
        if block[start : start + 1] not in _STAMPED and start:
            before = block.rfind(b"\n", 0, start - 1) + 1
            first = decode_line(block[before:start][:_MAX_TEXT])
            if wrapped_start(parse_line(first).text, raw[:_MAX_TEXT], len(first)):
                return before
        return None

    def _line(self, raw: bytes) -> list[Report]:
        self.lines += 1
        parts = [part[:_MAX_TEXT] for part in split_glued(decode_line(raw))]
        if len(parts) == 1:
            return self._splitter.feed(parse_line(parts[0], self.lines))
        return [
            report for part in parts for report in self._splitter.feed(parse_line(part, self.lines))
        ]


def _line_end(block: bytes, position: int) -> int:
    newline = block.find(b"\n", position)
    return newline + 1 if newline >= 0 else len(block)


def _hits(block: bytes) -> deque[int]:
    """Return where the block has a needle, in order."""
    hits = [hit.start() for pattern in _SHORT for hit in pattern.finditer(block)]
    for needle in _LONG:
        at = block.find(needle)
        while at >= 0:
            hits.append(at)
            at = block.find(needle, at + len(needle))
    return deque(sorted(hits))


def scan(chunks: Iterable[bytes]) -> Iterator[Report]:
    """Return the reports of a log, each when it is over."""
    scanner = Scanner()
    for chunk in chunks:
        yield from scanner.feed(chunk)
    yield from scanner.finish()
