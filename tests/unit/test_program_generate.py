# SPDX-License-Identifier: Apache-2.0
"""Generated calls: what the description asks for, mostly valid, repeatable."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from fuzzer.program.generate import Generator
from fuzzer.program.ops import FLAG_VALUE, OPERATIONS, REQUESTS, URING, Op
from fuzzer.program.program import Call
from fuzzer.program.strings import StringFinder
from fuzzer.program.wire import decode, encode
from fuzzer.target.calls import (
    AnyIoctlSpec,
    CreateSpec,
    FileKind,
    IoctlSpec,
    PlainKind,
    PlainSpec,
)
from fuzzer.target.target import load_target

TARGET = load_target(Path(__file__).parent / "data" / "demo" / "demo.yaml")
DELETE, LIST = TARGET.constants["DEMO_IOC_DELETE"], TARGET.constants["DEMO_IOC_LIST"]
KEYS, VALUES = TARGET.pools["key"], TARGET.pools["value"]


# Made for drivers alone that have a function for them.
_ON_DEMAND = {
    *(Op.FCNTL, Op.FLOCK, Op.FSYNC, Op.GETDENTS, Op.FDINFO, Op.SPLICE_READ, Op.SPLICE_WRITE),
    Op.EXIT,
    Op.URING_CLOSE,
}


def generated(n: int, seed: int = 1) -> list[Call]:
    generator = Generator(TARGET, random.Random(seed))
    return [generator.call() for _ in range(n)]


@pytest.fixture(scope="module")
def calls() -> list[Call]:
    return generated(6000)


def share(calls: list[Call], wanted: Callable[[Call], object]) -> float:
    return sum(map(bool, map(wanted, calls))) / len(calls)


def test_every_described_call_is_made_as_often_as_its_weight_says(calls: list[Call]) -> None:
    counts = Counter(call.op for call in calls)
    assert counts.keys() == {op for op in Op if OPERATIONS[op].reaches_driver} - _ON_DEMAND
    # 16 is the sum of all weights.
    assert counts[Op.WRITE] / len(calls) == pytest.approx(4 / 16, abs=0.03)
    assert counts[Op.IOCTL] / len(calls) == pytest.approx(5 / 16, abs=0.03)
    polls = counts[Op.POLL] + counts[Op.EPOLL]
    assert polls / len(calls) == pytest.approx(1 / 16, abs=0.02)


@pytest.mark.parametrize(
    ("kind", "ops"),
    [
        ("fasync", {Op.FCNTL}),
        ("lock", {Op.FCNTL}),
        ("flock", {Op.FLOCK}),
        ("fsync", {Op.FSYNC}),
        ("getdents", {Op.GETDENTS}),
        ("fdinfo", {Op.FDINFO}),
        ("splice_read", {Op.SPLICE_READ}),
        ("splice_write", {Op.SPLICE_WRITE}),
    ],
)
def test_calls_on_a_file_are_made_where_they_are_described(kind: str, ops: set[Op]) -> None:
    described = (*TARGET.calls, PlainSpec(PlainKind(kind)))
    generator = Generator(replace(TARGET, calls=described), random.Random(1))
    made = [generator.call() for _ in range(1000)]
    found = [call for call in made if call.op in _ON_DEMAND]
    assert {call.op for call in found} == ops
    assert len({(call.cmd, call.arg, call.data) for call in found}) > (kind != "fdinfo")
    assert decode(encode(tuple(found))) == tuple(found)


def test_what_is_spliced_is_what_would_be_written() -> None:
    described = (*TARGET.calls, PlainSpec(PlainKind.SPLICE_WRITE, 20))
    generator = Generator(replace(TARGET, calls=described), random.Random(1))
    made = [generator.call() for _ in range(1000)]
    spliced = [call for call in made if call.op is Op.SPLICE_WRITE]
    assert share(spliced, lambda call: call.data.endswith((b"\n", b"}\n"))) > 0.7
    assert {call.cmd for call in spliced} == {0, 1, 2}


def test_files_of_the_described_kinds_are_created_beside_the_first() -> None:
    described = (*TARGET.calls, CreateSpec((FileKind.EVENTFD, FileKind.MEMFD), 4))
    generator = Generator(replace(TARGET, calls=described), random.Random(1))
    assert generator.created == [FileKind.EVENTFD, FileKind.MEMFD]
    made = [generator.call() for _ in range(500)]
    created = [call for call in made if call.op is Op.CREATE]
    assert {call.cmd for call in created} >= {FileKind.EVENTFD, FileKind.MEMFD}
    assert all(call.file for call in created)


def test_a_few_calls_are_requests_in_a_ring_where_that_is_described(calls: list[Call]) -> None:
    assert not any(call.mode for call in calls if call.op in REQUESTS)
    described = (*TARGET.calls, PlainSpec(PlainKind.URING, 10))
    generator = Generator(replace(TARGET, calls=described), random.Random(1))
    made = [generator.call() for _ in range(8000)]
    requests = [call for call in made if call.op in REQUESTS and call.mode]
    assert {call.op for call in requests} == REQUESTS - {Op.IOCTL}
    assert {call.mode for call in requests} == {0x80, 0x81, 0x82, 0x83}
    assert 0.01 < len(requests) / len(made) < 0.05
    assert 0 < len([call for call in made if call.op is Op.URING_CLOSE]) < len(requests) / 3
    assert decode(encode(tuple(requests[:100]))) == tuple(requests[:100])


def test_a_command_of_the_files_own_is_always_a_request() -> None:
    commands = (IoctlSpec(None, 7, values=(3,), uring=True), AnyIoctlSpec((8, 16), uring=True))
    generator = Generator(replace(TARGET, calls=commands), random.Random(1))
    made = [generator.call() for _ in range(500)]
    assert {call.op for call in made} == {Op.IOCTL, Op.URING_CLOSE}
    assert all(call.mode & URING for call in made if call.op is Op.IOCTL)


def test_most_writes_follow_a_template_and_about_one_in_ten_does_not(calls: list[Call]) -> None:
    keys = b"|".join(map(re.escape, KEYS))
    values = b"|".join(map(re.escape, VALUES))
    valid = re.compile(rb"(?:%b)=(?:%b)\n|\{(?:%b)\}\n" % (keys, values, keys))
    writes = [call for call in calls if call.op is Op.WRITE]
    assert 0.8 < share(writes, lambda call: valid.fullmatch(call.data)) < 0.95
    assert any(not call.data.endswith(b"\n") for call in writes)
    assert any(call.data == b"" for call in writes)


def test_most_reads_have_a_described_count_and_some_a_huge_one(calls: list[Call]) -> None:
    reads = [call for call in calls if call.op is Op.READ]
    assert 0.85 < share(reads, lambda call: call.arg in (0, 1, 64, 4096)) < 0.98
    assert any(call.arg >= 1 << 31 for call in reads)


def test_most_struct_ioctls_are_as_described(calls: list[Call]) -> None:
    def valid(call: Call) -> bool:
        key = call.data[4:20].rstrip(b"\0")
        length = int.from_bytes(call.data[:4], "little")
        return (
            len(call.data) == 20
            and key in [k.rstrip(b"\0") for k in KEYS]
            and length - len(key) in (0, 1)
        )

    deletes = [call for call in calls if call.op is Op.IOCTL and call.cmd == DELETE]
    assert 0.8 < share(deletes, valid) < 0.95
    assert any(len(call.data) < 20 and not call.flags for call in deletes), "none is cut"
    lengths = {int.from_bytes(call.data[:4], "little") for call in deletes}
    assert max(lengths) > 16, "no length lies"
    others = {value for value in VALUES if value and value not in KEYS}
    assert others & {call.data[4:20].rstrip(b"\0") for call in deletes}, "none is of another pool"


def test_pointers_lead_to_a_buffer_whose_length_is_told(calls: list[Call]) -> None:
    lists = [call for call in calls if call.op is Op.IOCTL and call.cmd == LIST and call.fixups]
    told = [int.from_bytes(call.data[8:12], "little") for call in lists]
    buffers = [len(call.data) - 24 for call in lists]
    assert all((call.fixups[0].at, call.fixups[0].to) == (0, 24) for call in lists)
    assert sum(a == b for a, b in zip(told, buffers, strict=True)) / len(lists) > 0.8
    assert max(buffers) >= 256
    assert len(set(buffers)) > 10


def test_fields_keep_to_their_values_and_ranges(calls: list[Call]) -> None:
    lists = [call for call in calls if call.op is Op.IOCTL and call.cmd == LIST]
    flags = Counter(int.from_bytes(c.data[12:16], "little") for c in lists if len(c.data) >= 24)
    deltas = Counter(
        int.from_bytes(c.data[16:20], "little", signed=True) for c in lists if len(c.data) >= 24
    )
    assert sum(flags[value] for value in (0, 1, 1 << 31)) > 0.9 * flags.total()
    assert sum(deltas[value] for value in range(-1, 17)) > 0.9 * deltas.total()
    assert {-1, 16} <= deltas.keys()


def test_scalar_ioctls_pass_a_value(calls: list[Call]) -> None:
    scalars = [call for call in calls if call.op is Op.IOCTL and call.cmd == 0x6404]
    assert all(call.flags == FLAG_VALUE for call in scalars)
    assert share(scalars, lambda call: call.arg in (0, 7, 1 << 31)) > 0.8


def test_extra_files_are_used_but_file_0_most(calls: list[Call]) -> None:
    files = Counter(call.file for call in calls if call.op not in (Op.OPEN, Op.CLOSE))
    assert 0.75 < files[0] / files.total() < 0.95
    assert files.keys() == set(range(8))
    opens = [call for call in calls if call.op is Op.OPEN]
    assert share(opens, lambda call: call.file != 0) > 0.8


def test_calls_are_serial_and_without_faults(calls: list[Call]) -> None:
    assert {(call.fault, call.cut, call.thread) for call in calls} == {(0, 0, 0)}


def test_strings_already_seen_are_used_again() -> None:
    generator = Generator(TARGET, random.Random(3))
    seen = {"key": [b"seen-before"]}
    calls = [generator.call(seen) for _ in range(2000)]
    keyed = [c for c in calls if c.op is Op.WRITE or (c.op is Op.IOCTL and c.cmd == DELETE)]
    assert 0.3 < share(keyed, lambda call: b"seen-before" in call.data) < 0.6


def test_programs_have_as_many_calls_as_asked_for() -> None:
    generator = Generator(TARGET, random.Random(1))
    for n in (0, 1, 10, 128):
        program = generator.program(n)
        assert len(program) == n
        assert decode(encode(program)) == program
    with pytest.raises(ValueError, match="129 calls"):
        generator.program(129)


def test_the_same_seed_gives_the_same_calls() -> None:
    assert generated(300, seed=9) == generated(300, seed=9)
    assert generated(300, seed=9) != generated(300, seed=10)


def test_a_calls_pool_strings_are_found() -> None:
    finder = StringFinder(TARGET)

    def find(call: Call) -> dict[str, list[bytes]]:
        return {pool: list(found) for pool, found in finder.find(encode((call,))).items()}

    assert find(Call(Op.WRITE, data=b"k=v=w\n")) == {"key": [b"k"], "value": [b"v=w"]}
    assert find(Call(Op.WRITE, data=b"{k}\n")) == {"key": [b"k"]}
    assert find(Call(Op.WRITE, data=b"nonsense")) == {}
    assert find(Call(Op.PWRITE, data=b"all of it")) == {"value": [b"all of it"]}
    key = bytes(4) + b"kk".ljust(16, b"\0")
    assert find(Call(Op.IOCTL, cmd=DELETE, data=key)) == {"key": [b"kk"]}
    assert find(Call(Op.IOCTL, cmd=DELETE, data=key[:9])) == {}
    assert find(Call(Op.READ, arg=4)) == {}
