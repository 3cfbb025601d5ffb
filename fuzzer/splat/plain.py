# SPDX-License-Identifier: Apache-2.0
"""Lines that can only be a part of the report that is going on: most of a report.

Stack frames, registers and dumps of memory, with the stamp and the caller id of the line
before. A log that is nothing but reports is read several times as fast because these
are recognised as bytes, by one pattern.
"""

from __future__ import annotations

import functools
import re

# None of these can have the hint of a rule in it, or end a report.
_FRAME = rb"""\ +(?:\?\ )?[A-Za-z_][\w.$]{0,200}\+0x[0-9a-f]{1,16}/0x[0-9a-f]{1,16}(?:\ \[\w+\])?"""
# What neither title, place nor severity is taken from. Upper case is that of registers' names.
_DUMP = rb"""R(?!IP)[A-DS0-9][0-9A-DPXI]:\ [0-9a-f:RABCDSIPXEFLGO_\ ]{1,300}
    |[CDEF]S:[0-9a-f():knlGCDERS\ ]{1,300}|CR2:[0-9a-f:CR\ ]{1,300}
    |DR[0-7]:[0-9a-f:DR\ ]{1,300}|PKRU:\ [0-9a-f]{1,16}
    |Code:[0-9a-f<>\ ]{1,300}
    |[\ >]ffff[0-9a-f]{12}:(?:\ [0-9a-f]{2}){1,64}
    |\ +\^
    |irq\ event\ stamp:\ \d+
    |(?:hard|soft)irqs\ last\ +(?:en|dis)abled\ at\ \(\d+\):\ [\w+/.<>\[\]\ ]{1,80}
    |raw:\ [0-9a-f\ ]{1,300}|flags:\ [0-9a-fx]{1,300}\([a-z0-9=|_]{0,300}\)
    |page:\ refcount:[a-z0-9:_\ ]{1,300}"""
_FIXED = rb"""\ </?(?:TASK|IRQ|NMI)>|Call\ Trace:|Tainted:\ \[[A-Z]\]=[A-Z]{1,300}_MODULE
    |CPU:\ \d+\ UID:\ \d+\ PID:\ \d+\ Comm:\ [a-z0-9_/:.-]{1,16}
        \ (?:Not\ tainted|Tainted:\ G[A-Z\ ]{0,40})\ +\d[\w.+-]{0,100}\ \#\d+\ ?
    |RIP:\ 0010:[A-Za-z_][\w.$]{0,200}\+0x[0-9a-f]{1,16}/0x[0-9a-f]{1,16}(?:\ \[\w+\])?
    |Memory\ state\ around\ the\ buggy\ address:
    |The\ buggy\ address\ belongs\ to\ the\ (?:object|physical\ page)[a-z0-9\ :]{0,80}
    |The\ buggy\ address\ is\ located\ \d+\ bytes\ [a-z\ ]{1,40}
    |(?:Read|Write)\ of\ size\ \d+\ at\ addr\ [0-9a-f]{1,16}\ by\ task\ [a-z0-9_/:.-]{1,40}
    |(?:Allocated|Freed)\ by\ task\ \d+:
    |\ which\ belongs\ to\ the\ cache\ [a-z0-9_-]{1,80}\ of\ size\ \d+
    |\ (?:allocated|freed)\ \d+-byte\ region\ [\[\]()0-9a-f,\ ]{1,60}
    |Modules\ linked\ in:(?:\ [a-z0-9_]{1,60}(?:\([A-Z]{1,9}\))?){0,99}"""


_DUMP_TEXT = re.compile(_DUMP.decode(), re.VERBOSE)
_STAMP = re.compile(r"(\[[ \d]*\.\d+\])(\[ *[TC]\d+\])? ")


def is_dump(text: str) -> bool:
    """Tell whether a line's text is of registers or memory: it differs each time."""
    return _DUMP_TEXT.match(text) is not None


@functools.lru_cache(maxsize=64)
def _run(width: int) -> re.Pattern[bytes]:
    """Return the pattern of lines of one caller, group 1; ``width`` is that of the time."""
    text = b"(?:" + b"|".join((_FRAME, _DUMP, _FIXED)) + b")?"
    stamp = rb"\[[\ \d.]{%d}\]" % width
    first = stamp + rb"(\[\ *[TC]\d+\]|)\ " + text + rb"\n"
    return re.compile(first + rb"(?:" + stamp + rb"\1\ " + text + rb"\n)*+", re.VERBOSE)


def plain_lines(block: bytes, position: int, before: str) -> tuple[list[str], int]:
    """Return the plain lines that follow one of the same caller, and the length of their stamps.

    ``before`` is that line as the log has it; without a stamp there are none.
    """
    stamp = _STAMP.match(before)
    run = _run(len(stamp[1]) - 2).match(block, position) if stamp else None
    if stamp is None or run is None or run[1].decode() != (stamp[2] or ""):
        return [], 0
    return run[0].decode().split("\n")[:-1], stamp.end()
