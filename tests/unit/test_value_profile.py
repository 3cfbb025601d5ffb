# SPDX-License-Identifier: Apache-2.0
"""Programs that bring a comparison nearer are built upon, and others are not."""

from __future__ import annotations

import random
from collections.abc import Iterator

from fuzzer.engine.value_profile import ValueProfile
from fuzzer.machine.channel import Comparisons
from fuzzer.program.comparison import Comparison
from fuzzer.program.ops import Op
from fuzzer.program.program import Call
from fuzzer.program.wire import decode, encode

STEP, TOP, ASKED, REACHED = 0x4004BA01, 24, 1, 2
MAX_CALLS, MAX_SIZE = 40, 4096


def step(rung: int) -> Call:
    return Call(Op.IOCTL, cmd=STEP, data=rung.to_bytes(4, "little"))


def climb(program: bytes) -> Comparisons:
    """Return what a driver compares that wants another number for each step."""
    height = 0
    found: list[Comparison] = []
    equal: list[Comparison] = []
    for number, call in enumerate(decode(program)):
        wanted, given = height * height + 7, int.from_bytes(call.data[:4], "little")
        if wanted == given:
            height += 1
        else:
            found.append(Comparison(wanted, given, number, 4, constant=False, site=ASKED))
        top = Comparison(TOP, height, number, 4, constant=True, site=REACHED)
        (equal if height == TOP else found).append(top)
    return Comparisons(True, tuple(found), 0, tuple(equal))


def made_profile() -> ValueProfile:
    profile = ValueProfile(random.Random(1), lambda program: program, MAX_CALLS, MAX_SIZE)
    profile.allow(10_000)
    return profile


def runs(profile: ValueProfile, most: int) -> Iterator[tuple[bytes, list[bytes]]]:
    """Run what a profile asks for; yield each program, and those that are worth a usual run."""
    for _ in range(most):
        if (program := profile.take()) is None:
            return
        assert len(decode(program)) <= MAX_CALLS
        assert len(program) <= MAX_SIZE
        assert profile.has_asked_for(program)
        profile.allow(1000)
        yield program, profile.learn(program, climb(program))


def test_a_driver_is_climbed_that_wants_another_number_for_each_step() -> None:
    profile = made_profile()
    start = encode((step(7),))
    assert profile.learn(start, climb(start)) == []
    assert profile.is_due
    worth = [made for _, mades in runs(profile, 2000) for made in mades]
    assert any(climb(program).equal for program in worth)
    # What comes nearer is run as usual too, each once.
    assert TOP <= len(set(worth)) == len(worth)
    assert not profile.is_due


def test_nothing_is_tried_for_long_where_nothing_comes_nearer() -> None:
    profile = made_profile()
    start = encode((Call(Op.IOCTL, cmd=1),))
    far = Comparison(1000, 3, 0, 4, constant=True, site=1)
    profile.learn(start, Comparisons(True, (far,), 0))
    tried = 0
    while (program := profile.take()) is not None:
        assert profile.learn(program, Comparisons(True, (far,), 0)) == []
        profile.allow(1000)
        tried += 1
    assert 0 < tried < 100
    # A program of the corpus that comes nearer begins it anew.
    assert profile.learn(start, Comparisons(True, (far._replace(b=4),), 0)) == []
    assert profile.is_due


def test_a_constant_that_was_reached_and_other_operands_are_no_goals() -> None:
    profile = made_profile()
    start = encode((Call(Op.IOCTL, cmd=1),))
    loop = [Comparison(16, value, 0, 4, constant=True, site=1) for value in range(16)]
    other = Comparison(5, 6, 0, 4, constant=False, site=2)
    reached = Comparison(16, 16, 0, 4, constant=True, site=1)
    assert profile.learn(start, Comparisons(True, (*loop, other), 0, (reached,))) == []
    assert not profile.is_due
    assert profile.take() is None


def test_programs_that_take_long_are_not_built_upon() -> None:
    profile = made_profile()
    slow = encode((Call(Op.SLEEP, arg=100), Call(Op.IOCTL, cmd=1)))
    far = Comparison(1000, 3, 1, 4, constant=True, site=1)
    assert profile.learn(slow, Comparisons(True, (far,), 0)) == []
    assert profile.take() is None


def test_it_has_a_share_of_the_time() -> None:
    profile = ValueProfile(random.Random(1), lambda program: program, MAX_CALLS, MAX_SIZE)
    start = encode((step(7),))
    profile.learn(start, climb(start))
    assert not profile.is_due
    assert profile.take() is None
    taken = 0
    for _ in range(5000):
        profile.allow(1)
        while profile.is_due and (program := profile.take()) is not None:
            profile.learn(program, climb(start))
            taken += 1
    assert 10 < taken <= 100
