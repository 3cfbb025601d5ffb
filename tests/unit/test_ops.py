# SPDX-License-Identifier: Apache-2.0
"""The records of operations: complete, and what vm/channel.h and the executor say."""

from __future__ import annotations

import re

import pytest

from fuzzer.paths import project_root
from fuzzer.program import ops
from fuzzer.program.ops import OP_NAMES, OPERATIONS, File, Number, Op, Payload, ops_with, uses_arg

VM = project_root() / "vm"
HEADER = (VM / "channel.h").read_text()


def _comments() -> dict[str, str]:
    """Return what ``enum w_op`` says of each operation, by its name there."""
    body = re.search(r"enum w_op \{(.*?)\tW_N_OPS", HEADER, re.DOTALL)
    assert body
    entries = re.findall(r"\tW_(\w+),(?:\s*/\*(.*?)\*/)?", body[1], re.DOTALL)
    return dict(entries)


def test_each_operation_of_the_channel_header_has_a_record() -> None:
    assert list(_comments()) == [op.name for op in Op]
    assert list(OPERATIONS) == list(Op)
    assert {op.name.lower(): op for op in Op} == OP_NAMES


@pytest.mark.parametrize("op", Op, ids=lambda op: op.name)
def test_a_record_has_the_numbers_and_the_payload_of_the_channel_header(op: Op) -> None:
    operation, words = OPERATIONS[op], re.findall(r"\w+", _comments()[op.name])
    assert ("cmd" in words) is (operation.cmd is not Number.NONE)
    assert ("arg" in words) is (operation.arg is not Number.NONE)
    assert ("payload" in words) is (operation.payload is not Payload.NONE)
    assert ("mode" in words) is (operation.mode is not Number.NONE)
    assert (words[:1] == ["file"]) is (operation.file is File.OPENED)


@pytest.mark.parametrize("flag", ["VALUE", "VECTOR", "COMPAT", "WIDE", "COUNT"])
def test_a_flag_is_of_the_operations_that_the_channel_header_lists(flag: str) -> None:
    listed = re.search(rf"#define W_{flag}\t+0x\w+\t/\* ([\w, ]+):", HEADER)
    assert listed
    value: int = getattr(ops, f"FLAG_{flag}")
    assert ops_with(lambda each: bool(each.flags & value)) == {
        OP_NAMES[name] for name in listed[1].split(", ")
    }


@pytest.mark.parametrize("op", Op, ids=lambda op: op.name)
def test_the_executor_makes_each_operation(op: Op) -> None:
    assert f"\tcase W_{op.name}:\n" in (VM / "executor" / "call.c").read_text()


def test_a_system_call_is_of_one_operation() -> None:
    numbers = [number for op in Op for number in OPERATIONS[op].syscalls]
    assert len(numbers) == len(set(numbers))


def test_an_operation_on_an_open_file_reaches_the_driver() -> None:
    on_files = ops_with(lambda each: each.file is File.USED)
    assert on_files < ops_with(lambda each: each.reaches_driver)


@pytest.mark.parametrize(
    ("op", "flags", "used"),
    [
        (Op.READ, 0, True),
        (Op.SLEEP, 0, True),
        (Op.IOCTL, 0, False),
        (Op.IOCTL, ops.FLAG_VALUE, True),
        (Op.WRITE, ops.FLAG_COUNT, True),
        (Op.PWRITE, ops.FLAG_WIDE, True),
        (Op.WRITE, ops.FLAG_WIDE, False),
        (Op.DUP, 0xFF, False),
    ],
)
def test_arg_is_looked_at_by_some_calls(op: Op, flags: int, used: bool) -> None:
    assert uses_arg(op, flags) is used
