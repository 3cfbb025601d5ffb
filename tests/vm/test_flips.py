# SPDX-License-Identifier: Apache-2.0
"""Buffers that change while a call runs, in a driver that reads a count twice."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

import pytest

from fuzzer.driver.driver import find_bug
from fuzzer.driver.provision import Guest
from fuzzer.kernel.kernel import Flavour
from fuzzer.program.csource.source import c_source
from fuzzer.program.text import load_program
from fuzzer.target.target import Target, load_target
from tests.vm.guests import GuestFactory, returned, run, splat
from tests.vm.reproducers import compiled, title_of

pytestmark = pytest.mark.vm

BUG = "load-twice"
# Of a call with a flip some 5 to 20 % see the other value, on a busy host fewer.
RUNS = 400
CONFIGURE = (
    "ioctl(f0, CMDP_IOC_CONFIGURE, {header.magic: CMDP_MAGIC, header.version: CMDP_VERSION, "
    "header.length: 48, mode: CMDP_ONCE, n_channels: 1})\n"
)
LOAD = (
    "ioctl(f0, CMDP_IOC_LOAD, {header.magic: CMDP_MAGIC, header.version: CMDP_VERSION, "
    'header.length: 24, entries: &"aaaa1111", n_entries: 1})\n'
)


@pytest.fixture(scope="module")
def cmdp() -> Target:
    """Return the description of the driver."""
    return load_target(Path(__file__).parent.parent / "drivers" / "cmdp" / "cmdp.yaml")


@pytest.fixture(scope="module")
def good(guest: GuestFactory, cmdp: Target) -> Guest:
    """Return a guest of two vCPUs with the driver as it should be."""
    return guest(Flavour.FAST, target=cmdp, cpus=2)


def test_the_driver_sees_either_value(good: Guest) -> None:
    seen = set()
    with good.restore() as machine:
        for _ in range(RUNS):
            result = run(machine, good, CONFIGURE + ("flip(16, 0xffff)\n" + LOAD) * 8)
            assert splat(result.log) is None
            seen |= set(returned(result)[2::2])
            if len(seen) > 1:
                break
    assert seen == {(0, 0), (-1, errno.EINVAL)}


def test_the_buffer_is_as_it_was_when_the_call_has_returned(good: Guest) -> None:
    with good.restore() as machine:
        result = run(machine, good, CONFIGURE + ("flip(16, 0xffff)\n" + LOAD + LOAD) * 40)
    assert all(call.output[16:20] == b"\1\0\0\0" for call in result.results[2:] if call.output)
    # A flip is of the next call alone.
    assert set(returned(result)[3::3]) == {(0, 0)}


def test_a_place_beyond_the_buffer_and_a_call_without_one_are_left_alone(good: Guest) -> None:
    with good.restore() as machine:
        text = (
            "flip(29, 7)\n" + LOAD + 'flip(0xffff:8, 7)\nwrite(f0, "")\nflip(0, 7)\nread(f0, 4)\n'
        )
        result = run(machine, good, CONFIGURE + text * 10)
    assert set(returned(result)[2::6]) == {(0, 0)}
    assert set(returned(result)[6::6]) == {(0, 0)}


def test_on_one_vcpu_nothing_changes(guest: GuestFactory, cmdp: Target) -> None:
    alone = guest(Flavour.FAST, BUG, target=cmdp)
    with alone.restore() as machine:
        for _ in range(20):
            result = run(machine, alone, CONFIGURE + ("flip(16, 64)\n" + LOAD) * 16)
            assert set(returned(result)) == {(0, 0)}
            assert splat(result.log) is None


def test_a_double_fetch_shows_without_the_executor(
    guest: GuestFactory, cmdp: Target, tmp_path: Path
) -> None:
    bug = find_bug(cmdp, BUG)
    program = load_program(bug.path.with_suffix(".prog"), cmdp)
    for header in cmdp.headers:
        shutil.copy(header, tmp_path)
    (tmp_path / "repro.c").write_text(c_source(program, cmdp, bug.expect))
    patched = guest(Flavour.FULL, BUG, target=cmdp, cpus=2)
    assert title_of(patched, compiled(tmp_path)) == bug.expect
