# SPDX-License-Identifier: Apache-2.0
"""Mutation: always a program within limits, every kind of change, repeatable."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuzzer.program.children import change_child
from fuzzer.program.generate import Generator
from fuzzer.program.mutate import Mutator
from fuzzer.program.ops import Op
from fuzzer.program.program import N_FILES, Call
from fuzzer.program.repeating import repeat
from fuzzer.program.wire import HEADER_SIZE, decode, encode, split
from fuzzer.target.calls import PlainKind, PlainSpec
from fuzzer.target.target import load_target

TARGET = load_target(Path(__file__).parent / "data" / "demo" / "demo.yaml")
DELETE = TARGET.constants["DEMO_IOC_DELETE"]


def unchanged(data: bytes, max_size: int) -> bytes:
    return data[:max_size]


def make(
    seed: int = 1,
    mutate_bytes: Callable[[bytes, int], bytes] = unchanged,
    min_calls: int = 1,
    max_calls: int = 64,
) -> Mutator:
    rng = random.Random(seed)
    return Mutator(TARGET, rng, mutate_bytes, min_calls=min_calls, max_calls=max_calls)


def program(n: int, seed: int = 1) -> bytes:
    return encode(Generator(TARGET, random.Random(seed)).program(n))


@given(
    st.binary(max_size=400) | st.integers(0, 128).map(program),
    st.integers(1, 5000),
    st.tuples(st.integers(1, 12), st.integers(0, 12)).map(lambda pair: (pair[0], sum(pair))),
    st.integers(0, 1 << 32),
    st.sampled_from(
        [unchanged, lambda _, n: bytes(n), lambda _, n: b"", lambda data, n: data + bytes(n)]
    ),
)
def test_results_are_canonical_programs_within_the_limits(
    data: bytes,
    max_size: int,
    calls: tuple[int, int],
    seed: int,
    mutate_bytes: Callable[[bytes, int], bytes],
) -> None:
    min_calls, max_calls = calls
    mutator = make(seed, mutate_bytes, min_calls, max_calls)
    mutator.note(program(20))
    mutator.note(b"")
    for _ in range(5):
        data = mutator.mutate(data, max_size)
        assert 1 <= len(data) <= max_size
        chunks = split(data)
        if max_size >= HEADER_SIZE:
            assert b"".join(chunks) == data
            assert min(min_calls, max_size // HEADER_SIZE) <= len(chunks) <= max_calls


def test_the_same_seed_gives_the_same_results() -> None:
    def run(seed: int) -> list[bytes]:
        mutator = make(seed)
        data, results = b"", []
        for _ in range(200):
            data = mutator.mutate(data, 4096)
            mutator.note(data)
            results.append(data)
        return results

    assert run(5) == run(5)
    assert run(5) != run(6)


def test_calls_are_inserted_removed_swapped_and_duplicated() -> None:
    old = tuple(Call(Op.READ, arg=100_000 + i) for i in range(4))
    mutator = make()
    results = [decode(mutator.mutate(encode(old), 4096)) for _ in range(2000)]
    assert any(len(new) == 5 and set(old) < set(new) for new in results)
    assert any(len(new) == 3 and set(new) < set(old) for new in results)
    assert any(new != old and sorted(new, key=lambda c: c.arg) == list(old) for new in results)
    assert any(len(new) == 5 and set(new) == set(old) for new in results)


def test_a_call_is_repeated_the_same_and_with_other_numbers() -> None:
    old = (Call(Op.READ, arg=1), Call(Op.WRITE, data=b"a=1"), Call(Op.WRITE, data=b"\x05\0\0\0"))
    mutator = make()
    results = [decode(mutator.mutate(encode(old), 4096)) for _ in range(4000)]
    grown = [[call.data for call in new if call.op is Op.WRITE] for new in results]
    assert any(each.count(b"a=1") > 12 for each in grown)
    assert any({b"%d=1" % i for i in range(10)} <= set(each) for each in grown)
    assert any({bytes((i, 0, 0, 0)) for i in range(5, 15)} <= set(each) for each in grown)
    assert all(len(new) <= 64 for new in results)


def test_what_takes_long_is_not_repeated() -> None:
    slow = [encode((Call(Op.SLEEP, arg=100),)), encode((Call(Op.LOAD, data=b"a=1"),))]
    rand = random.Random(1).random
    assert not any(repeat(rand, slow, 64) for _ in range(100))
    assert repeat(rand, [*slow, encode((Call(Op.READ),))], 64)
    assert not repeat(rand, [encode((Call(Op.READ),))] * 64, 64)


def test_runs_of_noted_programs_are_spliced_in() -> None:
    noted = tuple(Call(Op.LSEEK, arg=1_000_000 + i, cmd=77) for i in range(6))
    mutator = make()
    mutator.note(encode(noted))
    results = [decode(mutator.mutate(program(4), 4096)) for _ in range(1000)]
    assert any(new[i : i + 3] == noted[:3] for new in results for i in range(len(new)))


def test_old_notes_are_forgotten() -> None:
    mutator = make()
    first = Call(Op.LSEEK, arg=123_456_789, cmd=77)
    mutator.note(encode((first,)))
    for i in range(256):
        mutator.note(encode((Call(Op.READ, arg=i),)))
    results = [decode(mutator.mutate(program(4), 4096)) for _ in range(3000)]
    assert not any(first in new for new in results)


def test_fields_that_an_operation_uses_are_changed() -> None:
    old = (Call(Op.LSEEK, arg=1_000_000, cmd=1),)
    mutator = make(max_calls=1)
    results = {decode(mutator.mutate(encode(old), 4096))[0] for _ in range(2000)}
    seeks = [call for call in results if call.op is Op.LSEEK]
    assert any(call.arg != 1_000_000 and call.cmd == 1 for call in seeks)
    assert any(call.arg == 1_000_000 and call.cmd not in (0, 1, 2) for call in seeks)


def test_payloads_and_integers_go_through_mutate_bytes_and_fit() -> None:
    limits: list[tuple[bytes, int]] = []

    def marked(data: bytes, max_size: int) -> bytes:
        limits.append((data, max_size))
        return b"MARK"[:max_size]

    mutator = make(mutate_bytes=marked)
    data = encode((Call(Op.WRITE, data=b"payload"), Call(Op.READ, arg=55_555)))
    results = [decode(mutator.mutate(data, 500)) for _ in range(1000)]
    assert any(call == Call(Op.WRITE, data=b"MARK") for new in results for call in new)
    mark = int.from_bytes(b"MARK", "little")
    assert any(call.op is Op.READ and call.arg == mark for new in results for call in new)
    assert any(old == b"payload" and limit > 7 for old, limit in limits), "none may grow"
    # libFuzzer's mutator must not be given more than it may return.
    assert all(max(1, len(old)) <= limit for old, limit in limits)


def test_struct_members_are_changed_by_their_description() -> None:
    payload = b"\x63\0\0\0" + b"oldkey".ljust(16, b"\0")
    mutator = make(max_calls=1)
    old = encode((Call(Op.IOCTL, 5, cmd=DELETE, data=payload),))
    results = [decode(mutator.mutate(old, 4096))[0] for _ in range(2000)]
    # File 5 shows that it is still the old call, not a generated one.
    kept = [c.data for c in results if c.op is Op.IOCTL and c.cmd == DELETE and c.file == 5]
    assert any(data[:4] == payload[:4] and data[4:5] in b"ab" for data in kept)
    assert any(data[:4] == b"\x06\0\0\0" and data[4:] == payload[4:] for data in kept)


def test_keys_move_from_one_call_to_another() -> None:
    old = (Call(Op.WRITE, data=b"rare-key=1\n"),)
    mutator = make()
    results = [decode(mutator.mutate(encode(old), 4096)) for _ in range(3000)]
    deletes = [c for new in results for c in new if c.op is Op.IOCTL and c.cmd == DELETE]
    assert any(call.data == b"\x08\0\0\0" + b"rare-key".ljust(16, b"\0") for call in deletes)


@pytest.mark.parametrize("op", sorted({Op.SLEEP, Op.UNLOAD, Op.LOAD, Op.WAIT}))
def test_calls_that_are_never_generated_are_mutated_too(op: Op) -> None:
    old = Call(op, arg=1_000_000, data=b"payload", fault=3, cut=4, thread=2)
    mutator = make(max_calls=1)
    results = [decode(mutator.mutate(encode((old,)), 4096))[0] for _ in range(500)]
    kept = [call for call in results if call.op is op]
    assert kept
    # Of these only loading can fail at an allocation, so only its fault is changed.
    assert {(call.cut, call.thread) for call in kept} == {(4, 2)}
    assert {call.fault for call in kept if op is not Op.LOAD} <= {3}


def test_fault_cut_and_thread_outlive_a_payload_that_is_too_big() -> None:
    old = Call(Op.WRITE, 5, data=b"x" * 100, fault=3, cut=4, thread=2)
    mutator = make(max_calls=1)
    results = [decode(mutator.mutate(encode((old,)), HEADER_SIZE)) for _ in range(100)]
    assert (Call(Op.WRITE, 5, fault=3, cut=4, thread=2),) in results


def test_a_program_that_is_too_big_keeps_its_calls_before_its_payloads() -> None:
    old = tuple(Call(Op.WRITE, data=b"x" * 100) for _ in range(5))
    mutator = make(min_calls=5, max_calls=5)
    assert all(len(decode(mutator.mutate(encode(old), 150))) == 5 for _ in range(100))


def test_limits_that_make_no_sense_are_refused() -> None:
    for low, high in ((0, 5), (6, 5), (1, 129)):
        with pytest.raises(ValueError, match=f"min_calls={low}, max_calls={high}"):
            make(min_calls=low, max_calls=high)
    with pytest.raises(ValueError, match="max_size is 0"):
        make().mutate(b"", 0)


def test_a_changed_dup_is_of_a_file_that_there_is() -> None:
    mutator = make(max_calls=1)
    mutated = [decode(mutator.mutate(encode((Call(Op.DUP, 1),)), 4096))[0] for _ in range(2000)]
    sources = {call.cmd for call in mutated if call.op is Op.DUP}
    assert sources == set(range(N_FILES))


def test_another_process_makes_calls_where_that_is_described() -> None:
    described = replace(TARGET, calls=(*TARGET.calls, PlainSpec(PlainKind.CHILD, 3)))
    ops = {Op.CHILD, Op.EXIT}
    for target, made in ((TARGET, False), (described, True)):
        mutator = Mutator(target, random.Random(1), unchanged)
        found = [decode(mutator.mutate(program(5), 4096)) for _ in range(500)]
        assert any(ops <= {call.op for call in each} for each in found) is made


def test_where_the_calls_of_another_process_begin_and_end_changes_and_may_be_taken_back() -> None:
    rng = random.Random(1)
    plain = split(program(4))
    seen = set()
    chunks = list(plain)
    for _ in range(200):
        change_child(rng.random, chunks, 1, 10)
        assert [each for each in chunks if each in plain] == plain
        seen.add(tuple(chunk[0] for chunk in chunks if chunk not in plain))
    assert {(), (Op.CHILD, Op.EXIT), (Op.EXIT, Op.CHILD)} <= seen
    full = list(plain)
    change_child(rng.random, full, 1, 5)
    assert full == plain


def test_slow_programs_wait_once_work_came_late_though_the_description_has_no_waits() -> None:
    mutator = make()

    def waits() -> int:
        made = (mutator.mutate(program(5), 5000, slow=True) for _ in range(2000))
        return sum(call.op is Op.SLEEP for data in made for call in decode(data))

    assert not any(call.op is Op.SLEEP for call in Generator(TARGET, random.Random(1)).program(99))
    before = waits()
    mutator.expect_late_work()
    assert waits() > before + 20
