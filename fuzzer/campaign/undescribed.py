# SPDX-License-Identifier: Apache-2.0
"""A driver without a description: one that fits any device, and what was learned of it.

The first is written before the fuzzing, with an ioctl of any number in it; compare
hints find the numbers. The second is written after it, from the corpus: the ioctl
numbers and sizes, and the texts, that reached code. Both are there to be edited.
"""

from __future__ import annotations

import errno
import json
import re
from collections import defaultdict
from collections.abc import Container, Iterable, Sequence
from pathlib import Path

from fuzzer.errors import BadInputError
from fuzzer.machine.channel import Status
from fuzzer.machine.machine import LostMachineError
from fuzzer.machine.provision import Guest
from fuzzer.program.program import FLAG_VALUE, Op, Program
from fuzzer.program.wire import decode
from fuzzer.target.device import Device, description_of
from fuzzer.target.target import Target

DESCRIPTION, LEARNED = "target.yaml", "learned.yaml"

_POOL = 'pools:\n  word: ["", "0", "1", "a", "abc", "start", "stop"]\n'
_CALLS = """\
calls:
  - read: [1, 64, 4096]
    weight: 2
  - pread: [1, 64, 4096]
  - pwrite: ["{word}"]
  - lseek: true
  - poll: true
  - mmap: true
  - open: true
  - close: true
"""
_WRITE = """\
  - write: ["{word}", "{word}\\n", "{word} {word}\\n", "{word}={word}\\n", "{word}:{word}"]
    weight: 2
"""
_ANY = """\
  - ioctl: any
    payload: [0, 4, 8, 16, 32, 64, 256]
    weight: 4
"""
_OBJECT = re.compile(r"^\s*obj-(?:m|\$\(\w+\))\s*[:+]?=\s*([\w-]+)\.o", re.MULTILINE)
_DIRECTIONS = ("no direction", "written by the caller", "read by the caller", "written and read")
_UNKNOWN = frozenset({errno.ENOTTY, errno.EBADF, errno.ENODEV})
_MAX_NUMBERS, _MAX_TEXTS, _MAX_TEXT = 64, 24, 64


def describe(device: str, module: Path, directory: Path) -> Path:
    """Write a description of a device of which nothing is known, and return its path.

    ``module`` is a .ko or a directory with a Kbuild file.

    Raises:
        BadInputError: there is no such module.
    """
    module = module.absolute()
    name, key = _module_name(module)
    head = _head([Device(device)], key, module, name, "Made for a driver without a description.")
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / DESCRIPTION
    path.write_text(head + _POOL + _CALLS + _WRITE + _ANY)
    return path


def _head(devices: Sequence[Device], key: str, module: Path, name: str, what: str) -> str:
    return (
        f"# {what} Edit it, and run: pkvfuzz run --target THIS\n"
        f"version: 1\nname: {name}\n{description_of(devices)}"
        f"module: {{{key}: {json.dumps(str(module))}, name: {name}}}\n"
    )


def _module_name(module: Path) -> tuple[str, str]:
    """Return the module's name and how a description calls what it is made of."""
    if module.suffix == ".ko" and module.is_file():
        return module.stem.replace("-", "_"), "object"
    for name in ("Kbuild", "Makefile"):
        path = module / name
        if path.is_file() and (found := _OBJECT.search(path.read_text(errors="replace"))):
            return found[1].replace("-", "_"), "source"
    raise BadInputError(
        f"--module {module}: it must be a .ko file, or a directory with a Kbuild file "
        "in which obj-m names the module"
    )


def known_ioctls(guest: Guest, programs: Iterable[bytes]) -> frozenset[int]:
    """Return the numbers of ioctls in programs that the driver does not refuse as unknown."""
    known: set[int] = set()
    machine = guest.restore()
    try:
        for program in programs:
            try:
                run = machine.run(program)
            except LostMachineError:
                run = None
            if run is None or run.status is not Status.OK:
                machine.close()
                machine = guest.restore()
                continue
            for call, result in zip(decode(program), run.results, strict=False):
                if call.op is Op.IOCTL and result.error not in _UNKNOWN:
                    known.add(call.cmd)
    finally:
        machine.close()
    return frozenset(known)


def learned(target: Target, programs: Iterable[Program], known: Container[int]) -> str:
    """Return a description with what programs of the corpus tell about a target.

    Of ioctls those with a ``known`` number are in it.
    """
    sizes: dict[int, set[int]] = defaultdict(set)
    values: dict[int, set[int]] = defaultdict(set)
    texts: set[bytes] = set()
    for program in programs:
        for call in program:
            if call.op is Op.IOCTL and call.cmd not in known:
                continue
            if call.op is Op.IOCTL and call.flags & FLAG_VALUE:
                values[call.cmd].add(call.arg)
            elif call.op is Op.IOCTL:
                sizes[call.cmd].add(len(call.data))
            elif call.op is Op.WRITE and 0 < len(call.data) <= _MAX_TEXT:
                texts.add(call.data)
    module = target.module
    path, key = (module.source, "source") if module.source else (module.object, "object")
    assert path is not None
    lines = [_head(target.devices, key, path, module.name, "Learned by fuzzing."), _POOL, _CALLS]
    if texts:
        shortest = sorted(texts, key=lambda text: (len(text), text))[:_MAX_TEXTS]
        lines.append("  - write:\n" + "".join(f"      - {_template(text)}\n" for text in shortest))
    for number in sorted({*sizes, *values})[:_MAX_NUMBERS]:
        lines.append(_ioctl(number, sizes.get(number, set()), values.get(number, set())))
    return "".join(lines)


def _template(text: bytes) -> str:
    return json.dumps(text.decode("latin-1").replace("{", "{{").replace("}", "}}"))


def _ioctl(number: int, sizes: set[int], values: set[int]) -> str:
    size, direction = number >> 16 & 0x3FFF, _DIRECTIONS[number >> 30]
    lines = f"  # {direction}, {size} bytes, type {number >> 8 & 0xFF:#x}, nr {number & 0xFF}\n"
    lines += f"  - ioctl: {number:#x}\n"
    if sizes:
        listed = sorted({*sizes, size} if size else sizes)[:8]
        return lines + f"    payload: {listed}\n    weight: 2\n"
    return lines + f"    value: {sorted(values)[:8]}\n"
