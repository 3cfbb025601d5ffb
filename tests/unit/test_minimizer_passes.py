# SPDX-License-Identifier: Apache-2.0
"""Reductions, against crashes that exist only here: what is left is needed, and minimal."""

from __future__ import annotations

import random
from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from fuzzer.crash.minimizer.passes import Reduction, minimal, shorter_history
from fuzzer.crash.reproducer import Reproducer
from fuzzer.paths import project_root
from fuzzer.program.links import links
from fuzzer.program.ops import FLAG_VECTOR, Op
from fuzzer.program.program import Call, Program
from fuzzer.program.shrink.plainer import members
from fuzzer.program.text import format_program, parse_program
from fuzzer.program.text_parser import struct_layouts
from fuzzer.program.wire import decode, encode
from fuzzer.target.target import load_target

TARGET = load_target(project_root() / "module" / "pkv.yaml")
LAYOUTS = struct_layouts(TARGET)
NOISE = tuple(
    parse_program(
        """\
write(f0, "key=value\\n")
read(f0, 64) cut=8
ioctl(f0, PKV_IOC_CLEAR)
lseek(f0, 7, SEEK_SET)
open(f2, O_RDONLY)
read(f2, 100) fail=3
ioctl(f0, PKV_IOC_LIST, {buf: &[96], room: 2})
""",
        TARGET,
        "noise",
    )
)


def drive(reduction: Reduction, shows: Callable[[Reproducer], bool]) -> tuple[Reproducer, int]:
    """Run a reduction; returns what is left and the number of reproducers tried."""
    tried = 0
    try:
        batch = next(reduction)
        while True:
            index = None
            for number, each in enumerate(batch):
                tried += 1
                if shows(each):
                    index = number
                    break
            batch = reduction.send(index)
    except StopIteration as end:
        left: Reproducer = end.value
        return left, tried


def minimized(program: Program, shows: Callable[[Program], bool]) -> tuple[str, int]:
    start = Reproducer(encode(program))
    assert shows(program)
    left, tried = drive(minimal(start, LAYOUTS), lambda each: shows(decode(each.program)))
    assert shows(decode(left.program))
    assert left.size <= start.size
    return format_program(decode(left.program), TARGET), tried


def among_noise(needed: str, size: int = 40) -> Program:
    rng = random.Random(1)
    calls = list(parse_program(needed, TARGET, "needed"))
    while len(calls) < size:
        calls.insert(rng.randrange(len(calls) + 1), rng.choice(NOISE))
    return tuple(calls)


def stored(program: Program) -> list[tuple[str, bytes]]:
    """Return what happens to keys, as a driver with a stale pointer would see it."""
    events = []
    for call in program:
        if call.op is Op.WRITE and b"=" in call.data and call.data.endswith(b"\n"):
            events.append(("write", call.data.split(b"=")[0]))
        elif (values := members(call, LAYOUTS)) and "key_len" in values:
            length, key = values["key_len"], values.get("key")
            assert isinstance(length, int)
            events.append(("delete", key[:length] if isinstance(key, bytes) else b""))
        elif call.op is Op.READ:
            events.append(("read", b""))
    return events


def test_of_forty_calls_those_that_are_needed_are_left() -> None:
    program = among_noise(
        'write(f0, "hello=1\\n")\n'
        'ioctl(f0, PKV_IOC_DELETE, {key_len: 5, key: "hello"})\n'
        "read(f0, 100)"
    )

    def shows(calls: Program) -> bool:
        written, deleted = set(), False
        for event, key in stored(calls):
            if event == "write":
                written.add(key)
            elif event == "delete" and key and key in written:
                deleted = True
            elif event == "read" and deleted:
                return True
        return False

    left, tried = minimized(program, shows)
    assert left == (
        'write(f0, "a=\\n")\nioctl(f0, PKV_IOC_DELETE, {key_len: 1, key: "a"})\nread(f0, 0)\n'
    )
    assert tried < 400


def keys_written(program: Program) -> set[bytes]:
    return {
        line.split(b"=")[0]
        for call in program
        if call.op is Op.WRITE
        for line in call.data.split(b"\n")[:-1]
        if b"=" in line
    }


def test_a_text_of_many_lines_has_lines_that_are_alike() -> None:
    text = "".join(f"k{number:02x}q=value{number % 3}\\n" for number in range(120))
    start = parse_program(
        f'read(f0, 1)\nwrite(f0, "{text}")\nwrite(f0, "new=1\\n")', TARGET, "many"
    )
    left, tried = minimized(start, lambda program: len(keys_written(program)) > 100)
    numbered = "".join(f"{number:03}=\\n" for number in range(120))
    (line,) = left.splitlines()
    lines = line.removeprefix('write(f0, "').removesuffix('")').split("\\n")[:-1]
    # No letter was looked at alone.
    assert len(lines) == 101
    assert all(f"{each}\\n" in numbered for each in lines)
    assert tried < 800


def test_a_text_of_many_lines_may_need_no_more_than_their_number() -> None:
    text = "".join(f"k{number % 7}=v\\n" for number in range(500))
    start = parse_program(f'write(f0, "{text}")', TARGET, "many")
    left, tried = minimized(
        start, lambda program: sum(c.data.count(b"=") for c in program if c.op is Op.WRITE) > 100
    )
    assert left == 'write(f0, "' + 101 * r"a=\n" + '")\n'
    assert tried < 800


def test_a_fault_that_is_needed_stays_and_others_go() -> None:
    program = among_noise("ioctl(f0, PKV_IOC_LIST, {buf: &[48], room: 1}) fail=2")

    def shows(calls: Program) -> bool:
        return any(call.op is Op.IOCTL and call.fault == 2 for call in calls)

    assert minimized(program, shows)[0] == "ioctl(f0, PKV_IOC_LIST, {}) fail=2\n"


def test_a_number_that_is_a_descriptor_becomes_the_file() -> None:
    given = r"\x00\x00\x00\x00\x04\x00\x00\x00"
    text = f'read(f0, 8)\ncreate(f5, EVENTFD)\nioctl(f0, 0x1234, "{given}")\n'
    program = parse_program(text, TARGET, "test")

    def shows(found: Program) -> bool:
        created = [call.file for call in found if call.op is Op.CREATE]
        for call in found:
            words = [int.from_bytes(call.data[at : at + 4], "little") for at in range(0, 8, 4)]
            taken = [link.number for link in links(call.fixups) if link.is_file and link.at == 4]
            if call.op is Op.IOCTL and created and (words[1] == 4 or taken == created):
                return True
        return False

    text, _ = minimized(program, shows)
    zeros = r"\x00" * 8
    assert text == f'create(f0, EVENTFD)\nioctl(f0, 0x1234, "{zeros}") @4=f0\n'


def test_threads_that_are_not_needed_go() -> None:
    text = "[1] read(f0, 64)\n[2] close(f0)\n[3] read(f0, 32)\n"
    program = parse_program(text, TARGET, "test")

    def serial(calls: Program) -> bool:
        return any(call.op is Op.CLOSE for call in calls)

    def racing(calls: Program) -> bool:
        threads = {call.op: call.thread for call in calls}
        pair = threads.get(Op.READ), threads.get(Op.CLOSE)
        return None not in pair and 0 not in pair and pair[0] != pair[1]

    assert minimized(program, serial)[0] == "close(f0)\n"
    assert minimized(program, racing)[0] == "[1] read(f0, 0)\n[2] close(f0)\n"


def test_what_races_is_made_simpler_wherever_it_is_repeated() -> None:
    text = "".join(f"k{number}=v\\n" for number in range(12))
    lines = "".join(
        f'[{thread}] write(f0, "{text}")\n[{thread}] read(f0, 64)\n' * 3 for thread in (1, 2, 3)
    )
    program = parse_program(lines, TARGET, "race")

    def shows(calls: Program) -> bool:
        """Tell whether writes and reads, each of them alike, are on two threads, in twos."""
        writes = [(call.thread, call.data) for call in calls if call.op is Op.WRITE and call.data]
        reads = [(call.thread, call.arg) for call in calls if call.op is Op.READ]
        return len(writes) > 1 < len(reads) and all(
            len({value for _, value in each}) == 1 and len({thread for thread, _ in each} - {0}) > 1
            for each in (writes, reads)
        )

    left, tried = minimized(program, shows)
    assert sorted(line[4:] for line in left.splitlines()) == [
        "read(f0, 0)",
        "read(f0, 0)",
        'write(f0, "a")',
        'write(f0, "a")',
    ]
    assert tried < 120


def test_a_length_that_is_needed_is_kept_to_the_byte() -> None:
    program = parse_program(f'write(f3, "Key={"xY3z" * 30}\\nb=c\\n") split=2', TARGET, "test")

    def shows(calls: Program) -> bool:
        return any(call.op is Op.WRITE and len(call.data) >= 65 for call in calls)

    left = decode(encode(parse_program(minimized(program, shows)[0], TARGET, "left")))
    (call,) = left
    assert len(call.data) == 65
    assert (call.file, call.flags & FLAG_VECTOR) == (0, 0)


def test_what_is_needed_of_a_history_is_found_in_few_tries() -> None:
    history = tuple(encode((Call(Op.READ, arg=number),)) for number in range(1000))
    needed = {history[17], history[640]}
    start = Reproducer(b"", history)
    left, tried = drive(shorter_history(start), lambda each: needed <= set(each.history))
    assert set(left.history) == needed
    assert tried < 120


def test_a_history_becomes_part_of_the_program_where_that_will_do() -> None:
    first, last = encode((Call(Op.READ, arg=1),)), encode((Call(Op.READ, arg=2),))

    def shows(each: Reproducer) -> bool:
        return first in (*each.history, each.program[: len(first)])

    start = Reproducer(last, (b"", first, b""))
    assert drive(shorter_history(start), shows)[0] == Reproducer(first + last)


def stale_poll(each: Reproducer) -> bool:
    """Tell whether a file that was polled is closed before the last program writes."""
    stale = False
    for program in (*each.history, each.program):
        polled: set[int] = set()
        for call in decode(program):
            if call.op is Op.POLL:
                polled.add(call.file)
            elif call.op is Op.CLOSE and call.file in polled:
                stale = True
            elif call.op is Op.WRITE and stale and program is each.program:
                return True
        stale = stale or bool(polled)
    return False


def test_a_history_that_needs_its_files_closed_becomes_part_of_the_program_with_that() -> None:
    earlier = encode(parse_program("open(f2)\npoll(f2, 5)", TARGET, "earlier"))
    start = Reproducer(encode(parse_program('write(f0, "a=\\n")', TARGET, "last")), (b"", earlier))
    left, _ = drive(minimal(start, LAYOUTS), stale_poll)
    assert left.history == ()
    assert format_program(decode(left.program), TARGET) == (
        'poll(f0, 0x0)\nclose(f0)\nwrite(f0, "")\n'
    )


def cleared_while_due(each: Reproducer) -> bool:
    """Return whether keys that expire are cleared, the module not loaded in between.

    With programs before it the machine is preloaded: the module stays as it was loaded.
    """
    reset = parse_program(RESET, TARGET, "reset")
    calls: list[Call] = []
    for program in (*each.history, each.program):
        calls += decode(program)
        # Else the module is as it was before it is reset.
        calls += reset if each.history else ()
    loaded = due = False
    for call in calls:
        if call.op is Op.LOAD:
            loaded, due = b"ttl" in call.data, False
        elif call.op is Op.WRITE:
            due = due or loaded
        elif call.op is Op.IOCTL and due:
            return True
    return False


RESET = "ioctl(f0, PKV_IOC_CLEAR)"


def test_what_is_seen_when_a_preloaded_machine_is_reset_becomes_a_plain_program() -> None:
    load = encode(parse_program('unload()\nload("ttl_ms=1000")\nopen(f0)', TARGET, "load"))
    write = encode(parse_program('write(f0, "a=\\n")', TARGET, "write"))
    start = Reproducer(load + write, (load, load + write + write))
    reset = parse_program(RESET, TARGET, "reset")
    assert cleared_while_due(start)
    left, _ = drive(minimal(start, LAYOUTS, reset), cleared_while_due)
    assert left.history == ()
    assert [call.op for call in decode(left.program)] == [Op.LOAD, Op.WRITE, Op.IOCTL]
    # Without those calls it needs a program before it.
    left, _ = drive(minimal(start, LAYOUTS), cleared_while_due)
    assert len(left.history) == 1


@settings(max_examples=60)
@given(st.data())
def test_the_result_shows_it_and_no_call_of_it_can_go(data: st.DataObject) -> None:
    ops = st.sampled_from([Op.READ, Op.WRITE, Op.CLOSE, Op.POLL, Op.LSEEK])
    calls = data.draw(
        st.lists(
            st.builds(Call, op=ops, arg=st.integers(0, 9), fault=st.integers(0, 2)), min_size=1
        )
    )
    # The crash needs some of the calls' operations in their order, or enough calls at all.
    needed = [call.op for call in calls if data.draw(st.booleans())]
    enough = data.draw(st.integers(len(needed), len(calls) + 1))

    def shows(program: Program) -> bool:
        left = iter([call.op for call in program])
        return len(program) >= enough or all(op in left for op in needed)

    start = tuple(calls)
    found, _ = drive(
        minimal(Reproducer(encode(start)), LAYOUTS), lambda each: shows(decode(each.program))
    )
    program = decode(found.program)
    assert shows(program)
    assert len(program) <= len(start)
    for number in range(len(program)):
        assert not shows(program[:number] + program[number + 1 :])
