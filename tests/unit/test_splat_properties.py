# SPDX-License-Identifier: Apache-2.0
"""Properties of any log: nothing raises, nothing whole is lost, callers are kept apart."""

from __future__ import annotations

import random
import re
from itertools import pairwise
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from fuzzer.splat.analyse import all_splats, analyse
from fuzzer.splat.find import find_splat
from fuzzer.splat.line import parse_line
from fuzzer.splat.scan import Scanner, scan
from fuzzer.splat.splitter import MAX_LINES
from fuzzer.splat.triage import LogTriage
from tests.unit.splats import DATA, LOGS, read_lines

SOME = st.sampled_from(LOGS)
NOISE = DATA / "splats" / "noise.log"
# One report each, all lines with a caller id.
WHOLE = ("uaf-user", "double-free", "list", "pkv-lock-order-full", "refcount", "warn", "wild")
WHOLE_LOGS = st.sampled_from([DATA / "splats" / f"{name}.log" for name in WHOLE])

FRAGMENTS = st.sampled_from(
    [
        *[line for path in LOGS for line in read_lines(path)][::7],
        *["", "\x00", "=" * 66, "Call Trace:", " <TASK>", "---[ end trace 0 ]---", "\r", "[ 1.0] "],
    ]
)


def told(data: bytes) -> list[tuple[str, int]]:
    return sorted((report.rule.title, report.first.number) for report in scan([data]))


@settings(deadline=None)
@given(st.binary(max_size=2000))
def test_any_bytes_are_a_log(data: bytes) -> None:
    for report in scan([data]):
        analyse(report)
    find_splat(data.decode("latin-1").split("\n"))


@settings(deadline=None)
@given(st.lists(FRAGMENTS, max_size=60))
def test_any_mixture_of_lines_is_a_log(lines: list[str]) -> None:
    for record in all_splats(lines):
        assert record.title
        assert record.corrupted is None or record.function is None


@settings(deadline=None)
@given(SOME, st.data())
def test_chunks_may_end_anywhere(path: Path, data: st.DataObject) -> None:
    log = b"".join(each.read_bytes() for each in (path, NOISE, path))
    cuts = data.draw(st.lists(st.integers(0, len(log)), max_size=5))
    scanner = Scanner()
    reports = []
    edges = [0, *sorted(cuts), len(log)]
    for start, end in pairwise(edges):
        reports += scanner.feed(log[start:end])
    reports += scanner.finish()
    assert sorted((r.rule.title, r.first.number) for r in reports) == told(log)
    assert scanner.lines == log.count(b"\n") + (not log.endswith(b"\n"))


@settings(deadline=None)
@given(WHOLE_LOGS, SOME, st.floats(0, 1))
def test_a_cut_never_loses_an_earlier_report(first: Path, second: Path, share: float) -> None:
    whole = first.read_bytes()
    (expected,) = [analyse(report).title for report in scan([whole])]
    rest = second.read_bytes()
    titles = [analyse(r).title for r in scan([whole + rest[: int(share * len(rest))]])]
    assert expected in titles


@settings(deadline=None)
@given(WHOLE_LOGS, st.floats(0, 1))
def test_a_cut_report_names_no_wrong_function(path: Path, share: float) -> None:
    whole = path.read_bytes()
    (expected,) = [analyse(report).function for report in scan([whole])]
    for report in scan([whole[: int(share * len(whole))]]):
        assert analyse(report).function in {None, expected}


def test_a_line_that_is_cut_in_its_prefix_ends_no_stack() -> None:
    whole = (DATA / "splats" / "double-free.log").read_bytes()
    start = whole.index(b"Call Trace:")
    functions = {
        analyse(report).function
        for size in range(start, whole.index(b"</TASK>"))
        for report in scan([whole[:size]])
    }
    # The first line names it.
    assert functions == {"td_double_free"}


@settings(max_examples=60, deadline=None)
@given(WHOLE_LOGS, WHOLE_LOGS, st.integers(0, 2**32))
def test_interleaved_reports_of_two_callers_come_back(first: Path, second: Path, seed: int) -> None:
    one = read_lines(first)
    two = [
        re.sub(r"^(\[ *\d+\.\d+\])\[ *T\d+\]", r"\1[ T4711]", line) for line in read_lines(second)
    ]
    alone = sorted(record.title for lines in (one, two) for record in all_splats(lines))
    left, right, mixed, source = list(one), list(two), [], random.Random(seed)
    while left or right:
        side = left if left and (not right or source.random() < 0.5) else right
        mixed.append(side.pop(0))
    records = all_splats(mixed)
    assert sorted(record.title for record in records) == alone
    for record in records:
        callers = {parse_line(line).caller for line in record.text.splitlines()}
        assert len(callers) == 1


def test_a_flood_is_taken_in_bounded_memory() -> None:
    report = (DATA / "splats" / "warn.log").read_bytes()
    triage = LogTriage()
    endless = (b"\x00\xff" * 100_000 for _ in range(20))
    triage.add_log("endless line", endless)
    triage.add_log("flood", (report for _ in range(500)))
    (finding,) = triage.findings()
    assert finding.count == 500
    assert len(finding.places) < 100


def test_a_report_without_end_is_cut() -> None:
    lines = ["BUG: KASAN: slab-use-after-free in f+0x1/0x2", *[" noise"] * 10_000]
    (record,) = all_splats(lines)
    assert record.text.count("\n") <= MAX_LINES
