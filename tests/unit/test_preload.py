# SPDX-License-Identifier: Apache-2.0
"""Which calls a machine can be settled by."""

from __future__ import annotations

from fuzzer.program.ops import Op
from fuzzer.program.preload import settlement_of, shared_settlement
from fuzzer.program.program import MAX_SETTLEMENT, Call, Program
from fuzzer.program.wire import encode

CLOSE, UNLOAD, OPEN = Call(Op.CLOSE), Call(Op.UNLOAD), Call(Op.OPEN, cmd=2)
LOAD = Call(Op.LOAD, data=b"x=1")
READ = Call(Op.READ, arg=1)
SETTLING: Program = (CLOSE, UNLOAD, LOAD, OPEN)


def test_it_is_the_calls_that_load_the_module_at_the_start() -> None:
    assert settlement_of(encode((*SETTLING, READ))) == encode(SETTLING)
    assert settlement_of(encode((UNLOAD, LOAD, OPEN, OPEN))) == encode((UNLOAD, LOAD, OPEN))


def test_programs_that_load_later_or_in_part_have_none() -> None:
    for program in ((READ, *SETTLING), (CLOSE, LOAD, OPEN), (CLOSE, UNLOAD, LOAD), (READ,), ()):
        assert settlement_of(encode(program)) == b""


def test_one_that_is_too_long_is_none() -> None:
    load = Call(Op.LOAD, data=bytes(MAX_SETTLEMENT))
    assert settlement_of(encode((CLOSE, UNLOAD, load, OPEN))) == b""


def test_it_is_shared_if_all_begin_with_it() -> None:
    first = encode((*SETTLING, READ))
    assert shared_settlement([first, encode(SETTLING)]) == encode(SETTLING)
    other = (CLOSE, UNLOAD, Call(Op.LOAD, data=b"x=2"), OPEN, READ)
    assert shared_settlement([first, encode(other)]) == b""
    assert shared_settlement([]) == b""
