# SPDX-License-Identifier: Apache-2.0
"""The records of what programs reached first, and of what the driver compared."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from fuzzer.engine.compared import ComparedFile, compared_file, read_compared
from fuzzer.engine.reached import ReachedFile, reached_file, read_reached
from fuzzer.machine.channel import Comparisons
from fuzzer.program.comparison import Comparison
from fuzzer.program.conditions import with_fault
from fuzzer.program.ops import Op
from fuzzer.program.program import Call
from fuzzer.program.wire import encode, split
from fuzzer.target.target import Target

KEY = "0123456789abcdef"
WRITE = encode((Call(Op.WRITE, data=b"a=1\n"),))
READ = encode((Call(Op.READ, arg=64),))
FAILING = with_fault(split(WRITE)[0], 1)


def name_of(program: bytes) -> str:
    return hashlib.sha1(program, usedforsecurity=False).hexdigest()


def test_only_the_first_program_of_a_block_is_noted(tmp_path: Path, pkv_target: Target) -> None:
    record = ReachedFile(reached_file(tmp_path, "worker-0"), KEY, pkv_target)
    record.note(WRITE, bytes([1, 0, 3, 0]))
    record.note(READ, bytes([1, 0, 1, 0]))
    record.note(READ, bytes([0, 2, 1, 0]))
    first, second = read_reached(tmp_path, KEY)
    assert (first.program, first.blocks, first.fault) == (name_of(WRITE), (0, 2), False)
    assert first.text == 'write(f0, "a=1\\n")\n'
    assert (second.program, second.blocks) == (name_of(READ), (1,))


def test_a_block_that_took_a_fault_is_noted_again_without_one(
    tmp_path: Path, pkv_target: Target
) -> None:
    record = ReachedFile(reached_file(tmp_path, "worker-0"), KEY, pkv_target)
    record.note(FAILING, bytes([1, 1]))
    record.note(FAILING, bytes([1, 1]))
    record.note(WRITE, bytes([1, 0]))
    found = read_reached(tmp_path, KEY)
    assert [(each.fault, each.blocks) for each in found] == [(True, (0, 1)), (False, (0,))]


def test_a_later_worker_goes_on_and_another_build_begins_anew(
    tmp_path: Path, pkv_target: Target
) -> None:
    path = reached_file(tmp_path, "worker-0")
    ReachedFile(path, KEY, pkv_target).note(WRITE, bytes([1]))
    ReachedFile(path, KEY, pkv_target).note(READ, bytes([1, 1]))
    assert [each.blocks for each in read_reached(tmp_path, KEY)] == [(0,), (1,)]
    ReachedFile(path, "other", pkv_target).note(READ, bytes([1]))
    assert read_reached(tmp_path, KEY) == []
    assert [each.program for each in read_reached(tmp_path, "other")] == [name_of(READ)]


@pytest.mark.parametrize("damage", ["{", '{"at": 1}', "\0\0", "[]"])
def test_damaged_lines_are_left_out(tmp_path: Path, pkv_target: Target, damage: str) -> None:
    path = reached_file(tmp_path, "worker-0")
    ReachedFile(path, KEY, pkv_target).note(WRITE, bytes([1]))
    with path.open("a") as file:
        file.write(f"{damage}\n")
    assert [each.blocks for each in read_reached(tmp_path, KEY)] == [(0,)]
    path.write_text(damage)
    assert read_reached(tmp_path, KEY) == []


def compared(*operands: int, constant: int = 100, site: int = 64) -> Comparisons:
    made = [Comparison(constant, each, 0, 4, True, site) for each in operands]
    return Comparisons(
        able=True,
        found=tuple(each for each in made if each.a != each.b),
        dropped=0,
        equal=tuple(each for each in made if each.a == each.b),
    )


def test_the_nearest_operands_of_all_workers_are_kept(tmp_path: Path) -> None:
    for name, operands in (("worker-0", (7, 90)), ("worker-1", (200, 91, 150))):
        record = ComparedFile(compared_file(tmp_path, name), KEY)
        record.note(compared(*operands))
        record.write([0x1234], now=True)
    found = read_compared(tmp_path, KEY)
    (one,) = found.constants
    assert (one.site, one.constant, one.size, one.times) == (64, 100, 4, 5)
    assert (one.below, one.above, one.equal) == (91, 150, False)
    assert found.ioctls == {0x1234}
    assert read_compared(tmp_path, "other").constants == ()


def test_an_equal_operand_is_remembered_by_a_later_worker(tmp_path: Path) -> None:
    path = compared_file(tmp_path, "worker-0")
    first = ComparedFile(path, KEY)
    first.note(compared(100))
    first.write([], now=True)
    second = ComparedFile(path, KEY)
    second.note(compared(3))
    second.write([1], now=True)
    (one,) = read_compared(tmp_path, KEY).constants
    assert one.equal
    assert one.times == 2


def test_variables_are_no_constants_and_a_write_is_not_made_each_time(tmp_path: Path) -> None:
    record = ComparedFile(compared_file(tmp_path, "worker-0"), KEY)
    record.write([5])
    record.note(Comparisons(able=True, found=(Comparison(1, 2, 0, 4, False, 9),), dropped=0))
    record.note(compared(1))
    record.write([5, 6])
    assert read_compared(tmp_path, KEY).ioctls == {5}
    record.write([5, 6], now=True)
    found = read_compared(tmp_path, KEY)
    assert [each.site for each in found.constants] == [64]
    assert found.ioctls == {5, 6}


def test_a_damaged_file_counts_for_nothing(tmp_path: Path) -> None:
    for number, text in enumerate(("{", "[]", f'{{"driver": "{KEY}", "constants": [[1]]}}')):
        compared_file(tmp_path, f"worker-{number}").write_text(text)
    assert read_compared(tmp_path, KEY).constants == ()
