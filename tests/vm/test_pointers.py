# SPDX-License-Identifier: Apache-2.0
"""A driver whose ioctls take addresses in structs, whose files are several."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from fuzzer.campaign.choice import Choice
from fuzzer.campaign.description import DriverFacts, describe
from fuzzer.campaign.discovery import discover
from fuzzer.campaign.subject import symbols_for
from fuzzer.crash.observe import run_program
from fuzzer.driver.driver import build_driver
from fuzzer.driver.provision import Guest, ensure_guest
from fuzzer.kernel.kernel import Flavour, Kernel, KernelOptions
from fuzzer.machine.accel import Accel
from fuzzer.machine.channel_layout import Status
from fuzzer.program.address_search import AddressSearch
from fuzzer.program.csource.source import c_source
from fuzzer.program.linking import Result
from fuzzer.program.text import parse_program
from fuzzer.program.wire import split
from fuzzer.target.calls import IoctlSpec
from fuzzer.target.target import load_target
from tests.vm.guests import returned, run, wire
from tests.vm.reproducers import compiled, title_of

pytestmark = pytest.mark.vm

SOURCE = Path(__file__).parent.parent / "drivers" / "strangers" / "parcels"
DESCRIPTION = f"""\
version: 1
name: parcels
devices: [{", ".join(f"/dev/parcels{number}" for number in range(8))}]
module: {{source: {SOURCE}, name: parcels}}
header: {SOURCE}/parcels.h
calls:
  - write: [abc]
  - ioctl: PARCELS_SEND
    struct: parcels_list
    fields:
      parcels:
        struct: parcel
        fields: {{content: {{pointer: 32}}, length: {{len: content}}}}
        count: [1, 4]
      count: {{count_of: parcels}}
  - ioctl: PARCELS_SEND32
    compat: true
    struct: parcel32
    fields: {{content: {{pointer: 32}}, length: {{len: content}}}}
"""
OVERFULL = """\
ioctl(f0, PARCELS_SEND, {count: 3, parcels: &[parcel {content: &[32], length: 32}, \
parcel {content: &[32], length: 32}, parcel {content: &[1], length: 1}]})
"""
NEGATIVE = "ioctl(f0, PARCELS_SEND32, {content: &[32], length: 0x80000021}) compat\n"
SIXTH = 'open(f1, "/dev/parcels5")\nwrite(f1, "abcd")\n'


@pytest.fixture(scope="module")
def parcels(tmp_path_factory: pytest.TempPathFactory, fast_kernel: Kernel, accel: Accel) -> Guest:
    """Return a guest with the driver, as a person describes it."""
    path = tmp_path_factory.mktemp("parcels") / "parcels.yaml"
    path.write_text(DESCRIPTION)
    target = load_target(path)
    return ensure_guest(target, fast_kernel, build_driver(target, fast_kernel), accel)


def results(guest: Guest, text: str) -> list[tuple[int, int]]:
    with guest.restore() as machine:
        result = run(machine, guest, text)
    assert result.status is Status.OK
    return returned(result)


def test_structs_behind_addresses_come_to_the_driver(parcels: Guest) -> None:
    two = "ioctl(f0, PARCELS_SEND, {{count: 2, parcels: &[parcel {}, parcel {}]}})\n"
    text = two.format("{content: &[8], length: 8}", '{content: &"abc", length: 3}')
    text += two.format("{content: &[8], length: 8}", "{length: 3}")
    text += "ioctl(f0, PARCELS_SEND, {count: 2, parcels: &parcel {}})\n"
    failed = (-1, errno.EFAULT)
    assert results(parcels, text) == [(11, 0), failed, failed]


def test_an_address_of_4_bytes_is_that_of_a_32_bit_program(parcels: Guest) -> None:
    send = "ioctl(f0, PARCELS_SEND32, {{content: {}, length: 3}}) {}\n"
    text = send.format('&"abc"', "compat") + send.format("7", "compat")
    text += send.format('&"abc"', "compat readonly") + send.format('&"abc"', "compat cut=1")
    text += send.format('&"abc"', "")
    letter, failed = (ord("c"), 0), (-1, errno.EFAULT)
    assert results(parcels, text) == [letter, failed, letter, failed, (-1, errno.ENOTTY)]


@pytest.mark.parametrize(
    ("text", "place"),
    [(OVERFULL, "parcels_ioctl"), (NEGATIVE, "parcels_compat"), (SIXTH, "parcels_write")],
)
def test_each_bug_crashes_by_its_program_and_in_c(
    parcels: Guest, text: str, place: str, tmp_path: Path
) -> None:
    target = parcels.target
    with parcels.restore() as machine:
        shown = run_program(machine, wire(text, target)).splat
    assert shown is not None
    assert place in shown.title
    for header in target.headers:
        shutil.copy(header, tmp_path)
    program = parse_program(text, target, "test")
    (tmp_path / "repro.c").write_text(c_source(program, target, shown.title))
    assert title_of(parcels, compiled(tmp_path)) == shown.title


@pytest.fixture(scope="module")
def found(accel: Accel, fast_kernel: Kernel) -> DriverFacts:
    """Return what is found out about the driver."""
    assert fast_kernel.release()
    choice = Choice(SOURCE, "", (), "")
    return discover(choice, KernelOptions(), accel, Flavour.FAST)[0]


def test_all_files_and_the_calls_of_32_bit_programs_are_found(
    found: DriverFacts, tmp_path: Path
) -> None:
    assert [device.path for device in found.devices] == [f"/dev/parcels{n}" for n in range(8)]
    assert found.operations == {"write", "ioctl", "compat"}
    path = tmp_path / "made.yaml"
    path.write_text(describe(found, "Made by a test."))
    calls = load_target(path, symbols_for(KernelOptions())).calls
    named = [(call.name, call.compat) for call in calls if isinstance(call, IoctlSpec)]
    # The source tells which of the two entries takes which.
    assert named == [("PARCELS_SEND", False), ("PARCELS_SEND32", True)]


def searched(guest: Guest, program: bytes) -> Iterator[bytes]:
    """Yield programs made of one that followed a wrong address."""
    search = AddressSearch()
    with guest.restore() as machine:
        following: bytes | None = program
        while following is not None:
            machine.channel.post_comparing(following)
            assert machine.channel.wait(30.0)
            results = [
                Result(each.ret, each.output, each.handed, each.error)
                for each in machine.channel.results()
            ]
            found = machine.channel.comparisons().found
            yield from map(b"".join, search.learn(split(following), results, found))
            following = search.take()


def test_a_wrong_address_leads_to_an_array_of_right_ones(parcels: Guest) -> None:
    program = wire("ioctl(f0, PARCELS_SEND, {count: 1})", parcels.target)
    made = list(searched(parcels, program))
    for each in made:
        with parcels.restore() as machine:
            if shown := run_program(machine, each).splat:
                break
    else:
        pytest.fail(f"none of {len(made)} programs has all addresses")
    assert "parcels_ioctl" in shown.title
