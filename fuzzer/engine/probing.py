# SPDX-License-Identifier: Apache-2.0
"""Finds the calls and operands that a crash takes, by trials on fresh machines.

This takes a few dozen machines. It tells which of the calls that programs which crashed
have in common matter, as samples of such programs cannot.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from fuzzer.engine.traits import Condition, Operands, Pattern, kind_of, operands_of
from fuzzer.program.ops import SEEN, Op, ops_with, uses_arg
from fuzzer.program.wire import FIXUP_SIZE, HEADER, HEADER_SIZE

Programs: TypeAlias = tuple[tuple[bytes, ...], ...]
"""Programs to run one after the other, each as the wire forms of its calls."""

# A number tried in place of 0, and a byte that changes those of a payload.
_OTHER, _MIXED = 77, 0x15
_LONGEST_PAYLOAD = 4096
# Trials to find the least value that a number may have.
_STEPS = 12
# The number of last programs tried at first, and the factor by which it grows.
_FEW, _GROWTH = 4, 4
_FIELDS = {"flags": 2, "cmd": 4, "arg": 5, "fault": 7, "cut": 8}
_WIDTHS = {"flags": 8, "cmd": 32, "arg": 64, "fault": 16, "cut": 16}
# Fields that mean nothing where they are 0, and take one trial where they are not.
_OPTIONAL = frozenset({"flags", "fault", "cut"})
_OPEN = int(Op.OPEN)
_WITH_CMD = ops_with(lambda each: each.cmd in SEEN)

ChooseCall: TypeAlias = Callable[[tuple[Pattern, ...], bool], int | None]


class EnoughError(Exception):
    """All trials are used up."""


class CountedTrials:
    """Counts trials; ``crashes`` tells whether programs crash a fresh machine.

    After ``most`` trials EnoughError is raised.
    """

    def __init__(self, crashes: Callable[[Programs], bool], most: int) -> None:
        self._crashes = crashes
        self._most = most
        self.made = 0

    def crashes(self, programs: Programs) -> bool:
        """Tell whether programs crash a fresh machine, by one more trial."""
        if self.made >= self._most:
            raise EnoughError
        self.made += 1
        return self._crashes(tuple(program for program in programs if program))


@dataclass(frozen=True, slots=True)
class Cause:
    """Calls that cause a crash, in this order. ``lasts``: an earlier program may make some.

    ``programs`` are such calls.
    """

    patterns: tuple[Pattern, ...]
    lasts: bool = False
    programs: Programs = ()


def find_cause(
    programs: Programs, trials: CountedTrials, choose: ChooseCall = lambda kinds, lasts: None
) -> Cause | None:
    """Return the cause of a crash, given programs of which the last crashed.

    ``choose`` is given a pattern for each call of the cause, and whether their effect lasts;
    it may return the index of the only call whose operands are to be looked at. None is
    returned if the programs do not crash a fresh machine, or have too many calls for the
    trials.
    """
    try:
        number = 1
        while not trials.crashes(programs[-number:]):
            if number >= len(programs):
                return None
            number = max(_FEW, _GROWTH * number)
        programs = shortest(programs[-number:], trials)
    except EnoughError:
        return None
    lasts = len(programs) > 1
    kinds = tuple(Pattern(kind_of(chunk)) for program in programs for chunk in program)
    return Cause(patterns_of(programs, trials, choose(kinds, lasts)), lasts, programs)


def shortest(programs: Programs, trials: CountedTrials) -> Programs:
    """Return the fewest of the programs' calls that still crash.

    Raises:
        EnoughError: all trials are used up.
    """
    calls = [(number, chunk) for number, program in enumerate(programs) for chunk in program]
    size = len(calls) // 2
    while size:
        at = len(calls) - size
        while at > -size:
            rest = calls[: max(0, at)] + calls[at + size :]
            if rest and trials.crashes(_joined(rest)):
                calls = rest
            at -= size
        size = size // 2 if size > 1 else 0
    return tuple(program for program in _joined(calls) if program)


def _joined(calls: Sequence[tuple[int, bytes]]) -> Programs:
    n = max(number for number, _ in calls) + 1
    return tuple(tuple(chunk for at, chunk in calls if at == number) for number in range(n))


def patterns_of(
    programs: Programs, trials: CountedTrials, only: int | None = None
) -> tuple[Pattern, ...]:
    """Return a pattern for each call of programs that crash, with conditions on its operands.

    If ``only`` is the index of a call, the others have no conditions. When the trials are
    used up, operands that were not tried have to be as they are.
    """
    found: list[Pattern] = []
    n = 0
    for number, program in enumerate(programs):
        for at, chunk in enumerate(program):
            n += 1
            if only is not None and n - 1 != only:
                found.append(Pattern(kind_of(chunk)))
                continue

            def crashes(
                changed: bytes,
                number: int = number,
                at: int = at,
                program: tuple[bytes, ...] = program,
            ) -> bool:
                instead = (*program[:at], changed, *program[at + 1 :])
                return trials.crashes((*programs[:number], instead, *programs[number + 1 :]))

            found.append(_pattern_of(chunk, crashes))
    return tuple(dict.fromkeys(found))


def _pattern_of(chunk: bytes, crashes: Callable[[bytes], bool]) -> Pattern:
    conditions = tuple(_conditions(chunk, crashes))
    return Pattern(kind_of(chunk), conditions)


def _conditions(chunk: bytes, crashes: Callable[[bytes], bool]) -> Iterator[Condition]:
    operands = operands_of(chunk)
    words = [(name, value) for name, value in operands.items() if name.startswith("word")]
    with contextlib.suppress(EnoughError):
        if words and crashes(_mixed(chunk)):
            words = []
    for name, value in (*_numbers(chunk, operands), *words):
        try:
            condition = _condition(chunk, name, value, crashes)
        except EnoughError:
            condition = Condition(name, value, value)
        if condition is None:
            continue
        found = _on_bytes(chunk, name, crashes) if condition.least == condition.most else []
        yield from found or [condition]


def _on_bytes(chunk: bytes, name: str, crashes: Callable[[bytes], bool]) -> list[Condition]:
    """Return conditions on the bytes of a word that matter; none if all do, or it is no word."""
    operands = operands_of(chunk)
    if not name.startswith("word"):
        return []
    first = 4 * int(name.removeprefix("word"))
    names = [f"byte{number}" for number in range(first, first + 4)]
    names = [each for each in names if each in operands]
    try:
        matter = [each for each in names if not crashes(_set(chunk, each, operands[each] ^ _MIXED))]
    except EnoughError:
        return []
    if len(matter) == len(names):
        return []
    return [Condition(each, operands[each], operands[each]) for each in matter]


def _numbers(chunk: bytes, operands: Operands) -> Iterator[tuple[str, int]]:
    """Yield the operands of a call that may matter, apart from its payload."""
    for name in ("fault", "cut", "flags"):
        if operands[name]:
            yield name, operands[name]
    if uses_arg(Op(chunk[0]), operands["flags"]):
        yield "arg", operands["arg"]
    if "cmd" in operands and chunk[0] in _WITH_CMD:
        yield "cmd", operands["cmd"]
    if operands["length"]:
        yield "length", operands["length"]


def _condition(
    chunk: bytes, name: str, value: int, crashes: Callable[[bytes], bool]
) -> Condition | None:
    """Return a condition on an operand, found by trying other values; None if it may be any."""

    def does(new: int) -> bool:
        return crashes(_set(chunk, name, new))

    if name in _OPTIONAL:
        return None if does(0) else Condition(name, least=1)
    most = (1 << (_WIDTHS.get(name) or 32)) - 1
    if name == "length":
        most = _LONGEST_PAYLOAD
    if chunk[0] == _OPEN and name == "arg":
        # There are few files, and files of one kind are next to each other.
        least = value - 1 if value and does(value - 1) else value
        return Condition(name, least, most if does(value + 1) else value)
    greater = min(most, 2 * value + 1) if value else _OTHER
    more = greater > value and does(greater)
    if not value or does(0):
        return None if more else Condition(name, most=value)
    return Condition(name, _least(value, does), most if more else value)


def _least(value: int, does: Callable[[int], bool]) -> int:
    """Return about the least value that a number may have which has to be more than 0."""
    low, high = 0, value
    if not does(value - 1):
        return value
    for _ in range(_STEPS):
        if high - low < 2:
            break
        middle = (low + high) // 2 if high < 4 * low else math.isqrt(max(low, 1) * high)
        middle = min(max(middle, low + 1), high - 1)
        if does(middle):
            high = middle
        else:
            low = middle
    return high


def _set(chunk: bytes, name: str, value: int) -> bytes:
    """Return a call with another value for the operand of that name."""
    body = HEADER_SIZE + FIXUP_SIZE * chunk[3]
    if name == "length":
        data = chunk[body:][:value].ljust(value, b"\0")
        return chunk[:16] + value.to_bytes(2, "little") + chunk[18:body] + data
    if name.startswith("word"):
        at = body + 4 * int(name.removeprefix("word"))
        end = min(len(chunk), at + 4)
        return chunk[:at] + value.to_bytes(4, "little")[: end - at] + chunk[end:]
    if name.startswith("byte"):
        at = body + int(name.removeprefix("byte"))
        return chunk[:at] + bytes((value & 0xFF,)) + chunk[at + 1 :]
    fields = list(HEADER.unpack_from(chunk))
    fields[_FIELDS[name]] = value
    return HEADER.pack(*fields) + chunk[HEADER_SIZE:]


def _mixed(chunk: bytes) -> bytes:
    """Return a call with another payload of the same length."""
    body = HEADER_SIZE + FIXUP_SIZE * chunk[3]
    return chunk[:body] + bytes(byte ^ _MIXED for byte in chunk[body:])
