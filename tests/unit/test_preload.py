# SPDX-License-Identifier: Apache-2.0
"""The calls of programs that can preload a machine."""

from __future__ import annotations

from fuzzer.program.ops import Op
from fuzzer.program.preload import preload_of, shared_preload
from fuzzer.program.program import MAX_PRELOAD, Call, Program
from fuzzer.program.wire import encode

CLOSE, UNLOAD, OPEN = Call(Op.CLOSE), Call(Op.UNLOAD), Call(Op.OPEN, cmd=2)
LOAD = Call(Op.LOAD, data=b"x=1")
READ = Call(Op.READ, arg=1)
PRELOAD: Program = (CLOSE, UNLOAD, LOAD, OPEN)


def test_it_is_the_calls_that_load_the_module_at_the_start() -> None:
    assert preload_of(encode((*PRELOAD, READ))) == encode(PRELOAD)
    assert preload_of(encode((UNLOAD, LOAD, OPEN, OPEN))) == encode((UNLOAD, LOAD, OPEN))


def test_programs_that_load_later_or_in_part_have_none() -> None:
    for program in ((READ, *PRELOAD), (CLOSE, LOAD, OPEN), (CLOSE, UNLOAD, LOAD), (READ,), ()):
        assert preload_of(encode(program)) == b""


def test_one_that_is_too_long_is_none() -> None:
    load = Call(Op.LOAD, data=bytes(MAX_PRELOAD))
    assert preload_of(encode((CLOSE, UNLOAD, load, OPEN))) == b""


def test_it_is_shared_if_all_begin_with_it() -> None:
    first = encode((*PRELOAD, READ))
    assert shared_preload([first, encode(PRELOAD)]) == encode(PRELOAD)
    other = (CLOSE, UNLOAD, Call(Op.LOAD, data=b"x=2"), OPEN, READ)
    assert shared_preload([first, encode(other)]) == b""
    assert shared_preload([]) == b""
