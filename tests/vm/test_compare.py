# SPDX-License-Identifier: Apache-2.0
"""The driver's comparisons, which reach the host and suggest programs that pass its limits."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from fuzzer.crash.observe import run_program
from fuzzer.driver.driver import build_driver
from fuzzer.driver.provision import Guest, ensure_guest
from fuzzer.engine.value_profile import ValueProfile
from fuzzer.kernel.kernel import STANDARD, Flavour, Kernel
from fuzzer.machine.accel import Accel
from fuzzer.machine.channel_layout import CALL_COMPARISONS, FLAG_COMPARE, Status
from fuzzer.machine.machine import Machine
from fuzzer.program.comparison import Comparison
from fuzzer.program.hints import Hints
from fuzzer.program.ops import Op
from fuzzer.program.program import Call, Program
from fuzzer.program.wire import decode, encode
from fuzzer.target.target import load_target
from tests.vm.guests import GuestFactory, returned, run, wire

pytestmark = pytest.mark.vm

KEY_MAX, VALUE_MAX, SLOTS = 32, 256, 100
MEMBERS = """\
write(f0, "a=1\\nb=22\\n")
ioctl(f0, PKV_IOC_DELETE, {key_len: 33, key: "a"})
read(f0, 64)
"""


@pytest.fixture(scope="module")
def fast(guest: GuestFactory) -> Guest:
    """Return a ``fast`` guest with the driver."""
    return guest(Flavour.FAST)


def compared(machine: Machine, guest: Guest, text: str) -> tuple[Comparison, ...]:
    found = machine.compare(wire(text, guest.target), 30.0)
    assert machine.channel.status is Status.OK
    assert machine.channel.comparisons().able
    return found


def suggested(guest: Guest, text: str, found: tuple[Comparison, ...]) -> list[Program]:
    hints = Hints(wire(text, guest.target), found)
    return [decode(hints.apply(i)) for i in range(len(hints))]


@pytest.mark.parametrize("flavour", list(STANDARD))
def test_a_limit_is_seen_in_the_call_that_it_was_compared_in(
    guest: GuestFactory, flavour: Flavour
) -> None:
    made = guest(flavour)
    with made.restore() as machine:
        found = compared(machine, made, MEMBERS)
        assert len(machine.channel.results()) == 3
    assert len(found) == len(set(found))
    assert {item.call for item in found} == {0, 1, 2}
    assert all(item.a != item.b for item in found)
    # The compiler makes one comparison of "!key_len || key_len > 32".
    known = {
        (item.a, item.b) for item in found if item.call == 1 and item.size == 4 and item.constant
    }
    assert known & {(KEY_MAX, 33), (KEY_MAX - 1, 32)}
    lengths = {
        int.from_bytes(program[1].data[:4], "little") for program in suggested(made, MEMBERS, found)
    }
    assert KEY_MAX in lengths


def test_lengths_and_counts_are_taken_to_their_limits(fast: Guest) -> None:
    value = f'write(f0, "a={"x" * 300}\\n")'
    keys = 'write(f0, "a=1\\n")'
    with fast.restore() as machine:
        values = suggested(fast, value, compared(machine, fast, value))
        records = suggested(fast, keys, compared(machine, fast, keys))
        longest = [len(p[0].data) - 3 for p in values]
        assert {VALUE_MAX, VALUE_MAX + 1} <= set(longest)
        full = [p for p in records if len(p) == 1 and p[0].data.count(b"\n") == SLOTS]
        assert full
    assert len({line[:3] for line in full[0][0].data.splitlines()}) == SLOTS


def test_coverage_is_left_alone_and_comes_back(fast: Guest) -> None:
    n_blocks = len(fast.blocks)
    with fast.restore() as machine:
        channel = machine.channel
        channel.clear_counters(n_blocks)
        before = run(machine, fast, MEMBERS)
        plain = bytes(channel.counters(n_blocks))
        assert any(plain)
        channel.clear_counters(n_blocks)
        assert compared(machine, fast, MEMBERS)
        assert not any(channel.counters(n_blocks))
        assert not channel.header.flags & FLAG_COMPARE
        channel.clear_counters(n_blocks)
        after = run(machine, fast, MEMBERS)
        assert bytes(channel.counters(n_blocks)) == plain
        assert returned(after) == returned(before)


def test_calls_on_other_threads_are_made_and_do_not_count(fast: Guest) -> None:
    # Of two reads of one file the second may be at its end, or not, if a write comes between.
    text = 'write(f0, "a=1\\n")\n[1] write(f0, "b=1\\n")\n[2] pread(f0, 64, 0)\nread(f0, 64)\n'
    n_blocks = len(fast.blocks)
    with fast.restore() as machine:
        channel = machine.channel
        channel.clear_counters(n_blocks)
        found = compared(machine, fast, text)
        assert not any(channel.counters(n_blocks))
        assert {item.call for item in found} == {0, 3}
        assert [call.ret for call in channel.results()] == [4, 4, 1, 1]


def test_a_loaded_modules_own_comparisons_are_seen(fast: Guest) -> None:
    text = 'close(f0)\nunload()\nload("lock=mutex ttl_ms=77")\nopen(f0)\nwrite(f0, "a=1\\n")\n'
    with fast.restore() as machine:
        found = compared(machine, fast, text)
        assert [call.ret for call in machine.channel.results()] == [0, 0, 0, 0, 4]
        assert {item.call for item in found} >= {4}
        run(machine, fast, MEMBERS)
        assert any(machine.channel.counters(len(fast.blocks)))


def test_so_many_comparisons_that_not_all_fit_are_cut(fast: Guest) -> None:
    # Each pair of records of one write is compared, by the length of the key.
    lines = "".join(f"{'k' * (1 + i % 30)}{i}=1\\n" for i in range(90))
    text = f'write(f0, "{lines}")\nread(f0, 64)\n'
    with fast.restore() as machine:
        found = compared(machine, fast, text)
        dropped = machine.channel.comparisons().dropped
        results = machine.channel.results()
    by_call = [[item for item in found if item.call == call] for call in (0, 1)]
    assert 256 < len(by_call[0]) <= CALL_COMPARISONS
    assert sum(not item.constant for item in by_call[0]) == 256
    assert dropped
    # What is compared last in the call is there, as is what the next one compares.
    assert (SLOTS, 90) in {(item.a, item.b) for item in by_call[0]}
    assert by_call[1]
    assert [result.ret for result in results] == [len(lines) - 90, 1]


STRANGERS = Path(__file__).parent.parent / "drivers" / "strangers"


@pytest.fixture
def guest_of(tmp_path: Path, fast_kernel: Kernel, accel: Accel) -> Callable[[str], Guest]:
    """Return a function that makes the guest of a description."""

    def make(description: str) -> Guest:
        path = tmp_path / "target.yaml"
        path.write_text(description)
        target = load_target(path)
        return ensure_guest(target, fast_kernel, build_driver(target, fast_kernel), accel)

    return make


def crashes_by_hints(
    name: str, calls: str, text: str, guest_of: Callable[[str], Guest]
) -> dict[str, Program]:
    """Return what the hints of a program show on a driver, by title.

    ``calls`` are those of its description.
    """
    source = STRANGERS / name
    description = (
        f"version: 1\nname: {name}\ndevice: /dev/{name}\n"
        f"module: {{source: {source}, name: {name}}}\nheader: {source}/{name}.h\n"
        f"calls: [{calls}]\n"
    )
    guest = guest_of(description)
    target = guest.target
    shown: dict[str, Program] = {}
    with guest.restore() as machine:
        hints = Hints(wire(text, target), compared(machine, guest, text))
        for number in range(len(hints)):
            program = hints.apply(number)
            if splat := run_program(machine, program).splat:
                shown.setdefault(splat.title, decode(program))
                break
    return shown


def test_a_full_table_is_reached_beside_a_loop_with_the_same_limit(
    guest_of: Callable[[str], Guest],
) -> None:
    text = "".join(f'ioctl(f0, SHELF_PUT, {{name: "{name}"}})\n' for name in "abc")
    shown = crashes_by_hints("shelf", "{ioctl: SHELF_PUT, struct: shelf_book}", text, guest_of)
    assert set(shown) == {"KASAN: slab-out-of-bounds Write in shelf_ioctl"}
    assert all(len(program) > 16 for program in shown.values())


def test_a_count_is_reached_that_calls_of_another_kind_make(
    guest_of: Callable[[str], Guest],
) -> None:
    text = 'write(f0, "a")\nwrite(f0, "b")\nioctl(f0, TALLY_SUM)\n'
    calls = '{write: ["a"]}, {ioctl: TALLY_SUM}'
    shown = crashes_by_hints("tally", calls, text, guest_of)
    assert set(shown) == {"KASAN: slab-out-of-bounds Read in tally_ioctl"}
    assert all(len(program) == 7 for program in shown.values())


@pytest.mark.parametrize(
    ("call", "struct", "given"),
    [
        ("EXTENT_CLEAR", "extent_range", "start: 100, length: 8"),
        ("EXTENT_RESIZE", "extent_table", "entries: 5"),
    ],
)
def test_sums_and_products_wrap(
    call: str, struct: str, given: str, guest_of: Callable[[str], Guest]
) -> None:
    text = f"ioctl(f0, {call}, {{{given}}})\n"
    shown = crashes_by_hints("extent", f"{{ioctl: {call}, struct: {struct}}}", text, guest_of)
    assert shown
    assert all("in extent_ioctl" in title for title in shown)


def test_a_count_that_takes_another_number_each_time_is_climbed(
    guest_of: Callable[[str], Guest],
) -> None:
    source = STRANGERS / "ladder"
    guest = guest_of(
        f"version: 1\nname: ladder\ndevice: /dev/ladder\n"
        f"module: {{source: {source}, name: ladder}}\nheader: {source}/ladder.h\n"
        "calls: [{ioctl: LADDER_STEP, payload: [4]}]\n"
    )
    number = next(iter(guest.contexts))
    start = encode((Call(Op.IOCTL, cmd=number, data=b"\x07\0\0\0"),))
    profile = ValueProfile(random.Random(1), lambda program: program, 40, 4096)
    program: bytes | None = start
    with guest.restore() as machine:
        for _ in range(1000):
            if program is None:
                break
            machine.compare(program)
            comparisons = machine.channel.comparisons()
            last, program = program, None
            if b"WARNING" in machine.channel.log():
                break
            profile.learn(last, comparisons)
            profile.allow(1000)
            program = profile.take()
        assert b"WARNING" in machine.channel.log()
    assert len(decode(last)) >= 24
