# SPDX-License-Identifier: Apache-2.0
"""What a report looks like without what differs each time, so that it is analysed once."""

from __future__ import annotations

import hashlib
import re

from fuzzer.splat.splitter import Report

# Kernel addresses, process numbers, and lines that neither title, place nor severity are
# taken from. Other numbers stay: sizes, offsets, addresses near zero say how bad it is.
_VOLATILE = re.compile(
    r"""\bffff[0-9a-f]{12}\b
    |\bPID:\ \d+|\bCPU:\ \d+|(?<=/)\d+(?=:?$)|\btask\ \d+|\bcpu\ \d+|\[\#\d+\]
    |^R(?!IP)[A-Z0-9]{2}:.*|^(?:[FCDE]S|CR2|DR\d|Code|PKRU|raw|flags|page):.*
    |^(?:irq\ event|hardirqs\ last|softirqs\ last)\ .*
    |^[ >]ffff[0-9a-f]{12}:\ .*""",
    re.VERBOSE | re.MULTILINE,
)


def look_of(report: Report) -> bytes:
    """Return a hash: reports with the same one have the same title, signature and severity."""
    text = "\n".join([line.text for line in report.lines[report.lead :]])
    look = _VOLATILE.sub("~", text)
    told = f"{report.mixed:d}{report.cut:d}{look}"
    return hashlib.blake2b(told.encode(errors="replace"), digest_size=16).digest()
