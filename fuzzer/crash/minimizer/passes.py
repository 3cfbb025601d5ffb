# SPDX-License-Identifier: Apache-2.0
"""Passes that make a reproducer smaller, in order: pure logic, without a machine.

A reduction is a generator. It yields a batch of reproducers, each smaller or simpler than
the last one accepted, the best first. It is sent the index of the one to go on with, or None
if none shows the crash. It ends when nothing is left to try, and returns the last one
accepted.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TypeAlias, TypeVar

from fuzzer.crash.reproducer import Reproducer
from fuzzer.program.links import link_of
from fuzzer.program.ops import OPERATIONS, File, Number, Op, Payload
from fuzzer.program.preload import shared_preload
from fuzzer.program.program import MAX_CALLS, MAX_PROGRAM_SIZE, N_FILES, Call, Fixup, Program
from fuzzer.program.shrink.descriptors import with_files
from fuzzer.program.shrink.lines import has_many_lines, lines_of
from fuzzer.program.shrink.plainer import (
    Layouts,
    is_text,
    plainer_text,
    shorter_members,
    smaller_members,
    uniform_lines,
)
from fuzzer.program.shrink.renaming import renamed
from fuzzer.program.shrink.simpler import normalized, smaller_numbers, without_conditions
from fuzzer.program.syntax import ACCESS
from fuzzer.program.wire import decode, encode

T = TypeVar("T")

Reduction: TypeAlias = Generator[Sequence[Reproducer], int | None, Reproducer]

# The most pieces of a payload that are left out one by one.
_PIECES = 256
_ROUNDS = 5
# The threads of a race.
_PAIR = 2


def fewest(
    items: Sequence[T], made: Callable[[Sequence[T]], Reproducer], *, pieces: int = 0
) -> Generator[Sequence[Reproducer], int | None, tuple[T, ...]]:
    """Leave out items, in ever smaller pieces, and return those that are needed.

    No single one of these can be left out, unless ``pieces`` bounds how small the pieces
    become. Later items are left out first. ``made`` makes the reproducer of items.
    """
    items = tuple(items)
    least = max(1, len(items) // pieces) if pieces else 1
    size = max(least, len(items) // 2)
    at = len(items)
    while items:
        starts = sorted(range(0, len(items), size), reverse=True)
        # Pieces behind the last one left out were tried together with it, so they come last.
        starts = [s for s in starts if s < at] + [s for s in starts if s >= at]
        rest = [(*items[:start], *items[start + size :]) for start in starts]
        index = yield [made(each) for each in rest]
        if index is not None:
            items, at = rest[index], starts[index]
            size = min(size, max(least, len(items) // 2))
        elif size == least:
            break
        else:
            size = max(least, size // 2)
            at = len(items)
    return items


def shorter_history(start: Reproducer, reset: Program = ()) -> Reduction:
    """Leave out programs of the history, or make them a part of the reproducer's own program.

    ``reset`` are the calls that are made after each program.
    """
    if not start.history:
        return start

    def with_history(history: Sequence[bytes]) -> Reproducer:
        return replace(start, history=tuple(history))

    history = yield from fewest(start.history, with_history)
    found = with_history(history)
    if history:
        made = [Reproducer(program) for program in _joined([*history, start.program], reset)]
        joined = [
            each
            for each in made
            if len(decode(each.program)) < MAX_CALLS and each.size <= MAX_PROGRAM_SIZE
        ]
        index = (yield joined) if joined else None
        if index is not None:
            return joined[index]
    return found


def _joined(programs: Sequence[bytes], reset: Program) -> Iterator[bytes]:
    """Yield programs joined to a single one: plainly, or with more of the reset between two."""
    yield b"".join(programs)
    # Programs that all begin with the same preload ran on a preloaded machine: it is made once.
    preload = shared_preload(programs)
    *earlier, last = [program.removeprefix(preload) for program in programs]
    yield preload + b"".join(each + _files_anew(each) for each in earlier) + last
    if reset:
        after = encode(reset)
        yield (
            preload
            + b"".join(each + _first_file(each) + after + _files_anew(each) for each in earlier)
            + (last + _first_file(last) + after)
        )


def _first_file(program: bytes) -> bytes:
    """Return a call that opens the first device as file 0, if the program opened another there."""
    calls = decode(program)
    replaced = any(call.op is Op.OPEN and call.file == 0 and call.arg for call in calls)
    return encode((Call(Op.OPEN, cmd=ACCESS["O_RDWR"]),)) if replaced else b""


def _files_anew(program: bytes) -> bytes:
    """Return calls that close files which a program may have left open, and open the first one."""
    opened = {call.file for call in decode(program) if OPERATIONS[call.op].file is File.OPENED}
    closing = [Call(Op.CLOSE, file=file) for file in sorted({0, *opened})]
    return encode((*closing, Call(Op.OPEN, cmd=ACCESS["O_RDWR"])))


def fewer_calls(start: Reproducer) -> Reduction:
    """Leave out calls, those that repeat others first, until none can be left out."""

    def with_calls(calls: Sequence[Call]) -> Reproducer:
        return replace(start, program=encode(tuple(calls)))

    calls: Sequence[Call] = decode(start.program)
    once = tuple(dict.fromkeys(calls))
    if len(once) < len(calls) and (yield [with_calls(once)]) is not None:
        calls = once
    calls = yield from fewest(calls, with_calls)
    return with_calls(calls)


def minimal(start: Reproducer, layouts: Layouts, reset: Program = ()) -> Reduction:
    """Make a reproducer minimal: history, calls, threads, conditions, arguments, text.

    ``reset`` are the calls that are made after each program.
    """
    found = yield from shorter_history(start, reset)
    found = yield from _choices(found, _lighter)
    found = yield from fewer_calls(found)
    for _ in range(_ROUNDS):
        before = found
        found = yield from _simpler(found, layouts)
        if found == before:
            return found
        found = yield from fewer_calls(found)
        if found == before:
            return found
    return found


def _simpler(start: Reproducer, layouts: Layouts) -> Reduction:
    found = yield from _choices(start, _whole_program)
    for number in reversed(range(len(decode(found.program)))):
        found = yield from _choices(found, _of_call(number, without_conditions))
    for number in reversed(range(len(decode(found.program)))):
        alike = _of_call(number, lambda call: uniform_lines(call, layouts))
        found = yield from _choices(found, alike)
    found = yield from _choices(found, lambda program: renamed(program, layouts))
    for number in reversed(range(len(decode(found.program)))):
        for form in (
            lambda call: smaller_members(call, layouts),
            lambda call: shorter_members(call, layouts),
            smaller_numbers,
            lambda call: plainer_text(call, layouts),
        ):
            found = yield from _choices(found, _of_call(number, form))
        found = yield from _shorter_text(found, number, layouts)
    return (yield from _choices(found, with_files))


def _choices(start: Reproducer, forms: Callable[[Program], Iterable[Program]]) -> Reduction:
    """Take the best form of a program that shows the crash, as long as there is one."""
    found = start
    while True:
        program = decode(found.program)
        made = [encode(each) for each in forms(program)]
        batch = [
            replace(found, program=each) for each in dict.fromkeys(made) if each != found.program
        ]
        index = (yield batch) if batch else None
        if index is None:
            return found
        found = batch[index]


def _of_call(
    number: int, forms: Callable[[Call], Iterable[Call]]
) -> Callable[[Program], Iterable[Program]]:
    """Return a function that puts the forms of one call into a program."""

    return lambda program: [_put(program, number, form) for form in forms(program[number])]


def _put(program: Program, number: int, form: Call) -> Program:
    """Put a form of a call in its place; for a call that races, in place of each equal one.

    Calls that are repeated to win a race are one call to a reader.
    """
    old = program[number]
    if not old.thread:
        return (*program[:number], form, *program[number + 1 :])
    return tuple(
        replace(form, thread=call.thread) if replace(call, thread=old.thread) == old else call
        for call in program
    )


def _lighter(program: Program) -> list[Program]:
    """Return the program with only the first line of each text, and without one of its threads.

    Both make later runs faster, which matters where a crash shows at a rate.
    """
    short = (
        replace(call, data=lines_of(call.data)[0])
        if OPERATIONS[call.op].payload is Payload.WRITTEN and call.data
        else call
        for call in program
    )
    threads = sorted({call.thread for call in program if call.thread}, reverse=True)
    return [
        tuple(short),
        *(
            tuple(call for call in program if call.thread != thread)
            for thread in (threads if len(threads) > _PAIR else ())
        ),
    ]


def _whole_program(program: Program) -> list[Program]:
    """Return the program without threads, conditions or files that it can do without."""
    usual = tuple(_usual(call) for call in program)
    serial = tuple(replace(call, thread=0) for call in program)
    found = [
        tuple(normalized(replace(call, thread=0)) for call in usual),
        serial,
        usual,
        tuple(normalized(call) for call in program),
        tuple(replace(call, fault=0) for call in program),
        tuple(replace(call, cut=0) for call in program),
    ]
    threads = sorted({call.thread for call in program if call.thread}, reverse=True)
    for thread in threads:
        # The calls of a thread are made before the part, or by a thread of a lower number.
        for other in range(thread):
            found.append(
                tuple(replace(c, thread=other) if c.thread == thread else c for c in program)
            )
    for number, call in enumerate(program):
        if call.thread:
            found.append((*program[:number], replace(call, thread=0), *program[number + 1 :]))
    for file in sorted({call.file for call in program if call.file}, reverse=True):
        found += [_with_file(program, file, other) for other in range(file)]
    return found


def _usual(call: Call) -> Call:
    forms = without_conditions(call)
    return forms[0] if forms else call


def _with_file(program: Program, file: int, other: int) -> Program:
    """Return the program with one file in place of another, at both ends of a dup."""

    def changed(call: Call) -> Call:
        made = replace(call, file=other) if call.file == file else call
        made = replace(made, fixups=tuple(_with_link(each, file, other) for each in made.fixups))
        if OPERATIONS[made.op].cmd is Number.FILE and made.cmd % N_FILES == file:
            made = replace(made, cmd=other)
        return made

    return tuple(map(changed, program))


def _with_link(fixup: Fixup, file: int, other: int) -> Fixup:
    link = link_of(fixup)
    if link is None or not link.is_file or link.number != file:
        return fixup
    return replace(link, number=other).fixup()


def _shorter_text(start: Reproducer, number: int, layouts: Layouts) -> Reduction:
    program = decode(start.program)
    call = program[number]
    if not is_text(call, layouts) or not call.data:
        return start

    def with_data(data: bytes) -> Reproducer:
        return replace(start, program=encode(_put(program, number, replace(call, data=data))))

    if has_many_lines(call.data):
        lines = yield from fewest(lines_of(call.data), lambda lines: with_data(b"".join(lines)))
        return with_data(b"".join(lines))
    data = yield from fewest(call.data, lambda data: with_data(bytes(data)), pieces=_PIECES)
    return with_data(bytes(data))
