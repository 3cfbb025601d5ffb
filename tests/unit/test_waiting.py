# SPDX-License-Identifier: Apache-2.0
"""Marks on the calls of a program that waited."""

from __future__ import annotations

from dataclasses import replace

from fuzzer.program.ops import FLAG_VECTOR, FLAG_WAITS, Op
from fuzzer.program.program import Call
from fuzzer.program.shrink.simpler import normalized, without_conditions
from fuzzer.program.waiting import note_waits
from fuzzer.program.wire import decode, encode

READ = Call(Op.READ, arg=4)
WAITS = replace(READ, flags=FLAG_WAITS)


def test_calls_that_waited_are_noted_and_no_others() -> None:
    program = encode((READ, WAITS, READ))
    assert decode(note_waits(program, (0, 2))) == (WAITS, READ, WAITS)


def test_a_program_of_which_all_is_known_stays_as_it_is() -> None:
    program = encode((READ, WAITS)) + b"tail"
    assert note_waits(program, (1,)) == program


def test_to_wait_is_no_condition_of_a_call() -> None:
    split = replace(WAITS, flags=FLAG_WAITS | FLAG_VECTOR, cmd=2)
    assert without_conditions(split) == [WAITS]
    assert not without_conditions(WAITS)
    assert normalized(WAITS) == WAITS
