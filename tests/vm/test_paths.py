# SPDX-License-Identifier: Apache-2.0
"""Ways to reach a block, which count as far as one call goes."""

from __future__ import annotations

import pytest

from fuzzer.driver.provision import Guest
from fuzzer.kernel.kernel import Flavour
from fuzzer.machine.channel_layout import FLAG_OUTCOMES, PATH_COUNTERS
from fuzzer.machine.machine import Machine
from tests.vm.guests import GuestFactory, returned, run

pytestmark = pytest.mark.vm

SLOTS, ENOSPC = 100, 28


@pytest.fixture(scope="module")
def fast(guest: GuestFactory) -> Guest:
    """Return a ``fast`` guest with the driver."""
    return guest(Flavour.FAST)


def covered(machine: Machine, guest: Guest, text: str) -> tuple[set[int], set[int]]:
    """Return the blocks that a program covers, and the counters of how they were reached."""
    n = len(guest.blocks)
    machine.channel.clear_counters(n + PATH_COUNTERS)
    run(machine, guest, text)
    counters = bytes(machine.channel.counters(n + PATH_COUNTERS))
    assert set(counters[n:]) == {0, 1}
    touched = {index for index, count in enumerate(counters) if count}
    return {i for i in touched if i < n}, {i for i in touched if i >= n}


def write(first: int, end: int) -> str:
    records = "".join(f"k{i}=1\\n" for i in range(first, end))
    return f'write(f0, "{records}")\n'


def test_a_way_through_known_code_is_seen(fast: Guest) -> None:
    with fast.restore() as machine:
        # A full table takes a known key, and refuses a new one; too many records are refused
        # before they are looked at.
        others = [
            covered(machine, fast, write(0, SLOTS) + write(0, 1)),
            covered(machine, fast, write(0, SLOTS + 1)),
            covered(machine, fast, write(0, SLOTS) + write(SLOTS, SLOTS + 1)),
        ]
        # Of two records the second is refused: no code that the others do not run.
        both = write(0, SLOTS) + write(SLOTS - 1, SLOTS + 1)
        blocks, ways = covered(machine, fast, both)
        assert returned(run(machine, fast, both))[1] == (-1, ENOSPC)
    assert blocks <= set().union(*(each[0] for each in others))
    assert ways.difference(*(each[1] for each in others))


def test_which_call_comes_after_which_does_not_count(fast: Guest) -> None:
    calls = ["lseek(f0, 0, SEEK_CUR)\n", "poll(f0, 0x1)\n", "ioctl(f0, PKV_IOC_CLEAR)\n"]
    with fast.restore() as machine:
        assert covered(machine, fast, "".join(calls)) == covered(
            machine, fast, "".join(reversed(calls))
        )


def test_how_often_a_call_succeeded_and_its_errors_count_where_they_are_to(fast: Guest) -> None:
    again, poll, none = 'write(f0, "a=1\\n")\n', "poll(f0, 0x1)\n", "read(f0, 8)\n"
    with fast.restore() as machine:
        assert covered(machine, fast, again * 8) == covered(machine, fast, again * 16)
        assert covered(machine, fast, none) == covered(machine, fast, none * 2)
        without = covered(machine, fast, none)[1]
        machine.channel.header.flags |= FLAG_OUTCOMES
        eight = covered(machine, fast, again * 8)
        assert covered(machine, fast, again * 15) == eight
        blocks, ways = covered(machine, fast, again * 16)
        assert (blocks, len(ways - eight[1]), eight[1] - ways) == (eight[0], 1, set())
        # An error counts once.
        assert len(covered(machine, fast, none)[1] - without) == 1
        assert covered(machine, fast, none) == covered(machine, fast, none * 2)
        assert covered(machine, fast, poll) == covered(machine, fast, poll * 2)
        # A kind of call is a write, however it is made.
        other = 'pwrite(f0, "a=1\\n", 0)\n'
        assert len(ways - covered(machine, fast, again * 8 + other * 8)[1]) == 0
