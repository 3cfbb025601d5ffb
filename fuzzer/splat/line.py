# SPDX-License-Identifier: Apache-2.0
"""One line of a log: what was put in front of the kernel's text, and the text.

In front may stand, in this order: what another program wrote without a
newline, the date and host of a log daemon, a priority, a time stamp, and the
caller id that ``CONFIG_PRINTK_CALLER`` adds: ``[    C0]`` for an interrupt
on CPU 0, ``[   T27]`` for task 27.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_COLOUR = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
# "2026-11-25T06:00:00.123456+01:00 host kernel: ", "Nov 25 06:00:00 host kernel: ".
_DAEMON = re.compile(
    r"""(?:\d{4}-\d\d-\d\d[T\ ][\d:.,]+(?:Z|[+-]\d\d:?\d\d)?|[A-Z][a-z]{2}\ [\d\ ]\d\ [\d:.]+)\ +
    (?:(?P<host>[\w.-]+)\ (?P<tag>[\w./@-]+)(?:\[\d+\])?:\ ?)?""",
    re.VERBOSE,
)
# dmesg --decode: "kern  :err   : ".
_DECODED = re.compile(r"(?P<facility>[a-z0-7]+) *:[a-z]+ *: ")
_RECORD = re.compile(r"\d+,\d+,(?P<us>\d+),[^;,]*(?:,caller=(?P<caller>[TC]\d+))?[^;]*;")
_STAMP = re.compile(
    r"""(?:<\d+>)?
    (?P<stamp>\[\ *\d+\.\d+\]|\[[A-Z][a-z]{2}\ [A-Z][a-z]{2}\ [\d\ ]\d\ [\d:]+\ \d{4}\]
        |\[\ *\+?\d+\.\d+\])?
    (?:\ ?\[\ *(?P<caller>[TC]\d+)\])?\ ?""",
    re.VERBOSE,
)
# What nearly all logs have, and nothing else to take off.
_PLAIN = re.compile(r"\[ *\d+\.\d{6}\](?:\[ *(?P<caller>[TC]\d+)\])? (?![^\x1b]*\x1b| *\[ *[TC]\d)")
# A stamp in the middle of a line: somebody wrote a prompt or a word without a newline.
_LATE_STAMP = re.compile(r"(?:<\d+>)?\[ *\d+\.\d{6}\](?:\[ *[TC]\d+\])? ")


class Line(NamedTuple):
    """``raw`` is the line as it was, without its end; ``text`` what the kernel said.

    ``caller`` is the caller id, as ``T27``; ``stamped`` tells that the line had a
    time stamp. ``foreign`` are lines that another program wrote into a log
    daemon's file.
    """

    number: int
    raw: str
    text: str
    caller: str | None = None
    stamped: bool = False
    foreign: bool = False


def decode_line(raw: bytes) -> str:
    """Return a line as text; bytes that are none become replacement characters."""
    return raw.decode("utf-8", errors="replace").rstrip("\r\n\0")


def parse_line(raw: str, number: int = 0) -> Line:
    """Take a line apart. Any text is a line; ``number`` is where it was, from 1."""
    if plain := _PLAIN.match(raw):
        return Line(number, raw, raw[plain.end() :].rstrip("\r\n"), plain["caller"], True)
    rest = raw.rstrip("\r\n").lstrip("\0\r")
    if "\x1b" in rest:
        rest = _COLOUR.sub("", rest)
    if record := _RECORD.match(rest):
        return Line(number, raw, rest[record.end() :], record["caller"], True)
    foreign = False
    if not rest.startswith(("[", "<")):
        if daemon := _DAEMON.match(rest):
            rest = rest[daemon.end() :]
            foreign = daemon["tag"] not in {None, "kernel"}
        elif decoded := _DECODED.match(rest):
            rest = rest[decoded.end() :]
            foreign = decoded["facility"] != "kern"
        elif late := _LATE_STAMP.search(rest):
            rest = rest[late.start() :]
    stamp = _STAMP.match(rest)
    assert stamp is not None
    stamped = stamp["stamp"] is not None
    if not stamped and stamp["caller"] is None and not rest.startswith("<"):
        return Line(number, raw, rest, foreign=foreign)
    return Line(number, raw, rest[stamp.end() :], stamp["caller"], stamped, foreign)
