# SPDX-License-Identifier: Apache-2.0
"""The number of runs after which a program counts as having shown nothing."""

from __future__ import annotations

from fuzzer.crash.testbeds import Testbeds
from fuzzer.program.ops import Op
from fuzzer.program.program import Call
from fuzzer.program.wire import encode
from tests.fakes import FakeGuest


def test_short_programs_with_threads_are_run_more_often_than_long_ones() -> None:
    guest = FakeGuest(lambda ran: None)
    setups = Testbeds(guest, lambda hardware, arguments: guest, race_calls=1000)

    def tries(calls: int) -> int:
        program = encode(tuple(Call(Op.READ, thread=1 + i % 2) for i in range(calls)))
        return setups.place("kasan", (), program).tries

    assert tries(2) == 500
    assert tries(10) == 100
    assert 20 <= tries(40) <= 100
    assert setups.place("kasan", (), encode((Call(Op.READ),))).tries == 1


def test_programs_with_flips_run_on_several_vcpus() -> None:
    plain, racing = FakeGuest(lambda ran: None), FakeGuest(lambda ran: None)
    setups = Testbeds(plain, lambda hardware, arguments: racing, race_calls=1000)
    program = encode((Call(Op.FLIP, arg=1), Call(Op.WRITE, data=b"a")))
    place = setups.place("kasan", (), program)
    assert (place.guest, place.tries, place.exact) == (racing, 500, False)
    assert setups.place("kasan", (program,), encode((Call(Op.READ),))).guest is racing
