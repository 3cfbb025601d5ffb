# SPDX-License-Identifier: Apache-2.0
"""One line of a log: what was put in front of the kernel's text, and the text.

In front may stand, in this order: what another program wrote without a newline, or put
before each line it showed (a quote mark, a file's name, a clock); the date, host and tag of a
log daemon, in any language; a priority; a time stamp; and the caller id that
``CONFIG_PRINTK_CALLER`` adds: ``[    C0]`` for an interrupt on CPU 0, ``[   T27]`` for task 27.
What else stands there is learned from a report's first line (``prefix``).
"""

from __future__ import annotations

import html
import re
from itertools import pairwise
from typing import NamedTuple

_COLOUR = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_TIME = r"\d{1,2}:\d\d(?::\d\d(?:[.,]\d{1,9})?)?(?:\ [AaPp]\.?[Mm]\.?)?"
_WORD = r"[^\W\d_]{1,12}[.,]?"
_ZONE = r"(?:\ ?(?:Z|[+-]\d\d:?\d\d)|\ (?:UTC|GMT|MSK|[A-Z]{1,4}T|[+-]\d\d)(?=[\ \]]|$))?"
# "2026-03-22T18:58:13.123456+01:00", "Sun 2026-03-22 18:58:13 UTC", "Mar 22 18:58:13",
# "27. März 01:25:06", "3月 22 18:58:13", "Sun Mar 22 18:58:13 2026", "1711133893.000000".
_DATE = rf"""(?:
    (?:{_WORD}\ )?\d{{4}}[-/.]\d\d[-/.]\d\d(?:T|\ {{1,2}}|_){_TIME}{_ZONE}
    |(?:{_WORD}\ {{1,2}})?(?:{_WORD}|\d{{1,2}}\ ?[月월])\ {{0,2}}\d{{1,2}}[日일,]?\ (?:\d{{4}},?\ )?
        {_TIME}{_ZONE}(?:\ \d{{4}}\b)?
    |(?:{_WORD}\ {{1,2}})?\d{{1,2}}[./-]?\ ?(?:{_WORD}|\d\d[./-])[-\ ]?
        (?:\d{{4}},?\ )?{_TIME}{_ZONE}(?:\ \d{{4}}\b)?
    |\d\d-\d\d\ {_TIME}
    |\d{{9,10}}\.\d{{3,9}}
    |\d\d:\d\d:\d\d(?:[.,]\d{{1,9}})?
    )"""
# What a report says of itself, and no log daemon's host or tag.
_REPORT_WORD = (
    r"(?!(?:BUG|WARNING|INFO|KASAN|UBSAN|KFENCE|KMSAN|KCSAN|Oops|CPU|E?[A-Z]?IP|[A-Z][A-Z0-9]{2}|"
    r"Code|[Tt]race|name|Comm|Modules|linked|Workqueue|Internal|error|Unable|pc|lr|sp|pstate|"
    r"x\d+|task|traps|watchdog|rcu|list|list_\w+|kobject|refcount_t|in|at|by|of|to|is|note|raw|"
    r"flags|page|head|comm|object|backtrace|lock|stack|Call|Hardware|Allocated|Freed|The|Memory|"
    r"Tainted|irq|fault|dereference|usercopy|general|kernel\ BUG|Kernel|not|syncing|\d+):)"
)
# Before the date: blanks, quote marks, a priority, a file's name and a line's number (grep).
_BEFORE = r"[\s>|+*]{0,12}(?:<\d{1,3}>(?:1\ )?)?(?:[\w./+-]{1,120}?(?::\d{1,7})?[:-])?\ ?"
# A clock in brackets is a terminal's or dmesg's, and no host follows.
_DAEMON = re.compile(
    rf"""{_BEFORE}(?:\[\ *{_DATE}\ *\]:?(?:\ |$)|{_DATE}:?(?:\ |$)
    (?:\ *(?:{_REPORT_WORD}(?P<host>[\w.:-]+)\ +)?(?:[a-z0-7]+\.[a-z]+\ )?
    {_REPORT_WORD}(?P<tag>[\w./@()-]+)(?P<pid>\[(?:\d+|n/a)\])?:(?:\ |$))?(?:-\ -\ -\ )?)""",
    re.VERBOSE,
)
_KERNEL = frozenset({"kernel", "vmunix", "klogd", "dmesg", "kmsg"})
# "kernel: " with nothing but a host before it, or after a stamp (journalctl -o short-monotonic).
_TAG = re.compile(
    r"[\s>|]{0,8}(?:[\w.-]{1,64} )?(?:kern\.[a-z]+ )?kernel(?:\[(?:\d+|n/a)\])?:(?: |$)"
)
# dmesg --decode: "kern  :err   : ".
_DECODED = re.compile(
    r"\s{0,8}(?P<facility>kern|user|mail|daemon|auth|syslog|lpr|news|uucp|cron|authpriv|ftp"
    r"|local[0-7]|res\d+) *:(?:emerg|alert|crit|err|warn|notice|info|debug) *: ?"
)
_RECORD = re.compile(
    r"(?:[\w.+-]+,)?\d+,\d+,(?P<us>\d+),[^;,]*(?:,caller=(?P<caller>[TC]\d+))?[^;]*;"
)
_STAMP = re.compile(
    r"""\s{0,8}(?P<priority><\d+>)?
    (?P<stamp>\[\ *\d+\.\d+(?:s|@\d+)?(?:\ *<\ *[\d.]+\ *>)?\ ?\]
        |\[(?:\S{1,12}\ )?\S{1,8}\ {1,2}\d{1,2}\ [\d:]{7,8}\ \d{4}\]
        |\[[A-Z][a-z]{2}[\d\ ]\d\ \d\d:\d\d\]|\[\ *\+?\d+\.\d+\])?
    (?:\ ?\[\ *(?P<caller>[TC]\d+)\ ?\])?(?(stamp)\ ?|(?(caller)\ ?))""",
    re.VERBOSE,
)
# What nearly all logs have, and nothing else to take off.
_PLAIN = re.compile(
    r"\[ *\d+\.\d{6}\](?:\[ *(?P<caller>[TC]\d+)\])? "
    r"(?![^\x1b]*\x1b| *\[ *(?:[TC]\d|\d+\.\d{6}\])|(?:[\w.-]+ )?kernel: )"
)
# A stamp in the middle of a line: somebody wrote a prompt or a word without a newline.
_LATE_STAMP = re.compile(
    r"(?:<\d+>)?\[ *\d+\.\d{6}(?:s|@\d+)?(?: *<[ \d.]+>)?\](?:\[ *[TC]\d+\])? ?"
)
_ESCAPED = re.compile(r"\\([][_*<>#`~|.!(){}+-])")
_ENTITY = re.compile(r"&(?:lt|gt|amp|quot|apos|nbsp|#\d{1,5}|#x[0-9a-fA-F]{1,4});")
_BLANKS = dict.fromkeys((0x00A0, 0x2007, 0x202F, 0x3000), " ") | dict.fromkeys(
    (0x200B, 0x200E, 0x200F, 0x2060, 0xFEFF), ""
)
_FIELDS = re.compile(r"(?:\[[^][]*\]|\([^()]*\)|<\d+>|[\s.])*")
_FENCE = re.compile(r"^\s*`{3,}")


class Line(NamedTuple):
    """``raw`` is the line as it was, without its end; ``text`` what the kernel said.

    ``caller`` is the caller id, as ``T27``; ``stamped`` tells that the line had a
    time stamp. ``foreign`` are lines that another program wrote into a log
    daemon's file. A ``bare`` line has nothing in front that a log of the kernel's has: it may
    be prose.
    """

    number: int
    raw: str
    text: str
    caller: str | None = None
    stamped: bool = False
    foreign: bool = False
    bare: bool = False


def decode_line(raw: bytes) -> str:
    """Return a line as text; bytes that are none become replacement characters."""
    return raw.decode("utf-8", errors="replace").rstrip("\r\n\0")


def parse_line(raw: str, number: int = 0) -> Line:
    """Take a line apart. Any text is a line; ``number`` is where it was, from 1."""
    simple = raw.isascii() and "\\" not in raw and "&" not in raw
    if simple and (plain := _PLAIN.match(raw)):
        return Line(number, raw, raw[plain.end() :].rstrip("\r\n"), plain["caller"], True)
    rest = raw.rstrip("\r\n").lstrip("\0\r")
    if not simple:
        rest = _unescaped(rest)
    if "\x1b" in rest:
        rest = _COLOUR.sub("", rest)
    if record := _RECORD.match(rest):
        return Line(number, raw, rest[record.end() :], record["caller"], True)
    known = foreign = unsure = False
    while (daemon := _DAEMON.match(rest)) and not foreign:
        known = True
        if daemon["tag"] is not None and daemon["tag"] not in _KERNEL:
            # Without a number it may be what relays a console, or the kernel's own text.
            foreign = unsure = True
            if daemon["pid"] is None:
                foreign, rest = False, rest[daemon.start("host" if daemon["host"] else "tag") :]
                break
        rest = rest[daemon.end() :]
    if known:
        pass
    elif tag := _TAG.match(rest):
        rest, known = rest[tag.end() :], True
    elif decoded := _DECODED.match(rest):
        rest, known = rest[decoded.end() :], True
        foreign = decoded["facility"] != "kern"
        if inner := _DAEMON.match(rest):
            rest = rest[inner.end() :]
    if late := _LATE_STAMP.search(rest):
        # A program that shows a console, dmesg for one, keeps the kernel's stamps.
        foreign = foreign and late.start() > 0
        rest = rest[late.start() :]
    stamp = _STAMP.match(rest)
    assert stamp is not None
    stamped = stamp["stamp"] is not None
    caller = stamp["caller"]
    if not stamped and caller is None and stamp["priority"] is None:
        text = "" if _FENCE.match(rest) else rest
        return Line(number, raw, text, None, False, foreign, unsure or not known)
    rest = rest[stamp.end() :]
    while _LATE_STAMP.match(rest) and (again := _STAMP.match(rest)):
        # The console of a guest in the log of its host, say.
        rest, caller = rest[again.end() :], again["caller"] or caller
    if stamped and (tag := _TAG.match(rest)):
        rest = rest[tag.end() :]
        if (inside := _STAMP.match(rest)) and inside["stamp"]:
            rest, caller = rest[inside.end() :], inside["caller"] or caller
    return Line(number, raw, rest, caller, stamped, foreign)


def _unescaped(text: str) -> str:
    """Undo what web pages and Markdown do to a line."""
    text = text.translate(_BLANKS)
    if "\\" in text:
        text = _ESCAPED.sub(r"\1", text)
    return _ENTITY.sub(lambda entity: html.unescape(entity[0]).translate(_BLANKS), text)


def _says(text: str) -> bool:
    """Tell whether there is more than a stamp, fields in brackets and the kernel's tag."""
    rest = _LATE_STAMP.sub("", text, count=1)
    return not _FIELDS.fullmatch(rest) and not _TAG.fullmatch(rest)


def split_glued(raw: str) -> list[str]:
    """Return the lines that a line was made of: a terminal, or a form, may lose their ends."""
    # A caller's id follows a stamp at once.
    if raw.count(".") < 2 or raw.count("[") - raw.count("][") < 2 - (raw[:1] != "["):
        return [raw]
    starts = [stamp.start() for stamp in _LATE_STAMP.finditer(raw)]
    cuts = [start for before, start in pairwise(starts) if _says(raw[before:start])]
    edges = [0, *cuts, len(raw)]
    return [raw[start:end].rstrip(" ") if cuts else raw for start, end in pairwise(edges)]
