# SPDX-License-Identifier: Apache-2.0
"""Knowledge gained of a driver without a description, by fuzzing it.

The corpus tells which ioctl numbers and sizes, and which texts, reached code. It is
written down as a description, to be edited.
"""

from __future__ import annotations

import errno
import json
import time
from collections import defaultdict
from collections.abc import Container, Iterable

from fuzzer.campaign.description import (
    DriverFacts,
    described_ioctls,
    head,
    parameters,
    plain_calls,
    pools,
)
from fuzzer.campaign.source_calls import remarks_text
from fuzzer.driver.provision import Guest
from fuzzer.machine.channel_layout import Status
from fuzzer.machine.executor import Executor
from fuzzer.machine.machine import LostMachineError
from fuzzer.program.ops import FLAG_COMPAT, Op
from fuzzer.program.program import Program, is_request_call
from fuzzer.program.shrink.simpler import has_payload
from fuzzer.program.wire import decode

LEARNED = "learned.yaml"

# An ioctl by number, as a 32-bit program makes it or not, in a ring or not.
_Form = tuple[int, bool, bool]
_DIRECTIONS = ("no direction", "written by the caller", "read by the caller", "written and read")
_UNKNOWN = frozenset({errno.ENOTTY, errno.EBADF, errno.ENODEV, errno.EOPNOTSUPP})
_MOST_SECONDS, _PROGRAM_SECONDS = 20.0, 3.0
_MAX_NUMBERS, _MAX_TEXTS, _MAX_TEXT = 64, 24, 64


def known_ioctls(guest: Guest, programs: Iterable[bytes]) -> frozenset[int]:
    """Return the numbers of ioctls in programs that the driver does not refuse as unknown.

    Programs that take long are cut short, and after a while the rest is not tried.
    """
    known: set[int] = set()
    with_ioctls = [p for p in programs if any(call.op is Op.IOCTL for call in decode(p))]
    end = time.monotonic() + _MOST_SECONDS
    with Executor(guest.restore) as executor:
        for program in with_ioctls:
            if time.monotonic() > end:
                break
            try:
                run = executor.machine.run(program, _PROGRAM_SECONDS)
            except LostMachineError:
                run = None
            if run is None or run.status is not Status.OK:
                executor.close()
                continue
            for call, result in zip(decode(program), run.results, strict=False):
                if call.op is Op.IOCTL and result.error not in _UNKNOWN:
                    known.add(call.cmd)
    return frozenset(known)


def learned(facts: DriverFacts, programs: Iterable[Program], known: Container[int]) -> str:
    """Return a description with what programs of the corpus reveal of a driver.

    It has the ioctls whose number is ``known``, and those of the driver's source.
    """
    sizes: dict[_Form, set[int]] = defaultdict(set)
    values: dict[_Form, set[int]] = defaultdict(set)
    texts: set[bytes] = set()
    for program in programs:
        for call in program:
            if call.op is Op.IOCTL:
                if call.cmd not in known:
                    continue
                uring = is_request_call(call)
                compat = bool(call.flags & FLAG_COMPAT) and "compat" in facts.operations
                form = (call.cmd, compat and not uring, uring)
                if has_payload(call):
                    sizes[form].add(len(call.data))
                else:
                    values[form].add(call.arg)
            elif call.op is Op.WRITE and 0 < len(call.data) <= _MAX_TEXT:
                texts.add(call.data)
    named = {each.number for each in facts.described}
    lines = [head(facts, "Learned by fuzzing. Edit it, and run: pkvfuzz run THIS"), pools(facts)]
    lines.append("calls:\n" + ("  - reload: true\n" if facts.fails else "") + plain_calls(facts))
    if texts:
        shortest = sorted(texts, key=lambda text: (len(text), text))[:_MAX_TEXTS]
        lines.append("  - write:\n" + "".join(f"      - {_template(text)}\n" for text in shortest))
    lines.append(described_ioctls(facts))
    made = sorted(each for each in {*sizes, *values} if each[0] not in named)
    for each in made[:_MAX_NUMBERS]:
        lines.append(_ioctl(*each, sizes.get(each, set()), values.get(each, set())))
    lines.append(parameters(facts))
    lines.append(remarks_text(facts.interface, facts.root))
    return "".join(lines)


def _template(text: bytes) -> str:
    return json.dumps(text.decode("latin-1").replace("{", "{{").replace("}", "}}"))


def _ioctl(number: int, compat: bool, uring: bool, sizes: set[int], values: set[int]) -> str:
    if uring:
        listed = sorted(sizes)[:8] or [0]
        return f"  - uring_cmd: {number:#x}\n    payload: {listed}\n    weight: 2\n"
    size, direction = number >> 16 & 0x3FFF, _DIRECTIONS[number >> 30]
    lines = f"  # {direction}, {size} bytes, type {number >> 8 & 0xFF:#x}, nr {number & 0xFF}\n"
    lines += f"  - ioctl: {number:#x}\n" + "    compat: true\n" * compat
    if sizes:
        listed = sorted({*sizes, size} if size else sizes)[:8]
        return lines + f"    payload: {listed}\n    weight: 2\n"
    return lines + f"    value: {sorted(values)[:8]}\n"
