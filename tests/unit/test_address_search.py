# SPDX-License-Identifier: Apache-2.0
"""The search for what addresses have to be of, with drivers that are a few lines of Python."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fuzzer.program.address_search import AddressSearch
from fuzzer.program.comparison import Comparison
from fuzzer.program.linking import Result
from fuzzer.program.links import addresses
from fuzzer.program.ops import FLAG_COMPAT, Op
from fuzzer.program.program import Call, Fixup
from fuzzer.program.wire import decode, encode, split

MOST_RUNS = 300


class OverflowedError(Exception):
    """The driver's bug was reached."""


class FailedError(Exception):
    """The call failed with an errno."""


@dataclass
class Guest:
    """An ioctl's memory as the driver sees it, and what it compares."""

    call: Call
    compared: list[Comparison] = field(default_factory=list)

    def number(self, at: int, size: int = 4) -> int:
        """Return a number that was copied from the user."""
        if not 0 <= at <= len(self.call.data) - size:
            raise FailedError(errno.EFAULT)
        return int.from_bytes(self.call.data[at : at + size], "little")

    def pointer(self, at: int) -> int:
        """Return what an address in memory is of; one that is none is far away."""
        return {each.at: each.to for each in addresses(self.call.fixups)}.get(at, 1 << 30)

    def exceeds(self, value: int, constant: int, size: int = 4) -> bool:
        """Compare a number with a constant of the driver."""
        if value != constant:
            self.compared.append(Comparison(constant, value, 0, size, constant=True))
        return value > constant


def transfer(guest: Guest) -> int:
    """Take {n, messages, x}, messages of {x, pad, buffer, length} with 8 bytes each."""
    n, messages, total = guest.number(0, 8), guest.pointer(8), 0
    if guest.exceeds(n, 8, 8):
        raise FailedError(errno.EINVAL)
    for at in range(messages, messages + 24 * n, 24):
        length = guest.number(at + 16, 8)
        if guest.exceeds(length, 64, 8) or guest.exceeds(guest.number(at + 4), 0):
            raise FailedError(errno.EMSGSIZE)
        if total + length > 256:
            raise OverflowedError
        if length:
            guest.number(guest.pointer(at + 8), length)
        total += length
    return total


def deep(guest: Guest) -> int:
    """Take {operation}, of which {type, ids, n_ids}, of these 16 bits each; 9 is one too far."""
    operation = guest.pointer(0)
    kind, n = guest.number(operation), guest.number(operation + 16)
    if guest.exceeds(kind, 7) or kind < 7:
        raise FailedError(errno.EINVAL)
    if guest.exceeds(n, 6) or not n:
        raise FailedError(errno.E2BIG)
    ids = guest.pointer(operation + 8)
    for number in range(n):
        one = guest.number(ids + 2 * number, 2)
        if guest.exceeds(one, 9, 2):
            raise FailedError(errno.ERANGE)
        if one == 9:
            raise OverflowedError
    return 0


def low(guest: Guest) -> int:
    """Take {n, segments} of a 32-bit program, segments of {base, length}."""
    n, segments, total = guest.number(0), guest.pointer(4), 0
    if guest.exceeds(n - 1 & 0xFFFFFFFF, 3):
        raise FailedError(errno.EINVAL)
    for at in range(segments, segments + 8 * n, 8):
        length = guest.number(at + 4)
        if guest.exceeds(length, 32):
            raise FailedError(errno.EINVAL)
        if total + length > 40:
            raise OverflowedError
        if length:
            guest.number(guest.pointer(at), length)
        total += length
    return total


Driver: TypeAlias = Callable[[Guest], int]


def run(driver: Driver, program: bytes) -> tuple[Result, list[Comparison]]:
    (call,) = decode(program)
    guest = Guest(call)
    try:
        result = Result(driver(guest), call.data)
    except FailedError as failed:
        result = Result(-1, call.data, error=failed.args[0])
    return result, guest.compared


def searched(driver: Driver, start: Call) -> tuple[bool, int, list[list[bytes]]]:
    """Return whether a run reached the bug, how many there were, and programs made of them."""
    search, waiting = AddressSearch(), [encode((start,))]
    made: list[list[bytes]] = []
    for runs in range(1, MOST_RUNS):
        program = waiting.pop(0) if waiting else search.take()
        if program is None:
            return False, runs, made
        try:
            result, compared = run(driver, program)
        except OverflowedError:
            return True, runs, made
        made += search.learn(split(program), [result], compared)
    raise AssertionError("the search does not end")


def reaches(driver: Driver, chunks: list[bytes]) -> bool:
    try:
        run(driver, b"".join(chunks))
    except OverflowedError:
        return True
    return False


@pytest.mark.parametrize(
    ("driver", "start"),
    [
        (transfer, Call(Op.IOCTL, cmd=0x40187801, data=b"\1" + bytes(23))),
        (deep, Call(Op.IOCTL, cmd=0x40087802, data=bytes(8))),
        (low, Call(Op.IOCTL, flags=FLAG_COMPAT, cmd=0x40087803, data=b"\1" + bytes(7))),
    ],
)
def test_what_addresses_have_to_be_of_is_found_by_a_few_runs(driver: Driver, start: Call) -> None:
    found, runs, made = searched(driver, start)
    assert found or any(reaches(driver, chunks) for chunks in made)
    assert runs < 150
    # And nothing of it is by chance.
    assert searched(driver, start) == (found, runs, made)


def test_calls_that_need_no_address_are_left_alone() -> None:
    search = AddressSearch()
    chunks = split(encode((Call(Op.IOCTL, cmd=7, data=bytes(16)), Call(Op.READ, arg=4))))
    results = [Result(-1, bytes(16), error=errno.EINVAL), Result(0, b"")]
    assert search.learn(chunks, results, []) == []
    assert search.take() is None


def test_a_call_that_another_program_had_is_searched_once() -> None:
    search = AddressSearch()
    wrong, other = Call(Op.IOCTL, cmd=7, data=bytes(8)), Call(Op.READ, arg=4)
    failed, read = Result(-1, bytes(8), error=errno.EFAULT), Result(0, b"")
    search.learn(split(encode((wrong,))), [failed], [])
    first = search.take()
    assert first is not None
    assert search.take() is None
    search.learn(split(encode((other, wrong))), [read, failed], [])
    assert search.take() is None
    # A copy that is made to fail says nothing.
    faulty = Call(Op.IOCTL, cmd=8, data=bytes(8), fault=1)
    search.learn(split(encode((faulty,))), [failed], [])
    assert search.take() is None


def test_what_comes_before_a_call_is_run_with_it_and_what_comes_behind_is_not() -> None:
    search = AddressSearch()
    wrong, other = Call(Op.IOCTL, cmd=7, data=bytes(8)), Call(Op.READ, arg=4)
    results = [Result(0, b""), Result(-1, bytes(8), error=errno.EFAULT), Result(0, b"")]
    search.learn(split(encode((other, wrong, other))), results, [])
    program = search.take()
    assert program is not None
    before, tried = decode(program)
    assert before == other
    assert [(each.at, each.to) for each in addresses(tried.fixups)] == [(0, 8)]


@given(st.data())
@settings(deadline=None, max_examples=150)
def test_any_argument_and_any_outcome_can_be_learned_from(draw: st.DataObject) -> None:
    """Mutants point anywhere; a driver answers anything."""
    places = st.integers(0, 80).map(lambda place: place * 4)
    fixups = st.lists(st.builds(Fixup, places, places), max_size=6)
    commands = st.sampled_from([7, 9])
    flags = st.sampled_from([0, FLAG_COMPAT])
    calls = st.builds(
        lambda cmd, flags, data, fixups: Call(
            Op.IOCTL, flags=flags, cmd=cmd, data=data, fixups=tuple(fixups)
        ),
        commands,
        flags,
        st.binary(max_size=200),
        fixups,
    )
    results = st.sampled_from(
        [Result(0, b""), Result(-1, b"", error=errno.EFAULT), Result(-1, b"", error=errno.EINVAL)]
    )
    compared = st.lists(
        st.builds(
            lambda a, b, size: Comparison(a, b, 0, size, constant=True),
            st.integers(0, 300),
            st.integers(0, 1 << 32),
            st.sampled_from([1, 2, 4, 8]),
        ),
        max_size=4,
    )
    search = AddressSearch()
    program: bytes | None = encode((draw.draw(calls),))
    for _ in range(12):
        if program is None:
            break
        for made in search.learn(split(program), [draw.draw(results)], draw.draw(compared)):
            decode(b"".join(made))
        program = search.take()
