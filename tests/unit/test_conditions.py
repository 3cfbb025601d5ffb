# SPDX-License-Identifier: Apache-2.0
"""Faults, odd buffers, threads, stretched payloads, and what programs cost."""

from __future__ import annotations

import random
import re
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuzzer.paths import project_root
from fuzzer.program.conditions import (
    ConditionMutator,
    buffer_size,
    can_fail,
    is_parallel,
    with_cut,
    with_fault,
    with_thread,
)
from fuzzer.program.cost import cost_of, is_slow
from fuzzer.program.generate import Generator
from fuzzer.program.mechanisms import Mechanisms
from fuzzer.program.mutate import Mutator
from fuzzer.program.ops import (
    FLAG_COMPAT,
    FLAG_NULL,
    FLAG_READONLY,
    FLAG_VALUE,
    FLAG_VECTOR,
    Op,
)
from fuzzer.program.program import Call
from fuzzer.program.resize import Resizer, length_places
from fuzzer.program.wire import decode, encode, encode_call, split
from fuzzer.target.target import load_target

TARGET = load_target(Path(__file__).parent / "data" / "demo" / "demo.yaml")
WRITE = Call(Op.WRITE, data=b"key=value\n")


def unchanged(data: bytes, max_size: int) -> bytes:
    return data[:max_size]


def mutants(program: tuple[Call, ...], n: int = 3000, **mechanisms: bool) -> list[Call]:
    mutator = Mutator(TARGET, random.Random(1), unchanged, mechanisms=Mechanisms(**mechanisms))
    data = encode(program)
    return [call for _ in range(n) for call in decode(mutator.mutate(data, 4096))]


def test_conditions_are_put_where_the_wire_form_has_them() -> None:
    chunk = with_thread(with_cut(with_fault(encode_call(WRITE), 0x1234), 0x567), 2)
    assert decode(chunk) == (
        Call(Op.WRITE, data=b"key=value\n", fault=0x1234, cut=0x567, thread=2),
    )
    assert is_parallel([encode_call(WRITE), chunk])
    assert not is_parallel([encode_call(WRITE)])


def test_the_buffer_that_can_be_cut_is_what_the_call_hands_over() -> None:
    assert buffer_size(encode_call(WRITE)) == 10
    assert buffer_size(encode_call(Call(Op.READ, arg=64))) == 64
    assert buffer_size(encode_call(Call(Op.PREAD, arg=1 << 40))) == 0x10000
    assert buffer_size(encode_call(Call(Op.IOCTL, data=bytes(8)))) == 8
    assert buffer_size(encode_call(Call(Op.IOCTL, flags=FLAG_VALUE, data=bytes(8)))) == 0
    assert buffer_size(encode_call(Call(Op.CLOSE))) == 0


def test_mutants_have_faults_and_cuts_unless_these_are_off() -> None:
    program = (WRITE, Call(Op.READ, arg=64))
    some, none = mutants(program), mutants(program, faults=False)
    assert {call.fault for call in some} >= {0, 1, 2, 3}
    assert {call.cut for call in some if call.op is Op.READ} >= {0, 1, 32, 64}
    assert not any(call.fault or call.cut for call in none)
    assert not any(call.fault for call in some if not can_fail(encode_call(call)))


def test_mutants_are_calls_of_every_form() -> None:
    found = mutants((WRITE, Call(Op.READ, arg=64), Call(Op.IOCTL, cmd=5, data=bytes(8))), 6000)
    reads = {call.flags for call in found if call.op is Op.READ}
    ioctls = {call.flags for call in found if call.op is Op.IOCTL}
    assert reads >= {0, FLAG_VECTOR, FLAG_NULL, FLAG_READONLY}
    assert ioctls >= {0, FLAG_COMPAT, FLAG_NULL, FLAG_READONLY}
    assert any(call.cmd for call in found if call.flags == FLAG_VECTOR)


def test_a_race_is_a_parallel_part_of_several_threads_within_the_limit() -> None:
    mutator = Mutator(TARGET, random.Random(1), unchanged, max_calls=40)
    before = encode((WRITE,) * 10)
    seen, rounds = set(), set()
    for _ in range(300):
        calls = decode(mutator.race(before, 8192))
        threads = {call.thread for call in calls} - {0}
        seen.add(len(threads))
        assert len(calls) <= 40
        rounds.add(sum(not a.thread and b.thread > 0 for a, b in pairwise(calls)))
    assert seen >= {2, 3}
    assert rounds >= {1, 2, 3}
    with pytest.raises(ValueError, match="max_calls is 7"):
        Mutator(TARGET, random.Random(1), unchanged, max_calls=7).race(before, 8192)


def test_slow_mutants_reload_the_module_and_only_when_asked_for() -> None:
    mutator = Mutator(TARGET, random.Random(1), unchanged)
    data = encode((WRITE,))
    slow = [decode(mutator.mutate(data, 4096, slow=True)) for _ in range(400)]
    fast = [decode(mutator.mutate(data, 4096)) for _ in range(400)]
    assert not any(call.op in {Op.LOAD, Op.UNLOAD} for program in fast for call in program)
    # Not by way of the corpus, either.
    for _ in range(20):
        mutator.note(encode((Call(Op.CLOSE), Call(Op.UNLOAD), Call(Op.LOAD), Call(Op.OPEN))))
        mutator.note(encode((Call(Op.READ, arg=1), WRITE)))
    fast = [decode(mutator.mutate(data, 4096)) for _ in range(400)]
    assert not any(call.op in {Op.LOAD, Op.UNLOAD} for program in fast for call in program)
    cycle = [Op.CLOSE, Op.UNLOAD, Op.LOAD, Op.OPEN]
    assert any([call.op for call in program[:4]] == cycle for program in slow)
    off = Mutator(TARGET, random.Random(1), unchanged, mechanisms=Mechanisms(lifecycle=False))
    programs = [decode(off.mutate(data, 4096, slow=True)) for _ in range(400)]
    assert not any(call.op is Op.UNLOAD for program in programs for call in program)


def test_what_shows_some_time_after_loading_is_waited_for(tmp_path: Path) -> None:
    (tmp_path / "Kbuild").touch()
    (tmp_path / "d.yaml").write_text(
        "version: 1\nname: d\ndevice: /dev/d\nmodule: {source: ., name: d}\n"
        "calls: [read: [1], write: [x], sleep: [60], reload: ['ttl=20']]\n"
    )
    mutator = Mutator(load_target(tmp_path / "d.yaml"), random.Random(1), unchanged)
    data = encode((Call(Op.WRITE, data=b"x"), Call(Op.READ, arg=1)))
    wanted = [Op.LOAD, Op.OPEN, Op.WRITE, Op.SLEEP, Op.READ]
    programs = [[c.op for c in decode(mutator.mutate(data, 4096, slow=True))] for _ in range(1000)]
    assert sum(program[-5:] == wanted for program in programs) >= 5


def test_calls_of_other_programs_race_as_well() -> None:
    mutator = Mutator(TARGET, random.Random(1), unchanged, max_calls=40)
    rare = Call(Op.LSEEK, arg=0x777)
    mutator.note(encode((WRITE, rare)))
    mutator.note(encode((Call(Op.SLEEP, arg=1), rare)))
    made = [decode(mutator.race(encode((WRITE,)), 8192)) for _ in range(200)]
    raced = [{(call.op, call.arg) for call in calls if call.thread} for calls in made]
    assert sum((Op.LSEEK, 0x777) in each for each in raced) > 40
    assert not any(op is Op.SLEEP for each in raced for op, _ in each)


def test_calls_of_two_programs_of_the_corpus_meet_and_are_repeated() -> None:
    mutator = Mutator(TARGET, random.Random(1), unchanged, max_calls=40)
    before, rare = Call(Op.READ, arg=0x111), Call(Op.LSEEK, arg=0x777)
    mutator.note(encode((before, rare, Call(Op.DUP))))
    for number in range(50):
        mutator.note(encode((replace(WRITE, data=b"%d" % number),)))
    met, prepared = 0, 0
    for _ in range(400):
        calls = decode(mutator.race(encode((WRITE,)), 8192))
        assert len(calls) <= 40
        raced = [call.op for call in calls if call.thread]
        assert not {Op.SLEEP, Op.DUP} & set(raced)
        if raced == [Op.WRITE] * 4 + [Op.LSEEK] * 4:
            met += 1
            prepared += calls[0] == before
    # There are three kinds of calls, however many of the programs write.
    assert met > 10
    assert 0 < prepared < met


def test_on_a_preloaded_machine_calls_meet_that_were_found_on_such_a_one() -> None:
    mutator = Mutator(TARGET, random.Random(1), unchanged, max_calls=40)
    preload = encode((Call(Op.CLOSE), Call(Op.UNLOAD), Call(Op.LOAD, data=b"a=1"), Call(Op.OPEN)))
    rare = Call(Op.READ, arg=0x777)
    mutator.note(preload + encode((rare,)))
    for op in (Op.LSEEK, Op.POLL, Op.WRITE, Op.IOCTL):
        mutator.note(encode((Call(op),)))

    def meetings(preloaded: bytes) -> int:
        made = [decode(mutator.race(b"", 8192, preloaded)) for _ in range(400)]
        assert not any(call.op is Op.LOAD for calls in made for call in calls)
        return sum({(c.op, c.arg) for c in calls} == {(rare.op, rare.arg)} for calls in made)

    assert meetings(preload) > 3 * meetings(b"")


def test_the_module_is_loaded_anew_at_the_start_and_unloaded_at_the_end() -> None:
    pkv = load_target(project_root() / "module" / "pkv.yaml")
    mutator = Mutator(pkv, random.Random(1), unchanged, max_calls=40)
    data = encode((Call(Op.LSEEK, arg=7), Call(Op.LSEEK, arg=8), Call(Op.LSEEK, arg=9)))
    made = [decode(mutator.mutate(data, 4096, slow=True)) for _ in range(3000)]
    ops = [[call.op for call in calls] for calls in made if any(c.op is Op.UNLOAD for c in calls)]
    first = sum(Op.LSEEK not in each[: each.index(Op.UNLOAD)] for each in ops)
    last = sum(Op.LSEEK not in each[each.index(Op.UNLOAD) :] for each in ops)
    assert first > 0.4 * len(ops)
    assert last > 0.15 * len(ops)


def test_waits_stay_near_what_the_description_says() -> None:
    pkv = load_target(project_root() / "module" / "pkv.yaml")
    mutator = Mutator(pkv, random.Random(1), unchanged, min_calls=2, max_calls=2)
    data = encode((Call(Op.SLEEP, arg=60), WRITE))
    sleeps = [
        call.arg
        for _ in range(6000)
        for call in decode(mutator.mutate(data, 4096))
        if call.op is Op.SLEEP and call.arg != 60
    ]
    assert min(sleeps) == 5
    assert 1000 < max(sleeps) <= 60 * 24
    assert sum(sleeps) / len(sleeps) < 300


def test_machines_are_preloaded_with_each_of_the_described_parameters() -> None:
    pkv = load_target(project_root() / "module" / "pkv.yaml")
    mutator = Mutator(pkv, random.Random(1), unchanged, max_calls=40)
    used: Counter[bytes] = Counter()
    found = [decode(mutator.choose_preload(used)) for _ in range(300)]
    assert {tuple(call.op for call in calls) for calls in found} == {
        (Op.CLOSE, Op.UNLOAD, Op.LOAD, Op.OPEN)
    }
    params = {calls[2].data for calls in found}
    assert params >= {b"lock=rcu", b"lock=mutex ttl_ms=20", b"ttl_ms=1000"}
    assert b"" not in params
    # Those of the form that has most of them are not seldom for that.
    assert min(used.values()) > 0.8 * max(used.values())
    off = Mutator(pkv, random.Random(1), unchanged, mechanisms=Mechanisms(lifecycle=False))
    assert off.choose_preload(Counter()) == b""
    assert Mutator(TARGET, random.Random(1), unchanged).choose_preload(Counter()) == b""
    assert not is_slow(split(mutator.race(encode((WRITE,)), 8192)))


def test_what_waits_or_loads_is_filled_up_with_programs_of_the_corpus() -> None:
    mutator = Mutator(TARGET, random.Random(1), unchanged, max_calls=40)
    for number in range(8):
        mutator.note(encode((Call(Op.READ, arg=number),) * 3))
    mutator.note(encode((Call(Op.SLEEP, arg=1),) * 3))
    data = encode((WRITE,))
    programs = [decode(mutator.mutate(data, 4096, slow=True)) for _ in range(400)]
    loading = [program for program in programs if any(call.op is Op.LOAD for call in program)]
    lengths = [len(program) for program in loading]
    assert sum(lengths) / len(lengths) > 10
    assert max(lengths) <= 40
    assert sum(call.op is Op.SLEEP for program in loading for call in program) < len(loading)


def test_a_described_wait_and_described_parameters_are_used(tmp_path: Path) -> None:
    (tmp_path / "Kbuild").touch()
    (tmp_path / "d.yaml").write_text(
        "version: 1\nname: d\ndevice: /dev/d\nmodule: {source: ., name: d, params: own=1}\n"
        "pools: {mode: [x, y]}\n"
        "calls: [read: [1], sleep: [5, 60], reload: ['mode={mode}']]\n"
    )
    generator = Generator(load_target(tmp_path / "d.yaml"), random.Random(1))
    waits = [decode(chunk)[0] for _ in range(20) if (chunk := generator.wait())]
    assert {call.arg for call in waits} == {5, 60}
    loads = [
        call.data
        for _ in range(300)
        for call in decode(b"".join(generator.reload([0])))
        if call.op is Op.LOAD
    ]
    assert {b"mode=x", b"mode=y", b"own=1"} <= set(loads)
    assert {call.op for _ in range(300) for call in [generator.call()]} == {Op.READ}


def test_a_load_gets_other_parameters_of_the_description_and_keeps_some(tmp_path: Path) -> None:
    (tmp_path / "Kbuild").touch()
    (tmp_path / "d.yaml").write_text(
        "version: 1\nname: d\ndevice: /dev/d\nmodule: {source: ., name: d}\n"
        "calls: [read: [1], reload: ['depth={int:0..9}', 'width={int:0..9}']]\n"
    )
    mutator = Mutator(
        load_target(tmp_path / "d.yaml"), random.Random(1), lambda data, n: data[::-1]
    )
    load = encode((Call(Op.LOAD, data=b"depth=77"),))
    made = [call.data for _ in range(3000) for call in decode(mutator.mutate(load, 400))
            if call.op is Op.LOAD]  # fmt: skip
    changed = [data for data in made if data != b"depth=77"]
    meant = [data for data in changed if re.fullmatch(rb"((depth|width)=\d+ ?)+", data)]
    assert len(meant) > 0.65 * len(changed) > 100
    assert any(b"depth=" in data and b"width=" in data for data in meant)
    assert len(meant) < len(changed)


@given(st.binary(min_size=1, max_size=200), st.integers(0, 1000), st.integers(0, 1 << 32))
def test_resized_data_is_within_the_limit_or_left_alone(data: bytes, limit: int, seed: int) -> None:
    result = Resizer(random.Random(seed)).resize(data, limit)
    assert len(result) <= limit or result == data


def depth(data: bytes) -> int:
    """Return how deep records are in others, -1 if a length is not true."""
    deepest = 0
    while data:
        kind, length = int.from_bytes(data[:2], "big"), int.from_bytes(data[2:4], "big")
        if not 4 <= length <= len(data):
            return -1
        if kind == 0x202:
            inside = depth(data[4:length])
            if inside < 0:
                return -1
            deepest = max(deepest, 1 + inside)
        data = data[length:]
    return deepest


def test_binary_records_grow_with_their_lengths_and_those_around_them() -> None:
    data = b"\x02\x02\x00\x0c\x02\x02\x00\x08\x01\x01\x00\x04"
    assert depth(data) == 2
    known = {(each.place, each.width, each.start, each.end) for each in length_places(data)}
    assert {(2, 2, 0, 12), (6, 2, 4, 12), (10, 2, 8, 12)} <= known
    resizer = Resizer(random.Random(1))
    depths = Counter(depth(resizer.resize(data, 512)) for _ in range(4000))
    assert {1, 2, 3} <= depths.keys()
    assert depths[-1] < 3000
    long = [resizer.resize(data, 512) for _ in range(4000)]
    assert any(len(each) > 60 and depth(each) == 2 for each in long)


def test_words_are_resized_to_limits_and_records_repeated_with_a_number() -> None:
    resizer = Resizer(random.Random(1))
    results = {resizer.resize(b"a=1\n", 8192) for _ in range(4000)}
    assert {b"a" * 32 + b"=1\n", b"a" * 33 + b"=1\n", b"a=" + b"1" * 255 + b"\n"} <= results
    counts = {
        len(set(lines))
        for data in results
        if len(lines := data.split(b"\n")[:-1]) == len(set(lines))
    }
    assert {100, 101, 128} <= counts


def test_programs_that_load_or_wait_cost_as_much_as_many_others() -> None:
    def cost(*calls: Call) -> float:
        return cost_of(split(encode(calls)))

    long = Call(Op.WRITE, data=bytes(200))
    assert cost(WRITE) < cost(WRITE, WRITE) < cost(long) < cost(Call(Op.SLEEP, arg=20))
    assert cost(long) < cost(Call(Op.LOAD))
    for op in (Op.LOAD, Op.UNLOAD, Op.SLEEP):
        assert is_slow(split(encode((WRITE, Call(op)))))
    assert not is_slow(split(encode((long,) * 40)))
    assert cost(Call(Op.SLEEP, arg=1 << 60)) == cost(Call(Op.SLEEP, arg=2000))


def test_faults_of_a_load_reach_far() -> None:
    conditions = ConditionMutator(random.Random(1))
    load = encode_call(Call(Op.LOAD))
    nths = [decode(conditions.fail(load))[0].fault for _ in range(500)]
    assert min(nths) < 10
    assert max(nths) > 200
