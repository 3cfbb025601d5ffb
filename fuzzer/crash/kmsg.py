# SPDX-License-Identifier: Apache-2.0
"""Records of ``/dev/kmsg``, made into the lines that a console would show.

The format is that of Documentation/ABI/testing/dev-kmsg in the kernel:
``priority,sequence,microseconds,flags[,caller=T1];text``, then continuation
lines that begin with a space.
"""

from __future__ import annotations

import re

_RECORD = re.compile(r"(\d+),(\d+),(\d+),([^;,]*)(?:,caller=([TC]\d+))?[^;]*;(.*)")
_ESCAPE = re.compile(r"\\x([0-9a-f]{2})")


def console_lines(raw: bytes) -> list[str]:
    """Return the console lines of raw kmsg records; what is no record is left out."""
    lines = []
    for line in raw.decode("utf-8", errors="replace").split("\n"):
        match = _RECORD.match(line)
        if not match:
            continue
        microseconds, caller, text = int(match[3]), match[5], match[6]
        text = _ESCAPE.sub(lambda escape: chr(int(escape[1], 16)), text)
        stamp = f"[{microseconds / 1e6:12.6f}]"
        lines.append(f"{stamp}[{caller:>6}] {text}" if caller else f"{stamp} {text}")
    return lines
