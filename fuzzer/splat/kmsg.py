# SPDX-License-Identifier: Apache-2.0
"""Records of ``/dev/kmsg``, made into the lines that a console would show.

The format is that of Documentation/ABI/testing/dev-kmsg in the kernel:
``priority,sequence,microseconds,flags[,caller=T1];text``, then continuation
lines that begin with a space.
"""

from __future__ import annotations

import re

_RECORD = re.compile(r"(\d+),(\d+),(\d+),([^;,]*)(?:,caller=([TC]\d+))?[^;]*;(.*)")
_ESCAPE = re.compile(rb"\\x([0-9a-f]{2})")


def _unescape(text: str) -> str:
    """Undo the escapes, which stand for bytes: a UTF-8 character has several."""
    raw = _ESCAPE.sub(lambda escape: bytes((int(escape[1], 16),)), text.encode())
    return raw.decode("utf-8", errors="replace")


def console_lines(raw: bytes) -> list[str]:
    """Return the console lines of raw kmsg records; what is no record is left out."""
    lines = []
    for record in raw.decode("utf-8", errors="replace").split("\n"):
        match = _RECORD.match(record)
        if not match:
            continue
        microseconds, caller, text = int(match[3]), match[5], match[6]
        stamp = f"[{microseconds / 1e6:12.6f}]"
        prefix = f"{stamp}[{caller:>6}]" if caller else stamp
        # One record may have several lines; the console shows each with the prefix.
        lines += [f"{prefix} {line}" for line in _unescape(text).split("\n")]
    return lines
