# SPDX-License-Identifier: Apache-2.0
"""A machine that stays with how a program's first calls load the module."""

from __future__ import annotations

import pytest

from fuzzer.crash.series import run_history
from fuzzer.driver.provision import Guest
from fuzzer.kernel.kernel import Flavour
from fuzzer.machine.machine import Machine, Run
from tests.vm.guests import GuestFactory, returned, run, wire

pytestmark = pytest.mark.vm

LOADING = """\
close(f0)
unload()
load("lock=rcu ttl_ms=20")
open(f0)
"""
EXPIRES = 'write(f0, "a=1\\n")\nsleep(60)\nioctl(f0, PKV_IOC_LIST, {buf: &[48], room: 1})\n'
PARAMETER = "/sys/module/pkv/parameters/lock"


@pytest.fixture(scope="module")
def fast(guest: GuestFactory) -> Guest:
    """Return a ``fast`` guest with the driver."""
    return guest(Flavour.FAST)


def preload(machine: Machine, guest: Guest, text: str) -> bool:
    machine.preload(wire(text, guest.target))
    return bool(machine.channel.header.preloaded)


def lock(machine: Machine) -> str:
    return machine.execute(["/bin/busybox", "cat", PARAMETER]).output.decode().strip()


def listed(machine: Machine, guest: Guest, text: str) -> int:
    """Return how many entries the last call says there are."""
    output = run(machine, guest, text).results[-1].output
    return int.from_bytes(output[12:16], "little")


def test_the_module_stays_as_it_was_loaded(fast: Guest) -> None:
    with fast.restore() as machine:
        assert lock(machine) == "mutex"
        assert preload(machine, fast, LOADING)
        assert lock(machine) == "rcu"
        # A program that loads it otherwise leaves it so, too.
        run(machine, fast, LOADING.replace("rcu", "rwsem") + "read(f0, 1)\n")
        assert lock(machine) == "rcu"


def test_programs_that_begin_so_skip_these_calls(fast: Guest) -> None:
    with fast.restore() as machine:
        whole = run(machine, fast, LOADING + EXPIRES)
        before = machine.channel.header.text_start
        assert preload(machine, fast, LOADING)
        after = machine.channel.header.text_start
        skipping = run(machine, fast, LOADING + EXPIRES)
        assert machine.channel.header.text_start == after
    assert after != before or whole.tsc > skipping.tsc
    # Numbers and results are those of the whole program.
    assert returned(skipping)[:4] == [(0, 0)] * 4
    assert returned(skipping)[4:] == returned(whole)[4:]
    assert skipping.results[-1].output[8:] == whole.results[-1].output[8:]


def test_other_programs_run_whole(fast: Guest) -> None:
    shown = LOADING.replace("20", "1000") + EXPIRES
    with fast.restore() as machine:
        assert preload(machine, fast, LOADING)
        alone, expired = listed(machine, fast, EXPIRES), listed(machine, fast, LOADING + EXPIRES)
        assert (alone, expired) == (0, 0)
        assert listed(machine, fast, shown) == 1


def test_what_does_not_load_it_leaves_the_machine_as_it_was(fast: Guest) -> None:
    with fast.restore() as machine:
        assert not preload(machine, fast, LOADING.replace("rcu", "none"))
        assert lock(machine) == "mutex"
        assert not preload(machine, fast, "close(f0)\nunload()\n")
        assert lock(machine) == "mutex"
        assert listed(machine, fast, EXPIRES) == 1


def covered(machine: Machine, guest: Guest, text: str) -> set[int]:
    n = len(guest.blocks)
    machine.channel.clear_counters(n)
    run(machine, guest, text)
    return {index for index, count in enumerate(machine.channel.counters(n)) if count}


def test_coverage_is_what_comes_after(fast: Guest) -> None:
    calls = 'write(f0, "a=1\\n")\n'
    with fast.restore() as machine:
        whole = covered(machine, fast, LOADING + calls)
        assert preload(machine, fast, LOADING)
        after = covered(machine, fast, LOADING + calls)
    assert after < whole
    sections = {fast.blocks[index].section for index in whole - after}
    assert ".exit.text" in sections
    assert all(fast.blocks[index].section == ".text" for index in after)


def test_a_history_that_was_run_on_a_preloaded_machine_is_run_on_one_again(
    fast: Guest, monkeypatch: pytest.MonkeyPatch
) -> None:
    preloaded: list[bytes] = []
    preload = Machine.preload

    def counted(machine: Machine, calls: bytes, timeout: float = 10.0) -> Run:
        preloaded.append(calls)
        return preload(machine, calls, timeout)

    monkeypatch.setattr(Machine, "preload", counted)
    target = fast.target
    programs = [wire(f"{LOADING}read(f0, {count})\n", target) for count in range(4)]
    outcome, number = run_history(fast, programs[:3], programs[3])
    assert (outcome.splat, number) == (None, 3)
    assert preloaded == [wire(LOADING, target)]
    run_history(fast, [], programs[3], tries=3)
    assert preloaded == [wire(LOADING, target)] * 2
    # Alone and once, or among others, it makes these calls itself.
    run_history(fast, [], programs[3])
    run_history(fast, [*programs[:2], wire("read(f0, 1)\n", target)], programs[3])
    assert len(preloaded) == 2
