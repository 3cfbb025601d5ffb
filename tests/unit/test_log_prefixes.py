# SPDX-License-Identifier: Apache-2.0
"""Prefixes of the kernel's lines, and damage of logs on their way, which change nothing."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fuzzer.splat.analyse import all_splats
from fuzzer.splat.frames import parse_frame
from fuzzer.splat.line import parse_line, split_glued
from fuzzer.splat.machinery import is_machinery
from tests.golden.index import DIRECTORY
from tests.unit.splats import LOGS, read_lines

STORED = [*LOGS, *sorted(DIRECTORY.glob("*.log"))]
# Logs of several programs, of lines that a terminal wrapped, and of which the beginning is missing:
# where no report starts no prefix can be learned.
_SPECIAL = {"arm64-bug", "serial-console", "lost-start", "kasan-rest", "noise", "timer-left"}
WHOLE = [path for path in STORED if path.stem not in _SPECIAL]
# Their lines are told apart by caller ids, which their texts do not have.
_OF_CALLERS = {"interleaved", "interleaved-no-callers", "cut-then-whole", "title-then-report"}
PLAIN = [path for path in WHOLE if path.stem not in _OF_CALLERS]

PREFIXES = (
    # journalctl: short, short-full, short-iso, short-precise, short-unix, short-monotonic.
    "Mar 22 18:58:13 host kernel: ",
    "Sun 2026-03-22 18:58:13 UTC host kernel: ",
    "2026-03-22T18:58:13+0100 my-host.example.org kernel: ",
    "2026-03-22T18:58:13.123456+01:00 host kernel: ",
    "1711133893.000000 host kernel: ",
    "[  100.100001] host kernel: ",
    # In other languages.
    "Mär 27 01:25:06 host kernel: ",
    "27. März 01:25:06 host kernel: ",
    "févr. 27 01:25:06 host kernel: ",
    "мар 27 01:25:06 host kernel: ",
    "3月 27 01:25:06 host kernel: ",
    "So 2026-03-22 18:58:13 CET host kernel: ",
    # syslog, and what is left of it.
    "<4>1 2026-03-22T18:58:13.123456+01:00 host kernel - - - ",
    "Mar 22 18:58:13 host kern.alert kernel: ",
    "Sun Mar 22 18:58:13 2026 kern.alert kernel: ",
    "Mar 22 18:58:13 host ",
    "Mar 22 18:58:13 ",
    "host kernel: ",
    "kernel: ",
    " Mar 22 18:58:13 host kernel: ",
    # dmesg: -x, -T, -H, --raw, -d.
    "kern  :err   : ",
    "[Sun Mar 22 18:58:13 2026] ",
    "[Вс мар 22 18:58:13 2026] ",
    "[Mar22 18:58] ",
    "[  +0.000005] ",
    "<4>",
    "4,123,100100001,-;",
    # Vendors of telephones and boards.
    "[  100.100001] [pid:321,cpu1,tool]",
    "[  100.100001s][pid:321,cpu1,tool]",
    "[  100.100001] (0)[321:tool]",
    "[  100.100001]  [1:           tool:  321] ",
    "[  100.100001] c1    321 ",
    "[  100.100001@1] ",
    "03-22 18:58:13.123     0     0 E kernel  : ",
    # Terminals, consoles, continuous integration.
    "[2026-03-22 18:58:13] ",
    "[18:58:13.123] ",
    "2026-03-22 18:58:13,123 - INFO - ",
    "2026-03-22T18:58:13.1234567Z ",
    "2026-03-22T18:58:13Z stdout F ",
    "[console] ",
    "vm1| ",
    # grep, cat -n, mail, Markdown.
    "/var/log/kern.log:Mar 22 18:58:13 host kernel: ",
    "kern.log:123:",
    "123:",
    "   123\t",
    "> ",
    "> > ",
    "    ",
    "        ",
    "\t",
    "| ",
    "* ",
    "+ ",
    "// ",
)


def told(lines: Sequence[str]) -> list[tuple[object, ...]]:
    return [
        (each.title, each.kind, each.function, each.task.name, each.kernel, each.taint, each.locks)
        for each in all_splats(lines)
    ]


def texts_of(path: Path) -> list[str]:
    """Return what the kernel said in a log, without anything before it."""
    lines = [parse_line(line) for line in read_lines(path)]
    return [line.text for line in lines if not line.foreign]


@pytest.mark.parametrize("prefix", PREFIXES, ids=repr)
def test_a_prefix_changes_nothing(prefix: str) -> None:
    # Every fifth log, another fifth for each prefix.
    for path in PLAIN[PREFIXES.index(prefix) % 5 :: 5]:
        texts = texts_of(path)
        assert told([prefix + text for text in texts]) == told(texts), path.stem


@settings(max_examples=60, deadline=None)
@given(
    # A vendor's stamp stands in place of the kernel's, not before it.
    st.sampled_from([each for each in PREFIXES if "[  100.100001" not in each]),
    st.sampled_from(WHOLE),
)
def test_a_prefix_before_stamps_changes_nothing(prefix: str, path: Path) -> None:
    lines = read_lines(path)
    if not all(parse_line(line).stamped for line in lines):
        return
    assert told([prefix + line for line in lines]) == told(lines)


_WORDS = st.text("abcdefgh0123456789", min_size=1, max_size=8)
_FIELD = st.one_of(
    _WORDS.map(lambda word: f"[{word}] "),
    _WORDS.map(lambda word: f"({word}) "),
    _WORDS.map(lambda word: f"{word}: "),
    _WORDS.map(lambda word: f"{word}| "),
    st.just("> "),
    st.just("  "),
)


@settings(max_examples=80, deadline=None)
@given(st.lists(_FIELD, min_size=1, max_size=2).map("".join), st.sampled_from(PLAIN))
def test_any_prefix_of_fields_changes_nothing(prefix: str, path: Path) -> None:
    texts = texts_of(path)
    assert told([prefix + text for text in texts]) == told(texts)


def test_numbers_in_a_prefix_may_differ_from_line_to_line() -> None:
    texts = texts_of(next(path for path in PLAIN if path.stem == "null"))
    lines = [f"{number}: #{number * 7} {text}" for number, text in enumerate(texts, 95)]
    assert told(lines) == told(texts)


def test_blanks_at_the_end_of_a_prefix_may_be_gone() -> None:
    texts = texts_of(next(path for path in PLAIN if path.stem == "uaf-user"))
    assert told([f"> {text}".rstrip() for text in texts]) == told(texts)


def test_lines_of_other_programs_are_no_part_of_a_report() -> None:
    texts = texts_of(next(path for path in PLAIN if path.stem == "warn"))
    lines: list[str] = []
    for text in texts:
        lines += [f"Mär 22 18:58:13 host kernel: {text}", "Mär 22 18:58:13 host app[12]: BUG: no"]
    assert told(lines) == told(texts)


def test_lines_that_lost_their_ends_come_apart() -> None:
    lines = ["[    1.000001] Call Trace:   [    1.000002]  <TASK>", "[    1.000003] a [drv] b"]
    assert split_glued(lines[0]) == ["[    1.000001] Call Trace:", "[    1.000002]  <TASK>"]
    assert split_glued(lines[1]) == [lines[1]]
    path = next(path for path in PLAIN if path.stem == "null")
    whole = read_lines(path)
    assert told(["    ".join(whole)]) == told(whole)


_FRAME = re.compile(
    r"([A-Za-z_][\w.$]*)\+0x[0-9a-f]+/0x[0-9a-f]+(?: \[(\w+)(?: [0-9a-f]+)?\])?(?= \(P\)|$|\s|\))"
)
_SOURCES = (
    "drivers/char/x.c:12",
    "./include/linux/slab.h:700 drivers/char/x.c:12 (discriminator 2)",
    "/src/drv/x.c:438 (discriminator 1) /src/drv/x.c:495 (discriminator 1)",
    "??:?",
)


def decoded(line: str, number: int, *, keeps_blanks: bool) -> str:
    """Return a line as scripts/decode_stacktrace.sh writes it; older ones lose blanks."""

    def source(frame: re.Match[str]) -> str:
        if frame[2]:
            return f"{frame[1]} ({_SOURCES[number % len(_SOURCES)]}) {frame[2]}"
        # The kernel's core says itself where it is.
        known = parse_frame(f"{frame[1]}+0x1/0x2")
        is_core = known is not None and is_machinery(known)
        return f"{frame[1]} ({'lib/x.c:12' if is_core else _SOURCES[number % len(_SOURCES)]})"

    text = _FRAME.sub(source, line)
    if text == line or keeps_blanks:
        return text
    stamp = re.match(r"(\[ *\d+\.\d+\](?:\[ *[TC]\d+\])? )?", text)
    assert stamp
    return stamp[0] + " ".join(text[stamp.end() :].split()) + " "


@pytest.mark.parametrize("keeps_blanks", [True, False])
def test_decoding_a_log_changes_no_title(keeps_blanks: bool) -> None:
    for path in STORED:
        # Frames that have addresses before them, or their callers after them, are left so.
        # Where two CPUs are mixed, lines of one are taken for the rest of the other's.
        # Of dynamic-debug every frame is of the core.
        skipped = {
            "atomic-schedule",
            "dynamic-debug",
            "interleaved-no-callers",
            "kmemleak",
            "other-arm32-warn",
        }
        if path.stem in skipped:
            continue
        lines = read_lines(path)
        after = [
            decoded(each, number, keeps_blanks=keeps_blanks) for number, each in enumerate(lines)
        ]
        assert [(each.title, each.function) for each in all_splats(after)] == [
            (each.title, each.function) for each in all_splats(lines)
        ], path.stem
