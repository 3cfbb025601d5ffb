# SPDX-License-Identifier: Apache-2.0
"""The look of a report without what differs each time, so that it is analysed once."""

from __future__ import annotations

import hashlib
import re

from fuzzer.splat.plain import is_dump
from fuzzer.splat.report import Report

# Kernel addresses and process numbers. Other numbers stay: sizes, offsets, addresses near zero
# say how bad it is.
_VOLATILE = re.compile(
    r"\bffff(?!f{9})[0-9a-f]{12}\b|\b(?:PID:|CPU:|task|cpu) \d+|(?<=/)\d+(?=:?$)|\[#\d+\]"
)


def look_of(report: Report) -> bytes:
    """Return a hash: reports with the same one have the same title, signature and severity."""
    parts = [f"{report.mixed:d}{report.cut:d}"]
    for line in report.lines[report.lead :]:
        text = line.text
        if text[:1] == " " and "+0x" in text:
            parts.append(text)
        elif is_dump(text):
            parts.append("~")
        else:
            parts.append(_VOLATILE.sub("~", text))
    return hashlib.blake2b("\n".join(parts).encode(errors="replace"), digest_size=16).digest()
