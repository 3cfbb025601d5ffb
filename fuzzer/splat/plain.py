# SPDX-License-Identifier: Apache-2.0
"""Lines that can only be a part of the report that is going on: most of a report.

Stack frames, registers and dumps of memory, with the stamp and the caller id of the line
before. A log that is nothing but reports is read several times as fast because these
are recognised as bytes, by one pattern.
"""

from __future__ import annotations

import functools
import re

# None of these can have a hint of a rule in it, or end a report. Upper case is that of
# registers' names.
_TEXT = rb"""
    (?:\ +(?:\?\ )?[A-Za-z_][\w.$]*\+0x[0-9a-f]+/0x[0-9a-f]+(?:\ \[\w+\])?
    |\ +</?(?:TASK|IRQ|NMI)>
    |R(?!IP)[A-DS0-9][0-9A-DPXI]:\ [0-9a-f:RABCDSIPXEFLG\ ]+
    |[FCDE]S:[0-9a-f():knlGESCR\ ]+|CR2:[0-9a-f:CR\ ]+|DR[0-7]:[0-9a-f:DR\ ]+|PKRU:\ [0-9a-f]+
    |Code:[0-9a-f<>\ ]+
    |[\ >]ffff[0-9a-f]{12}:(?:\ [0-9a-f]{2})+
    |\ +\^
    )?"""


@functools.lru_cache(maxsize=256)
def plain_line(caller: str | None) -> re.Pattern[bytes]:
    """Return the pattern of such a line of a caller; group 1 is the line, group 2 its text."""
    who = rb"\[\ *" + caller.encode() + rb"\]" if caller else b""
    stamp = rb"\[\ *\d+\.\d+\]" + who
    return re.compile(rb"(" + stamp + rb"\ (" + _TEXT + rb"))\r?\n", re.VERBOSE)
