# SPDX-License-Identifier: Apache-2.0
"""Finds the reports in a log of any size, handed over as chunks of bytes.

Almost all of a log is no report. Each block is searched for a few byte strings,
one of which is in the first line of every kind of report; only the lines around
a hit are looked at. Searching for one string after the other is 1.5 times as
fast as a regular expression with all of them as alternatives.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from fuzzer.splat.line import decode_line, parse_line
from fuzzer.splat.rules import HINTS
from fuzzer.splat.splitter import LEAVING, Report, Splitter

BLOCK = 256 * 1024
"""Bytes that are searched at a time; chunks of about this size are fastest."""

_MAX_LINE = 1 << 20
# Lines before a hit that are looked at too: what a report prints before its first line.
_BEFORE = 3
_NEEDLES = tuple(hint.encode() for hint in (*HINTS, LEAVING))


class Scanner:
    """Takes chunks of a log; gives back reports. Memory does not grow with the log.

    ``lines`` and ``size`` count what was looked at, in lines and bytes.
    """

    def __init__(self) -> None:
        self._splitter = Splitter()
        self._rest = b""
        self._overlong = False
        self.lines = 0
        self.size = 0

    def feed(self, chunk: bytes) -> list[Report]:
        """Take the next chunk; return the reports that ended in it."""
        self.size += len(chunk)
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
        """The log is over; return the reports that were going on."""
        done = self._block(self._rest) if self._rest else []
        self._rest = b""
        return done + self._splitter.finish()

    def _block(self, block: bytes) -> list[Report]:
        """Look at whole lines."""
        done: list[Report] = []
        hits = _hits(block)
        place = 0
        position, end = 0, len(block)
        while position < end:
            if self._splitter.idle:
                while place < len(hits) and hits[place] < position:
                    place += 1
                target = hits[place] if place < len(hits) else end
                position = self._skip(block, position, target)
                if position >= end:
                    break
            newline = block.find(b"\n", position)
            stop = newline + 1 if newline >= 0 else end
            done += self._line(block[position:stop])
            position = stop
        return done

    def _skip(self, block: bytes, position: int, target: int) -> int:
        """Go on to the line with ``target``, looking only at the few before it."""
        start = target
        for _ in range(_BEFORE + (target < len(block))):
            start = block.rfind(b"\n", position, max(position, start - 1)) + 1
            if start <= position:
                start = position
                break
        self.lines += block.count(b"\n", position, start)
        while start < target:
            newline = block.find(b"\n", start)
            if newline < 0 or newline >= target:
                break
            self._line(block[start : newline + 1])
            start = newline + 1
        if target == len(block) and start < target:
            self._line(block[start:])
            return target
        return start

    def _line(self, raw: bytes) -> list[Report]:
        self.lines += 1
        return self._splitter.feed(parse_line(decode_line(raw), self.lines))


def _hits(block: bytes) -> list[int]:
    """Return where the block has a needle, in order."""
    hits: list[int] = []
    for needle in _NEEDLES:
        at = block.find(needle)
        while at >= 0:
            hits.append(at)
            at = block.find(needle, at + len(needle))
    hits.sort()
    return hits


def scan(chunks: Iterable[bytes]) -> Iterator[Report]:
    """Return the reports of a log, each when it is over."""
    scanner = Scanner()
    for chunk in chunks:
        yield from scanner.feed(chunk)
    yield from scanner.finish()
