# SPDX-License-Identifier: Apache-2.0
"""Written structs and positions of 64 bits arrive in a driver as they are described."""

from __future__ import annotations

import errno
import random
import shutil
import struct
from pathlib import Path

import pytest

from fuzzer.driver.provision import Guest
from fuzzer.kernel.kernel import Flavour
from fuzzer.program.csource.source import c_source
from fuzzer.program.generate import Generator
from fuzzer.program.ops import Op
from fuzzer.program.text import parse_program
from fuzzer.program.wire import encode
from fuzzer.target.target import load_target
from fuzzer.testing.driver_machine import DriverMachine
from tests.vm.guests import GuestFactory, returned, run, splat
from tests.vm.reproducers import compiled, title_of

pytestmark = pytest.mark.vm

_DIRECTORY = Path(__file__).parent.parent / "data" / "records"
_BEYOND = "pread(f0, 1, 0x300000000)"
_TITLE = "WARNING in records_look_at"
# struct records_state: position, sum, items, names.
_STATE = struct.Struct("<QQII")


@pytest.fixture(scope="module")
def records(guest: GuestFactory) -> Guest:
    """Return a guest whose driver takes structs by write."""
    return guest(Flavour.FAST, target=load_target(_DIRECTORY / "records.yaml"))


@pytest.mark.pkvfuzz(driver="tests/data/records/records.yaml", kernels=["fast"])
def test_structs_and_what_they_point_to_arrive(machine: DriverMachine) -> None:
    two = (
        '[records_item {name_len: 1, name: "a", data: &"\\x01\\x02", size: 2}, '
        'records_item {name_len: 5, name: "hello", data: &"\\x64", size: 1}]'
    )
    program = (
        f"write(f0, {two})\n"
        "read(f0, 24)\n"
        f"pwrite(f0, {two}, 0x123456789)\n"
        "pread(f0, 24, 0)\n"
        f"write(f0, {two}) !flags=0x40 !arg=0x1f\n"
        "write(f0, records_item {name_len: 13})\n"
        "write(f0, records_item {size: 1})\n"
    )
    result = machine.run(program)
    assert returned(result) == [
        *((64, 0), (24, 0), (64, 0), (24, 0)),
        *((-1, errno.EINVAL), (-1, errno.EINVAL), (-1, errno.EFAULT)),
    ]
    states = [_STATE.unpack(call.output) for call in result if call.output]
    assert states == [(0, 103, 2, 6), (0x123456789, 103, 2, 6)]


def test_a_position_beyond_32_bits_arrives(records: Guest, tmp_path: Path) -> None:
    with records.restore() as machine:
        near = run(machine, records, "pread(f0, 24, 0x200000000)\npread(f0, 1, -1)\n")
        assert returned(near) == [(24, 0), (-1, errno.EINVAL)]
        assert splat(near.log) is None
        found = splat(run(machine, records, _BEYOND).log)
    assert found is not None
    assert found.title == _TITLE
    program = parse_program(_BEYOND, records.target, "test")
    shutil.copy(_DIRECTORY / "records.h", tmp_path)
    (tmp_path / "repro.c").write_text(c_source(program, records.target, ""))
    assert title_of(records, compiled(tmp_path)) == _TITLE


def test_the_generator_writes_structs_that_are_taken_and_finds_the_position(
    records: Guest,
) -> None:
    generator = Generator(records.target, random.Random(1))
    programs = [generator.program(8) for _ in range(60)]
    taken = tried = 0
    titles = set()
    with records.restore() as machine:
        for program in programs:
            result = machine.run(encode(program))
            for call, done in zip(program, result.results, strict=True):
                if call.op is Op.WRITE:
                    tried += 1
                    taken += done.ret > 0
            if found := splat(result.log):
                titles.add(found.title)
    assert taken / tried > 0.6
    assert titles == {_TITLE}
