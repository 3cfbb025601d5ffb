# SPDX-License-Identifier: Apache-2.0
"""Simpler forms of calls: each is another call, and taking them comes to an end."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fuzzer.paths import project_root
from fuzzer.program.ops import Op
from fuzzer.program.program import Call, Program
from fuzzer.program.shrink.lines import uniform
from fuzzer.program.shrink.plainer import (
    plainer,
    plainer_text,
    shorter_members,
    smaller_members,
    uniform_lines,
)
from fuzzer.program.shrink.renaming import renamed
from fuzzer.program.shrink.simpler import normalized, smaller, smaller_numbers, without_conditions
from fuzzer.program.text import format_program, parse_program
from fuzzer.program.text_parser import struct_layouts
from fuzzer.program.wire import decode, encode
from fuzzer.target.target import load_target

TARGET = load_target(project_root() / "module" / "pkv.yaml")
LAYOUTS = struct_layouts(TARGET)

FORMS: list[Callable[[Call], Iterable[Call]]] = [
    without_conditions,
    smaller_numbers,
    lambda call: smaller_members(call, LAYOUTS),
    lambda call: shorter_members(call, LAYOUTS),
    lambda call: plainer_text(call, LAYOUTS),
    lambda call: uniform_lines(call, LAYOUTS),
]


def program(text: str) -> Program:
    return parse_program(text, TARGET, "test")


def shown(*programs: Program) -> list[str]:
    return [format_program(each, TARGET).rstrip("\n") for each in programs]


@pytest.mark.parametrize(
    ("form", "line", "expected"),
    [
        (0, 'write(f0, "a=1\\n") fail=2', 'write(f0, "a=1\\n")'),
        (0, "read(f0, 64) split=8 cut=2", "read(f0, 64) split=8"),
        (0, "ioctl(f0, PKV_IOC_CLEAR) compat", "ioctl(f0, PKV_IOC_CLEAR)"),
        (0, 'pwrite(f0, "a=1\\n", 8)', 'write(f0, "a=1\\n")'),
        (0, "pread(f0, 8, 3) cut=2", "read(f0, 8) cut=2"),
        (1, "pread(f0, 8, 4294967288)", "pread(f0, 8, 0)"),
        (1, "pread(f0, 8, 0x300000000)", "pread(f0, 0, 0x300000000)"),
        (1, "pread(f0, 8, 0x300000000)", "pread(f0, 8, 0x2ffffffff)"),
        (1, "pread(f0, 8, 0x300000000)", "pread(f0, 8, 0x180000000)"),
        (1, "pread(f0, 8, 0x300000000)", "pread(f0, 8, 1)"),
        (1, 'pwrite(f0, "a", -2)', 'pwrite(f0, "a", -1)'),
        (1, 'write(f0, "ab") count=2', 'write(f0, "ab") count=1'),
        (0, "pread(f0, 8, 0x300000000)", "read(f0, 8)"),
        (0, 'pwrite(f0, "ab", 0x300000000) count=1', 'write(f0, "ab") count=1'),
        (1, "lseek(f0, -5, SEEK_END)", "lseek(f0, -1, SEEK_END)"),
        (1, "open(f1, O_RDONLY|O_NONBLOCK)", "open(f1)"),
        (1, "read(f0, 0) fail=9", "read(f0, 0) fail=4"),
        (
            2,
            'ioctl(f0, PKV_IOC_DELETE, {key_len: 33, key: "a"})',
            "ioctl(f0, PKV_IOC_DELETE, {key_len: 33})",
        ),
        (
            3,
            'ioctl(f0, PKV_IOC_DELETE, {key_len: 5, key: "hello"})',
            'ioctl(f0, PKV_IOC_DELETE, {key_len: 1, key: "h"})',
        ),
        (
            4,
            'ioctl(f0, PKV_IOC_DELETE, {key_len: 5, key: "hello"})',
            'ioctl(f0, PKV_IOC_DELETE, {key_len: 5, key: "aaaaa"})',
        ),
        (2, 'write(f0, "12345678ab") @0->8', 'write(f0, "12345678ab")'),
        (
            2,
            'write(f0, "12345678ab") @0->8',
            'write(f0, "12345\\x00\\x00\\x00\\x00\\x00") @0->8',
        ),
        (4, 'write(f0, "key=22\\nb=1\\n")', 'write(f0, "key=22\\na=1\\n")'),
    ],
)
def test_forms_of_a_call(form: int, line: str, expected: str) -> None:
    (call,) = program(line)
    assert expected in shown(*((each,) for each in FORMS[form](call)))


def test_smaller_numbers_lead_to_the_least_in_a_few_steps() -> None:
    value, steps = 4_294_967_288, 0
    while lower := [each for each in smaller(value) if each >= 1_000_003]:
        value, steps = lower[0], steps + 1
    assert value == 1_000_003
    assert steps <= 64


def test_a_name_that_calls_share_is_shortened_in_all_of_them() -> None:
    made = renamed(
        program('write(f0, "hello=b\\n")\nioctl(f0, PKV_IOC_DELETE, {key_len: 5, key: "hello"})'),
        LAYOUTS,
    )
    assert 'write(f0, "a=b\\n")\nioctl(f0, PKV_IOC_DELETE, {key_len: 1, key: "a"})' in shown(*made)


def test_lines_that_are_alike_are_no_longer_than_before() -> None:
    letters = b"".join(b"%c=%d\n" % (letter, letter % 7) for letter in b"abcdefghijklmnopqrstu")
    assert uniform(letters) == [
        21 * b"a=\n",
        b"".join(b"%02d=\n" % number for number in range(21)),
        re.sub(rb"\d", b"", letters),
        re.sub(rb"^.", b"a", letters, flags=re.M),
    ]
    assert uniform(uniform(letters)[0]) == []
    assert uniform(b"a=1\nb=2\n") == []
    assert uniform(20 * b"key=1\n")[1].startswith(b"00=\n01=\n")


def test_plain_text_stays_as_it_is() -> None:
    assert plainer(b"a=1\naa=11\n") == []


@pytest.mark.parametrize("op", [Op.READ, Op.PREAD, Op.WRITE, Op.PWRITE])
def test_flags_that_an_operation_ignores_do_not_matter_to_its_count(op: Op) -> None:
    for flags in range(256):
        call = Call(op, flags=flags, cmd=1, arg=1 << 56 | 7, data=b"abc")
        assert call not in smaller_numbers(call)


@settings(deadline=None)
@given(st.binary(max_size=100), st.randoms(use_true_random=False))
def test_forms_are_other_calls_and_come_to_an_end(data: bytes, choice: random.Random) -> None:
    for call in decode(data):
        assert normalized(normalized(call)) == normalized(call)
        for forms in FORMS:
            current = call
            for _ in range(1000):
                found = list(forms(current))
                if not found:
                    break
                assert current not in found
                assert all(decode(encode((each,))) == (each,) for each in found)
                # Not only the smallest steps: a number may be counted down by one for long.
                current = found[choice.randrange((len(found) + 1) // 2)]
            assert not list(forms(current))
