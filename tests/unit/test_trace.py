# SPDX-License-Identifier: Apache-2.0
"""Traces: the executor's marks in the log, and results as text."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from fuzzer.crash.trace import Mark, Trace, TracedCall, keep_trace, kept_trace, take_marks
from fuzzer.machine.channel import CallResult
from fuzzer.program.text import parse_program
from fuzzer.report.trace import format_trace
from fuzzer.splat.find import bare_splat
from fuzzer.target.target import load_target

TARGET = load_target(Path(__file__).parent / "data" / "demo" / "demo.yaml")
UAF = bare_splat("KASAN: slab-use-after-free Read in demo_read", "kasan", "demo_read")


def test_marks_are_taken_out_of_a_log_and_keep_their_places() -> None:
    log = (
        b"15,7,100,-,caller=T28;pkvfuzz: call 0\n"
        b"4,8,101,-,caller=T28;demo: hello\n"
        b"15,9,102,-,caller=T31;pkvfuzz: call 12\n"
        b"15,10,103,-;pkvfuzz: call close\n"
        b"4,11,104,-,caller=T28;pkvfuzz: call 3\n"
    )
    rest, marks = take_marks(log)
    assert rest == (b"4,8,101,-,caller=T28;demo: hello\n4,11,104,-,caller=T28;pkvfuzz: call 3\n")
    assert marks == (Mark("0", "T28", 0), Mark("12", "T31", 1), Mark("close", None, 1))


def show(line: str, result: CallResult | None) -> str:
    program = parse_program(line, TARGET, "test")
    return format_trace(Trace(program, None, (TracedCall(0, result),)), TARGET).rstrip("\n")


LIST = (0).to_bytes(8, "little")


@pytest.mark.parametrize(
    ("line", "result", "shown"),
    [
        ('write(f0, "a")', CallResult(1, 0, b"", 0), "1"),
        ('write(f0, "a")', CallResult(-1, errno.ENOSPC, b"", 0),
         "-1 ENOSPC (No space left on device)"),
        ('write(f0, "a") fail=1', CallResult(-1, errno.ENOMEM, b"", 0, True),
         "-1 ENOMEM (Cannot allocate memory) (fault injected)"),
        ("read(f0, 8)", CallResult(-1, 512, b"", 0), "-1 errno 512"),
        ("read(f0, 8)", CallResult(3, 0, b"a\n\0", 0), '3 "a\\n\\x00"'),
        ("read(f0, 64)", CallResult(40, 0, b"x" * 40, 0), f'40 "{"x" * 32}"...'),
        ("read(f0, 0)", CallResult(0, 0, b"", 0), "0"),
        ("poll(f0, 0x5)", CallResult(4, 0, b"", 0), "0x4"),
        ("read(f0, 8)", None, "? (did not return)"),
        ("ioctl(f0, DEMO_IOC_CLEAR)", CallResult(0, 0, b"", 0), "0"),
        ('ioctl(f0, 0x1, "abc")', CallResult(0, 0, b"abc", 0), "0"),
        ('ioctl(f0, 0x1, "abc")', CallResult(0, 0, b"axc", 0), '0 "axc"'),
        ("ioctl(f0, DEMO_IOC_LIST, {buf: &[4], delta: -2})",
         CallResult(0, 0, b"\1\2\3\4\5\6\7\x08" + bytes(8) + b"\xfd\xff\xff\xff" + bytes(4)
                    + b"wxyz", 0),
         '0 {buf: &"wxyz", delta: -3}'),
    ],
)  # fmt: skip
def test_a_result_is_shown_as_strace_shows_it(
    line: str, result: CallResult | None, shown: str
) -> None:
    assert show(line, result) == f"{line} = {shown}"


def test_the_trace_ends_with_the_report() -> None:
    program = parse_program("read(f0, 1)\nread(f0, 2)\nread(f0, 3)\n", TARGET, "test")
    zero = CallResult(0, 0, b"", 0)
    calls = (TracedCall(0, zero), TracedCall(1, zero))
    trace = Trace(program, UAF, calls, later=1, at=1, before=12, runs=2)
    assert format_trace(trace, TARGET) == (
        "(12 programs before it)\n"
        "(1 run of it on this machine before)\n"
        "read(f0, 1) = 0\n"
        "read(f0, 2) = 0  <-- here\n"
        "KASAN: slab-use-after-free Read in demo_read\n"
        "(1 more call after that)\n"
    )


@pytest.mark.parametrize(
    ("during", "said"), [("reset", "in the reset"), ("close", "when the files were closed")]
)
def test_what_comes_after_the_calls_is_told(during: str, said: str) -> None:
    program = parse_program("read(f0, 1)\n", TARGET, "test")
    calls = (TracedCall(0, CallResult(0, 0, b"", 0)),)
    trace = Trace(program, UAF, calls, during=during)
    assert said in format_trace(trace, TARGET).splitlines()[1]


def test_a_trace_is_kept_beside_a_campaigns_crash_alone(tmp_path: Path) -> None:
    crash = tmp_path / "crashes" / "one"
    crash.mkdir(parents=True)
    (crash / "crash.json").write_text("{}")
    keep_trace(crash, "read(f0) = 3\n")
    assert kept_trace(crash) == ""
    (tmp_path / "campaign.json").write_text("{}")
    keep_trace(crash, "read(f0) = 3\n")
    assert kept_trace(crash) == "read(f0) = 3\n"
