# SPDX-License-Identifier: Apache-2.0
"""Logs that are nothing but reports: taken fast, in bounded memory, and as any other."""

from __future__ import annotations

import random
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fuzzer.paths import project_root
from fuzzer.splat import triage as triage_module
from fuzzer.splat.line import parse_line
from fuzzer.splat.report import Report
from fuzzer.splat.scan import BLOCK, Scanner
from fuzzer.splat.splitter import Splitter
from fuzzer.splat.triage import LogTriage
from tests.golden.index import DIRECTORY

LOGS = [path.read_bytes() for path in sorted(DIRECTORY.glob("*.log"))]
_STAMP = re.compile(rb"^\[[ \d]*\.\d+\]", re.MULTILINE)
_ADDRESS = re.compile(rb"ffff8880[0-9a-f]{8}")
_PID = re.compile(rb"(?<=[/T])\d+(?=\]|:?\n)|(?<=PID: )\d+")


def again(log: bytes, number: int) -> bytes:
    """Return a log as it looks when it happens another time."""
    log = _STAMP.sub(lambda stamp: b"[%5d.%06d]" % (number, number), log)
    log = _ADDRESS.sub(lambda address: b"ffff8880%08x" % (int(address[0][8:], 16) ^ number), log)
    return _PID.sub(lambda pid: b"%d" % (int(pid[0]) + number), log)


def flood(seed: int, count: int) -> bytes:
    """Return many reports one after the other, some cut off, some of other tasks between."""
    chance = random.Random(seed)
    parts = []
    for number in range(count):
        log = again(chance.choice(LOGS), chance.randrange(500))
        lines = log.splitlines(keepends=True)
        if chance.random() < 0.3:
            lines = lines[: chance.randrange(1, len(lines) + 1)]
        if chance.random() < 0.3:
            at = chance.randrange(len(lines))
            lines[at:at] = again(chance.choice(LOGS), number).splitlines(keepends=True)[:40]
        if chance.random() < 0.2:
            lines[chance.randrange(len(lines))] += b"[    1.000000][   T27] drv: ready\n" * 19
        parts += lines
    return b"".join(parts)


def reports(log: bytes) -> list[Report]:
    scanner = Scanner()
    found = []
    for start in range(0, len(log), 5000):
        found += scanner.feed(log[start : start + 5000])
    found += scanner.finish()
    assert (scanner.lines, scanner.size) == (log.count(b"\n"), len(log))
    return found


@pytest.mark.parametrize("seed", range(6))
def test_reports_are_the_same_when_each_line_is_looked_at(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = flood(seed, 60)
    fast = reports(log)
    monkeypatch.setattr(
        Splitter, "take_plain", lambda self, block, position, number: (position, number)
    )
    slow = reports(log)
    assert len(fast) > 30
    assert [each.first for each in fast] == [each.first for each in slow]
    for one, two in zip(fast, slow, strict=True):
        assert (one.rule, one.lead, one.mixed, one.cut) == (two.rule, two.lead, two.mixed, two.cut)
        assert one.lines == two.lines


def test_a_plain_line_is_what_the_parser_makes_of_it() -> None:
    for report in reports(flood(9, 40)):
        for line in report.lines:
            assert parse_line(line.raw, line.number) == line


@pytest.mark.parametrize("seed", range(4))
def test_findings_are_the_same_when_each_report_is_analysed(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = flood(seed, 120)
    found = []
    for looks in (triage_module.MAX_LOOKS, 1):
        monkeypatch.setattr(triage_module, "MAX_LOOKS", looks)
        triage = LogTriage()
        triage.add_log("log", [log])
        found.append(
            {
                each.record.title: (
                    each.count,
                    each.signature,
                    each.record.severity,
                    tuple(each.places),
                )
                for each in triage.findings()
            }
        )
    assert found[0] == found[1]
    assert len(found[0]) > 20


def _chunks(size: int) -> Iterator[bytes]:
    """Yield a flood of so many bytes."""
    logs = [log for log in LOGS if b"BUG" in log or b"WARNING" in log]
    left, number = size, 0
    chunk = b""
    while left > 0:
        number += 1
        chunk += _STAMP.sub(b"[%5d.000000]" % (number % 99999), logs[number % len(logs)])
        if len(chunk) > BLOCK:
            left -= len(chunk)
            yield chunk
            chunk = b""


def triage_flood(size: int) -> None:
    """Print how many reports a flood has, and the most memory this process had, in KiB."""
    triage = LogTriage()
    triage.add_log("flood", _chunks(size))
    status = Path("/proc/self/status").read_text()
    peak = re.search(r"VmHWM:\s+(\d+)", status)
    assert peak
    assert triage.size >= size
    print(sum(each.count for each in triage.findings()), peak[1])


def test_memory_does_not_grow_with_a_flood() -> None:
    peaks = []
    for size in (1_000_000, 100_000_000):
        words = f"from tests.unit.test_splat_flood import triage_flood; triage_flood({size})"
        done = subprocess.run(
            [sys.executable, "-c", words],
            cwd=project_root(),
            capture_output=True,
            text=True,
            timeout=300,
            check=True,
        )
        count, peak = map(int, done.stdout.split())
        assert count > size / 10_000
        peaks.append(peak)
    # KiB: what was looked at stays in no list.
    assert peaks[1] - peaks[0] < 24 * 1024, peaks


def test_a_long_line_is_looked_at_once() -> None:
    # Every needle again and again, and nothing that ends a word.
    line = b"[#BUGWARNING:INFO:" + b"a.b-c" * 60
    start = time.process_time()
    assert reports(line * 3000 + b"\n" + b"x" * 1_000_000 + b"BUG\n") == []
    assert time.process_time() - start < 2
