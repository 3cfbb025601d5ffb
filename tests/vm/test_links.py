# SPDX-License-Identifier: Apache-2.0
"""Results that one call gives and another takes: handles, and descriptors that become files."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

import pytest

from fuzzer.crash.observe import run_program
from fuzzer.driver.driver import build_driver
from fuzzer.driver.provision import Guest, ensure_guest
from fuzzer.kernel.kernel import Kernel
from fuzzer.machine.accel import Accel
from fuzzer.machine.channel_layout import Status
from fuzzer.program.csource.source import c_source
from fuzzer.program.linking import Result, linked
from fuzzer.program.text import parse_program
from fuzzer.program.wire import split
from fuzzer.target.target import Target, load_target
from tests.vm.guests import returned, run, wire
from tests.vm.reproducers import compiled, title_of

pytestmark = pytest.mark.vm

SOURCE = Path(__file__).parent.parent / "drivers" / "strangers" / "lockers"
STALE = """\
ioctl(f0, LOCKERS_RENT, {number: ->h0})
ioctl(f0, LOCKERS_BACK, {number: h0})
ioctl(f0, LOCKERS_PUT, {number: h0, value: 7})
"""
EMPTIED = """\
h0 = ioctl(f0, LOCKERS_KEY)
adopt(f1, h0)
ioctl(f1, KEY_EMPTY)
ioctl(f1, KEY_TURN, "\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00")
"""


@pytest.fixture(scope="module")
def lockers(tmp_path_factory: pytest.TempPathFactory, fast_kernel: Kernel, accel: Accel) -> Guest:
    """Return a guest with a driver that hands out numbers and descriptors."""
    path = tmp_path_factory.mktemp("lockers") / "lockers.yaml"
    calls = "".join(
        f"  - {{ioctl: LOCKERS_{name}, struct: lockers_request}}\n"
        for name in ("RENT", "PUT", "BACK")
    )
    path.write_text(
        f"version: 1\nname: lockers\ndevice: /dev/lockers\n"
        f"module: {{source: {SOURCE}, name: lockers}}\nheader: {SOURCE}/lockers.h\n"
        f"calls:\n{calls}  - ioctl: LOCKERS_KEY\n  - ioctl: KEY_TURN\n  - ioctl: KEY_EMPTY\n"
    )
    target = load_target(path)
    return ensure_guest(target, fast_kernel, build_driver(target, fast_kernel), accel)


def errors(guest: Guest, text: str) -> list[int]:
    with guest.restore() as machine:
        result = run(machine, guest, text)
    assert result.status is Status.OK
    return [error for _, error in returned(result)]


def test_a_number_that_a_call_gave_is_taken_by_later_ones(lockers: Guest) -> None:
    put = "ioctl(f0, LOCKERS_PUT, {{number: {}, value: 7}})\n"
    text = "ioctl(f0, LOCKERS_RENT, {number: ->h3})\n"
    text += "".join(put.format(each) for each in ("h3", "next(h3)", "last(h3)", "h2", "h3"))
    absent = errno.ENOENT
    assert errors(lockers, text) == [0, 0, absent, absent, absent, 0]


def test_a_handle_is_0_in_the_next_program(lockers: Guest) -> None:
    with lockers.restore() as machine:
        run(machine, lockers, "ioctl(f0, LOCKERS_RENT, {number: ->h0})")
        take = "ioctl(f0, LOCKERS_RENT, {})\nioctl(f0, LOCKERS_PUT, {number: h0})"
        result = run(machine, lockers, take)
    assert returned(result)[1] == (-1, errno.ENOENT)
    assert result.results[1].output[:4] == bytes(4)


def test_a_call_that_failed_gives_nothing(lockers: Guest) -> None:
    text = (
        "ioctl(f0, LOCKERS_RENT, {number: ->h0})\n"
        "ioctl(f0, LOCKERS_PUT, {number: ->h0, value: 1})\n"
        "h0 = ioctl(f0, 0x1234)\n"
        "ioctl(f0, LOCKERS_PUT, {number: h0})\n"
    )
    assert errors(lockers, text) == [0, errno.ENOENT, errno.EFAULT, 0]


def test_a_descriptor_that_was_handed_out_becomes_a_file(lockers: Guest) -> None:
    turn = 'ioctl({}, KEY_TURN, "\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00")\n'
    text = "h0 = ioctl(f0, LOCKERS_KEY)\nadopt(f5, h0)\n" + turn.format("f5") * 2
    with lockers.restore() as machine:
        result = run(machine, lockers, text + "close(f5)\n" + turn.format("f5"))
        assert [error for _, error in returned(result)] == [0, 0, 0, 0, 0, errno.EBADF]
        assert [call.output[0] for call in result.results[2:4]] == [0, 1]
        assert [call.handed for call in result.results[:3]] == [True, False, False]
        # The file that the program begins with is none of what is handed out.
        taken = "ioctl(f0, LOCKERS_PUT, {number: ->h1})\nadopt(f1, h1)\nadopt(f1, 3)\n"
        twice = "h0 = ioctl(f0, LOCKERS_KEY)\nadopt(f1, h0)\nadopt(f2, h0)\n"
        bad = [error for _, error in returned(run(machine, lockers, taken + twice))]
    assert bad[1:] == [errno.EBADF, errno.EBADF, 0, 0, errno.EBADF]


def test_the_descriptor_of_a_file_is_handed_to_the_driver(lockers: Guest) -> None:
    with lockers.restore() as machine:
        result = run(machine, lockers, "open(f3)\nioctl(f0, LOCKERS_PUT, {number: f3})")
    (number,) = {int.from_bytes(result.results[1].output[:4], "little")}
    assert 2 < number < 100


def test_all_descriptors_of_a_program_end_with_it(lockers: Guest) -> None:
    many = "ioctl(f0, LOCKERS_KEY)\n" * 40
    with lockers.restore() as machine:
        first = returned(run(machine, lockers, many))
        assert returned(run(machine, lockers, many)) == first
        result = run(machine, lockers, many + "close(f0)\nunload()")
        assert result.status is Status.OK


@pytest.mark.parametrize(("text", "place"), [(STALE, "lockers_ioctl"), (EMPTIED, "key_ioctl")])
def test_what_needs_a_link_crashes_by_its_program_and_in_c(
    lockers: Guest, text: str, place: str, tmp_path: Path
) -> None:
    target: Target = lockers.target
    program = parse_program(text, target, "test")
    with lockers.restore() as machine:
        shown = run_program(machine, wire(text, target)).splat
    assert shown is not None
    assert "use-after-free" in shown.title
    for header in target.headers:
        shutil.copy(header, tmp_path)
    (tmp_path / "repro.c").write_text(c_source(program, target, shown.title))
    assert title_of(lockers, compiled(tmp_path)) == shown.title
    assert place in shown.title or "lockers" in shown.title


def test_what_the_driver_compares_leads_to_links(lockers: Guest) -> None:
    text = (
        "ioctl(f0, LOCKERS_RENT, {})\n"
        "ioctl(f0, LOCKERS_PUT, {value: 7})\n"
        "ioctl(f0, LOCKERS_KEY)\n"
        "ioctl(f0, KEY_EMPTY)\n"
    )
    data = wire(text, lockers.target)
    with lockers.restore() as machine:
        machine.channel.post_comparing(data)
        assert machine.channel.wait(30.0)
        results = [Result(each.ret, each.output, each.handed) for each in machine.channel.results()]
        made = linked(split(data), results, machine.channel.comparisons().found)
        shown = [machine.run(b"".join(chunks)) for chunks in made]
    codes = [[error for _, error in returned(each)] for each in shown]
    # A locker was found by its number, and a key was emptied.
    assert any(each[1] == 0 for each in codes)
    assert any(each.count(0) == len(each) - 2 and len(each) > 4 for each in codes)
