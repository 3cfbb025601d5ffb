# SPDX-License-Identifier: Apache-2.0
"""The stored logs with kernel reports, and what of a record is compared with golden files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fuzzer.splat.analyse import all_splats
from fuzzer.splat.line import decode_line
from fuzzer.splat.machinery import is_machinery
from fuzzer.splat.signature import signature_of
from fuzzer.splat.splat import Splat, to_json

DATA = Path(__file__).parent / "data"
LOGS = sorted([*DATA.glob("splats/*.log"), *DATA.glob("splats-made/*.log")])

_FIELDS = (
    "title",
    "kind",
    "family",
    "function",
    "corrupted",
    "access",
    "object",
    "task",
    "locks",
    "modules",
    "kernel",
    "taint",
    "line",
    "caller",
    "crash",
)


def read_lines(path: Path) -> list[str]:
    """Return a log's lines, whatever bytes are in it."""
    raw = path.read_bytes().split(b"\n")
    return [decode_line(line) for line in (raw[:-1] if raw[-1] == b"" else raw)]


def important(record: Splat) -> dict[str, Any]:
    """Return the fields of a record that a golden file has."""
    value = to_json(record)
    golden = {name: value[name] for name in _FIELDS}
    golden["severity"] = [record.severity.level, record.severity.score]
    golden["signature"] = str(signature_of(record))
    golden["stacks"] = [
        {
            "role": stack.role,
            "frames": len(stack.frames),
            "first": next(
                (
                    frame.function
                    for frame in stack.frames
                    if frame.reliable and not is_machinery(frame)
                ),
                None,
            ),
        }
        for stack in record.stacks
    ]
    golden["text_lines"] = record.text.count("\n")
    return golden


def golden_of(path: Path) -> list[dict[str, Any]]:
    """Return what is to be compared for a log."""
    return [important(record) for record in all_splats(read_lines(path))]
